from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from tests.synthetic import dataset
from workbench.figures import concept_grid


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_the_same_figure_is_the_same_file_and_says_where_it_comes_from(kind: str) -> None:
    def saved() -> bytes:
        made = dataset(concepts=('a<b>&"', "sky", "dog")).assign_attrs(key="abc123", interventions=[{}], edit="X(1)")
        buffer = io.BytesIO()
        concept_grid(made).savefig(buffer, format=kind, dpi=50)
        return buffer.getvalue()

    first = saved()
    assert saved() == first
    if kind == "png":
        texts = Image.open(io.BytesIO(first)).text
        assert texts["Title"] == 'a<b>&", sky, dog – made-up – edited: X(1) – abc123'
        facts = json.loads(texts["workbench"])
        assert (facts["key"], facts["edit"], facts["selection"]["layers"]) == ("abc123", "X(1)", [1, 2])
    elif kind == "svg":
        text = first.decode()
        assert "abc123" in text
        assert "a<b>" not in text
        assert "a&lt;b&gt;&amp;" in text
    else:
        assert b"abc123" in first
        assert b"CreationDate" not in first
