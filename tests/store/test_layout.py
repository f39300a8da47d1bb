from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from tests.store.replay import save
from workbench.store import layout

GRID = {"timesteps": (500.0,), "dual": 2, "single": 0, "default_layers": (0, 1), "grid": (2, 3)}


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "_kept", type(layout._kept)())


def files(home: Path, key: str) -> dict[str, bytes]:
    run = home / "runs" / f"{key}.zarr"
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in sorted(run.rglob("*")) if path.is_file()}


def like(ds: xr.Dataset, **masks: float) -> xr.Dataset:
    """A dataset with masks that differ in what they hold, also in a chunk that holds nothing."""
    dims = ("concept", "pixel_y", "pixel_x")
    shape = [ds.sizes[dim] for dim in dims]
    return ds.assign({name: (dims, np.full(shape, bool(value))) for name, value in masks.items()})


OTHERS = {
    "other concepts": {"concepts": ("a dog", "grass", "sky")},
    "another timestep": {"timesteps": (500.5,)},
    "another grid": {"grid": (3, 2)},
    "other spaces": {"spaces": ("output",)},
    "other layers": {"layers": (1,), "default_layers": (1,)},
}


@pytest.mark.parametrize(
    ("second", "masks"),
    [
        pytest.param({}, {}, id="the same layout"),
        pytest.param({}, {"truth": 1.0}, id="other masks"),
        pytest.param({}, {"truth": 0.0}, id="empty masks"),
        *(pytest.param(other, {}, id=name, marks=pytest.mark.slow) for name, other in OTHERS.items()),
    ],
)
def test_a_run_is_the_same_files_whatever_was_laid_out_before(
    second: dict[str, object], masks: dict[str, float], home: Path, tmp_path: Path
) -> None:
    ds = like(synthetic.dataset(seed=1, **{**GRID, **second}), **masks).assign_attrs(prompt="another", seeds=[7])
    save(ds, tmp_path / "alone", "a")
    layout._kept.clear()
    save(like(synthetic.dataset(seed=0, **GRID), **{name: 1 - value for name, value in masks.items()}), home, "b")
    assert len(layout._kept) == 1
    save(ds, home, "a")
    assert len(layout._kept) == (2 if second else 1)
    assert files(home, "a") == files(tmp_path / "alone", "a")


def test_what_xarray_has_to_encode_is_left_to_it(home: Path, tmp_path: Path) -> None:
    ds = synthetic.dataset(seed=1, **GRID)
    odd = ds.assign(weights=("layer", np.array([1.0, np.nan])))
    save(odd, home, "a")
    assert not layout._kept
    save(odd, tmp_path / "other", "a")
    assert files(home, "a") == files(tmp_path / "other", "a")


@pytest.mark.slow
def test_few_layouts_are_kept(home: Path) -> None:
    for number in range(layout._KEPT + 2):
        save(synthetic.dataset(**{**GRID, "timesteps": (500.0 + number,)}), home, f"r{number}")
    assert len(layout._kept) == layout._KEPT
