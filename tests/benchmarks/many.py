"""Whether memory stays flat over many images: captured, opened and read, and evaluated, each in one process.

``python -m tests.benchmarks.many --images 2000`` takes about a quarter of an hour on two cores and says after each
tenth where it is. The images are large beside what is kept of them by name, so that one that stays in memory is seen:
all of them would take 400 MB, and their scores 60 MB.
"""

from __future__ import annotations

import argparse
import gc
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

import workbench as wb
from tests.benchmarks.report import Figure, run
from tests.tiny_random import flux_pipeline
from workbench.evaluation.datasets import DataSet, Labels

IMAGES: Final = 2000
SIDE: Final = 256
"""Pixels of a generated image, high and wide."""
SIZE: Final = (64, 64)
"""To which it is processed."""
WORDS: Final = ("dog", "grass")
WARM_UP: Final = 0.1
"""Share of the images after which memory is looked at first: by then libraries and allocators have what they need."""
TARGET: Final = 10
"""kB an image: its name, key and words, and what an allocator leaves between them."""


def picture(seed: int) -> NDArray[np.uint8]:
    """An image of noise, (pixel_y, pixel_x, channel)."""
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


@dataclass
class Weighed:
    """Resident memory of this process as images go by.

    Attributes
    ----------
    what
        What is done with them.
    total
        How many there are.
    taken
        Bytes, by the number of images before.
    """

    what: str
    total: int
    taken: dict[int, int] = field(default_factory=dict)

    def look(self, count: int) -> None:
        """Weigh, if a tenth is full."""
        if count and count % max(1, self.total // 10) == 0:
            gc.collect()
            self.taken[count] = psutil.Process().memory_info().rss
            print(f"{self.what}: {count} images, {self.taken[count] / 1e6:.0f} MB", file=sys.stderr, flush=True)

    def figures(self) -> list[Figure]:
        """Growth of an image between the warm-up and the end, and where it ended."""
        first, *_, last = (count for count in self.taken if count >= WARM_UP * self.total)
        grown = (self.taken[last] - self.taken[first]) / (last - first) / 1e3
        shown = ", ".join(f"{count}: {taken / 1e6:.0f}" for count, taken in self.taken.items())
        detail = f"resident MB by images: {shown}"
        return [
            Figure(f"{self.what}: memory an image, from {first} to {last}", grown, "kB", TARGET, detail=detail),
            Figure(f"{self.what}: resident memory after {last}", self.taken[last] / 1e6, "MB", detail=detail),
        ]


class _Generated(DataSet):
    """Generated images with a dog in a corner, made when they are asked for."""

    def __init__(self, total: int, weighed: Weighed) -> None:
        super().__init__("generated", "single", ("background", "dog"), grid=(16, 16))
        object.__setattr__(self, "_names", tuple(f"image {number:05}" for number in range(total)))
        object.__setattr__(self, "_weighed", weighed)

    def all_names(self) -> tuple[str, ...]:
        return self._names  # type: ignore[attr-defined, no-any-return]

    def image(self, name: str) -> NDArray[np.uint8]:
        number = int(name.split()[-1])
        self._weighed.look(number)  # type: ignore[attr-defined]
        return picture(number)

    def labels(self, name: str) -> Labels:
        found = np.zeros((SIDE, SIDE), dtype=np.int16)
        found[: SIDE // 3, : SIDE // 2] = 1
        return found


def measure(images: int = IMAGES, *, evaluated: bool = True) -> list[Figure]:
    """Capture, open and read, and evaluate so many images."""
    torch.set_num_threads(1)
    pipe = flux_pipeline()
    with tempfile.TemporaryDirectory() as folder:
        captured, key = _captured(images, pipe, folder)
        rest = _evaluated(images, pipe, Path(folder)) if evaluated else []
        return [*captured, *_read(images, key, folder), *rest]


def _captured(images: int, pipe: Any, home: str) -> tuple[list[Figure], str]:
    weighed = Weighed("capture_many", images)

    def stream() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for number in range(images):
            weighed.look(number)
            yield f"image {number:05}", picture(number)
        weighed.look(images)

    ds = wb.capture_many(stream(), WORDS, model=pipe, size=SIZE, home=home, progress=False)
    assert ds.sizes["item"] == images
    return weighed.figures(), str(ds.attrs["key"])


def _read(images: int, key: str, home: str) -> list[Figure]:
    """A heat map of every item, which reads all of them; the maps themselves are kept by whoever asks for them."""
    weighed = Weighed("heat maps of open_many", images)
    ds = wb.open_many(key, home=home)
    step = max(1, images // 10)
    for start in range(0, images, step):
        ds.isel(item=slice(start, start + step)).wb.heatmap().load()
        weighed.look(min(start + step, images))
    gc.collect()
    before = psutil.Process().memory_info().rss
    maps = ds.wb.heatmap().load()
    gc.collect()
    whole = (psutil.Process().memory_info().rss - before) / maps.nbytes
    assert maps.sizes["item"] == images
    return [
        *weighed.figures(),
        Figure(
            "memory that a heat map of all items takes / its own bytes", whole, "x", detail=f"{maps.nbytes:,} bytes"
        ),
    ]


def _evaluated(images: int, pipe: Any, folder: Path) -> list[Figure]:
    weighed = Weighed("evaluate", images)
    data = _Generated(images, weighed)
    knobs = ("backgrounds=grass", "layers=none", "timestep=none", "samples=1", f"image_resize=bilinear {SIZE[0]}")
    found = wb.evaluate(data, ("output", "cross"), model=pipe, knobs=knobs, folder=folder, progress=False)
    assert not found.problems, found.problems[:3]
    weighed.look(images)
    return weighed.figures()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=IMAGES)
    count = parser.parse_args().images
    run("many", lambda: measure(count))
