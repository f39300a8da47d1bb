from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from xarray.backends import BackendArray
from xarray.core import indexing

from tests.synthetic import dataset
from workbench.widgets.explore import arrays, cube
from workbench.widgets.explore.answers import Answers
from workbench.widgets.explore.state import State


def ask(answers: Answers, kind: str, **values: Any) -> tuple[dict[str, Any], list[Any]]:
    ((reply, buffers),) = answers.answer({"type": kind, "id": 7, **values})
    assert (reply["type"], reply["id"]) == (kind, 7)
    return reply, buffers


def floats(buffer: Any, *shape: int) -> np.ndarray:
    return np.frombuffer(buffer, np.float32).reshape(shape)


def test_maps_are_those_of_the_state() -> None:
    ds = dataset()
    state = {"layers": [0, 3], "timesteps": [500, 250], "heads": [1]}
    reply, buffers = ask(Answers(ds), "maps", state=state)
    assert reply["shape"] == [3, 4, 6]
    assert (reply["notes"], reply["space"]) == ([], "output")
    np.testing.assert_array_equal(floats(buffers[0], 3, 4, 6), arrays.maps(State.from_json(state, ds), ds))


def test_the_first_answer_has_picture_and_truth() -> None:
    ds = dataset(truth=True)
    reply, buffers = ask(Answers(ds), "ready")
    assert reply["kinds"] == ["picture", "truth", "area"]
    assert Image.open(io.BytesIO(buffers[0])).size == (48, 32)
    counts = arrays.truth_counts(ds, State.default(ds))
    np.testing.assert_array_equal(floats(buffers[1], 3, 4, 6), counts.true)
    np.testing.assert_array_equal(floats(buffers[2], 4, 6), counts.area)
    assert ask(Answers(ds.drop_vars(["image", "truth"])), "ready") == (
        {"type": "ready", "id": 7, "kinds": [], "space": "output", "notes": []},
        [],
    )


def test_the_cube_comes_in_parts_before_the_answer() -> None:
    ds = dataset()
    *parts, (reply, buffers) = Answers(ds).answer({"type": "cube", "id": 1, "state": {"space": "cross"}})
    assert (reply["type"], reply["space"], buffers) == ("cube", "cross", [])
    assert [values for values, _ in parts] == [{"type": "part", "space": "cross", "timestep": t} for t in range(3)]
    for (_, sent), expected in zip(parts, cube.pack(ds, "cross"), strict=True):
        for buffer, values in zip(sent, expected, strict=True):
            np.testing.assert_array_equal(np.frombuffer(buffer, values.dtype), values.ravel())


def test_overview_heads_and_runs() -> None:
    ds = dataset(missing=[(0, 500.0, 1)])
    answers = Answers(ds)
    state = {"pin": [1, 1], "statistic": "entropy", "focus": 1, "head_layer": 3}
    reply, _ = ask(answers, "overview", state=state)
    assert reply["values"][1][1] is None
    expected = arrays.overview(State.from_json(state, ds), ds)
    np.testing.assert_array_equal(np.array(reply["values"], float), expected)
    reply, buffers = ask(answers, "heads", state=state)
    assert (reply["layer"], reply["focus"]) == (3, 1)
    np.testing.assert_array_equal(floats(buffers[0], 2, 4, 6), arrays.head_maps(State.from_json(state, ds), ds))
    _, buffers = ask(answers, "runs", state=state)
    found = arrays.runs(State.from_json(state, ds), ds)
    np.testing.assert_array_equal(floats(buffers[0], 5, 3), found.layers)
    np.testing.assert_array_equal(floats(buffers[1], 3, 3), found.timesteps)


def test_whatever_goes_wrong_becomes_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    ds = dataset()
    answers = Answers(ds)
    assert "layer 9 does not exist" in ask(answers, "maps", state={"layers": [0, 9]})[0]["error"]
    assert "layer 9 does not exist" in ask(answers, "heads", state={"head_layer": 9})[0]["error"]
    assert "no patch is pinned" in ask(answers, "runs")[0]["error"]
    assert caplog.records == []
    broken = Answers(ds.drop_vars("layer").assign_coords(layer=ds.layer))
    broken._ds = ds.assign_attrs(default_layers=3)
    assert "could not be computed" in ask(broken, "maps")[0]["error"]
    assert "could not answer 'maps'" in caplog.text
    assert list(answers.answer({"type": "shutdown"})) == []


def test_warnings_become_notes() -> None:
    ds = dataset(concepts=["dog"])
    reply, _ = ask(Answers(ds), "maps", state={"reduce": "softmax_mean"})
    assert "a softmax over one concept is 1 everywhere" in reply["notes"][0]


class Unreadable(BackendArray):
    """Scores on a disk that must not be touched."""

    def __init__(self, values: np.ndarray) -> None:
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, key: Any) -> Any:
        raise AssertionError("read from disk")


def test_per_head_scores_are_read_only_for_heads() -> None:
    ds = dataset()
    lazy = indexing.LazilyIndexedArray(Unreadable(ds.output.values))
    ds["output"] = xr.Variable(ds.output.dims, lazy)
    answers = Answers(ds)
    for kind in ("ready", "maps", "overview", "runs"):
        assert "error" not in ask(answers, kind, state={"pin": [0, 0]})[0], kind
    assert len(list(answers.answer({"type": "cube"}))) == 4
    with pytest.raises(AssertionError, match="read from disk"):
        arrays.maps(State.from_json({"heads": [0]}, ds), ds)


def test_totals_are_kept_until_they_are_freed() -> None:
    ds = dataset()
    answers = Answers(ds)
    ask(answers, "maps")
    ask(answers, "overview")
    assert list(answers._resident) == ["output"]
    assert len(answers._overviews) == 1
    answers.free()
    assert answers._resident == answers._overviews == {}
    assert "error" not in ask(answers, "maps")[0]
