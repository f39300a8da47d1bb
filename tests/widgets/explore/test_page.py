from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from workbench.schema import InputError, SelectionError
from workbench.widgets.explore import cube
from workbench.widgets.explore import page as saving
from workbench.widgets.explore.state import State


@pytest.fixture
def ds() -> xr.Dataset:
    return synthetic.dataset(concepts=("dog", "</script><b>&sky"), samples=2, truth=True)


def _unpacked(page: str) -> tuple[dict[str, Any], dict[str, list[tuple[dict[str, Any], list[bytes]]]]]:
    """The header of a page, and its answers with their buffers."""
    found = re.search(r'id="saved">([^<]*)</script>', page)
    assert found
    packed = gzip.decompress(base64.b64decode(found[1]))
    length = int.from_bytes(packed[:4], "little")
    header, blob = json.loads(packed[4 : 4 + length]), packed[4 + length :]
    answers = {
        key: [(reply["content"], [blob[start:end] for start, end in reply["buffers"]]) for reply in replies]
        for key, replies in header.pop("answers").items()
    }
    return header, answers


def test_a_page_holds_the_scores_of_every_space(ds: xr.Dataset) -> None:
    header, answers = _unpacked(saving.page(ds, State.default(ds)))
    assert list(header["meta"]["spaces"]) == ["output", "cross"]
    for space in ("output", "cross"):
        *parts, (end, _) = answers[f'["cube","{space}"]']
        assert "error" not in end
        assert [content["timestep"] for content, _ in parts] == [0, 1, 2]
        for (_, (levels, low, step)), part in zip(parts, cube.pack(ds, space), strict=True):
            np.testing.assert_array_equal(np.frombuffer(levels, np.uint16), part.levels.ravel())
            np.testing.assert_array_equal(np.frombuffer(low, np.float32), part.low.ravel())
            np.testing.assert_array_equal(np.frombuffer(step, np.float32), part.step.ravel())


def test_a_page_answers_what_the_view_asks_without_a_kernel(ds: xr.Dataset) -> None:
    header, answers = _unpacked(saving.page(ds, State.default(ds)))
    assert header["meta"]["offline"] is True
    for statistic in header["meta"]["statistics"]:
        ((content, _),) = answers[f'["overview","output",null,null,"{statistic}"]']
        assert np.shape(content["values"]) == (3, 5)
    ((ready, buffers),) = answers['["ready"]']
    assert ready["kinds"] == ["picture", "truth", "area"]
    assert buffers[0].startswith(b"\x89PNG")
    assert not [content for replies in answers.values() for content, _ in replies if "error" in content]


def test_each_sample_keeps_its_picture() -> None:
    made = synthetic.dataset(kind="generate", samples=2)
    _, answers = _unpacked(saving.page(made, State.default(made)))
    pictures = [answers[f'["picture",{sample},null]'][0][1][0] for sample in (0, 1)]
    assert pictures[0] != pictures[1]


def test_no_text_of_the_dataset_is_markup(ds: xr.Dataset) -> None:
    page = saving.page(ds, State.default(ds))
    assert "<b>" not in page
    assert "<title>dog, &lt;/script&gt;&lt;b&gt;&amp;sky" in page
    assert page.count("</script>") == 2


def test_a_page_asks_nothing_of_the_network(ds: xr.Dataset) -> None:
    page = saving.page(ds, State.default(ds))
    assert "default-src 'none'" in page
    addresses = set(re.findall(r"https?://[^\"' )]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg"}


def test_a_page_is_the_same_each_time(ds: xr.Dataset) -> None:
    assert saving.page(ds, State.default(ds)) == saving.page(ds, State.default(ds))


def test_chosen_heads_are_left_out(ds: xr.Dataset) -> None:
    header, _ = _unpacked(saving.page(ds, State.from_json({"heads": [1]}, ds)))
    assert header["state"]["heads"] is None


def test_of_much_data_the_shown_space_is_kept(ds: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "_LARGEST", cube.size(ds, "output"))
    header, _ = _unpacked(saving.page(ds, State.default(ds, "cross")))
    assert list(header["meta"]["spaces"]) == ["cross"]


def test_too_much_data_is_refused_with_a_way_out(ds: xr.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cube, "LARGEST", 100)
    with pytest.raises(InputError, match="save a part of the dataset"):
        saving.page(ds, State.default(ds))


def test_saving_writes_the_page(ds: xr.Dataset, tmp_path: Path) -> None:
    path = saving.save_html(ds, tmp_path / "view.html", state={"layers": [0, 0]})
    header, _ = _unpacked(path.read_text("utf-8"))
    assert header["state"]["layers"] == [0, 0]


def test_what_cannot_be_shown_is_refused_before_a_file_is_written(ds: xr.Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scores"):
        saving.save_html(ds[["image"]], tmp_path / "view.html")
    with pytest.raises(SelectionError, match="layer 77"):
        saving.save_html(ds, tmp_path / "view.html", state={"layers": [77, 77]})
    assert not list(tmp_path.iterdir())


def test_the_title_says_what_was_edited() -> None:
    ds = synthetic.dataset().assign_attrs(edit="<b>SkipBlock(3)", interventions=[{}])
    assert ", edited: &lt;b&gt;SkipBlock(3)</title>" in saving.page(ds, State.default(ds))
