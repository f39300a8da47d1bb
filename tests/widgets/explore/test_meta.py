from __future__ import annotations

import json

import pytest

from tests.synthetic import dataset
from workbench.widgets.explore import cube
from workbench.widgets.explore.meta import meta_of
from workbench.widgets.explore.state import State


def test_each_space_says_what_it_shows_at_first() -> None:
    ds = dataset(spaces=("output", "prompt"))
    meta = meta_of(ds)
    assert json.loads(json.dumps(meta, allow_nan=False)) == meta
    for space in ("output", "prompt"):
        assert meta["spaces"][space]["state"] == State.default(ds, space).to_json()


def test_small_cubes_are_for_the_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = dataset()
    assert meta_of(ds)["spaces"]["output"]["cube"] is True
    assert meta_of(ds, cube=False)["spaces"]["output"]["cube"] is False
    monkeypatch.setattr("workbench.widgets.explore.meta.LARGEST", cube.size(ds, "output"))
    assert meta_of(ds)["spaces"]["output"]["cube"] is False
