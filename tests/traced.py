"""What the tests of traced pipelines share: recording everything, comparing it, and seeing what a trace left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny_random import concept_embeddings
from workbench.contract.rules import snapshot as snapshot
from workbench.recording.tracing import trace
from workbench.schema import SPACES

LAYERS = range(5)
"""All blocks of the tiny random FLUX.1."""


def plain_output(model: Any, inputs: dict[str, Any]) -> Tensor:
    """The model's own output, without a trace."""
    with torch.no_grad():
        output: Tensor = model(**inputs).sample
    return output


def record(model: Any, inputs: dict[str, Any], **options: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Scores of every space and layer, with the log-sum-exps, and the model's output."""
    options = {"layers": LAYERS, "spaces": SPACES, "lse": True} | options
    with torch.no_grad(), trace(model, concept_embeddings(), **options) as seen:
        output = model(**inputs).sample
    return seen.scores | seen.lse, output


def same(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> bool:
    """Whether scores agree within `tolerance` of the largest absolute value of each space and layer."""
    return actual.keys() == expected.keys() and all(
        actual[name].shape == expected[name].shape
        and bool(
            (
                (actual[name] - expected[name]).abs().flatten(1).amax(1) <= tolerance * values.abs().flatten(1).amax(1)
            ).all()
        )
        for name, values in expected.items()
    )


def follows_the_text(model: Any, inputs: dict[str, Any], tolerance: float = 1e-5) -> bool:
    """Whether the prompt given as concepts goes the way of the model's own text tokens, whatever its layers do.

    The model's output must be the same with the trace as without it.
    """
    # A model takes what it uses out of the dictionaries it is given.
    copied = {name: dict(value) if isinstance(value, dict) else value for name, value in inputs.items()}
    output = plain_output(model, copied)
    with (
        torch.no_grad(),
        trace(
            model,
            inputs["encoder_hidden_states"],
            layers=LAYERS,
            spaces=("cross", "prompt"),
            pooled=inputs["pooled_projections"],
        ) as seen,
    ):
        assert torch.equal(model(**inputs).sample, output)
    return same({"scores": seen.scores["cross"]}, {"scores": seen.scores["prompt"]}, tolerance)


@contextmanager
def recorded_inputs(model: nn.Module) -> Iterator[list[dict[str, Any]]]:
    """What a model is called with inside, call by call."""
    inputs: list[dict[str, Any]] = []
    handle = model.register_forward_pre_hook(lambda module, args, kwargs: inputs.append(dict(kwargs)), with_kwargs=True)
    try:
        yield inputs
    finally:
        handle.remove()
