"""An evaluation as a process of its own makes it, which may be killed on the way."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from tests.evaluation.fixtures import Arrays
from tests.store.replay import MOMENTS
from workbench.evaluation.examples import Example
from workbench.evaluation.harness import Evaluation, evaluate
from workbench.evaluation.methods import Setting, labelled
from workbench.evaluation.protocols import Protocol

COUNT: Final = 12


def data() -> Arrays:
    labels = {}
    for number in range(COUNT):
        one = np.zeros((6, 8))
        one[: 2 + number % 3, :3] = 1
        labels[f"image {number}"] = one
    return Arrays(labels, grid=(6, 8))


class Bright:
    """What is bright is what is looked for; one image cannot be evaluated."""

    name = "bright"

    def __init__(self, log: Path) -> None:
        self.settings: dict[str, Any] = {"version": 1}
        self._log = log

    def prepare(self, setting: Setting) -> None:
        pass

    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        for example, words in zip(examples, concepts, strict=True):
            if example.name == "image 5":
                raise ValueError("poison")
            with self._log.open("a") as lines:
                lines.write(f"{example.name}\n")
            grey = example.image.mean(-1) / 255
            yield labelled(np.stack([grey if word in example.targets else 1 - grey for word in words]), words)


def run(folder: Path, log: Path, kill_at: int | None = None, start: Any = None, **options: Any) -> Evaluation:
    """Evaluate all images.

    Parameters
    ----------
    folder
        Where rows are kept.
    log
        Gets a line for each image that is evaluated, and ``moments N`` at the end.
    kill_at
        Kill this process when it is about to cause that event of the file system.
    start
        A barrier to wait at.
    """
    moments, listening = 0, True

    def listen(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal moments
        if listening and event in MOMENTS and str(folder) in str(arguments[:1]):
            if moments == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            moments += 1

    if start is not None:
        start.wait()
    sys.addaudithook(listen)
    found = evaluate(
        data(), Bright(log), protocol=Protocol(backgrounds=("sky",)), folder=folder, batch=2, progress=False, **options
    )
    listening = False
    with log.open("a") as lines:
        lines.write(f"moments {moments}\n")
    return found
