"""What the writers cost the thread that launches: many small operations beside the stream as it writes, and alone.

Every operation lets go of Python's global lock and takes it again, and the writer's threads want it too.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import torch

from tests.benchmarks.records import GRID, record, template, variables
from tests.benchmarks.report import Figure, interleaved, ratio, run
from workbench import store
from workbench.recording.streaming import BUFFERED_BYTES, WRITERS, Stream

ROUNDS = 15
OPERATIONS = 3000
PASSES = 3
SPACES = ("output", "cross")


def beside_writers(work: Callable[[], None]) -> float:
    """Seconds of a piece of work while the stream writes as many records of FLUX.1's size as it takes in at once."""
    one = record(0, 0, SPACES)
    count = BUFFERED_BYTES // sum(tensor.nbytes for tensor in one.tensors.values())
    layers = range(count)
    with (
        tempfile.TemporaryDirectory() as home,
        store.writer("0a", template(1, layers, dual=count, single=0), variables(SPACES), home) as writer,
        Stream(writer, GRID, {layer: layer for layer in layers}) as stream,
    ):
        pieces = [type(one)(0, layer, one.scores) for layer in layers]
        for piece in pieces:
            stream.write(piece, 0, 0)
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
        stream.commit()
    return seconds


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """Launching beside the writers / alone."""
    torch.set_num_threads(1)
    small = torch.zeros(4)

    def launch() -> None:
        for _ in range(OPERATIONS * PASSES):
            small.add_(1.0)

    def alone() -> float:
        start = time.perf_counter()
        launch()
        return time.perf_counter() - start

    pairs = interleaved(alone, lambda: beside_writers(launch), rounds)
    size = f"{PASSES} x {OPERATIONS} operations, {WRITERS} writer thread{'s' * (WRITERS > 1)}"
    return [ratio("3,000 small operations a pass beside the writers / alone", pairs, None, size)]


if __name__ == "__main__":
    run("starvation", measure)
