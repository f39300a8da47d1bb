from __future__ import annotations

import numpy as np
import pytest

from workbench.tiny import evaluate
from workbench.tiny.scenes import Scene, draw


def test_iou_sums_over_scenes_before_dividing() -> None:
    image = np.zeros((2, 2, 3), np.uint8)
    one = Scene(image, "", ("sun", "sky"), {"sun": "red"}, np.array([[0, 0], [1, 1]], np.uint8))
    two = Scene(image, "", ("moon", "sky"), {"moon": "red"}, np.array([[0, 1], [1, 1]], np.uint8))
    found = evaluate.figure([(one, np.array([[0, 1], [1, 1]])), (two, np.array([[1, 1], [1, 1]]))])
    assert found.per_word == pytest.approx({"sun": 1 / 2, "moon": 0.0, "sky": (2 + 3) / (3 + 4)})
    assert found.words == pytest.approx(np.mean([1 / 2, 0, 5 / 7]))
    assert found.objects == pytest.approx(1 / 4)
    assert found.backgrounds == pytest.approx(5 / 7)


def test_nothing_by_patches_beats_the_oracle() -> None:
    scenes = [draw(seed) for seed in range(10)]
    rng = np.random.default_rng(0)
    oracle = evaluate.figure((scene, evaluate.oracle(scene)) for scene in scenes)
    majority = evaluate.figure((scene, evaluate.majority(scene)) for scene in scenes)
    chance = evaluate.figure((scene, evaluate.chance(scene, rng)) for scene in scenes)
    perfect = evaluate.figure((scene, scene.labels) for scene in scenes)
    assert perfect.words == 1
    assert 0.7 < oracle.words < 1
    assert majority.words < oracle.words / 2
    assert chance.words < oracle.words / 2


def test_an_oracle_of_single_pixels_is_the_truth() -> None:
    scene = draw(5)
    np.testing.assert_array_equal(evaluate.oracle(scene, patch=1), scene.labels)


def test_defaults_are_chosen_by_the_output_maps() -> None:
    """Two layers that see the scene at one timestep, the others blind: they must be found."""
    scene = draw(3)
    truth = evaluate.oracle(scene)[4::8, 4::8]
    sharp = np.stack([truth == index for index in range(len(scene.words))]).astype(np.float32)
    maps = np.full((len(evaluate.TIMESTEPS), 5, *sharp.shape), 1 / len(sharp), np.float32)
    maps[6, 2:4] = sharp
    layers, at = evaluate.choose([evaluate.Captured(scene, {"output": maps})], 5)
    assert at == 6
    assert {2, 3} & set(layers)
    best = evaluate.segmented([evaluate.Captured(scene, {"output": maps})], "output", [at], layers)
    assert best.words == pytest.approx(evaluate.figure([(scene, evaluate.oracle(scene))]).words)
