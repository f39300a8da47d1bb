"""Records of FLUX.1's size, and a run that they can be written to, for benchmarks without a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
import xarray as xr

from tests.synthetic import dataset
from workbench.recording.block_reading import Record
from workbench.schema import residual, score_dims, total, total_dims
from workbench.store import residuals

WORDS: Final = ("dog", "grass", "sky", "sun", "house")
GRID: Final = (64, 64)
HEADS, DUAL, SINGLE = 24, 19, 38


def template(
    passes: int, layers: Sequence[int], *, dual: int = DUAL, single: int = SINGLE, heads: int = HEADS
) -> xr.Dataset:
    """The dataset of a run of several passes, without its scores."""
    bare = dataset(
        concepts=WORDS,
        timesteps=[1000],
        dual=dual,
        single=single,
        layers=layers,
        heads=1,
        grid=GRID,
        patch=16,
        spaces=("output",),
        default_layers=layers,
    ).drop_vars(["output", "output_total", "head"])
    steps = np.arange(passes)
    times = {"timestep": 1000.0 - steps, "sigma": ("timestep", 1 - steps / 1000), "step": ("timestep", steps)}
    return bare.drop_dims("timestep").assign_coords(head=range(heads), **times)


def variables(spaces: Sequence[str]) -> dict[str, tuple[tuple[str, ...], str]]:
    """The scores of a run and their sums over heads: dimensions and type, by name."""
    declared = {space: (score_dims(space), "float16") for space in spaces}
    declared |= {residual(space): (score_dims(space), residuals.DTYPE) for space in spaces}
    return declared | {total(space): (total_dims(space), "float32") for space in spaces}


def record(step: int, layer: int, spaces: Sequence[str] = ("output", "cross"), **where: Any) -> Record:
    """Random scores of one pass and layer."""
    shape = (1, HEADS, len(WORDS), GRID[0] * GRID[1])
    return Record(step, layer, {space: torch.randn(shape, **where) for space in spaces})
