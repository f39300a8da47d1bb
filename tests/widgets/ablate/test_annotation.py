from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.synthetic import dataset
from workbench.schema import InputError
from workbench.widgets.ablate.annotation import code_of, masks_of, read_drawn

DRAWN: dict[str, list[list[int]]] = {"dog": [[1, 2], [1, 1], [1, 1]], "sky": [[3, 5]], "grass": []}


def test_drawn_patches_are_masks_of_all_concepts() -> None:
    ds = dataset()
    masks = masks_of(read_drawn(DRAWN, ds), ds)
    assert list(masks) == ["dog", "grass", "sky"]
    assert np.argwhere(masks["dog"]).tolist() == [[1, 1], [1, 2]]
    assert np.argwhere(masks["sky"]).tolist() == [[3, 5]]
    assert not masks["grass"].any()


def test_in_pixels_a_patch_is_all_of_its_own() -> None:
    ds = dataset(patch=8)
    drawn = read_drawn(DRAWN, ds)
    large = masks_of(drawn, ds, pixels=True)["dog"]
    assert large.shape == (32, 48)
    np.testing.assert_array_equal(large[4::8, 4::8], masks_of(drawn, ds)["dog"])
    assert large.sum() == 2 * 64


@pytest.mark.parametrize("pixels", [False, True])
def test_the_code_makes_the_same_masks(pixels: bool) -> None:
    ds = dataset(concepts=("it's", "grass", "sky"))
    drawn = read_drawn({"it's": [[0, 1]], "sky": [[2, 2]]}, ds)
    made: dict[str, Any] = {}
    exec(code_of(drawn, ds, pixels=pixels), made)
    for name, mask in masks_of(drawn, ds, pixels=pixels).items():
        np.testing.assert_array_equal(made["masks"][name], mask)


@pytest.mark.parametrize("drawn", [[], {"cat": [[0, 0]]}, {"dog": [[4, 0]]}, {"dog": [[0, -1]]}, {"dog": [[0, 0.5]]}])
def test_what_is_not_on_the_grid_is_refused(drawn: Any) -> None:
    with pytest.raises(InputError, match=r"truth is|outside the grid|a patch of dog is 0.5"):
        read_drawn(drawn, dataset())


def test_nothing_drawn_is_no_truth() -> None:
    with pytest.raises(InputError, match="click its patches"):
        masks_of(read_drawn({"dog": []}, dataset()), dataset())
