from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from tests import synthetic
from tests.store.replay import place, save
from workbench import store
from workbench.widgets.explore import picker
from workbench.widgets.explore.explorer import Explorer, explore


class _Talk:
    """Asks a list what the browser asks, and keeps what it answers."""

    def __init__(self, choice: picker.Choice, monkeypatch: pytest.MonkeyPatch) -> None:
        self._list = choice.children[0]
        self.answers: list[tuple[dict[str, Any], list[bytes]]] = []
        monkeypatch.setattr(self._list, "send", lambda content, buffers=(): self.answers.append((content, buffers)))

    def ask(self, **content: Any) -> tuple[dict[str, Any], Sequence[bytes]]:
        self.answers.clear()
        self._list._handle_custom_msg(content, [])
        (answer,) = self.answers
        return answer


@pytest.fixture
def stored() -> list[store.Run]:
    for index, concepts in enumerate([("dog", "sky"), ("<b>cat</b>", "hill")]):
        place(synthetic.dataset(concepts=concepts, seed=index), store.home(), f"run{index}")
    return store.runs()


@pytest.mark.slow
def test_the_list_tells_what_is_stored(stored: list[store.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    content, _ = _Talk(picker.pick(Explorer), monkeypatch).ask(type="ready")
    assert content["left"] == 0
    assert {row["key"]: row["concepts"] for row in content["runs"]} == {
        "run0": ["dog", "sky"],
        "run1": ["<b>cat</b>", "hill"],
    }
    assert all(row["size"] > 0 and row["model"] == "made-up" for row in content["runs"])


def test_some_runs_can_be_listed_and_none(stored: list[store.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    some, _ = _Talk(picker.pick(Explorer, stored[:1]), monkeypatch).ask(type="ready")
    assert [row["key"] for row in some["runs"]] == [stored[0].key]
    none, _ = _Talk(picker.pick(Explorer, []), monkeypatch).ask(type="ready")
    assert none["runs"] == []


def test_of_very_many_runs_the_newest_are_listed(stored: list[store.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picker, "_MOST", 1)
    content, _ = _Talk(picker.pick(Explorer), monkeypatch).ask(type="ready")
    assert [row["key"] for row in content["runs"]] == [stored[0].key]
    assert content["left"] == 1


def test_a_thumbnail_is_the_picture(stored: list[store.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    content, (file,) = _Talk(picker.pick(Explorer), monkeypatch).ask(type="thumbnail", key="run0")
    assert content["key"] == "run0"
    picture = np.asarray(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(picture, store.open("run0").image.to_numpy())


def test_a_run_without_a_picture_has_no_thumbnail(monkeypatch: pytest.MonkeyPatch) -> None:
    save(synthetic.dataset(), store.home(), "bare")
    monkeypatch.setattr(picker, "drawable", lambda ds: False)
    _, buffers = _Talk(picker.pick(Explorer), monkeypatch).ask(type="thumbnail", key="bare")
    assert not buffers


def test_a_chosen_run_opens_below_and_replaces_the_one_before(
    stored: list[store.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = picker.pick(Explorer, state={"layers": [0, 0]})
    talk = _Talk(choice, monkeypatch)
    assert choice.view is None
    assert "error" not in talk.ask(type="open", key="run0")[0]
    first = choice.view
    assert first is not None
    assert first.state["layers"] == [0, 0]
    assert choice.children == (choice.children[0], first)
    talk.ask(type="open", key="run1")
    assert choice.view is not first
    assert choice.view.meta["spaces"]["output"]["names"] == ["<b>cat</b>", "hill"]
    assert choice.children[1:] == (choice.view,)


def test_a_run_that_is_gone_or_damaged_is_named(stored: list[store.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    choice = picker.pick(Explorer)
    talk = _Talk(choice, monkeypatch)
    run = next(run for run in stored if run.key == "run0")
    (run.path / "manifest.json").unlink()
    for kind in ("open", "thumbnail"):
        content, buffers = talk.ask(type=kind, key="run0")
        assert "run0" in content["error"]
        assert not buffers
    assert choice.view is None


def test_unknown_questions_are_left_alone(stored: list[store.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    choice = picker.pick(Explorer)
    talk = _Talk(choice, monkeypatch)
    choice.children[0]._handle_custom_msg({"type": "open", "key": "../elsewhere"}, [])
    choice.children[0]._handle_custom_msg({}, [])
    assert not talk.answers


def test_pictures_of_samples_and_frames_show_the_first() -> None:
    ds = synthetic.dataset(kind="generate", samples=2)
    (file,) = picker._thumbnail(ds)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), ds.image[0].to_numpy())
    frames = xr.concat([ds.image, ds.image], "frame").transpose("sample", "frame", ...)
    assert picker._thumbnail(ds.assign(image=frames)) == [file]


def _with_experiment(stored: list[store.Run], count: int = 3) -> None:
    for index in range(count):
        ds = synthetic.dataset(seed=index).assign_attrs(parent="run0", role="control", edit=f"SkipBlock({index})<b>")
        place(ds, store.home(), f"made{index}")


@pytest.mark.slow
def test_runs_of_experiments_are_a_group_below_the_run_that_they_belong_to(
    stored: list[store.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_experiment(stored)
    talk = _Talk(picker.pick(Explorer), monkeypatch)
    content, _ = talk.ask(type="ready")
    rows = {row["key"]: row for row in content["runs"]}
    assert set(rows) == {"run0", "run1"}
    assert (rows["run1"]["summary"], rows["run1"]["derived"]) == ("", [])
    assert rows["run0"]["summary"] == "3 runs of an experiment"
    assert {(one["key"], one["role"], one["edit"]) for one in rows["run0"]["derived"]} == {
        (f"made{index}", "control", f"SkipBlock({index})<b>") for index in range(3)
    }
    assert "error" not in talk.ask(type="open", key="made1")[0]


def test_of_very_many_runs_of_an_experiment_all_are_counted(
    stored: list[store.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_experiment(stored)
    monkeypatch.setattr(picker, "_MOST", 2)
    content, _ = _Talk(picker.pick(Explorer), monkeypatch).ask(type="ready")
    (row,) = [row for row in content["runs"] if row["derived"]]
    assert (len(row["derived"]), content["left"]) == (2, 0)
    assert row["summary"] == "3 runs of an experiment, of which 2 are listed"


def test_copied_code_opens_the_run_and_computes_what_is_shown(stored: list[store.Run], tmp_path: Path) -> None:
    save(synthetic.dataset(), tmp_path / "elsewhere", "run7")
    for run in (stored[0], store.runs(tmp_path / "elsewhere")[0]):
        view = explore(run, state={"layers": [3, 3], "concepts": [1], "difference": [1, 0]})
        names: dict[str, Any] = {}
        exec(view.code, names)
        ds = run.open()
        maps = ds.wb.heatmap(layers=3)
        np.testing.assert_array_equal(names["maps"], maps.isel(concept=[1]))
        np.testing.assert_array_equal(names["areas"], ds.wb.segment(layers=3))
        np.testing.assert_array_equal(names["difference"], maps.isel(concept=1) - maps.isel(concept=0))
    assert "wb.open('run" in explore(stored[0]).code
