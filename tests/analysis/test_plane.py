from __future__ import annotations

import numpy as np
import pytest

from tests.synthetic import dataset
from workbench.analysis.heatmaps import heatmap
from workbench.analysis.metrics import score
from workbench.analysis.plane import patch_side, pixels_of
from workbench.figures import concept_grid
from workbench.schema import InputError
from workbench.widgets.shared.refusals import problem

DS = dataset(truth=True)


def test_patches_and_their_pixels() -> None:
    assert patch_side(DS, "y") == patch_side(DS.isel(y=[1]), "y") == patch_side(DS.drop_attrs(), "x") == 8
    covered, position = pixels_of(DS.isel(y=[1, 2]), "y")
    assert np.flatnonzero(covered).tolist() == list(range(8, 24))
    np.testing.assert_allclose(position[:2], [-0.4375, -0.3125])


@pytest.mark.parametrize("places", [[0, 2], [0, 1, 3], [0, 3]])
def test_patches_that_were_left_out_are_missed(places: list[int]) -> None:
    apart = DS.isel(y=places)
    heatmap(apart)
    for method in (lambda ds: heatmap(ds, upsample="nearest"), score, concept_grid):
        with pytest.raises(InputError, match=r"choose neighbouring ones, ds\.isel\(y=slice"):
            method(apart)
    assert "pixels apart" in str(problem(apart))


def test_averaged_neighbours_say_how_large_they_are() -> None:
    coarse = DS[["output_total"]].coarsen(y=2, x=2).mean().assign(image=DS.image)
    with pytest.raises(InputError, match="lie 16 pixels apart, and a patch is 8 pixels wide"):
        heatmap(coarse, upsample="nearest")
    large = coarse.assign_attrs(DS.attrs, patch=16)
    assert heatmap(large, upsample="nearest").sizes["pixel_y"] == 32
    with pytest.raises(InputError, match="attribute 'patch', its side in pixels, is lost"):
        patch_side(DS.isel(y=[0]).drop_attrs(), "y")
