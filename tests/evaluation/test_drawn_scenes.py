from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.evaluation.drawn_scenes import open_scenes
from workbench.evaluation.harness import evaluate
from workbench.numerics.confusion import overlap
from workbench.schema import InputError
from workbench.tiny.scenes import NOUNS, SPLITS, render
from workbench.tiny.training.map_scores import figure, majority, oracle, tally


@pytest.mark.slow
def test_labels_are_the_scenes_own() -> None:
    data, scene = open_scenes("multi"), render(SPLITS["test"][3])
    labels = data.labels(str(SPLITS["test"][3]))
    assert all((scene.mask(word) == (labels == NOUNS.index(word))).all() for word in scene.words)
    assert (data.image(str(SPLITS["test"][3])) == scene.image).all()
    single = open_scenes("single", "validation")
    assert single.labels("7").max() > 0
    assert set(single.select("full", None).names) < set(single.all_names())


def test_every_split_is_taken_by_name() -> None:
    for split, seeds in SPLITS.items():
        assert open_scenes("multi", split).all_names() == tuple(map(str, seeds[:500]))
    with pytest.raises(InputError, match="expected one of"):
        open_scenes("multi", "tests")


@pytest.mark.slow
def test_floors_equal_the_model_cards(tmp_path: Path) -> None:
    """On some scenes exactly what the evaluation of the bundled model counts; all 500 in the slow test."""
    found = evaluate("scenes-multi", ["oracle", "majority"], limit=25, folder=tmp_path, progress=False)
    scenes = [render(int(name)) for name in found.names]
    for one, labels in zip(found.results, (oracle, majority), strict=True):
        expected = figure((tally(scene, scene.words, labels(scene)) for scene in scenes), draws=1)
        assert one.summary.values["miou_set"] == pytest.approx(expected.words, abs=1e-12)
        for row, scene in zip(one.parts.rows(found.names), scenes, strict=True):
            assert row.figures is not None
            both, either = overlap(row.figures.counts)
            assert (np.stack([both, either]) == tally(scene, scene.words, labels(scene))).all()


@pytest.mark.slow
def test_floors_of_all_test_scenes_are_those_of_the_model_card(tmp_path: Path) -> None:
    found = evaluate("scenes-multi", ["oracle", "majority", "random"], folder=tmp_path, progress=False, batch=50)
    values = {one.method: one.summary.values["miou_set"] for one in found.results}
    assert len(found.names) == 500
    assert values["oracle"] == pytest.approx(0.880, abs=5e-4)
    assert values["majority"] == pytest.approx(0.260, abs=5e-4)
    assert values["random"] == pytest.approx(0.176, abs=2e-3)
