"""Transformers whose weights are elsewhere, or stored otherwise, or attend otherwise: traced as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, attention_backend
from torch import Tensor

import workbench
from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from tests.traced import LAYERS, plain_output, record, same, snapshot
from workbench.models.block_records import ConceptStream
from workbench.recording.tracing import trace
from workbench.schema import TraceError

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def expected() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Scores of the plain model, and its inputs."""
    model = flux_transformer()
    inputs = flux_inputs(model)
    return record(model, inputs)[0], inputs


def check(model: Any, expected: tuple[dict[str, Tensor], dict[str, Any]], tolerance: float = 1e-5) -> None:
    """Same output with and without a trace, same scores as the plain model, nothing left behind."""
    scores, inputs = expected
    output = plain_output(model, inputs)
    before = structure(model)
    for _ in range(2):
        traced_scores, traced = record(model, inputs)
        assert torch.equal(traced, output)
        assert same(traced_scores, scores, tolerance)
    assert structure(model) == before
    assert torch.equal(plain_output(model, inputs), output)


def structure(model: Any) -> Any:
    """A snapshot without the weights, which offloading creates anew in every pass."""
    return [
        (name, kind, {key: value for key, value in attributes.items() if key not in ("_parameters", "_buffers")})
        for name, kind, attributes in snapshot(model)[0]
    ]


# --- offloading -------------------------------------------------------------------------------------------------


def test_model_offload(expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    """What `enable_model_cpu_offload` does to each model."""
    model, _ = accelerate.cpu_offload_with_hook(flux_transformer(), execution_device="cpu")
    check(model, expected)


def test_sequential_offload(expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    """What `enable_sequential_cpu_offload` does: between two calls of a layer its weights have no data."""
    model = accelerate.cpu_offload(flux_transformer(), execution_device=CPU)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    check(model, expected)
    with trace(model, concept_embeddings(), layers=[1]) as seen:
        seen.run(**expected[1])
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert torch.equal(seen.scores["output"][0], expected[0]["output"][1])


@pytest.mark.slow
@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_group_offload(offload_type: str, expected: tuple[dict[str, Tensor], dict[str, Any]], tmp_path: Path) -> None:
    """Offloaded to disk, so that weights outside their block's turn are not just in the same place."""
    model = flux_transformer()
    model.enable_group_offload(CPU, CPU, offload_type, num_blocks_per_group=1, offload_to_disk_path=str(tmp_path))
    spoil(model)
    check(model, expected)
    spoil(model)
    with trace(model, concept_embeddings(), layers=[3]) as seen:
        seen.run(**expected[1])
    spoil(model)
    check(model, expected)
    assert same({"output": seen.scores["output"]}, {"output": expected[0]["output"][3:4]})


def spoil(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))


@pytest.mark.slow
def test_runs_with_offloaded_components(home: Path) -> None:
    options: dict[str, Any] = {"steps": 2, "size": (16, 16), "layers": range(5), "progress": False}
    plain = workbench.generate("a dog", ["dog", "sky"], model=flux_pipeline(), home=home, **options)
    pipe = flux_pipeline()
    for name in ("transformer", "text_encoder", "text_encoder_2", "vae"):
        accelerate.cpu_offload(getattr(pipe, name), execution_device=CPU)
    offloaded = workbench.generate("a dog", ["dog", "sky"], model=pipe, store=False, **options)
    np.testing.assert_array_equal(offloaded["image"], plain["image"])
    np.testing.assert_allclose(offloaded["output"], plain["output"], rtol=1e-3)
    again = workbench.generate("a dog", ["dog", "sky"], model=pipe, home=home, **options)
    assert again.attrs["key"] == plain.attrs["key"], "an offloaded pipeline is the same pipeline"


# --- storage and attention --------------------------------------------------------------------------------------


def test_layerwise_casting(expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    _, inputs = expected
    model, rounded = flux_transformer(), flux_transformer()
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    stored = dict(model.named_parameters())
    for name, parameter in rounded.named_parameters():
        parameter.data.copy_(stored[name].data.float())
    assert torch.float8_e4m3fn in {parameter.dtype for parameter in stored.values()}
    check(model, (record(rounded, inputs)[0], inputs))


def test_fused_projections_and_unfused_again(expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    model = flux_transformer()
    model.fuse_qkv_projections()
    check(model, expected)
    model.unfuse_qkv_projections()
    check(model, expected)


def test_projections_fused_under_the_trace_are_refused(
    expected: tuple[dict[str, Tensor], dict[str, Any]],
) -> None:
    _, inputs = expected
    model = flux_transformer()
    ran: list[Any] = []
    with torch.no_grad(), trace(model, concept_embeddings(), layers=LAYERS) as seen:
        model(**inputs)
        model.fuse_qkv_projections()
        model.x_embedder.register_forward_pre_hook(lambda *_: ran.append(1))
        with pytest.raises(TraceError, match=r"fused or unfused while the trace was open: do that before"):
            model(**inputs)
    assert not ran
    assert seen.passes == 1
    check(model, expected)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("backend", ["native", "_native_math", "flex"])
def test_attention_backends(backend: str, expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    # Setting one model's backend sets the default of all; the context puts it back.
    with attention_backend("native"):
        model = flux_transformer()
        model.set_attention_backend(backend)
        check(model, expected)


def test_the_attention_backend_context(expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    with attention_backend("_native_math"):
        check(flux_transformer(), expected)


# --- inference mode, copies ---------------------------------------------------------------------------------------


def test_inference_mode(expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    scores, inputs = expected
    model = flux_transformer()
    with torch.inference_mode():
        output = model(**inputs).sample
        with trace(model, concept_embeddings(), layers=LAYERS) as seen:
            assert torch.equal(model(**inputs).sample, output)
        inferred = concept_embeddings()
    assert torch.equal(seen.scores["output"], scores["output"])
    with trace(model, inferred, layers=LAYERS) as seen:
        model(**inputs)
    assert torch.equal(seen.scores["output"], scores["output"])


def test_gradients_and_gradient_checkpointing(expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    """Checkpointing runs each block again for the backward pass; that is no part of the forward pass."""
    scores, inputs = expected

    def gradients(model: FluxTransformer2DModel, **options: Any) -> list[Tensor]:
        model.zero_grad()
        model(**inputs, **options).sample.square().mean().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    plain = gradients(flux_transformer())
    for checkpointing in (False, True):
        model = flux_transformer().train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        with trace(model, concept_embeddings(), layers=LAYERS) as seen:
            traced = gradients(model)
        assert seen.passes == 1
        assert torch.equal(seen.scores["output"], scores["output"])
        assert not seen.scores["output"].requires_grad
        assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(traced, plain, strict=True))


@pytest.mark.parametrize("copied", ["deepcopy", "pickle"])
def test_a_traced_model_can_be_copied(copied: str, expected: tuple[dict[str, Tensor], dict[str, Any]]) -> None:
    import copy
    import pickle

    model = flux_transformer()
    record(model, expected[1])
    other = copy.deepcopy(model) if copied == "deepcopy" else pickle.loads(pickle.dumps(model))
    check(other, expected)
    with torch.no_grad(), trace(model, concept_embeddings()), trace(other, concept_embeddings()):
        model(**expected[1])
        other(**expected[1])


# --- on a GPU -----------------------------------------------------------------------------------------------------


def model_offload(pipe: Any) -> None:
    pipe.enable_model_cpu_offload()


def sequential_offload(pipe: Any) -> None:
    pipe.enable_sequential_cpu_offload()


def group_offload(offload_type: str, use_stream: bool) -> Callable[[Any], None]:
    def offload(pipe: Any) -> None:
        pipe.transformer.enable_group_offload(
            torch.device("cuda"), CPU, offload_type, num_blocks_per_group=1, use_stream=use_stream
        )
        for name in ("text_encoder", "text_encoder_2", "vae"):
            getattr(pipe, name).to("cuda")

    return offload


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    "offload",
    [
        model_offload,
        sequential_offload,
        group_offload("block_level", False),
        group_offload("block_level", True),
        group_offload("leaf_level", False),
        group_offload("leaf_level", True),
    ],
    ids=["model", "sequential", "block", "block-stream", "leaf", "leaf-stream"],
)
def test_offloaded_pipelines_on_a_gpu(offload: Callable[[Any], None], home: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "size": (32, 32), "layers": range(5), "home": home, "progress": False}
    plain = workbench.generate("a dog", ["dog", "sky"], model=flux_pipeline().to("cuda"), store=False, **options)
    pipe = flux_pipeline()
    offload(pipe)
    for _ in range(2):
        offloaded = workbench.generate("a dog", ["dog", "sky"], model=pipe, store=False, **options)
        np.testing.assert_allclose(offloaded["output"].astype("f4"), plain["output"].astype("f4"), rtol=2e-3, atol=1e-3)
    captured = workbench.capture(
        plain["image"].isel(sample=0).values, ["dog"], model=pipe, size=(32, 32), store=False, progress=False
    )
    assert bool(np.isfinite(captured["output"]).all())


def test_the_concept_stream_follows_its_block_to_another_device() -> None:
    stream = ConceptStream(torch.ones(1, 3, 8), (torch.ones(1, 4), None))
    assert stream.to(CPU) is stream
    moved = stream.to(torch.device("meta"))
    assert moved.hidden.is_meta
    assert moved.conditioning[0].is_meta
    assert moved.conditioning[1] is None


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_model_split_over_devices(expected: tuple[dict[str, Tensor], dict[str, Any]], tmp_path: Path) -> None:
    flux_transformer().save_pretrained(tmp_path)
    halves = {f"transformer_blocks.{index}": index % 2 for index in range(3)}
    halves |= {f"single_transformer_blocks.{index}": index % 2 for index in range(2)}
    rest = ("pos_embed", "time_text_embed", "context_embedder", "x_embedder", "norm_out", "proj_out")
    model = FluxTransformer2DModel.from_pretrained(tmp_path, device_map=halves | dict.fromkeys(rest, 0))
    scores, inputs = expected
    inputs = {name: value.cuda(0) if isinstance(value, Tensor) else value for name, value in inputs.items()}
    output = plain_output(model, inputs)
    traced, traced_output = record(model, inputs)
    assert torch.equal(traced_output, output)
    for name, values in traced.items():
        torch.testing.assert_close(values.cpu(), scores[name], rtol=1e-4, atol=1e-4)
