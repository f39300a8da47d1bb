"""Compiled transformers: traced uncompiled, with the same scores, and compiled as before once the trace is closed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

import workbench
from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from tests.traced import plain_output, record, same, snapshot
from workbench.recording.tracing import trace
from workbench.schema import WorkbenchWarning

# Compiling hits torch's own warnings, which are no business of these tests.
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore::FutureWarning:torch", "ignore::UserWarning:torch"
)


class Backend:
    """Runs graphs as they are, and counts how many it compiled and ran."""

    def __init__(self) -> None:
        self.compiled = self.ran = 0

    def __call__(self, graph: Any, _: Any) -> Callable[..., Any]:
        self.compiled += 1

        def run(*args: Any) -> Any:
            self.ran += 1
            return graph.forward(*args)

        return run


def wrapped(model: Any, backend: Any) -> Any:
    return torch.compile(model, backend=backend)


def in_place(model: Any, backend: Any) -> Any:
    model.compile(backend=backend)
    return model


def repeated_blocks(model: Any, backend: Any) -> Any:
    model.compile_repeated_blocks(backend=backend, fullgraph=True)
    return model


def wrapped_blocks(model: Any, backend: Any) -> Any:
    for blocks in (model.transformer_blocks, model.single_transformer_blocks):
        for index, block in enumerate(blocks):
            blocks[index] = torch.compile(block, backend=backend)
    return model


def small_transformer() -> FluxTransformer2DModel:
    return flux_transformer(num_layers=2, num_single_layers=1)


WAYS = [in_place, repeated_blocks, *(pytest.param(way, marks=pytest.mark.slow) for way in (wrapped, wrapped_blocks))]


@pytest.fixture(autouse=True)
def _nothing_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def expected() -> tuple[dict[str, Tensor], Tensor, dict[str, Any]]:
    """Scores and output of the uncompiled model, and its inputs."""
    model = small_transformer()
    inputs = flux_inputs(model)
    return *record(model, inputs, layers=range(3)), inputs


@pytest.mark.slow
@pytest.mark.parametrize("compile_", WAYS)
def test_compiled_before_traced_and_traced_again(
    compile_: Callable[[Any, Any], Any], expected: tuple[dict[str, Tensor], Tensor, dict[str, Any]]
) -> None:
    scores, output, inputs = expected
    backend = Backend()
    model = compile_(small_transformer(), backend)
    assert torch.equal(plain_output(model, inputs), output)
    compiled, ran = backend.compiled, backend.ran
    assert compiled
    before = snapshot(model)
    for layers in (range(3), [2, 1], range(3)):
        with pytest.warns(WorkbenchWarning, match="the transformer is compiled; while it is traced it runs uncompiled"):
            traced, traced_output = record(model, inputs, layers=layers)
        assert torch.equal(traced_output, output)
        assert same(traced, {name: values[sorted(layers)] for name, values in scores.items()}, 0)
        assert backend.ran == ran, "compiled code would not have run the hooks"
        assert snapshot(model) == before
        assert torch.equal(plain_output(model, inputs), output)
        assert backend.ran > ran, "the compiled code is used again"
        ran = backend.ran
    assert backend.compiled == compiled, "a trace costs no compilation"


@pytest.mark.slow
@pytest.mark.parametrize("compile_", WAYS[:3])
def test_compiled_during_and_after_a_trace(
    compile_: Callable[[Any, Any], Any], expected: tuple[dict[str, Tensor], Tensor, dict[str, Any]]
) -> None:
    scores, output, inputs = expected
    backend = Backend()
    model = small_transformer()
    with torch.no_grad(), trace(model, concept_embeddings(), layers=range(3)) as seen:
        model(**inputs)
        model = compile_(model, backend)
        traced = model(**inputs).sample
    assert seen.passes == 2
    assert torch.equal(traced, output)
    assert torch.equal(seen.scores["output"], scores["output"])
    assert not backend.compiled
    assert torch.equal(plain_output(model, inputs), output)
    assert backend.compiled, "what was compiled inside the trace is compiled outside, without its hooks"
    with pytest.warns(WorkbenchWarning):
        assert same(record(model, inputs, layers=range(3))[0], scores, 0)


@pytest.mark.slow
def test_the_module_behind_a_compiled_wrapper_may_be_traced(
    expected: tuple[dict[str, Tensor], Tensor, dict[str, Any]],
) -> None:
    scores, _, inputs = expected
    model = small_transformer()
    compiled = torch.compile(model, backend="aot_eager")
    plain_output(compiled, inputs)
    with torch.no_grad(), trace(model, concept_embeddings(), layers=range(3)) as seen:
        compiled(**inputs)
    assert torch.equal(seen.scores["output"], scores["output"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the transformer is compiled:workbench.schema.WorkbenchWarning")
def test_runs_of_a_compiled_pipeline(home: Path) -> None:
    options: dict[str, Any] = {"steps": 2, "size": (16, 16), "layers": range(5), "home": home, "progress": False}
    plain = workbench.generate("a dog", ["dog", "sky"], model=flux_pipeline(), **options)
    pipe = flux_pipeline()
    pipe.transformer = torch.compile(pipe.transformer, backend="aot_eager")
    compiled = workbench.generate("a dog", ["dog", "sky"], model=pipe, store=False, **options)
    assert compiled.drop_attrs().equals(plain.drop_attrs().load())
    assert workbench.generate("a dog", ["dog", "sky"], model=pipe, **options).attrs["key"] == plain.attrs["key"]
    options = {"size": (16, 16), "seed": 1, "home": home, "progress": False}
    picture = plain["image"].isel(sample=0).values
    captured = workbench.capture(picture, ["dog"], model=pipe, **options)
    assert captured.drop_attrs().equals(
        workbench.capture(picture, ["dog"], model=flux_pipeline(), store=False, **options).drop_attrs()
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
def test_inductor(expected: tuple[dict[str, Tensor], Tensor, dict[str, Any]]) -> None:
    """It rounds otherwise than the uncompiled model; a traced pass is the uncompiled model's, to the last bit."""
    scores, output, inputs = expected
    model = small_transformer()
    model.compile_repeated_blocks(backend="inductor", fullgraph=True)
    compiled = plain_output(model, inputs)
    torch.testing.assert_close(compiled, output, rtol=1e-5, atol=1e-5)
    with pytest.warns(WorkbenchWarning):
        traced, traced_output = record(model, inputs, layers=range(3))
    assert torch.equal(traced_output, output)
    assert same(traced, scores, 0)
    assert torch.equal(plain_output(model, inputs), compiled)
