from __future__ import annotations

import io
import json

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from tests.synthetic import dataset
from workbench.widgets.shared.description import describe, picture


def pixels(ds: xr.Dataset, **state: int) -> np.ndarray:
    media, encoded = picture(ds, **state)
    opened = Image.open(io.BytesIO(encoded))
    assert media == f"image/{opened.format.lower()}"
    return np.asarray(opened)


def test_the_description_is_small_plain_json() -> None:
    ds = dataset(truth=True, samples=2, missing=[(1, 500.0, 3)], spaces=("output", "prompt"))
    meta = describe(ds)
    assert json.loads(json.dumps(meta, allow_nan=False)) == meta
    assert meta["spaces"]["prompt"]["names"] == ["a", "dog", "on", "a", "hill"]
    assert meta["spaces"]["output"] == {"names": ["dog", "grass", "sky"], "heads": True}
    assert meta["layers"] == [0, 1, 2, 3, 4]
    assert meta["blocks"] == ["dual"] * 3 + ["single"] * 2
    assert meta["missing"] == [[1, 1, 3]]
    assert (meta["grid"], meta["seeds"], meta["sigmas"]) == ([4, 6], [0, 1], [0.75, 0.5, 0.25])
    assert meta["statistics"] == ["patch_agreement", "entropy", "separability", "iou", "ap"]
    assert (meta["picture"], meta["pictures"], meta["truth"]) == (True, [], True)


def test_a_description_of_little() -> None:
    ds = dataset(kind="generate").drop_vars(["output", "cross", "head", "sigma", "block", "seed"])
    meta = describe(ds)
    assert meta["spaces"]["output"]["heads"] is False
    assert (meta["heads"], meta["blocks"], meta["seeds"]) == ([], [], [])
    assert meta["sigmas"] == [0.75, 0.5, 0.25]
    assert meta["pictures"] == ["sample"]
    assert len(meta["statistics"]) == 3


def test_a_long_prompt_is_shortened() -> None:
    ds = dataset()
    ds.attrs["prompt"] = ["dog " * 100, "cat"]
    assert len(describe(ds)["prompt"]) == 301


def test_small_pictures_are_exact() -> None:
    ds = dataset()
    np.testing.assert_array_equal(pixels(ds), ds.image)


def test_the_picture_is_that_of_the_sample() -> None:
    ds = dataset(kind="generate", samples=2)
    np.testing.assert_array_equal(pixels(ds, sample=1), ds.image[1])
    np.testing.assert_array_equal(pixels(ds, sample=None), ds.image[0])


def test_the_picture_shows_what_the_patches_cover() -> None:
    ds = dataset()
    cut = ds.isel(y=[1, 2], x=[2, 3, 4])
    np.testing.assert_array_equal(pixels(cut), ds.image[8:24, 16:40])


@pytest.mark.parametrize("side", [100, 200])
def test_large_pictures_are_reduced(side: int) -> None:
    ds = dataset(grid=(8, side), patch=16, concepts=["dog", "sky"], timesteps=[500.0], dual=1, single=0, heads=1)
    found = pixels(ds)
    assert found.shape[1] == min(1024, side * 16)
    assert abs(found.shape[0] / found.shape[1] - 8 / side) < 0.01


def test_the_browser_is_told_what_was_edited() -> None:
    assert describe(dataset())["edit"] == ""
    edited = dataset().assign_attrs(interventions=[{"edit": "SkipBlock", "layers": [3]}])
    assert describe(edited)["edit"] == "SkipBlock(3)"
