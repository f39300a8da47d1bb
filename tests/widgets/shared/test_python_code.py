from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench.widgets.shared.python_code import arguments, code, continued, variables


@pytest.mark.parametrize(
    "value",
    [
        *(slice(3, 5), slice(750.0, 333.25), [1.0, 2.5], ("layer", "head"), ("layer",), "it's", True, None, 10**9),
        *({"strength": 0.5, "on": [True]}, float("inf")),
    ],
)
def test_code_gives_the_value_back(value: Any) -> None:
    assert eval(code(value)) == value
    assert list(variables(value)) == []


def test_what_cannot_be_written_down_is_a_variable() -> None:
    """Of the name that it goes by; what Python writes for an image is no code."""
    image = Image.new("RGB", (2, 2))
    options = {"inputs": {"image": [image, "photo.png"], "strength": 0.5}, "home": Path("runs"), "seed": np.int64(3)}
    written = arguments(options)
    assert written == ", inputs={'image': [image, 'photo.png'], 'strength': 0.5}, home='runs', seed=3"
    assert list(variables(options)) == ["image"]
    made = eval(f"dict({written[2:]})", {"image": image})
    assert made["inputs"]["image"][0] is image
    assert code(wb.SkipBlock(1)) == repr(wb.SkipBlock(1)), "this package's own are code"


def test_whole_numbers_lose_their_point() -> None:
    assert arguments({"timesteps": slice(750.0, 250.0), "space": "cross"}) == (
        ", timesteps=slice(750, 250), space='cross'"
    )


def test_code_goes_on_behind_what_opens_its_run() -> None:
    opened = "import workbench as wb\n\nds = wb.open('abc')"
    assert continued("", "x = 1") == "x = 1"
    assert continued(opened, "found = ds.wb.sweep('layer')") == f"{opened}\n\nfound = ds.wb.sweep('layer')"
    assert continued(opened, "import workbench as wb\n\nplan = 3") == f"{opened}\n\nplan = 3"
    assert continued("ds = a", "import workbench as wb\n\nplan = 3") == "ds = a\n\nimport workbench as wb\n\nplan = 3"
