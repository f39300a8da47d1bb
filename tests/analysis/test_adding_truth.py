from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench import schema
from workbench.analysis.adding_truth import truth_hash, void_of, with_truth
from workbench.analysis.normalising import normalised
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


def test_void_pixels_are_kept_beside_the_truth() -> None:
    ds, labels = dataset(), np.zeros((32, 48), np.uint8)
    labels[:, 10:], labels[:, 40:] = 1, 255
    found = with_truth(ds, labels, labels={"dog": 0, "grass": 1, "sky": [1]}, ignore=255)
    schema.validate(found)
    np.testing.assert_array_equal(found["void"], labels == 255)
    assert not found["truth"].values[:, labels == 255].any()
    assert "void" not in with_truth(found, dict.fromkeys(("dog", "grass", "sky"), labels == 0)), "a new truth"
    with pytest.raises(InputError, match="give the dataset, truth=ds"):
        with_truth(ds, found["truth"])
    xr.testing.assert_identical(with_truth(ds, found), found)
    again = with_truth(
        ds, {n: found["truth"].sel(concept=n) for n in found.concept.values} | {"v": found["void"]}, ignore="v"
    )
    xr.testing.assert_identical(again, found)


def test_void_without_truth_breaks_the_contract() -> None:
    ds = dataset().assign(void=(("pixel_y", "pixel_x"), np.zeros((32, 48), bool)))
    with pytest.raises(schema.SchemaError, match="'void' is there, but not 'truth'"):
        schema.validate(ds)


@pytest.mark.parametrize("join", ["sample", "timestep"])
def test_joined_datasets_keep_their_void_pixels(join: str) -> None:
    ds = dataset(truth=True)
    void = np.arange(48)[None, :].repeat(32, 0) > 30
    masks = {str(name): ds["truth"].sel(concept=name).values for name in ds.concept.values}
    ds = with_truth(ds.drop_vars("truth"), masks | {"void": void}, ignore="void")
    first, second = (
        ds.isel({join: [0]}),
        ds.isel({join: [-1]}).assign_coords({join: [1 if join == "sample" else 250.0]}),
    )
    joined = xr.concat([first, second], join, data_vars="all")
    np.testing.assert_array_equal(void_of(normalised(joined)), void)


def test_a_hash_tells_one_truth_from_another() -> None:
    ds = dataset(truth=True)
    other = ds.assign(truth=ds.truth.copy(data=~ds.truth.to_numpy()))
    void = ds.assign(void=(("pixel_y", "pixel_x"), np.zeros(ds.truth.shape[1:], bool)))
    assert truth_hash(ds) == truth_hash(ds.transpose(...))
    assert len({truth_hash(ds), truth_hash(other), truth_hash(void), truth_hash(dataset())}) == 4
    assert truth_hash(dataset()) == ""
