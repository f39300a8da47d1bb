"""What keeping a run costs: capture to disk against capture to memory, host memory, and bytes on disk."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import DEFAULT, patch

import numpy as np
import psutil
import torch

import workbench as wb
from tests.benchmarks.overhead import MID_SIZE
from tests.benchmarks.report import Figure, interleaved, ratio, run
from tests.tiny_random import WORDS, flux_pipeline
from workbench.schema import SPACES, residual
from workbench.store import durability

ROUNDS = 9
SIZE = (128, 128)
CONCEPTS = ("dog", "grass", "sky", "sun", "house")
FEW, MANY = 10, 200
# Narrow heads, so that a pass is cheap beside the scores it leaves behind.
NARROW: dict[str, Any] = {"num_layers": 2, "num_single_layers": 1, "num_attention_heads": 8}


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """Disk against memory, and synced against not, in time; many against few timesteps in memory; bytes against raw."""
    picture = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    shared = ("joint_attention_dim", "pooled_projection_dim", "in_channels")
    pipe = flux_pipeline(**{name: value for name, value in MID_SIZE.items() if name not in shared})
    times = np.linspace(900, 200, 8).tolist()

    def capture(store: bool) -> float:
        with tempfile.TemporaryDirectory() as home:
            start = time.perf_counter()
            wb.capture(
                picture,
                CONCEPTS,
                model=pipe,
                timesteps=times,
                layers=range(3),
                size=SIZE,
                store=store,
                home=home,
                progress=False,
            )
            return time.perf_counter() - start

    def unsynced() -> float:
        with patch.multiple(durability, sync_tree=DEFAULT, sync_folder=DEFAULT, flush=DEFAULT):
            return capture(True)

    setting = f"width 1024, 8 timesteps, 3 blocks, {len(CONCEPTS)} concepts, {torch.get_num_threads()} threads"
    pairs = interleaved(lambda: capture(False), lambda: capture(True), rounds)
    synced = interleaved(unsynced, lambda: capture(True), rounds)
    few, many = _peak(FEW), _peak(MANY)
    return [
        ratio(
            "capture to disk / to memory",
            pairs,
            1.05,
            setting,
        ),
        ratio("capture to disk, synced / left to the system", synced, 1.05, f"{setting}; {_file_system()}"),
        Figure(
            f"peak host memory, {MANY} / {FEW} timesteps",
            many / few,
            target=1.05,
            detail=f"{few / 1e6:.0f} MB and {many / 1e6:.0f} MB, beside {_scores(MANY) / 1e6:.0f} MB of scores",
        ),
        *_bytes(),
    ]


def _file_system() -> str:
    """What the folder of temporary files lies on: on some, syncing costs nothing."""
    folder = Path(tempfile.gettempdir())
    holds = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(holds, key=lambda part: len(part.mountpoint)).fstype if holds else "unknown file system"


def _scores(timesteps: int) -> int:
    """Bytes of all float32 scores of a run of `_peak`."""
    return timesteps * 3 * 2 * (8 + 1) * len(WORDS) * 1024 * 4


def _peak(timesteps: int) -> int:
    """Most memory, in bytes, that a process of its own used to capture this many timesteps."""
    command = [sys.executable, "-m", "tests.benchmarks.recording", "--timesteps", str(timesteps)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(told.split()[-1])


def _capture_and_tell(timesteps: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        wb.capture(
            np.zeros((*SIZE, 3), np.uint8),
            WORDS,
            model=flux_pipeline(**NARROW),
            timesteps=np.linspace(1000, 1, timesteps).tolist(),
            layers=range(3),
            size=SIZE,
            home=home,
            progress=False,
        )
    print(_peak_so_far())


def _peak_so_far() -> int:
    """Most memory this process has used, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # the resource module also counts what the parent used when it started this process
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _bytes() -> list[Figure]:
    """Bytes of the per-head arrays of a drawn scene, captured with the bundled model."""
    from workbench.tiny.scenes import SPLITS, render

    scene = render(SPLITS["gallery"][0])
    with tempfile.TemporaryDirectory() as home:
        ds = wb.capture(scene.image, scene.words, spaces=SPACES[:-1], home=home, progress=False)
        (folder,) = Path(home).glob("runs/*.zarr")
        names = [name for name in SPACES if name in ds]
        halves, rests = (
            sum(file.stat().st_size for name in kept for file in (folder / name).rglob("*"))
            for kept in (names, map(residual, names))
        )
        raw = sum(ds[name].size * 2 for name in names)
    which = f"{', '.join(names)}, bundled model"
    return [
        Figure("per-head float16 on disk / raw", halves / raw, target=1.0, detail=f"{halves:,} bytes, {which}"),
        Figure(
            "per-head float16 with residuals on disk / without",
            (halves + rests) / halves,
            detail=f"{halves + rests:,} bytes against {halves:,}, {which}",
        ),
    ]


if __name__ == "__main__":
    if "--timesteps" in sys.argv:
        _capture_and_tell(int(sys.argv[-1]))
    else:
        run("recording", measure)
