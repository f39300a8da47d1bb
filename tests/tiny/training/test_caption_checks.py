from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from workbench.tiny.scenes import COLOUR_WORDS, NOUNS, OBJECTS, RELATIONS, Scene, render
from workbench.tiny.training import caption_checks


class Knowing(caption_checks.Checker):
    """A checker that has been told what is in the pictures."""

    def __init__(self, scenes: list[Scene]) -> None:
        super().__init__()
        present, hues = (
            torch.from_numpy(np.stack(part)) for part in zip(*map(caption_checks.asked, scenes), strict=True)
        )
        self.presence = 2 * present - 1
        self.middles = torch.zeros(len(scenes), len(OBJECTS), 2)
        for row, scene in enumerate(scenes):
            for name in scene.colours:
                middle = [axis.mean() for axis in np.nonzero(scene.mask(name))]
                self.middles[row, OBJECTS.index(name)] = torch.tensor(middle)
        self.hues = torch.nn.functional.one_hot(hues.clamp(min=0), len(COLOUR_WORDS)).float()

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.presence[: len(pictures)], self.hues[: len(pictures)]

    def places(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.middles[: len(pictures)]


def test_what_a_caption_asks() -> None:
    scene = render(3)
    present, hues = caption_checks.asked(scene)
    assert {word for word, there in zip(NOUNS, present, strict=True) if there} == set(scene.words)
    named = {name: COLOUR_WORDS[hue] for name, hue in zip(OBJECTS, hues, strict=True) if hue >= 0}
    assert named == scene.colours


@pytest.mark.slow
def test_what_a_caption_says_of_places() -> None:
    scenes = [render(seed) for seed in range(60)]
    stated = [(scene, *each) for scene in scenes for each in caption_checks.related(scene)]
    assert len(stated) > 10
    assert {word for _, _, word, _ in stated} == set(RELATIONS)
    assert len(stated) == sum(scene.caption.count(word) for scene in scenes for word in RELATIONS)
    assert all(scene.relations[a, b] == word for scene, a, word, b in stated)


def test_a_checker_says_where_it_sees_an_object() -> None:
    """Votes in one cell only: that is the place."""
    checker = caption_checks.Checker().eval()
    votes = torch.zeros(1, len(NOUNS), 16, 16)
    votes[0, 2, 5, 11] = 100
    checker.trunk = torch.nn.Identity()
    checker.nouns = torch.nn.Identity()  # type: ignore[assignment]
    places = checker.places(votes * 127.5 + 127.5)
    assert places[0, 2].tolist() == pytest.approx([5, 11])
    assert places[0, 0].tolist() == pytest.approx([7.5, 7.5])


def test_a_relation_may_be_aslant() -> None:
    middle, aslant, under = np.array([5.0, 5.0]), np.array([9.0, 10.0]), np.array([11.0, 5.5])
    assert [word for word in RELATIONS if caption_checks.holds(word, middle, aslant)] == ["left of", "above"]
    assert [word for word in RELATIONS if caption_checks.holds(word, under, middle)] == ["below"]
    assert not any(caption_checks.holds(word, middle, middle) for word in RELATIONS)


def test_shares_count_what_was_asked() -> None:
    scenes = [render(seed) for seed in range(6)]
    pictures = [scene.image for scene in scenes]
    told = caption_checks.check(Knowing(scenes), pictures, scenes)
    assert (told.shapes, told.colours, told.backgrounds, told.extra, told.pictures) == (1, 1, 1, 0, 6)
    assert told.relations == 1
    mirrored = Knowing(scenes)
    mirrored.middles = -mirrored.middles
    assert caption_checks.check(mirrored, pictures, scenes).relations == 0
    others = [render(seed) for seed in range(6, 12)]
    wrong = caption_checks.check(Knowing(scenes), pictures, others)
    asked = [(scene.words, other.words) for scene, other in zip(scenes, others, strict=True)]
    right = sum(len(set(OBJECTS) & set(mine) & set(theirs)) for mine, theirs in asked)
    assert wrong.shapes == pytest.approx(right / sum(len(other.colours) for other in others))
    assert wrong.extra == pytest.approx(np.mean([len(set(OBJECTS) & set(a) - set(b)) for a, b in asked]))


@pytest.mark.slow
def test_a_checker_learns() -> None:
    scenes = [render(caption_checks.FIRST_SEED + index) for index in range(8)]
    pictures = [scene.image for scene in scenes]
    before = caption_checks.check(caption_checks.Checker().eval(), pictures, scenes)
    after = caption_checks.check(caption_checks.train_checker(scenes=8, steps=100, batch=8), pictures, scenes)
    assert after.shapes > 0.9
    assert after.colours > 0.9
    assert after.backgrounds > 0.9
    assert after.extra < 0.5
    assert before.shapes + before.backgrounds - before.extra < after.shapes + after.backgrounds - after.extra


@pytest.mark.slow
def test_pictures_are_made_from_the_captions(untrained: Any) -> None:
    captions = [render(seed).caption for seed in range(3)]
    pictures = list(caption_checks.generated(untrained, captions, batch=2))
    assert [picture.shape for picture in pictures] == [render(0).image.shape] * 3
    assert (pictures[0] != pictures[1]).any()
    (alone,) = caption_checks.generated(untrained, captions[:1])
    np.testing.assert_allclose(alone.astype(int), pictures[0], atol=1)
