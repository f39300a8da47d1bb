from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workbench.schema import InputError
from workbench.tiny import components, scenes
from workbench.tiny.bank import caption
from workbench.tiny.gallery import write_gallery
from workbench.tiny.shapes import PICTOGRAMS


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**40))
def test_a_scene_is_whole(seed: int) -> None:
    scene = scenes.draw(seed)
    assert scene.image.shape == (scenes.SIZE, scenes.SIZE, 3)
    assert scene.image.dtype == np.uint8
    masks = np.stack([scene.mask(word) for word in scene.words])
    assert (masks.sum(0) == 1).all(), "every pixel has exactly one word"
    assert all(masks.any((1, 2)))
    objects = [word for word in scene.words if word in scenes.OBJECTS]
    grounds = [word for word in scene.words if word in scenes.BACKGROUNDS]
    assert 1 <= len(objects) <= 3
    assert 1 <= len(grounds) <= 2
    assert list(scene.words) == objects + grounds
    assert set(scene.colours) == set(objects)
    assert set(scene.words) | set(scene.colours.values()) <= set(scene.caption.split())


@pytest.mark.parametrize("seed", [0, 1_000, 2_003])
def test_a_seed_means_one_scene(seed: int) -> None:
    first, again, other = scenes.draw(seed), scenes.draw(seed), scenes.draw(seed + 1)
    np.testing.assert_array_equal(first.image, again.image)
    assert first.caption == again.caption
    assert (first.image != other.image).any()


def test_objects_are_at_least_three_patches_across() -> None:
    for seed in range(40):
        scene = scenes.draw(seed)
        for word in scene.colours:
            rows, columns = np.nonzero(scene.mask(word))
            assert max(np.ptp(rows), np.ptp(columns)) + 1 >= 24


def test_splits_do_not_overlap() -> None:
    for one, other in itertools.combinations(scenes.SPLITS.values(), 2):
        assert max(one.start, other.start) >= min(one.stop, other.stop)


def test_a_word_that_is_not_there() -> None:
    scene = scenes.draw(0)
    missing = next(word for word in scenes.NOUNS if word not in scene.words)
    with pytest.raises(InputError, match=f"'{missing}' is not in this scene; its words are {scene.words[0]}"):
        scene.mask(missing)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 0, "size": 56}, {"seed": 0, "most": 4}])
def test_impossible_scenes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected seed >= 0"):
        scenes.draw(**wrong)


def test_every_word_is_one_token_and_every_caption_fits() -> None:
    clip, t5 = components.tokenizers()
    for word in components.VOCABULARY:
        assert len(t5(word).input_ids) == 2, word
        assert len(clip(word).input_ids) == 3, word
        assert t5.decode(t5(word).input_ids, skip_special_tokens=True) == word
    longest = max((scenes.draw(seed).caption for seed in range(200)), key=lambda text: len(text.split()))
    assert len(clip(longest).input_ids) <= components.TEXT_LENGTH
    assert len(t5(longest).input_ids) <= components.TEXT_LENGTH
    assert t5.unk_token_id not in t5(longest).input_ids


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32))
def test_training_captions_say_only_what_is_there(seed: int) -> None:
    scene = scenes.draw(seed % 50)
    words = tuple(scenes.NOUNS.index(word) for word in scene.words)
    colours = tuple(scenes.COLOUR_WORDS.index(colour) for colour in scene.colours.values())
    said = caption(np.random.default_rng(seed), words, colours).split()
    assert {word for word in said if word in scenes.NOUNS} <= set(scene.words)
    for colour, noun in itertools.pairwise(said):
        if colour in scenes.COLOUR_WORDS and noun in scenes.OBJECTS:
            assert scene.colours[noun] == colour


def test_typical_colours_exist() -> None:
    assert {colour for _, colour in PICTOGRAMS.values()} <= set(scenes.COLOUR_WORDS)


def test_the_gallery_is_what_the_repository_holds(tmp_path: Path) -> None:
    write_gallery(tmp_path)
    shipped = Path(__file__).parents[2] / "data" / "scenes"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(path.name for path in shipped.iterdir())
    assert len(names) == 2 * 12 + 1
    for name in names:
        if name.endswith(".png"):
            drawn, held = (np.asarray(Image.open(folder / name)) for folder in (tmp_path, shipped))
            np.testing.assert_array_equal(drawn, held)
        else:
            assert (tmp_path / name).read_text() == (shipped / name).read_text()
