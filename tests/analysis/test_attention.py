from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench import schema
from workbench.analysis.attention import concept_share, self_attention, sinks, text_sinks
from workbench.interventions import AttendMode, Intervention, RandomDirection
from workbench.schema import InputError, SelectionError, WorkbenchWarning

PIECE_DIMS = ("sample", "timestep", "layer", "head", "concept")


def with_lse(**options: object) -> xr.Dataset:
    """A dataset whose concepts' logits over concepts are made up, and those over patches its own."""
    ds = dataset(samples=2, **options)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    cross = ds["cross"].astype(np.float32)
    image = np.log(np.exp(cross).sum(["y", "x"], skipna=False)).transpose(*PIECE_DIMS)
    own = rng.normal(size=(*image.shape, image.sizes["concept"])).astype(np.float32)
    ds["lse_image"] = image
    ds["lse_concept"] = (PIECE_DIMS, np.log(np.exp(own).sum(-1)))
    ds.attrs["own"] = own.tolist()
    return ds


def attention(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """One softmax over patches and concepts: shares of patches, and of concepts."""
    logits = ds["cross"].transpose(*PIECE_DIMS, "y", "x").values.astype(float)
    flat = np.concatenate([logits.reshape(*logits.shape[:5], -1), np.array(ds.attrs["own"])], -1)
    shares = np.exp(flat) / np.exp(flat).sum(-1, keepdims=True)
    patches = logits.shape[-1] * logits.shape[-2]
    return shares[..., :patches], shares[..., patches:]


def test_concept_share_is_what_concepts_take_of_one_softmax() -> None:
    ds = with_lse()
    found = concept_share(ds)
    assert found.dims == PIECE_DIMS
    np.testing.assert_allclose(found, attention(ds)[1].sum(-1), rtol=1e-4)
    some = concept_share(ds, layers=slice(1, 3), timesteps=500, heads=1, concepts=["sky"], samples=0)
    xr.testing.assert_equal(some, found.sel(layer=[1, 2, 3], timestep=[500.0], head=[1], concept=["sky"], sample=[0]))


def test_concept_share_of_large_logits_does_not_overflow() -> None:
    ds = with_lse()
    ds["lse_image"] = ds["lse_image"] * 0 + 5000
    ds["lse_concept"] = ds["lse_concept"] * 0 + 5001
    np.testing.assert_allclose(concept_share(ds), np.e / (1 + np.e), rtol=1e-6)


def test_concept_share_follows_what_concepts_attended_to() -> None:
    ds = with_lse()
    assert (concept_share(ds.assign_attrs(attend="image")) == 0).all()
    assert (concept_share(ds.assign_attrs(attend="concepts")) == 1).all()
    with pytest.raises(InputError, match="attended to nothing in this run"):
        concept_share(ds.assign_attrs(attend="none"))


def edited(ds: xr.Dataset, *edits: Intervention) -> xr.Dataset:
    return ds.assign_attrs(interventions=[edit.as_dict() for edit in edits])


def test_concept_share_follows_the_edits_of_layers_and_timesteps() -> None:
    ds = with_lse()
    plain = concept_share(ds)
    image, own = AttendMode("image", layers=[2]), AttendMode("concepts", layers=[1, 3], timesteps=(400, 800))
    found = concept_share(edited(ds, image, own))
    assert (found.sel(layer=2) == 0).all()
    assert (found.sel(layer=[1, 3], timestep=[750, 500]) == 1).all()
    np.testing.assert_array_equal(found.sel(layer=[1, 3], timestep=250), plain.sel(layer=[1, 3], timestep=250))
    np.testing.assert_array_equal(found.sel(layer=[0, 4]), plain.sel(layer=[0, 4]))
    assert found.attrs["attend"] == "mixed"
    assert (concept_share(edited(ds, image, AttendMode("both"))) == plain).all(), "the last edit of a block counts"
    assert (concept_share(edited(ds.assign_attrs(attend="concepts"), image)).sel(layer=[0, 1]) == 1).all()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (AttendMode("none", layers=1, timesteps=(0, 300)), "nothing in layers .1. at timesteps .250.0."),
        (RandomDirection(AttendMode("image", layers=1, timesteps=(0, 300))), "what a random direction made"),
    ],
)
def test_a_share_without_attention_is_undefined(edit: Intervention, said: str) -> None:
    ds = with_lse()
    with pytest.warns(WorkbenchWarning, match=f"{said}.*: the share of concepts is undefined there"):
        share = concept_share(edited(ds, edit))
    undefined = (ds["layer"] == 1) & (ds["timestep"] == 250)
    np.testing.assert_array_equal(share.isnull(), undefined.broadcast_like(share).transpose(*PIECE_DIMS))
    with pytest.warns(WorkbenchWarning, match="a share of the attention to patches is undefined"):
        found = sinks(edited(ds, edit))
    plain = sinks(ds)
    for name in ("top_share", "peak_ratio", "common_share"):
        np.testing.assert_array_equal(found[name], plain[name].where(~undefined))


def test_sinks_of_layers_that_attend_to_no_patch() -> None:
    ds = edited(with_lse(), AttendMode("concepts", layers=1))
    with pytest.warns(WorkbenchWarning, match="concepts only in layers .1."):
        assert sinks(ds).sel(layer=1).isnull().all().to_array().all()
    assert (sinks(ds, of="all").sel(layer=1) == 0).all().to_array().all()


def test_what_is_missing_is_unknown() -> None:
    ds = with_lse(missing=[(0, 500.0, 1)])
    for name in schema.LSE:
        ds[name] = ds[name].where(ds["cross"].isel(y=0, x=0).notnull())
    for mode in ("both", "image"):
        found = concept_share(ds.assign_attrs(attend=mode))
        assert np.isnan(found.sel(sample=0, timestep=500, layer=1)).all()
        assert int(found.isnull().sum()) == 2 * 3
    share = sinks(ds, of="all")["top_share"]
    assert np.isnan(share.sel(sample=0, timestep=500, layer=1)).all()
    assert int(share.isnull().sum()) == 2 * 3


@pytest.mark.parametrize("of", ["image", "all"])
@pytest.mark.parametrize("top", [1, 3, 24])
def test_shares_of_the_top_patches(top: int, of: str) -> None:
    ds = with_lse()
    found = sinks(ds, top, of=of)  # type: ignore[arg-type]
    patches, _ = attention(ds)
    alone = patches / patches.sum(-1, keepdims=True)
    shares = alone if of == "image" else patches
    assert found["top_share"].dims == PIECE_DIMS
    np.testing.assert_allclose(found["top_share"], np.sort(shares, -1)[..., -top:].sum(-1), rtol=1e-4)
    np.testing.assert_allclose(found["peak_ratio"], shares.max(-1) * 24, rtol=1e-4)
    common = np.argsort(alone.mean(-2), -1)[..., None, -top:]
    expected = np.take_along_axis(shares, np.broadcast_to(common, (*shares.shape[:-1], top)), -1).sum(-1).mean(-1)
    assert found["common_share"].dims == PIECE_DIMS[:-1]
    np.testing.assert_allclose(found["common_share"], expected, rtol=1e-4)
    assert found.attrs == {"top": top, "of": of, "patches": 24}


def test_a_sink_takes_from_every_concept_and_an_object_from_one() -> None:
    ds = dataset(spaces=("cross",))
    ds = ds.drop_vars("cross_total").assign(cross=(ds["cross"] * 0).astype(np.float32))
    sink, own = ds.copy(deep=True), ds.copy(deep=True)
    sink["cross"][..., 2, 3] = 10
    own["cross"][:, :, :, :, 0, 1, 1] = own["cross"][:, :, :, :, 1, 2, 2] = own["cross"][:, :, :, :, 2, 3, 3] = 10
    assert (sinks(sink)["common_share"] > 0.99).all()
    assert (sinks(own)["top_share"] > 0.99).all()
    assert (sinks(own)["common_share"] < 0.4).all()
    np.testing.assert_allclose(sinks(ds)["peak_ratio"], 1, rtol=1e-6)


def with_text(mass: np.ndarray, padding: list[bool]) -> xr.Dataset:
    ds = dataset(heads=2).assign_attrs(text_length=len(padding))
    return ds.assign(text_mass=(("sample", "timestep", "layer", "head", "text"), mass)).assign_coords(
        text=np.arange(len(padding)), padding=("text", padding)
    )


def test_text_sinks() -> None:
    mass = np.random.default_rng(0).random((1, 3, 5, 2, 6))
    padding = [False, False, True, True, True, True]
    ds = with_text(mass / 10, padding)
    found = text_sinks(ds, 2)
    shares = mass / mass.sum(-1, keepdims=True)
    np.testing.assert_allclose(found["text_share"], mass.sum(-1) / 10)
    np.testing.assert_allclose(found["padding_share"], shares[..., 2:].sum(-1))
    np.testing.assert_allclose(found["top_share"], np.sort(shares, -1)[..., -2:].sum(-1))
    np.testing.assert_allclose(found["peak_ratio"], shares.max(-1) * 6)
    np.testing.assert_array_equal(found["top_token"], shares.argmax(-1))
    np.testing.assert_array_equal(found["top_is_padding"], shares.argmax(-1) >= 2)
    assert found.attrs == {"top": 2, "tokens": 6}
    one = text_sinks(ds, 2, layers=2, timesteps=500, heads=[1], samples=0)
    xr.testing.assert_equal(one, found.sel(layer=[2], timestep=[500.0], head=[1], sample=[0]))


def test_text_sinks_without_any_mass() -> None:
    mass = np.ones((1, 3, 5, 2, 4))
    mass[0, 0], mass[0, 1] = 0, np.nan
    found = text_sinks(with_text(mass, [False, True, True, True]))
    for name in ("padding_share", "top_share", "peak_ratio", "top_token", "top_is_padding"):
        assert np.isnan(found[name][0, :2]).all()
        assert found[name][0, 2].notnull().all()


def test_what_was_not_captured_is_named() -> None:
    ds = dataset(spaces=("output",))
    with pytest.raises(SelectionError, match=r"needs lse_image, lse_concept, .* capture again with lse=True"):
        concept_share(ds)
    with pytest.raises(SelectionError, match=r"needs cross, .* capture again with spaces=\('cross', \.\.\.\)"):
        sinks(ds)
    with pytest.raises(SelectionError, match=r"needs lse_image.* capture again with lse=True"):
        sinks(dataset(), of="all")
    with pytest.raises(SelectionError, match=r"needs text_mass.* capture again with text_mass=True"):
        text_sinks(ds)
    with pytest.raises(InputError, match="top is 25; expected a number of patches, 1 to 24"):
        sinks(dataset(), 25)
    with pytest.raises(InputError, match="of is 'text'"):
        sinks(dataset(), of="text")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="top is 0; expected a number of text tokens"):
        text_sinks(with_text(np.ones((1, 3, 5, 2, 4)), [False] * 4), 0)


def test_the_former_name_warns_and_gives_the_same() -> None:
    ds = with_lse()
    with pytest.warns(WorkbenchWarning, match="concept_share"):
        former = ds.wb.self_attention(layers=1)
    xr.testing.assert_identical(former, concept_share(ds, layers=1))
    with pytest.warns(WorkbenchWarning, match="concept_share"):
        xr.testing.assert_identical(self_attention(ds, layers=1), former)


def test_shares_of_all_attention_need_all_patches() -> None:
    ds = with_lse()
    with pytest.raises(InputError, match="12 of 24 patches"):
        sinks(ds.isel(y=slice(0, 2)), of="all")
    assert sinks(ds.isel(y=slice(0, 2))).attrs["patches"] == 12
    text = with_text(np.ones((1, 3, 5, 2, 6)), [False] * 6)
    with pytest.raises(InputError, match="4 of 6 tokens"):
        text_sinks(text.isel(text=slice(4)))
