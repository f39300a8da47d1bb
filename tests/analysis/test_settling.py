from __future__ import annotations

import numpy as np
import pytest

from tests.synthetic import dataset
from workbench.analysis.heatmaps import segment
from workbench.analysis.settling import settling
from workbench.schema import InputError

TIMES = (900.0, 700.0, 500.0, 300.0, 100.0)


def staged() -> object:
    """Noise first; dog and the rest fall into place at 500, and stay."""
    ds = dataset(timesteps=TIMES, default_layers=[0], grid=(6, 6)).drop_vars("output")
    strips = dataset(truth=True, grid=(6, 6))["truth"].values[:, 4::8, 4::8]
    ds["output_total"][:, 2:] += 50 * strips
    return ds


def test_iou_with_the_last_timestep() -> None:
    ds = dataset(timesteps=TIMES, samples=2, signal=2)
    found = settling(ds)
    assert found["last_timestep_iou"].dims == ("sample", "timestep", "concept")
    assert (found["last_timestep_iou"].sel(timestep=100) == 1).all()
    for sample, time, concept in np.ndindex(2, 5, 3):
        one = segment(ds, samples=sample, timesteps=TIMES[time]).values == concept
        last = segment(ds, samples=sample, timesteps=100).values == concept
        expected = (one & last).sum() / (one | last).sum()
        assert float(found["last_timestep_iou"][sample, time, concept]) == pytest.approx(expected)


def test_a_concept_settles_when_it_stays() -> None:
    ds = staged()
    found = settling(ds, threshold=0.9)  # type: ignore[arg-type]
    assert (found["settled"] == 500).all()
    relapsed = ds.copy(deep=True)  # type: ignore[attr-defined]
    relapsed["output_total"][:, 3] = ds["output_total"][:, 0]  # type: ignore[index]
    never = settling(relapsed, threshold=0.9)["settled"]
    assert never.isnull().all(), "the last timestep agrees with itself"
    assert never.attrs["comment"].startswith("never settled, in one sample or more: dog, grass, sky. No timestep")
    assert "comment" not in found["settled"].attrs
    assert found.attrs["threshold"] == 0.9
    assert found.attrs["layers"] == [0]


def test_a_concept_that_is_nowhere_never_settles() -> None:
    ds = dataset(timesteps=TIMES, signal=50).drop_vars("output")
    ds["output_total"].loc[{"concept": "sky"}] = -99
    found = settling(ds)
    assert np.isnan(found["last_timestep_iou"].sel(concept="sky")).all()
    assert np.isnan(found["settled"].sel(concept="sky")).all()
    assert found["settled"].sel(concept="dog").notnull().all()


def test_missing_timesteps_say_nothing() -> None:
    ds = staged()
    for layer in range(5):
        ds["output_total"][0, 3, layer] = np.nan  # type: ignore[index]
    ds.attrs["missing"] = [  # type: ignore[attr-defined]
        {"sample": 0, "timestep": 300.0, "layer": layer} for layer in range(5)
    ]
    found = settling(ds, threshold=0.9)  # type: ignore[arg-type]
    assert np.isnan(found["last_timestep_iou"].sel(timestep=300)).all()
    assert (found["settled"] == 500).all()


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(InputError, match="two timesteps or more"):
        settling(dataset(), timesteps=500)
    with pytest.raises(InputError, match="threshold is 2"):
        settling(dataset(), threshold=2)
    with pytest.raises(InputError, match="leave out keep"):
        settling(dataset(), keep=["layer"])
