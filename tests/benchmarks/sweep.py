"""How long a sweep over layers and timesteps of a large stored run takes: ``python -m tests.benchmarks.sweep``.

The run has the shape of FLUX.1-dev at 1024 x 1024: 19 dual-stream blocks, 28 timesteps, 24 heads, 64 x 64 patches, six
concepts; noise in place of scores. It lies on disk as any run does, so reading and decompressing it is part of the
time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import workbench  # noqa: F401  (registers the accessor)
from tests.benchmarks.report import Figure, run
from tests.synthetic import dataset
from workbench import schema
from workbench.store import open as open_run
from workbench.store import writer

LAYERS, TIMESTEPS, HEADS, GRID = 19, 28, 24, (64, 64)
CONCEPTS = ("dog", "grass", "sky", "tree", "water", "cloud")
REPEATS = 5


def build(home: Path) -> xr.Dataset:
    """Write the run and open it."""
    template = dataset(
        concepts=CONCEPTS,
        timesteps=np.linspace(1000, 10, TIMESTEPS).tolist(),
        dual=LAYERS,
        single=0,
        heads=HEADS,
        grid=GRID,
        patch=16,
        spaces=(),
        default_layers=range(9, LAYERS),
        truth=True,
    ).assign_attrs(spaces=["output"])
    inside = template[schema.TRUTH].to_numpy()[:, 8::16, 8::16]
    per_head, total = "output", schema.total("output")
    variables = {per_head: (schema.score_dims("output"), "float16"), total: (schema.total_dims("output"), "float32")}
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(HEADS, len(CONCEPTS), *GRID)).astype(np.float32)
    with writer("sweep", template, variables, home) as running:
        for timestep in range(TIMESTEPS):
            for layer in range(LAYERS):
                scores = np.roll(noise, timestep * LAYERS + layer, axis=-1) + 0.1 * layer * inside
                at = {schema.SAMPLE: 0, schema.TIMESTEP: timestep, schema.LAYER: layer}
                running.write(at, {per_head: scores, total: scores.sum(0)})
    return open_run("sweep", home)


def _seconds(name: str, call: Callable[[], Any], target: float | None, size: str) -> Figure:
    """The median of some calls, after one that warms up imports and the file cache."""
    call()
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    detail = f"{size}, mean IoU of each choice; {REPEATS} rounds, least and most"
    return Figure(name, statistics.median(taken), "s", target, min(taken), max(taken), detail)


def measure() -> list[Figure]:
    """Seconds of two sweeps, warm."""
    with tempfile.TemporaryDirectory() as folder:
        ds = build(Path(folder))
        size = f"{ds.nbytes / 1e6:.0f} MB, {LAYERS} layers x {TIMESTEPS} timesteps"
        figures = [
            _seconds("sweep over layers x timesteps", lambda: ds.wb.sweep(("layer", "timestep")), 1.5, size),
            _seconds("sweep over layers, prefix", lambda: ds.wb.sweep("layer", "prefix"), None, size),
        ]
        ds.close()
    return figures


if __name__ == "__main__":
    run("sweep", measure)
