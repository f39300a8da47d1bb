"""How soon a user sees something: importing, a capture from a cold process, and a heat map of a large stored run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import workbench as wb
from tests.benchmarks.report import Figure, run
from tests.synthetic import dataset
from workbench import store
from workbench.schema import LAYER, SAMPLE, TIMESTEP, score_dims, total, total_dims

ROUNDS = 7
FORBIDDEN = ("torch", "diffusers", "plotly", "matplotlib")
_IMPORT = f"""
import sys, time
import xarray
start = time.perf_counter()
import workbench
seconds = time.perf_counter() - start
assert not [name for name in {FORBIDDEN!r} if name in sys.modules], sys.modules.keys()
print(seconds)
"""
_COLD = """
import workbench
from workbench.tiny.scenes import SPLITS, render
scene = render(SPLITS["gallery"][8])
workbench.capture(scene.image, scene.words, home=sys.argv[1], progress=False).wb.heatmap().load()
"""


def large_run(home: Path) -> str:
    """Write a run of about 600 MB: 28 timesteps, 19 layers, 24 heads, 6 concepts, 64 x 64 patches; return its key."""
    times = np.linspace(1000, 36, 28).tolist()
    words = ("dog", "grass", "sky", "sun", "house", "tree")
    small = dataset(
        concepts=words,
        timesteps=times,
        dual=19,
        single=0,
        heads=24,
        grid=(64, 64),
        patch=16,
        spaces=("output",),
        default_layers=range(9, 19),
    )
    variables = {"output": (score_dims("output"), "float16"), total("output"): (total_dims("output"), "float32")}
    key = store.content_key({"benchmark": "a large run"})
    generator = np.random.default_rng(0)
    with store.writer(key, small.drop_vars(list(variables)), variables, home) as writer:
        for timestep in range(28):
            for layer in range(19):
                scores = generator.standard_normal((24, 6, 64, 64), dtype=np.float32)
                at = {SAMPLE: 0, TIMESTEP: timestep, LAYER: layer}
                writer.write(at, {"output": scores, total("output"): scores.sum(0)})
    return key


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """Seconds of the three, each the median of several rounds, the slow ones fewer."""
    imports = [_seconds_told(_IMPORT) for _ in range(rounds)]
    colds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as home:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import sys\n{_COLD}", home], check=True, capture_output=True)
            colds.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        key = large_run(Path(folder))
        (found,) = wb.runs(folder)
        seconds = []
        for _ in range(rounds + 1):
            start = time.perf_counter()
            heat = wb.open(key, folder).wb.heatmap(timesteps=slice(0, 1000))
            heat.load()
            seconds.append(time.perf_counter() - start)
    return [
        _figure("`import workbench` after `import xarray`", imports, 0.2, f"none of {', '.join(FORBIDDEN)} loaded"),
        _figure("`capture` with the bundled model and a heat map, cold process", colds, 10, "imports included"),
        _figure(
            "open a large run, heat map of its default layers over all timesteps",
            seconds[1:],
            0.3,
            f"{found.size / 1e6:.0f} MB, 10 layers x 28 timesteps, files in the page cache",
        ),
    ]


def _seconds_told(code: str) -> float:
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return float(told)


def _figure(name: str, seconds: list[float], target: float, detail: str) -> Figure:
    return Figure(
        name,
        statistics.median(seconds),
        "s",
        target,
        min(seconds),
        max(seconds),
        f"{detail}; {len(seconds)} rounds, least and most",
    )


if __name__ == "__main__":
    run("opening", measure)
