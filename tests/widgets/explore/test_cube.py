from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from tests.synthetic import dataset
from workbench.numerics.scores import softmax
from workbench.widgets.explore import cube


@pytest.mark.parametrize("scale", [1.0, 50.0])
def test_unpacked_scores_are_closer_than_float16(scale: float) -> None:
    ds = dataset(samples=2, spaces=("output", "prompt"))
    ds["output_total"] = ds.output_total * scale + 40
    parts = list(cube.pack(ds, "output"))
    assert len(parts) == ds.sizes["timestep"]
    assert sum(part.levels.nbytes for part in parts) == cube.size(ds, "output")
    for part, (_, exact) in zip(parts, ds.output_total.groupby("timestep", squeeze=False), strict=True):
        del exact
        assert part.levels.dtype == np.uint16
    for index, part in enumerate(parts):
        exact = ds.output_total.isel(timestep=index).to_numpy()
        found = cube.unpack(part)[:, :, :, 0]
        step = np.ptp(exact, axis=(-2, -1)).max() / cube.LEVELS
        assert np.abs(found - exact).max() <= 0.51 * step + np.abs(exact).max() * 2e-7
        assert np.abs(found - exact).max() < np.abs(exact.astype(np.float16) - exact).max()
        np.testing.assert_allclose(softmax(found, 2), softmax(exact, 2), atol=2e-5 * scale)


def test_scores_of_another_precision_are_sent_in_32_bits() -> None:
    ds = dataset()
    (part, *_), (wide, *_) = (
        cube.pack(one, "output") for one in (ds, ds.assign(output_total=ds.output_total.astype(float)))
    )
    for values, same in zip(wide, part, strict=True):
        assert values.dtype == same.dtype
        np.testing.assert_array_equal(values, same)


def test_tokens_frames_and_any_order_of_dimensions() -> None:
    ds = dataset(spaces=("prompt",))
    turned = ds.assign(prompt_total=ds.prompt_total.transpose("x", "token", "layer", "y", "timestep", "sample"))
    both = xr.concat([turned.prompt_total, turned.prompt_total + 1], "frame")
    ((part, *_), (frames, *_)) = (
        list(cube.pack(each, "prompt")) for each in (turned, turned.assign(prompt_total=both))
    )
    assert part.levels.shape == (1, 5, 5, 1, 4, 6)
    assert frames.levels.shape == (1, 5, 5, 2, 4, 6)
    np.testing.assert_allclose(cube.unpack(frames)[:, :, :, 1], cube.unpack(part)[:, :, :, 0] + 1, atol=1e-3)


def test_pieces_that_are_not_finite_are_marked() -> None:
    ds = dataset(missing=[(0, 500.0, 1)])
    ds.output_total[0, 0, 3, 1, 2, 2] = np.inf
    parts = list(cube.pack(ds, "output"))
    marked = [np.argwhere(np.isnan(part.step)).tolist() for part in parts]
    assert marked == [[[0, 3, 1]], [[0, 1, 0], [0, 1, 1], [0, 1, 2]], []]


def test_constant_scores_stay_constant() -> None:
    ds = dataset()
    ds["output_total"] = xr.full_like(ds.output_total, 2.5)
    for part in cube.pack(ds, "output"):
        np.testing.assert_array_equal(cube.unpack(part), np.float32(2.5))


def test_scores_that_span_too_much_for_sixteen_bits_are_sent_as_they_are() -> None:
    """Of a large model thousands of the sum over heads lie between the least and the greatest score of a concept."""
    ds = dataset(missing=[(0, 500.0, 1)])
    ds["output_total"] = ds.output_total * 2000
    for index, part in enumerate(cube.pack(ds, "output")):
        exact = ds.output_total.isel(timestep=index).to_numpy()
        assert part.levels.dtype == np.float32
        np.testing.assert_array_equal(cube.unpack(part)[:, :, :, 0], exact)


def test_no_map_is_off_by_more_than_two_thousandths() -> None:
    ds = dataset(seed=3)
    for span in (500.0, 520.0):
        span /= float(np.ptp(ds.output_total.to_numpy(), axis=(-2, -1)).max())
        wide = ds.output_total * span
        for index, part in enumerate(cube.pack(ds.assign(output_total=wide), "output")):
            exact = wide.isel(timestep=index).to_numpy()
            assert np.abs(softmax(cube.unpack(part)[:, :, :, 0], 2) - softmax(exact, 2)).max() < 0.002
