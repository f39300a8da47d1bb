from __future__ import annotations

import numpy as np
import pytest

from workbench.tiny.scenes import Scene, render
from workbench.tiny.training import map_scores


def _scene(words: tuple[str, ...], labels: list[list[int]]) -> Scene:
    return Scene(np.zeros((2, 2, 3), np.uint8), "", words, {words[0]: "red"}, {}, {}, np.array(labels, np.uint8))


def test_iou_sums_over_scenes_before_dividing() -> None:
    one = _scene(("sun", "sky"), [[0, 0], [1, 1]])
    two = _scene(("moon", "sky"), [[0, 1], [1, 1]])
    found = map_scores.figure(
        map_scores.tally(scene, scene.words, np.array(labels))
        for scene, labels in ((one, [[0, 1], [1, 1]]), (two, [[1, 1], [1, 1]]))
    )
    assert found.per_word == pytest.approx({"sun": 1 / 2, "moon": 0.0, "sky": (2 + 3) / (3 + 4)})
    assert found.words == pytest.approx(np.mean([1 / 2, 0, 5 / 7]))
    assert found.objects == pytest.approx(1 / 4)
    assert found.backgrounds == pytest.approx(5 / 7)


def test_a_distractor_pays_for_what_it_takes() -> None:
    scene = _scene(("sun", "sky"), [[0, 0], [1, 1]])
    words = ("sun", "sky", "moon")
    clean = map_scores.figure([map_scores.tally(scene, words, np.array([[0, 0], [1, 1]]))])
    fooled = map_scores.figure([map_scores.tally(scene, words, np.array([[0, 2], [1, 1]]))])
    assert "moon" not in clean.per_word
    assert fooled.per_word == pytest.approx({"sun": 0.5, "moon": 0.0, "sky": 1.0})
    assert fooled.words < clean.words == 1


def test_an_interval_is_wider_for_fewer_scenes_and_holds_the_mean() -> None:
    scenes = [render(seed) for seed in range(24)]
    rng = np.random.default_rng(0)
    tallies = [map_scores.tally(s, s.words, map_scores.chance(s, rng, len(s.words))) for s in scenes]
    few, many = map_scores.figure(tallies), map_scores.figure(4 * tallies)
    assert few.interval[1] - few.interval[0] > many.interval[1] - many.interval[0] > 0
    assert many.interval[0] <= many.words <= many.interval[1]
    one = map_scores.figure(tallies[:1])
    assert one.interval == pytest.approx((one.words, one.words))


def test_nothing_by_patches_beats_the_oracle() -> None:
    scenes = [render(seed) for seed in range(10)]
    rng = np.random.default_rng(0)

    def words(segment: list[np.ndarray]) -> float:
        pairs = zip(scenes, segment, strict=True)
        return map_scores.figure(map_scores.tally(scene, scene.words, labels) for scene, labels in pairs).words

    oracle = words([map_scores.oracle(scene) for scene in scenes])
    assert words([scene.labels.astype(np.int64) for scene in scenes]) == 1
    assert 0.7 < oracle < 1
    assert words([map_scores.majority(scene) for scene in scenes]) < oracle / 2
    assert words([map_scores.chance(scene, rng, len(scene.words)) for scene in scenes]) < oracle / 2


def test_an_oracle_of_single_pixels_is_the_truth() -> None:
    scene = render(5)
    np.testing.assert_array_equal(map_scores.oracle(scene, patch=1), scene.labels)


def test_a_word_that_a_draw_lacks_keeps_its_value() -> None:
    """One scene of ten has the second word: a third of the draws do without it."""
    tallies = np.zeros((10, 2, len(map_scores.NOUNS)), dtype=np.int64)
    tallies[:, :, 0] = 8, 10
    tallies[0, :, 1] = 8, 10
    found = map_scores.figure(tallies)
    assert found.words == pytest.approx(0.8)
    assert found.interval == pytest.approx((0.8, 0.8))
