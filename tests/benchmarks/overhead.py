"""What a trace costs: a traced against a plain forward pass of a mid-size random FLUX, on one thread."""

from __future__ import annotations

import time
from typing import Any

import torch

from tests.benchmarks.report import Figure, interleaved, ratio, run
from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from workbench import trace

ROUNDS = 15
MID_SIZE: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 2,
    "num_single_layers": 1,
    "attention_head_dim": 128,
    "num_attention_heads": 8,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "axes_dims_rope": (16, 56, 56),
}


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """Traced / plain for both settings."""
    torch.set_num_threads(1)
    model = flux_transformer(**MID_SIZE)
    given = flux_inputs(model, grid=(32, 32), text=128)
    concepts = concept_embeddings(5, MID_SIZE["joint_attention_dim"])

    def plain() -> float:
        start = time.perf_counter()
        model(**given)
        return time.perf_counter() - start

    def traced(**options: Any) -> float:
        with trace(model, concepts, on_record=lambda piece: None, **options):
            start = time.perf_counter()
            model(**given)
            return time.perf_counter() - start

    with torch.no_grad():
        dual = interleaved(plain, traced, rounds)
        every = interleaved(plain, lambda: traced(layers=range(3), spaces=("output", "cross")), rounds)
    size = "width 1024, 8 heads, 2 + 1 blocks, 1024 patches, 128 text tokens, 5 concepts, one thread"
    return [
        ratio("traced / plain forward pass: `output`, dual blocks", dual, 1.04, size),
        ratio("traced / plain forward pass: `output` and `cross`, all blocks", every, 1.07, size),
    ]


if __name__ == "__main__":
    run("overhead", measure)
