"""FLUX.1's real size on a GPU, random bfloat16 weights: plain, traced and streamed to disk, and the naive way.

``python -m tests.benchmarks.flux_gpu``, on a CUDA device with 48 GB or more. Everything is captured: ``output`` and
``cross`` of all 57 blocks, per head. The naive way copies the vectors of each layer to the host, as public code does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import FluxTransformer2DModel

from tests.benchmarks.report import Figure, interleaved, ratio, run, table
from tests.synthetic import dataset
from tests.tiny_random import concept_embeddings, flux_inputs
from workbench import store, trace
from workbench.recording.reading import Piece
from workbench.recording.streaming import Stream
from workbench.schema import score_dims, total, total_dims

FLUX_1: dict[str, Any] = {
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": (16, 56, 56),
}
GRID = (64, 64)
TEXT = 512
WORDS = ("dog", "grass", "sky", "sun", "house")
SPACES = ("output", "cross")
ROUNDS, PASSES = 5, 8


def measure(config: dict[str, Any], device: str, rounds: int = ROUNDS, passes: int = PASSES) -> list[Figure]:
    """Time and peak memory of a run of several passes: traced / plain, and naive / plain."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = FluxTransformer2DModel(**config).eval()
    finally:
        torch.set_default_dtype(default)
    inputs = flux_inputs(model, grid=GRID, text=TEXT)
    given = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
    concepts = concept_embeddings(len(WORDS), config["joint_attention_dim"])
    count = config["num_layers"] + config["num_single_layers"]
    template = dataset(
        concepts=WORDS,
        timesteps=[1000 - step for step in range(passes)],
        dual=config["num_layers"],
        single=config["num_single_layers"],
        heads=1,
        grid=GRID,
        patch=16,
        spaces=("output",),
        default_layers=range(count),
    ).drop_vars(["output", "output_total"])
    template = template.drop_vars("head").assign_coords(head=range(config["num_attention_heads"]))
    variables = {space: (score_dims(space), "float16") for space in SPACES}
    variables |= {total(space): (total_dims(space), "float32") for space in SPACES}

    def run_passes() -> None:
        for _ in range(passes):
            model(**given)

    def plain() -> None:
        run_passes()

    def streamed() -> None:
        with (
            tempfile.TemporaryDirectory() as home,
            store.writer("0a", template, variables, home) as writer,
            Stream(writer, GRID, {layer: layer for layer in range(count)}) as stream,
            trace(
                model,
                concepts,
                layers=range(count),
                spaces=SPACES,
                on_piece=lambda piece: stream.write(piece, 0, piece.step),
                on_pass=lambda step: stream.commit(),
            ),
        ):
            run_passes()

    def naive() -> None:
        kept = []

        def keep(piece: Piece) -> None:
            kept.append({name: vectors.cpu() for name, vectors in piece.vectors.items()})
            if len(kept) > count:  # of one pass; of a whole run they would not fit
                kept.clear()

        with trace(model, concepts, layers=range(count), vectors=True, on_piece=keep):
            run_passes()

    def seconds(way: Callable[[], None]) -> float:
        _wait(device)
        start = time.perf_counter()
        with torch.no_grad():
            way()
        _wait(device)
        return time.perf_counter() - start

    size = f"{count} blocks, {config['num_attention_heads']} heads, {GRID[0] * GRID[1]} patches, {TEXT} text tokens, "
    size += f"{len(WORDS)} concepts, {passes} passes, {_name(device)}"
    figures = [
        ratio(
            "traced and streamed to disk / plain",
            interleaved(lambda: seconds(plain), lambda: seconds(streamed), rounds),
            1.03,
            f"output and cross of every block; {size}; with opening, flushing and closing the run",
        ),
        ratio(
            "vectors copied to the host / plain",
            interleaved(lambda: seconds(plain), lambda: seconds(naive), rounds),
            None,
            size,
        ),
    ]
    if device == "cuda":
        peaks = [_peak(way) for way in (plain, streamed, naive)]
        told = ", ".join(f"{peak / 2**30:.2f}" for peak in peaks)
        detail = f"{told} GiB plain, traced and naive"
        figures += [
            Figure("peak GPU memory, traced and streamed / plain", peaks[1] / peaks[0], target=1.01, detail=detail),
            Figure("peak GPU memory, vectors copied to the host / plain", peaks[2] / peaks[0], detail=detail),
        ]
    return figures


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def _peak(way: Callable[[], None]) -> int:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad():
        way()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="a narrow model on the CPU: does the script run?")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="interleaved rounds of each comparison")
    parser.add_argument("--passes", type=int, default=PASSES, help="forward passes of a run")
    options = parser.parse_args()
    if options.rehearse:
        narrow = FLUX_1 | {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 1, "joint_attention_dim": 64}
        print(table(measure(narrow, "cpu", rounds=1, passes=2)))
    elif not torch.cuda.is_available():
        sys.exit("no CUDA device: run this on a machine with one (48 GB or more), or --rehearse the script on the CPU")
    else:
        run("flux_gpu", lambda: measure(FLUX_1, "cuda", options.rounds, options.passes))
