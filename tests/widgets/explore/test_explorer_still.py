from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import colormaps

from tests.synthetic import dataset
from workbench.figures import SEGMENT_COLOURS
from workbench.widgets.explore import arrays
from workbench.widgets.explore.explorer_still import limits_of, still_of
from workbench.widgets.explore.state import State
from workbench.widgets.shared.drawing import Legend, Tiles, draw, png


def test_panels_have_the_colours_of_the_maps() -> None:
    ds = dataset(truth=True, signal=2.0)
    state = replace(State.default(ds), opacity=1.0, difference=(0, 2))
    still = still_of(ds, state)
    maps = arrays.maps(state, ds)
    (tiles,) = (block for block in still.blocks if isinstance(block, Tiles))
    titles = ["picture", "dog", "grass", "sky", "dog − sky", "segmentation", "truth"]
    assert [tile.title for tile in tiles.tiles] == titles
    low, high = limits_of(state, maps)
    for index in range(3):
        drawn = np.asarray(tiles.tiles[1 + index].show(60, 40))[5::10, 5::10]
        expected = colormaps["viridis"]((maps[index] - low) / (high - low))[..., :3] * 255
        np.testing.assert_allclose(drawn, expected, atol=4)
    areas = np.asarray(tiles.tiles[5].show(60, 40))[5::10, 5::10]
    palette = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in SEGMENT_COLOURS])
    np.testing.assert_array_equal(areas, palette[maps.argmax(0)])


def test_missing_pieces_tokens_and_datasets_without_a_picture_are_drawn() -> None:
    for ds in (dataset(spaces=("prompt",)), dataset().drop_vars("image"), dataset(concepts=("dog",))):
        still = still_of(ds, State.default(ds))
        assert draw(still.blocks).width == 960
        assert still.words.startswith("Concept maps: ")


def test_words_name_areas_truth_and_edit() -> None:
    ds = dataset(truth=True, signal=9.0).assign_attrs(interventions=[{}], edit="SkipBlock(3)", prompt="a dog")
    words = still_of(ds, State.default(ds)).words
    assert "edited: SkipBlock(3)" in words
    assert "prompt: “a dog”" in words
    assert "dog 33 %" in words
    assert words.endswith("Mean IoU with the truth: 1.000.")
    assert "IoU" not in still_of(ds.drop_vars("truth"), State.default(ds)).words


@pytest.mark.parametrize("count", [3, 15])
def test_a_picture_is_small_enough_for_a_notebook(count: int) -> None:
    ds = dataset(concepts=[f"concept {index}" for index in range(count)], grid=(64, 64), patch=4, heads=1)
    still = still_of(ds, State.default(ds))
    assert len(png(still.blocks, still.facts)) <= 100_000
    (legend,) = (block for block in still.blocks if isinstance(block, Legend))
    assert len(legend.entries) == min(count, 12)


def test_signed_scores_have_a_scale_around_zero() -> None:
    ds = dataset()
    state = replace(State.default(ds), reduce="mean")
    low, high = limits_of(state, arrays.maps(state, ds))
    assert low == -high
    assert limits_of(replace(state, limits=(0.0, 2.0)), arrays.maps(state, ds)) == (0.0, 2.0)
