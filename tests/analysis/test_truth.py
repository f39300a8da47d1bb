from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench import schema
from workbench.analysis.truth import with_truth
from workbench.schema import InputError


def test_adds_a_variable_that_keeps_the_contract() -> None:
    ds, answer = dataset(), dataset(truth=True)["truth"]
    result = with_truth(ds, {str(name): answer.sel(concept=name).values for name in ds.concept.values})
    assert result["truth"].dims == ("concept", "pixel_y", "pixel_x")
    assert result["truth"].dtype == bool
    xr.testing.assert_equal(result["truth"], answer)
    schema.validate(result)
    assert "truth" not in ds
    assert np.array_equal(with_truth(result, ~answer)["truth"], ~answer)


def test_resizes_when_asked() -> None:
    ds, answer = dataset(), dataset(truth=True)["truth"]
    half = {str(name): answer.sel(concept=name).values[::2, ::2] for name in ds.concept.values}
    with pytest.raises(InputError, match="resize=True"):
        with_truth(ds, half)
    xr.testing.assert_equal(with_truth(ds, half, resize=True)["truth"], answer)


def test_several_pictures_are_refused() -> None:
    ds = dataset(kind="generate", samples=2)
    with pytest.raises(InputError, match=r"2 different pictures; choose one first: ds.isel\(sample=\[0\]\)"):
        with_truth(ds, {"dog": np.zeros((32, 48), bool)})
    masks = {str(name): np.ones((32, 48), bool) for name in ds.concept.values}
    assert with_truth(ds.isel(sample=[0]), masks)["truth"].all()


def test_a_dataset_without_a_picture_is_refused() -> None:
    with pytest.raises(InputError, match="no concepts or no image"):
        with_truth(xr.Dataset(), {"dog": np.ones((2, 2), bool)})
