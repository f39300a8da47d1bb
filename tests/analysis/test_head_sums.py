from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from tests.store.replay import save
from workbench import schema, store
from workbench.schema import InputError


@pytest.fixture(params=["memory", "disk"])
def run(request: pytest.FixtureRequest, home: Path) -> xr.Dataset:
    made = synthetic.dataset(heads=3, missing=[(0, 500.0, 2)], grid=(9, 20))
    if request.param == "disk":
        save(made, home)
        return store.open("run", home)
    names = [name for space in ("output", "cross") for name in (space, schema.total(space))]
    declared: dict[str, Any] = {name: (made[name].dims, str(made[name].dtype)) for name in names}
    with store.in_memory(made.drop_vars(names), declared) as writer:
        for piece in writer.remaining:
            at = piece._asdict()
            writer.write(at, {name: made[name].isel(at).values for name in names})
    return writer.dataset()


def test_sums_follow_what_was_computed_from_the_heads(run: xr.Dataset) -> None:
    """Zeroing a head by hand is choosing the others; the sums that were captured know nothing of it."""
    others = run.wb.heatmap(heads=[0, 2])
    for one in (run, run.chunk()):
        zeroed = one.assign(output=one["output"].where(one["head"] != 1, 0))
        np.testing.assert_allclose(zeroed.wb.heatmap(), others, atol=1e-6)
        np.testing.assert_array_equal(zeroed.wb.heatmap(space="cross"), run.wb.heatmap(space="cross"))


def test_sums_that_were_computed_stay(run: xr.Dataset) -> None:
    moved = run.assign(output_total=run["output_total"] * 2)
    assert float(abs(moved.wb.heatmap() - run.wb.heatmap()).max()) > 0.01


def test_whatever_leaves_both_alone_leaves_the_sums(run: xr.Dataset) -> None:
    expected = run.wb.heatmap()
    for same in (run.load(), run.chunk(), run.transpose("head", ...), run.copy(deep=True), run.isel(layer=slice(None))):
        np.testing.assert_array_equal(same.wb.heatmap(), expected)
    parts = [run.isel(layer=[0, 1]), run.isel(layer=[2, 3, 4])]
    joined = xr.concat(parts, "layer", data_vars="minimal", coords="minimal", compat="override", join="outer")
    np.testing.assert_array_equal(joined.wb.heatmap(), expected)


def test_scores_that_were_changed_in_place_are_refused_until_one_is_dropped(run: xr.Dataset) -> None:
    others = run.wb.heatmap(heads=[0, 2])
    changed = run.copy(deep=True)
    changed["output"].loc[{"head": 1, "layer": 2}] = 0
    changed["output"].loc[{"head": 1, "layer": 1}] = 0
    with pytest.raises(InputError, match=r"'output_total' is not the sum .* ds\.drop_vars\('output_total'\) sums"):
        changed.wb.heatmap(space="cross")
    np.testing.assert_allclose(changed.drop_vars("output_total").wb.heatmap(), others, atol=1e-6)
    np.testing.assert_array_equal(changed.drop_vars("output").wb.heatmap(), run.wb.heatmap())
