"""What a trace costs: a traced against a plain forward pass of mid-size random models, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from tests.benchmarks.report import Figure, interleaved, ratio, run
from tests.tiny_pipelines.flux2 import flux2_inputs, flux2_transformer
from tests.tiny_pipelines.sd3 import sd3_inputs, sd3_transformer
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

SD3_MID_SIZE: dict[str, Any] = {
    "sample_size": 64,
    "pos_embed_max_size": 64,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 3,
    "attention_head_dim": 64,
    "num_attention_heads": 16,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1024,
    "pooled_projection_dim": 2048,
}
FLUX2_MID_SIZE: dict[str, Any] = {
    "in_channels": 128,
    "num_layers": 2,
    "num_single_layers": 1,
    "attention_head_dim": 128,
    "num_attention_heads": 8,
    "joint_attention_dim": 4096,
    "timestep_guidance_channels": 256,
    "axes_dims_rope": (32, 32, 32, 32),
}


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """Traced / plain for both settings of FLUX.1, and for the models that are in widest use beside it."""
    torch.set_num_threads(1)
    size = "width 1024, 1024 patches, 128 text tokens, 5 concepts, one thread"
    flux = _pair(flux_transformer(**MID_SIZE), flux_inputs)
    sd3, flux2 = (
        _pair(sd3_transformer(**SD3_MID_SIZE), sd3_inputs),
        _pair(flux2_transformer(**FLUX2_MID_SIZE), flux2_inputs),
    )
    every: dict[str, Any] = {"layers": range(3)}
    with torch.no_grad():
        figures = [
            ("`output`, dual blocks", flux({}, rounds), 1.04, "8 heads, 2 + 1 blocks"),
            (
                "`output` and `cross`, all blocks",
                flux(every | {"spaces": ("output", "cross")}, rounds),
                1.07,
                "8 heads, 2 + 1 blocks",
            ),
            ("SD3.5, `output`, all blocks", sd3(every, rounds), 1.05, "16 heads, 3 blocks"),
            ("FLUX.2, `output`, all blocks", flux2(every, rounds), 1.05, "8 heads, 2 + 1 blocks"),
        ]
    return [
        ratio(f"traced / plain forward pass: {what}", times, bound, f"{blocks}, {size}")
        for what, times, bound, blocks in figures
    ]


def _pair(model: Any, inputs: Callable[..., dict[str, Any]]) -> Callable[[dict[str, Any], int], Any]:
    """Times of plain and traced passes, by turns."""
    given = inputs(model, grid=(32, 32), text=128)
    concepts = concept_embeddings(5, model.config.joint_attention_dim)

    def plain() -> float:
        start = time.perf_counter()
        model(**given)
        return time.perf_counter() - start

    def traced(options: dict[str, Any]) -> float:
        with trace(model, concepts, on_record=lambda piece: None, **options):
            start = time.perf_counter()
            model(**given)
            return time.perf_counter() - start

    return lambda options, rounds: interleaved(plain, lambda: traced(options), rounds)


if __name__ == "__main__":
    run("overhead", measure)
