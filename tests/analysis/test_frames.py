"""Runs of a video: a video of equal frames has the maps and figures of one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench import schema
from workbench.analysis.attention import sinks
from workbench.analysis.heatmaps import heatmap, mask, segment
from workbench.analysis.leakage import leakage
from workbench.analysis.metrics import score
from workbench.analysis.settling import settling
from workbench.analysis.sweeps import sweep
from workbench.figures import concept_grid
from workbench.schema import InputError, SchemaError, validate


def one_picture() -> xr.Dataset:
    return dataset(truth=True, signal=1.0)


def video(*pictures: xr.Dataset) -> xr.Dataset:
    """Scores of pictures as frames of a video, with the picture and masks of the first."""
    scored = [name for name in pictures[0].data_vars if schema.Y in pictures[0][name].dims]
    frames = xr.concat([picture[scored] for picture in pictures], schema.FRAME)
    frames = frames.assign_coords({schema.FRAME: np.arange(len(pictures)) * 4.0 + 1.5})
    frames = frames.transpose(..., schema.FRAME, schema.Y, schema.X)
    return pictures[0].drop_vars(scored).assign(frames.data_vars).assign_coords(frames.coords)


FIGURES: dict[str, Callable[[xr.Dataset], Any]] = {
    "mask by the mean": lambda ds: mask(ds, "dog"),
    "leakage by truth": leakage,
    "leakage by maps": lambda ds: leakage(ds, truth=False),
    "settling": settling,
    "score": score,
    "centred score and its null": lambda ds: score(ds, center="patch", null="concepts"),
    "centred sweep of heads": lambda ds: sweep(ds, "head", center="patch", metric="iou"),
    "sweep without truth": lambda ds: sweep(ds.drop_vars(schema.TRUTH), "layer", metric=["entropy", "full_map_iou"]),
    "sweep with truth": lambda ds: sweep(ds, "layer", metric=["iou", "accuracy", "ap"]),
    "sweep of heads": lambda ds: sweep(ds, "head", how="drop", metric="iou"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_video_of_equal_frames_has_the_figures_of_one(name: str) -> None:
    picture = one_picture()
    expected, found = FIGURES[name](picture), FIGURES[name](video(picture, picture))
    if schema.FRAME in found.dims:
        found = found.isel({schema.FRAME: 1}, drop=True)
    xr.testing.assert_allclose(found.drop_vars(schema.FRAME, errors="ignore"), expected, rtol=1e-5)


def test_frames_are_read_one_by_one() -> None:
    pictures = [dataset(truth=True, seed=seed) for seed in (0, 1)]
    whole = video(*pictures)
    validate(whole, values=True)
    for frame, picture in enumerate(pictures):
        np.testing.assert_array_equal(heatmap(whole).isel(frame=frame), heatmap(picture))
        np.testing.assert_array_equal(segment(whole).isel(frame=frame), segment(picture))
    settled = settling(whole)["last_timestep_iou"]
    each = [settling(picture)["last_timestep_iou"] for picture in pictures]
    assert not np.allclose(*each)
    assert (settled >= np.minimum(*each) - 1e-9).all()
    assert (settled <= np.maximum(*each) + 1e-9).all()


def test_patches_of_all_frames_share_the_attention() -> None:
    picture = one_picture()
    one, two = sinks(picture, top=1), sinks(video(picture, picture), top=2)
    np.testing.assert_allclose(two["top_share"], one["top_share"], rtol=1e-5)
    np.testing.assert_allclose(two["peak_ratio"], one["peak_ratio"], rtol=1e-5)
    assert two.attrs["patches"] == 2 * one.attrs["patches"]


def test_neighbours_and_drawings_are_of_one_frame() -> None:
    both = video(one_picture(), one_picture())
    with pytest.raises(InputError, match=r"several frames: choose one, ds\.isel\(frame=\[0\]\)"):
        sweep(both, "layer", metric="total_variation")
    with pytest.raises(InputError, match=r"draws one picture, and the run has frames: choose one, ds\.isel\(frame=0\)"):
        concept_grid(both)
    assert concept_grid(both.isel(frame=0))


def test_what_is_spatial() -> None:
    assert schema.spatial(("head", "x", "concept", "y")) == ("y", "x")
    assert schema.spatial(heatmap(video(one_picture()), upsample="nearest").dims) == ("frame", "pixel_y", "pixel_x")
    assert schema.in_frames(schema.score_dims("output"))[-3:] == ("frame", "y", "x")
    assert schema.in_frames(("layer", "head")) == ("layer", "head")


def test_frames_that_do_not_rise_break_the_contract() -> None:
    both = video(one_picture(), one_picture())
    with pytest.raises(SchemaError, match=r"coordinate 'frame' .*expected numbers, increasing"):
        validate(both.assign_coords(frame=[5.5, 1.5]))
