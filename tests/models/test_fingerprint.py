from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import accelerate
import pytest
import torch
from diffusers import FluxPipeline
from peft import LoraConfig

from tests.tiny_random import flux_pipeline
from workbench.models.fingerprint import fingerprint
from workbench.schema import ModelError


@pytest.fixture(scope="module")
def reference() -> dict:
    return fingerprint(flux_pipeline())


def test_equal_pipelines_are_described_alike_in_plain_values(reference: dict) -> None:
    assert fingerprint(flux_pipeline()) == reference
    assert json.loads(json.dumps(reference, allow_nan=False)) == reference


def test_neither_a_call_nor_a_round_trip_through_a_folder_changes_it(reference: dict, tmp_path: Path) -> None:
    pipe = flux_pipeline()
    pipe("a dog", num_inference_steps=1, height=32, width=32, output_type="latent")
    assert fingerprint(pipe) == reference
    pipe.save_pretrained(tmp_path)
    assert fingerprint(FluxPipeline.from_pretrained(tmp_path)) == reference


def _one_weight(pipe: FluxPipeline) -> None:
    pipe.transformer.transformer_blocks[1].attn.to_q.weight.data[0, 0] += 1


def _one_token(pipe: FluxPipeline) -> None:
    pipe.tokenizer_2.add_tokens(["moon"])


def _scheduler(pipe: FluxPipeline) -> None:
    pipe.scheduler.register_to_config(shift=3.0)


def _dtype(pipe: FluxPipeline) -> None:
    pipe.vae.to(torch.bfloat16)


def _fused(pipe: FluxPipeline) -> None:
    pipe.transformer.fuse_qkv_projections()


@pytest.mark.parametrize("change", [_one_weight, _one_token, _scheduler, _dtype, _fused])
def test_what_changes_the_result_changes_it(change: Callable[[FluxPipeline], None], reference: dict) -> None:
    pipe = flux_pipeline()
    change(pipe)
    assert fingerprint(pipe) != reference


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_types_that_numpy_does_not_know(dtype: torch.dtype) -> None:
    pipe = flux_pipeline()
    pipe.transformer.to(dtype)
    assert fingerprint(pipe) == fingerprint(pipe)


@pytest.mark.parametrize("element", [0, 1, 777, -1])
def test_every_element_counts_also_behind_the_tensors_back(element: int, reference: dict) -> None:
    pipe = flux_pipeline()
    weight = pipe.transformer.transformer_blocks[0].attn.to_q.weight
    version = weight._version
    weight.data.view(-1)[element] += 1
    assert weight._version == version, "nothing but its elements tells"
    assert fingerprint(pipe) != reference


def test_adapters_count_with_their_scale_and_every_element() -> None:
    pipe = flux_pipeline()
    plain = fingerprint(pipe)
    pipe.transformer.add_adapter(LoraConfig(r=16, target_modules=["to_q"], init_lora_weights=False))
    layer = pipe.transformer.transformer_blocks[0].attn.to_q
    described = [fingerprint(pipe)]
    layer.lora_A["default"].weight.data.view(-1)[1] += 1
    described.append(fingerprint(pipe))
    layer.set_scale("default", 0.5)
    described.append(fingerprint(pipe))
    pipe.transformer.disable_adapters()
    described.append(fingerprint(pipe))
    assert all(a != b for i, a in enumerate(described) for b in [plain, *described[:i]])
    pipe.transformer.delete_adapters("default")


def test_weights_without_data_are_refused() -> None:
    pipe = flux_pipeline()
    pipe.vae.to("meta")
    with pytest.raises(ModelError, match=r"'vae'.*store=False"):
        fingerprint(pipe)


def test_sequential_offload_is_seen_through(reference: dict) -> None:
    pipe = flux_pipeline()
    accelerate.cpu_offload(pipe.transformer, execution_device=torch.device("cpu"))
    assert next(pipe.transformer.parameters()).is_meta
    assert fingerprint(pipe) == reference


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_group_offload_to_disk_is_seen_through(reference: dict, offload_type: str, tmp_path: Path) -> None:
    pipe = flux_pipeline()
    cpu = torch.device("cpu")
    pipe.transformer.enable_group_offload(
        cpu, cpu, offload_type, num_blocks_per_group=1, offload_to_disk_path=str(tmp_path)
    )
    for parameter in pipe.transformer.parameters():
        parameter.data.fill_(7)  # what is left in memory means nothing
    assert fingerprint(pipe) == reference


def test_compiling_changes_nothing(reference: dict) -> None:
    pipe = flux_pipeline()
    blocks = pipe.transformer.transformer_blocks
    blocks[1] = torch.compile(blocks[1], backend="eager")
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    assert fingerprint(pipe) == reference
