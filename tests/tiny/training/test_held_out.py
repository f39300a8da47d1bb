from __future__ import annotations

from typing import Any

import pytest

from workbench.tiny.training import held_out, origins
from workbench.tiny.training.card_tables import _honest


@pytest.mark.slow
def test_test_scenes_are_told_apart_by_what_was_seen(untrained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    two = ("new words together", "hard: all of these")
    monkeypatch.setattr(held_out, "KINDS", {name: held_out.KINDS[name] for name in two})
    splits = {"seen": {"test": [1001]}, "hard": [4001]}
    found = held_out.held_out(untrained, ([0, 1], 300.0), splits, 2)
    counts = {name: one["scenes"] for name, one in found.items()}
    assert counts == {
        "test": 2,
        "test, not seen": 1,
        **dict.fromkeys(two, 1),
    }
    hard, plain = (found[name]["alone"]["output"]["words"] for name in ("hard: all of these", "new words together"))
    assert hard != plain
    assert all(0 < one["chance"]["words"] < one["oracle"]["words"] <= 1 for one in found.values())
    lines = _honest({"held_out": found})
    assert any(line.startswith("| test, not seen | 1 | ") for line in lines)


@pytest.mark.slow
def test_nothing_new_is_no_row(untrained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "KINDS", {})
    found = held_out.held_out(untrained, ([0], 300.0), {"seen": {"test": [1000]}, "hard": [4001]}, 1)
    assert list(found) == ["test"]


@pytest.mark.slow
def test_an_origin_moves_maps_and_no_picture(untrained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(origins.SPLITS, "validation", range(0, 1))
    monkeypatch.setattr(origins, "ORIGINS", {"as trained": 0.0, "twice as far": -2.0})
    found = origins.origins(untrained, [0, 1], 300.0, 2)
    as_trained, far = found.values()
    assert far["alone, centred"]["words"] == pytest.approx(as_trained["alone, centred"]["words"], abs=5e-3)
    assert far["alone"]["words"] != as_trained["alone"]["words"]
    assert max(one["picture"] for one in found.values()) <= 1
