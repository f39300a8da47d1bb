"""What ways to round per-head scores cost, in maps and in bytes: ``python -m tests.benchmarks.rounding``.

Scores of the bundled model for 15 drawn scenes, all layers, one timestep, in the spaces where a softmax over concepts
is taken of single heads. They reach about 200, where float16 counts in eighths. Bytes are those of the store's codec,
one record at a time. Compared are float16 alone, float16 of what is left beside the patch's mean over concepts, and
float16 with its residual, which is what runs keep.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

import workbench as wb
from tests.benchmarks.report import Figure, run
from workbench.numerics.scores import softmax
from workbench.recording import streaming
from workbench.recording.block_reading import Record
from workbench.recording.reducing import stored_values
from workbench.store.residuals import join, split
from workbench.tiny.scenes import SPLITS, render

SCENES: Final = 15
SPACES: Final = ("output", "cross", "value", "query")
_CODEC: Final = Zstd(level=3, checksum=True)

Scores = NDArray[np.float32]
"""(head, concept, patch)"""


class Rounded(NamedTuple):
    """Scores after rounding, and the arrays that they are kept in."""

    scores: Scores
    kept: tuple[NDArray[Any], ...]

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(len(_CODEC.encode(np.ascontiguousarray(array))) for array in self.kept)


def float16(scores: Scores) -> Rounded:
    """To the nearest float16."""
    half = scores.astype(np.float16)
    return Rounded(half.astype(np.float32), (half,))


def beside_mean(scores: Scores) -> Rounded:
    """What is left of each concept beside the mean over concepts, and that mean, both in float16."""
    mean = scores.mean(1, keepdims=True).astype(np.float16)
    rest = (scores - mean).astype(np.float16)
    return Rounded(rest + mean.astype(np.float32), (rest, mean))


def with_residual(scores: Scores) -> Rounded:
    """As runs keep them."""
    half, residual = split(scores, np)
    return Rounded(join(half, residual), (half, residual))


WAYS: Final[dict[str, Callable[[Scores], Rounded]]] = {
    "float16": float16,
    "float16 beside a mean over concepts": beside_mean,
    "float16 with residuals": with_residual,
}


def records(scenes: int = SCENES, spaces: Sequence[str] = SPACES) -> Iterator[Scores]:
    """Scores of the bundled model before anything is rounded, one record and space after the other."""
    held: list[Scores] = []

    def seen(views: Any, record: Record, grid: tuple[int, int]) -> dict[str, Any]:
        held.extend(scores[0].numpy().copy() for scores in record.scores.values())
        return stored_values(views, record, grid)

    for place in itertools.islice(SPLITS["test"], scenes):
        scene = render(place)
        with patch.object(streaming, "stored_values", seen):
            wb.capture(scene.image, scene.words, layers=range(7), spaces=spaces, store=False, progress=False)
        yield from held
        held.clear()


def map_errors(found: Scores, exact: Scores) -> tuple[float, float, float]:
    """The largest difference of maps: of single heads, of two concepts of a head alone, and of all heads together."""

    def of(one: Scores, other: Scores, axis: int) -> float:
        return float(np.abs(softmax(one, axis) - softmax(other, axis)).max())

    pairs = [list(pair) for pair in itertools.combinations(range(exact.shape[1]), 2)]
    return (
        of(found, exact, 1),
        max((of(found[:, pair], exact[:, pair], 1) for pair in pairs), default=0.0),
        of(found.sum(0), exact.sum(0), 0),
    )


def measure(given: Sequence[Scores] | None = None) -> list[Figure]:
    """Errors of maps and bytes of every way."""
    given = list(records()) if given is None else given
    largest = max(float(np.abs(scores).max()) for scores in given)
    figures, plain = [], 0
    for name, way in WAYS.items():
        rounded = [way(scores) for scores in given]
        errors = np.array([map_errors(one.scores, exact) for one, exact in zip(rounded, given, strict=True)]).max(0)
        size = sum(one.size for one in rounded)
        plain = plain or size
        told = f"{len(given)} records, scores up to {largest:.0f}"
        target = 2.0 if way is with_residual else None
        of_what = ("of one head", "of one head, two concepts", "of all heads together")
        figures += [
            Figure(f"largest error of a map {what}, {name}", 1000 * float(error), "/ 1000", target, detail=told)
            for what, error in zip(of_what, errors, strict=True)
        ]
        figures.append(Figure(f"bytes of per-head scores on disk, {name} / float16", size / plain, detail=f"{size:,}"))
    return figures


if __name__ == "__main__":
    run("rounding", measure)
