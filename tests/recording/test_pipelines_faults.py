"""Threads, and calls that fail in the middle: nothing mixes, nothing is left behind, runs resume."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from torch import Tensor, nn

import workbench
from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from tests.traced import LAYERS, record, same, snapshot
from workbench.recording.block_reading import Record
from workbench.recording.tracing import trace
from workbench.schema import TraceError

pytestmark = pytest.mark.usefixtures("tests_code")

SMALL: dict[str, Any] = {
    "height": 16,
    "width": 16,
    "num_inference_steps": 3,
    "max_sequence_length": 12,
    "output_type": "pt",
}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


# --- threads --------------------------------------------------------------------------------------------------------


def test_two_pipelines_in_two_threads() -> None:
    pipes = [flux_pipeline(seed) for seed in (0, 1)]
    started = threading.Barrier(2)

    def call(pipe: FluxPipeline, together: bool) -> tuple[Tensor, list[Record]]:
        pieces: list[Record] = []
        with trace(pipe.transformer, concept_embeddings(), layers=LAYERS, on_record=pieces.append):
            if together:
                started.wait(30)
            return pipe("a dog", generator=seeded(), **SMALL).images, pieces

    alone = [call(pipe, together=False) for pipe in pipes]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda pipe: call(pipe, together=True), pipes))
    for (picture, pieces), (expected, expected_pieces) in zip(together, alone, strict=True):
        assert torch.equal(picture, expected)
        assert [(piece.step, piece.layer) for piece in pieces] == [
            (piece.step, piece.layer) for piece in expected_pieces
        ]
        assert all(
            torch.equal(a.scores["output"], b.scores["output"]) for a, b in zip(pieces, expected_pieces, strict=True)
        )
    assert not torch.equal(together[0][0], together[1][0])


def in_a_thread(call: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(30)


def test_one_transformer_is_not_traced_in_two_threads() -> None:
    model = flux_transformer()
    inputs = flux_inputs(model)
    with torch.no_grad(), trace(model, concept_embeddings(), layers=LAYERS) as seen:
        with pytest.raises(TraceError, match="being traced already"):
            in_a_thread(lambda: record(model, inputs))
        model(**inputs)
    assert in_a_thread(lambda: same(record(model, inputs, spaces=["output"], lse=False)[0], seen.scores, 0))


def test_passes_of_a_traced_transformer_do_not_interleave() -> None:
    model = flux_transformer()
    inputs = flux_inputs(model)
    refused: list[str] = []

    def from_elsewhere(*_: Any) -> None:
        with torch.no_grad(), pytest.raises(TraceError, match="under way in another thread") as raised:
            model(**inputs)
        refused.append(str(raised.value))

    with torch.no_grad(), trace(model, concept_embeddings(), layers=LAYERS) as seen:
        handle = model.transformer_blocks[1].register_forward_pre_hook(lambda *_: in_a_thread(from_elsewhere))
        model(**inputs)
        handle.remove()
    assert len(refused) == 1
    assert seen.passes == 1
    assert same(seen.scores, record(model, inputs, spaces=["output"], lse=False)[0], 0)


# --- failures in the middle -----------------------------------------------------------------------------------------


class Failure:
    """Fails on its n-th call."""

    def __init__(self, error: type[BaseException], call: int) -> None:
        self.error = error
        self.left = call

    def __call__(self, *_: Any) -> None:
        self.left -= 1
        if not self.left:
            raise self.error("on purpose")


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["block", "attention", "callback", "on_record", "on_pass"])
def test_a_call_that_fails_leaves_the_pipeline_as_it_was(where: str, error: type[BaseException]) -> None:
    pipe = flux_pipeline()
    plain = pipe("a dog", generator=seeded(), **SMALL).images
    models = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    before = [snapshot(model) for model in models]
    failure = Failure(error, 2)
    block = pipe.transformer.single_transformer_blocks[0]
    options: dict[str, Any] = {where: failure} if where.startswith("on_") else {}
    call: dict[str, Any] = {"callback_on_step_end": lambda *_: failure() or {}} if where == "callback" else {}
    with (
        pytest.raises(error, match="on purpose"),
        trace(pipe.transformer, concept_embeddings(), layers=LAYERS, **options),
    ):
        if where in ("block", "attention"):
            module = block if where == "block" else block.attn.norm_q
            handle = module.register_forward_pre_hook(failure)
            try:
                pipe("a dog", generator=seeded(), **SMALL)
            finally:
                handle.remove()
        pipe("a dog", generator=seeded(), **SMALL, **call)
    assert not failure.left
    assert [snapshot(model) for model in models] == before
    with trace(pipe.transformer, concept_embeddings(), layers=LAYERS) as seen:
        assert torch.equal(pipe("a dog", generator=seeded(), **SMALL).images, plain)
    assert seen.passes == 3


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("kind", ["capture", "generate"])
def test_an_interrupted_run_resumes(kind: str, error: type[BaseException], home: Path) -> None:
    pipe = flux_pipeline()
    picture = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)

    def run(home: Path) -> Any:
        options: dict[str, Any] = {"model": pipe, "size": (16, 16), "home": home, "progress": False}
        if kind == "capture":
            return workbench.capture(picture, ["dog", "sky"], timesteps=[800, 500, 200], **options)
        return workbench.generate("a dog", ["dog", "sky"], steps=3, **options)

    expected = run(home / "uninterrupted").load()
    before = snapshot(pipe.transformer)
    failure = Failure(error, 2)
    handle = pipe.transformer.transformer_blocks[1].register_forward_pre_hook(failure)
    with pytest.raises(error, match="on purpose"):
        run(home)
    handle.remove()
    assert snapshot(pipe.transformer) == before
    resumed = run(home)
    assert resumed.load().drop_attrs().identical(expected.drop_attrs())
    assert snapshot(pipe.transformer) == before
