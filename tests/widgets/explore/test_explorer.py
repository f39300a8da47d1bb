from __future__ import annotations

import gc
import io
import json
import weakref
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import pytest
import traitlets
from PIL import Image

import workbench as wb
from tests.synthetic import dataset
from workbench.schema import InputError
from workbench.widgets.explore.explorer import Explorer


class Listening(Explorer):
    """Keeps what it would send to the browser."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.sent: list[tuple[Any, Any]] = []
        super().__init__(*args, **options)

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append((content, buffers))


def _opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def test_explore_gives_a_widget_that_shows_the_default() -> None:
    ds = dataset(truth=True)
    view = wb.explore(ds)
    assert isinstance(view, ipywidgets.DOMWidget)
    assert view.state["layers"] == [1, 2]
    assert view.error == ""
    assert view.meta["spaces"]["output"]["names"] == ["dog", "grass", "sky"]
    view.close()


def test_what_a_notebook_keeps_is_small() -> None:
    state = Explorer(dataset(spaces=("output", "cross", "prompt"))).get_state()
    assert len(json.dumps(state)) < 150_000


def test_what_cannot_be_shown_gives_a_sentence_and_no_error() -> None:
    for wrong in (3, "a key", dataset().output_total, dataset()[["image"]]):
        view = wb.explore(wrong)
        assert view.error.endswith(".")
        view.close()


def test_no_file_is_written_of_what_cannot_be_shown(tmp_path: Path) -> None:
    for name in ("view.png", "view.html", "view.gif"):
        with pytest.raises(InputError, match=r"this is text: open the run first, explore\(wb\.open\('a key'\)\)"):
            wb.explore("a key").save(tmp_path / name)
        with pytest.raises(InputError, match="explore takes the dataset"):
            wb.compare(dataset(), 3).save(tmp_path / "both.png")
    assert not list(tmp_path.iterdir())


def test_a_state_is_restored_and_one_that_does_not_fit_is_left_out() -> None:
    ds = dataset()
    kept = wb.explore(ds, state={"layers": [3, 4], "heads": [1], "cmap": "magma"}).state
    assert wb.explore(ds, state=json.loads(json.dumps(kept))).state == kept
    view = wb.explore(ds, state={"layers": [3, 9]})
    assert view.state == wb.explore(ds).state
    assert "layer 9 does not exist" in view.meta["remarks"][0]


def test_setting_the_state_checks_it() -> None:
    view = Explorer(dataset())
    view.state = {**view.state, "timesteps": [240, 510]}
    assert view.state["timesteps"] == [500.0, 250.0]
    with pytest.raises(traitlets.TraitError, match="layer 9 does not exist"):
        view.state = {**view.state, "layers": [9, 9]}
    assert view.state["layers"] == [1, 2]


def test_questions_of_the_browser_are_answered() -> None:
    view = Listening(dataset())
    view.sent.clear()
    view._handle_custom_msg({"type": "maps", "id": 3, "state": view.state}, [])
    ((reply, buffers),) = view.sent
    assert (reply["id"], reply["shape"]) == (3, [3, 4, 6])
    assert len(np.frombuffer(buffers[0], np.float32)) == 72
    view._handle_custom_msg("nonsense", [])
    assert len(view.sent) == 1


def test_a_closed_view_lets_go_of_the_dataset() -> None:
    ds = dataset()
    view = Explorer(ds)
    answers = view._answers
    assert answers is not None
    list(answers.answer({"type": "maps"}))
    gone = weakref.ref(ds)
    view._handle_custom_msg({"type": "closed"}, [])
    assert answers._resident == {}
    view.close()
    view._answer(view, {"type": "maps"}, [])
    del ds, answers
    gc.collect()
    assert gone() is None


def test_a_view_saves_what_it_shows(tmp_path: Path) -> None:
    view = wb.explore(dataset(), state={"layers": [3, 3]})
    picture = _opened(view.save(tmp_path / "view.png"))
    facts = json.loads(picture.text["workbench"])
    assert facts["model"] == "made-up"
    assert facts["state"]["layers"] == [3, 3]
    assert facts["code"] == view.code
    assert "layer 3" in picture.text["Title"]
    assert "<title>dog, grass, sky" in view.save(str(tmp_path / "view.html")).read_text()
    for over, labels in (("timestep", [750.0, 500.0, 250.0]), ("layer", [1, 2])):
        moving = _opened(wb.explore(dataset()).save(tmp_path / "view.GIF", over=over))
        assert moving.n_frames == len(labels)
        assert json.loads(moving.info["comment"])["frames"] == labels


def test_a_file_that_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    view = wb.explore(dataset(), state={"layers": [3, 3]})
    with pytest.raises(InputError, match=r"ends in \.png or \.html or \.gif"):
        view.save(tmp_path / "view.jpg")
    with pytest.raises(InputError, match="no option dpi; it takes none"):
        view.save(tmp_path / "view.png", dpi=3)
    with pytest.raises(InputError, match="no folder"):
        view.save(tmp_path / "none" / "view.png")
    with pytest.raises(InputError, match="shows one layer, which does not move"):
        view.save(tmp_path / "view.gif", over="layer")
    with pytest.raises(InputError, match="over is 'head'"):
        view.save(tmp_path / "view.gif", over="head")
    with pytest.raises(InputError, match="explore takes the dataset"):
        wb.explore(3).save(tmp_path / "view.html")
    assert not list(tmp_path.iterdir())


def test_a_picture_names_the_edit_and_escapes_nothing_into_its_texts(tmp_path: Path) -> None:
    ds = dataset(concepts=("d\0og", "<b>\n&", "sky")).assign_attrs(interventions=[{}], edit="SkipBlock(3)")
    picture = _opened(wb.explore(ds).save(tmp_path / "view.png"))
    assert "edited: SkipBlock(3)" in picture.text["Title"]
    assert picture.text["Title"].isprintable()
    assert json.loads(picture.text["workbench"])["concepts"] == ["d\0og", "<b>\n&", "sky"]
    assert picture.text["workbench"].isascii()


def test_the_code_follows_the_state() -> None:
    view = Explorer(dataset())
    assert view.code.startswith("maps = ds.wb.heatmap(layers=slice(1, 2))\n")
    view.state = {**view.state, "layers": [4, 4]}
    assert "layers=4" in view.code
    assert Explorer(3).code == ""


def test_of_many_concepts_those_with_the_largest_areas_are_shown_at_first() -> None:
    names = [f"c{index}" for index in range(15)]
    ds = dataset(concepts=names, grid=(8, 15)).drop_vars("output")
    scores = ds.output_total.copy()
    scores[{"concept": [1, 4, 7]}] -= 50  # nowhere the strongest
    view = Explorer(ds.assign(output_total=scores))
    assert view.state["concepts"] == [index for index in range(15) if index not in (1, 4, 7)]
    assert Explorer(ds, state={"concepts": [1]}).state["concepts"] == [1]
    assert Explorer(ds.assign(output_total=scores * np.nan)).state["concepts"] == list(range(12))
