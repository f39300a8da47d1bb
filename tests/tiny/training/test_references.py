from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from workbench.tiny.scenes import render
from workbench.tiny.training import map_scores, references

OTHERS = [render(seed) for seed in range(90_000_000, 90_000_060)]


def _words(scenes: list[Any], segment: Any) -> float:
    return map_scores.figure(map_scores.tally(scene, scene.words, segment(scene)) for scene in scenes).words


def test_a_location_prior_never_sees_the_image() -> None:
    scenes = [render(seed) for seed in range(1000, 1020)]
    blind = [replace(scene, image=np.zeros_like(scene.image)) for scene in scenes]
    one, other = (
        [prior(scene) for scene in some]
        for some, prior in ((scenes, references.location_prior(OTHERS)), (blind, references.location_prior(OTHERS)))
    )
    np.testing.assert_array_equal(one, other)
    chance = np.random.default_rng(0)
    prior = references.location_prior(OTHERS)
    assert _words(scenes, prior) > _words(scenes, lambda s: map_scores.chance(s, chance, len(s.words))) + 0.05


def test_clusters_of_colours_are_named_by_the_truth() -> None:
    """Two flat colours: the clusters are the regions, whichever number k-means gave them."""
    scene = next(scene for scene in (render(seed) for seed in range(1000, 1100)) if len(scene.words) == 2)
    right = map_scores.oracle(scene)
    flat = np.where(right[..., None] == 0, 30, 200).astype(np.uint8).repeat(3, -1)
    np.testing.assert_array_equal(references.colour_clusters(replace(scene, image=flat)), right)


def test_a_classifier_learns_words_and_chooses_among_the_scenes_own() -> None:
    def features(scene: Any) -> Any:
        """The right word of each patch, as a one-hot vector."""
        return np.eye(20)[references._nouns(scene)]

    from sklearn.linear_model import LogisticRegression

    segment = references.classifier(LogisticRegression(C=100), OTHERS[:40], features)
    scene = render(1003)
    np.testing.assert_array_equal(segment(scene), map_scores.oracle(scene))
    assert set(np.unique(segment(scene))) <= set(range(len(scene.words)))


def test_surroundings_are_the_pixels_of_a_patch_and_around_it() -> None:
    scene = render(5)
    found = references.surroundings(scene).reshape(16, 16, 24, 24, 3)
    np.testing.assert_allclose(found[3, 4] * 255, scene.image[16:40, 24:48], atol=1e-3)
    np.testing.assert_allclose(found[0, 0, :8, 8:16] * 255, np.broadcast_to(scene.image[0, :8], (8, 8, 3)), atol=1e-3)


@pytest.mark.slow
def test_attention_outputs_are_what_goes_into_the_projection(untrained: Any) -> None:
    scene = render(1)
    found = references.attention_outputs(untrained, scene, 2, 300.0)
    assert found.shape == (256, 128)
    assert np.isfinite(found).all()
    assert not untrained.transformer.transformer_blocks[2].attn.to_out[0]._forward_pre_hooks
    with pytest.raises(IndexError):
        references.attention_outputs(untrained, scene, 9, 300.0)


@pytest.mark.slow
def test_every_reference_is_scored(untrained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "PROBE_SCENES", 3)
    monkeypatch.setattr(references, "FOREST_SCENES", 4)
    found = references.references(
        [render(seed) for seed in (1000, 1001)], untrained, 300.0, range(90_000_000, 90_000_012)
    )
    assert list(found) == ["location prior", "colour clusters", "pixel forest", "linear probe"]
    assert all(0 < one.words < 1 for one in found.values())
