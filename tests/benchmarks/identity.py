"""What naming a run costs: the checksum over every element of a pipeline's weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tests.benchmarks.report import Figure, run
from tests.tiny_random import flux_pipeline
from workbench.models.checksums import checksum
from workbench.models.fingerprint import fingerprint
from workbench.models.loading import load_model

ROUNDS = 9
BYTES = 2**30
FLUX_1 = 12e9 * 2
"""Bytes of FLUX.1's transformer in bfloat16."""


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """Bytes a second, and whole pipelines."""
    weights = torch.randn(BYTES // 2, dtype=torch.float32, device="cpu").bfloat16()
    rates = [BYTES / seconds / 1e9 for seconds in _seconds(lambda: checksum(weights), rounds)]
    rate = float(np.median(rates))
    paper = f"FLUX.1's 12 B parameters in bfloat16 take {FLUX_1 / 1e9 / rate:.1f} s at this speed"
    figures = [
        Figure(
            "checksum of every element, on the CPU",
            rate,
            "GB/s",
            low=min(rates),
            high=max(rates),
            detail=f"{BYTES / 1e9:.1f} GB in bfloat16, {torch.get_num_threads()} threads; {paper}",
        )
    ]
    for name, pipe in (("the bundled pipeline", load_model("tiny-flux")), ("a tiny random pipeline", flux_pipeline())):
        seconds = _seconds(lambda pipe=pipe: fingerprint(pipe), rounds)
        middle = float(np.median(seconds))
        figures.append(Figure(f"fingerprint of {name}", middle, "s", low=min(seconds), high=max(seconds)))
    return figures


def _seconds(work: Callable[[], Any], rounds: int) -> list[float]:
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


if __name__ == "__main__":
    run("identity", measure)
