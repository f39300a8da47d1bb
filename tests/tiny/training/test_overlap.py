from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.folders import bundled_folder
from workbench.schema import InputError
from workbench.tiny import scenes
from workbench.tiny.training import overlap


@pytest.mark.slow
def test_what_a_training_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten test scenes are trained on: they are found, and no hard scene has words that one of them shows together."""
    monkeypatch.setitem(scenes.SPLITS, "validation", range(0, 3))
    monkeypatch.setitem(scenes.SPLITS, "test", range(1000, 1020))
    trained = range(1005, 1015)
    found = overlap.told_apart(trained, range(4000, 4030), workers=1)
    assert set(trained) <= set(found["seen"]["test"])
    looks = {scenes.content_hash(scenes.render(seed)) for seed in trained}
    for split in ("validation", "test"):
        same = [seed for seed in scenes.SPLITS[split] if scenes.content_hash(scenes.render(seed)) in looks]
        assert found["seen"][split] == same
    assert found["trained"] == [1005, 10]
    assert found["hard"] == list(range(4000, 4030)), "ten scenes show few words together"


def test_words_of_a_part_of_a_training_scene_are_not_new(monkeypatch: pytest.MonkeyPatch) -> None:
    own = frozenset(scenes.render_hard(4001).words)
    monkeypatch.setattr(overlap, "looks", lambda seeds: (set(), {own | {"another"}}))
    monkeypatch.setattr(overlap, "ProcessPoolExecutor", _Here)
    for split in ("validation", "test"):
        monkeypatch.setitem(scenes.SPLITS, split, range(0))
    found = overlap.told_apart(range(5), range(4000, 4004))
    assert 4001 not in found["hard"]
    assert 4000 in found["hard"]


class _Here:
    """A pool without processes."""

    def __init__(self, workers: int | None) -> None:
        self.map = map

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *args: object) -> None:
        return None


@pytest.mark.slow
def test_the_bundled_models_splits_hold_in_a_sample() -> None:
    """What the card reports rests on the file: some of it is checked against pixels."""
    found = overlap.splits_of(bundled_folder("tiny-flux"))
    info = json.loads((bundled_folder("tiny-flux") / "workbench.json").read_text())
    assert found["trained"] == [scenes.SPLITS["train"].start, info["recipe"]["stages"][-1]["scenes"]]
    assert len(found["seen"]["test"]) == 71
    assert len(found["hard"]) == 495
    trained = range(*found["trained"][:1], sum(found["trained"]))[:60]
    pixels, words = overlap.looks(trained)
    seen = {seed for seed in scenes.SPLITS["test"][:60] if scenes.content_hash(scenes.render(seed)) in pixels}
    assert seen <= set(found["seen"]["test"])
    for seed in found["hard"][:20]:
        own = frozenset(scenes.render_hard(seed).words)
        assert not any(own <= known for known in words)


def test_a_model_without_the_file_is_told_the_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run python -m workbench\.tiny\.training\.overlap --model"):
        overlap.splits_of(tmp_path)
