"""A process that captures many images, which may be killed on the way: ``python -m tests.recording.many_worker``."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import workbench as wb
from tests.store.replay import MOMENTS
from tests.tiny_random import flux_pipeline
from workbench.recording import image_capture

COUNT = 6


def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"p{place}": rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for place in range(COUNT)}


def capture(home: Path, log: Path, kill_at: int | None = None, meet: Path | None = None) -> xr.Dataset:
    """Capture all pictures.

    Parameters
    ----------
    home
        The folder of the runs.
    log
        Gets a line for each forward pass, and ``moments N`` at the end.
    kill_at
        Kill this process when it is about to cause that event of the file system.
    meet
        A folder in which every process puts a file, to wait until there are two.
    """
    torch.set_num_threads(1)  # sums of floats depend on it
    pipe = flux_pipeline()
    moments, listening = 0, True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal moments
        if listening and event in MOMENTS and str(home) in str(arguments[:1]):
            if moments == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            moments += 1

    with log.open("a", buffering=1) as lines:
        images = pictures()
        if meet is not None:
            (meet / str(os.getpid())).touch()
            while len(list(meet.iterdir())) < 2:
                time.sleep(0.002)
        sys.addaudithook(listen)
        passed = image_capture.passed

        def told(done: int, total: int, run: Any) -> None:
            lines.write("pass\n")
            passed(done, total, run)

        image_capture.passed = told
        try:
            ds = wb.capture_many(
                images, ["dog", "sky"], model=pipe, size=(16, 16), timesteps=[300, 600], home=home, progress=False
            )
        finally:
            image_capture.passed = passed
            listening = False
        lines.write(f"moments {moments}\n")
    return ds


if __name__ == "__main__":
    folder, file, kill, place = sys.argv[1:]
    capture(Path(folder), Path(file), int(kill) if kill else None, Path(place) if place else None)
