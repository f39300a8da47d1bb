"""Transformers whose linear layers are quantised, or carry LoRA: traced as they are."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from peft import LoraConfig, get_peft_model_state_dict
from torch import Tensor, nn

import workbench
from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from tests.traced import LAYERS, follows_the_text, plain_output, record, same, snapshot
from workbench.models.fingerprint import fingerprint
from workbench.recording.tracing import trace
from workbench.schema import TraceError

# --- quantised linear layers ------------------------------------------------------------------------------------


def dequantised(model: Any, weight: Callable[[nn.Linear], Tensor]) -> FluxTransformer2DModel:
    """An ordinary model with the values of a quantised one."""
    plain = flux_transformer()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            plain.get_submodule(name).weight.data.copy_(weight(module))
    return plain


def check_quantised(model: Any, weight: Callable[[nn.Linear], Tensor]) -> None:
    inputs = flux_inputs(model)
    output = plain_output(model, inputs)
    before = snapshot(model)
    scores, traced = record(model, inputs)
    assert torch.equal(traced, output)
    assert snapshot(model) == before
    reference = dequantised(model, weight)
    assert same(scores, record(reference, inputs)[0], 1e-5)
    assert not same(scores, record(flux_transformer(), inputs)[0], 1e-4), "the weights were really rounded"

    pipe = flux_pipeline()
    plain = fingerprint(pipe)
    pipe.transformer = model
    assert fingerprint(pipe) == fingerprint(pipe) != plain
    options: dict[str, Any] = {"steps": 1, "size": (16, 16), "store": False, "progress": False}
    quantised = workbench.generate("a dog", ["dog", "sky"], model=pipe, **options)
    pipe.transformer = reference
    rounded = workbench.generate("a dog", ["dog", "sky"], model=pipe, **options)
    np.testing.assert_allclose(quantised["output_total"], rounded["output_total"], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_torchao_weights(bits: int) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    config = (
        quantization.Int8WeightOnlyConfig()
        if bits == 8
        else quantization.IntxWeightOnlyConfig(
            weight_dtype=torch.int4, granularity=pytest.importorskip("torchao.quantization").PerGroup(32)
        )
    )
    model = flux_transformer()
    quantization.quantize_(model, config, filter_fn=lambda module, _: isinstance(module, nn.Linear) and fits(module))
    assert type(model.transformer_blocks[0].attn.to_q.weight).__module__.startswith("torchao")
    check_quantised(model, lambda linear: linear.weight.dequantize() if fits(linear) else linear.weight)


def fits(linear: nn.Linear) -> bool:
    """Whether the rows are whole groups of 32."""
    return linear.in_features % 32 == 0


def test_torchao_activations_and_weights() -> None:
    """Activations are rounded row by row, so a concept is rounded as the same prompt token is."""
    quantization = pytest.importorskip("torchao.quantization")
    model = flux_transformer()
    quantization.quantize_(
        model,
        quantization.Int8DynamicActivationInt8WeightConfig(),
        filter_fn=lambda module, name: isinstance(module, nn.Linear) and "blocks" in name,
    )
    inputs = flux_inputs(model)
    assert follows_the_text(model, inputs)


@pytest.mark.slow
def test_torchao_through_diffusers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    from diffusers import TorchAoConfig

    flux_transformer().save_pretrained(tmp_path)
    with caplog.at_level(logging.CRITICAL):  # diffusers would rather have bfloat16
        model = FluxTransformer2DModel.from_pretrained(
            tmp_path,
            quantization_config=TorchAoConfig(quantization.Int8WeightOnlyConfig()),
            torch_dtype=torch.float32,
        )
    assert type(model.transformer_blocks[0].attn.to_q.weight).__module__.startswith("torchao")
    check_quantised(model, lambda linear: linear.weight.dequantize())


@pytest.mark.slow
def test_gguf(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from diffusers import GGUFQuantizationConfig
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    original = flux_transformer()
    original.save_config(tmp_path)
    writer = gguf.GGUFWriter(str(tmp_path / "model.gguf"), "flux")
    for name, tensor in original.state_dict().items():
        values = tensor.numpy()
        if values.ndim == 2 and "blocks" in name:
            kind = gguf.GGMLQuantizationType.Q4_0 if "to_out" in name else gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model = FluxTransformer2DModel.from_single_file(
        str(tmp_path / "model.gguf"),
        config=str(tmp_path),
        quantization_config=GGUFQuantizationConfig(compute_dtype=torch.float32),
        torch_dtype=torch.float32,
    )
    assert type(model.transformer_blocks[0].attn.to_q).__name__ == "GGUFLinear"
    check_quantised(
        model,
        lambda linear: dequantize_gguf_tensor(linear.weight) if hasattr(linear.weight, "quant_type") else linear.weight,
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="bitsandbytes quantises on a GPU")
@pytest.mark.parametrize("bits", [8, 4])
def test_bitsandbytes(bits: int, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from diffusers import BitsAndBytesConfig

    flux_transformer().save_pretrained(tmp_path)
    model = FluxTransformer2DModel.from_pretrained(
        tmp_path,
        quantization_config=BitsAndBytesConfig(**{f"load_in_{bits}bit": True}),
        torch_dtype=torch.float16,
        device_map="cuda",
    )
    inputs = {name: value.cuda() if isinstance(value, Tensor) else value for name, value in flux_inputs(model).items()}
    assert follows_the_text(model, inputs, 1e-2)


# --- LoRA -------------------------------------------------------------------------------------------------------

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
CALLED = ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm1_context.linear", "ff_context.net.2"]
"""Modules that a trace calls for its concepts but has no hooks on."""
EVERYWHERE = [*ATTENTION, *CALLED, "proj_mlp", "proj_out", "norm.linear", "context_embedder", "linear_1"]


def hooked(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if module._forward_hooks or module._forward_pre_hooks]


def lora(targets: list[str]) -> LoraConfig:
    return LoraConfig(r=2, lora_alpha=8, target_modules=targets, init_lora_weights=False)


def with_lora(targets: list[str], name: str = "one") -> FluxTransformer2DModel:
    return add_lora(flux_transformer(), targets, name)


def add_lora(model: Any, targets: list[str], name: str = "one") -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model.add_adapter(lora(targets), adapter_name=name)
    return model.eval()


def merged(model: Any) -> FluxTransformer2DModel:
    """An ordinary model with a model's LoRA added to its weights."""
    plain = flux_transformer()
    for name, module in plain.named_modules():
        if isinstance(module, nn.Linear):
            adapted = model.get_submodule(name)
            if hasattr(adapted, "get_delta_weight"):
                delta = sum(adapted.get_delta_weight(active) for active in adapted.active_adapters)
                module.weight.data.add_(delta)
    return plain


@pytest.fixture(scope="module")
def inputs() -> dict[str, Any]:
    return flux_inputs(flux_transformer())


@pytest.mark.slow
@pytest.mark.parametrize("targets", [ATTENTION, CALLED, EVERYWHERE], ids=["attention", "called", "everywhere"])
def test_lora_loaded_before_the_trace(targets: list[str], inputs: dict[str, Any]) -> None:
    model = with_lora(targets)
    output = plain_output(model, inputs)
    before = snapshot(model)
    scores, traced = record(model, inputs)
    assert torch.equal(traced, output)
    assert snapshot(model) == before
    assert same(scores, record(merged(model), inputs)[0], 1e-5)
    assert not same(scores, record(flux_transformer(), inputs)[0], 1e-2)


def test_lora_on_hooked_modules_under_the_trace_is_refused(inputs: dict[str, Any]) -> None:
    model = flux_transformer()
    ran: list[Any] = []
    with torch.no_grad(), trace(model, concept_embeddings(), layers=LAYERS) as seen:
        model(**inputs)
        add_lora(model, ATTENTION)
        handle = model.x_embedder.register_forward_pre_hook(lambda *_: ran.append(1))
        with pytest.raises(TraceError, match=r"attn\.to_v was replaced while the trace was open.*LoRA.*a new one"):
            model(**inputs)
        handle.remove()
    assert not ran, "refused before anything was computed"
    assert seen.passes == 1
    assert same(record(model, inputs)[0], record(with_lora(ATTENTION), inputs)[0], 0), "no hook is left anywhere"
    model.unload_lora()
    assert not hooked(model)


def test_lora_unloaded_under_the_trace_is_refused(inputs: dict[str, Any]) -> None:
    model = with_lora(ATTENTION)
    with torch.no_grad(), trace(model, concept_embeddings(), layers=LAYERS):
        model(**inputs)
        model.unload_lora()
        with pytest.raises(TraceError, match="was replaced while the trace was open"):
            model(**inputs)
    assert not hooked(model)
    assert same(record(model, inputs)[0], record(flux_transformer(), inputs)[0], 0)


@pytest.mark.parametrize("targets", [CALLED, [*CALLED, "proj_mlp", "proj_out", "linear_1"]])
def test_lora_on_modules_that_are_only_called_works_at_once(targets: list[str], inputs: dict[str, Any]) -> None:
    """They are called as they are in the pass, by the model and by the concepts alike."""
    model = flux_transformer()
    with torch.no_grad(), trace(model, concept_embeddings(), layers=LAYERS) as seen:
        model(**inputs)
        plain = seen.scores
        add_lora(model, targets)
        model(**inputs)
        adapted = seen.scores
        model.unload_lora()
        model(**inputs)
        unloaded = seen.scores
    assert same(adapted, record(with_lora(targets), inputs, spaces=["output"], lse=False)[0], 0)
    assert not same(adapted, plain, 1e-2)
    assert same(unloaded, plain, 0)


def halve(model: Any) -> None:
    model.set_adapters(["one"], [0.5])


def disable(model: Any) -> None:
    model.disable_adapters()


def disable_and_enable(model: Any) -> None:
    model.disable_adapters()
    model.enable_adapters()


def fuse(model: Any) -> None:
    model.fuse_lora()


def second(model: Any) -> None:
    add_lora(model, EVERYWHERE, "two")
    model.set_adapters(["one", "two"], [0.3, 0.2])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
@pytest.mark.parametrize("change", [halve, disable, disable_and_enable, fuse, second])
def test_adapters_changed_under_the_trace_count_from_the_next_pass(
    change: Callable[[Any], None], inputs: dict[str, Any]
) -> None:
    model, other = with_lora(EVERYWHERE), with_lora(EVERYWHERE)
    with torch.no_grad(), trace(model, concept_embeddings(), layers=LAYERS) as seen:
        model(**inputs)
        before = seen.scores
        change(model)
        output = model(**inputs).sample
        after = seen.scores
    change(other)
    expected, expected_output = record(other, inputs, spaces=["output"], lse=False)
    assert torch.equal(output, expected_output)
    assert same(after, expected, 0)
    assert same(after, before, 1e-4) == (change in (disable_and_enable, fuse))


@pytest.mark.slow
def test_a_scale_for_one_pass(inputs: dict[str, Any]) -> None:
    """`joint_attention_kwargs` scales the layers while the pass runs, and early exit leaves them as they were."""
    model, halved = with_lora(EVERYWHERE), with_lora(EVERYWHERE)
    halve(halved)
    scaled = inputs | {"joint_attention_kwargs": {"scale": 0.5}}
    assert same(record(model, scaled)[0], record(halved, inputs)[0], 1e-5)
    output = plain_output(model, inputs)
    with trace(model, concept_embeddings(), layers=[1]) as seen:
        seen.run(**scaled)
    assert torch.equal(plain_output(model, inputs), output)


@pytest.mark.slow
def test_lora_of_a_pipeline_from_a_state_dict() -> None:
    state = {
        f"transformer.{name}": tensor
        for name, tensor in get_peft_model_state_dict(with_lora(ATTENTION), adapter_name="one").items()
    }
    options: dict[str, Any] = {
        "height": 16,
        "width": 16,
        "num_inference_steps": 2,
        "max_sequence_length": 12,
        "output_type": "pt",
    }

    def picture(pipe: Any) -> Tensor:
        images: Tensor = pipe("a dog", generator=torch.Generator().manual_seed(0), **options).images
        return images

    pipe = flux_pipeline()
    plain = picture(pipe)
    with torch.no_grad(), trace(pipe.transformer, concept_embeddings(), layers=LAYERS):
        assert torch.equal(picture(pipe), plain)
        pipe.load_lora_weights(dict(state), adapter_name="one")
        with pytest.raises(TraceError, match="was replaced while the trace was open"):
            picture(pipe)
    adapted = picture(pipe)
    assert not torch.equal(adapted, plain)
    with torch.no_grad(), trace(pipe.transformer, concept_embeddings(), layers=LAYERS) as seen:
        assert torch.equal(picture(pipe), adapted)
        live = seen.scores
        pipe.fuse_lora()
        picture(pipe)
        assert same(seen.scores, live, 1e-4)
        pipe.unfuse_lora()
        pipe.set_adapters(["one"], [0.0])
        # Fusing and unfusing rounds the weights.
        torch.testing.assert_close(picture(pipe), plain, rtol=1e-4, atol=1e-4)
    pipe.unload_lora_weights()
    unloaded = picture(pipe)
    with torch.no_grad(), trace(pipe.transformer, concept_embeddings(), layers=LAYERS):
        assert torch.equal(picture(pipe), unloaded)
