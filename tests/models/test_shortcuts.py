"""Caches and skips that diffusers puts on a transformer: each is named and refused, by the trace and by runs."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers.hooks
import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.hooks import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    LayerSkipConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
    TaylorSeerCacheConfig,
    apply_first_block_cache,
    apply_layer_skip,
    apply_pyramid_attention_broadcast,
)
from PIL import Image

import workbench
from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from tests.traced import snapshot
from workbench.models.family import adapter_for
from workbench.models.shortcuts import refuse_shortcuts
from workbench.recording.tracing import trace
from workbench.schema import ModelError

CACHES: dict[str, Any] = {
    "FirstBlockCache": FirstBlockCacheConfig(),
    "FasterCache": FasterCacheConfig(current_timestep_callback=lambda: 500, tensor_format="BCHW"),
    "PyramidAttentionBroadcast": PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    ),
    "TaylorSeerCache": TaylorSeerCacheConfig(),
    "MagCache": MagCacheConfig(calibrate=True),
    "SeaCache": SeaCacheConfig(),
}


@pytest.fixture
def model() -> FluxTransformer2DModel:
    return flux_transformer()


def test_every_cache_of_diffusers_for_flux_is_tried() -> None:
    configs = {name for name, each in vars(diffusers.hooks).items() if inspect.isclass(each) and "CacheConfig" in name}
    # Made for one model with another interface; its hooks are told by their module's name like the others.
    assert configs - {f"{name}Config" for name in CACHES} <= {"TextKVCacheConfig"}


@pytest.mark.parametrize("name", CACHES)
def test_a_cache_is_refused_by_name_until_it_is_disabled(model: FluxTransformer2DModel, name: str) -> None:
    model.enable_cache(CACHES[name])
    with pytest.raises(ModelError, match=rf"^{name} is enabled .*disable_cache"):
        adapter_for(model)
    model.disable_cache()
    refuse_shortcuts(model)


@pytest.mark.parametrize(
    ("apply", "config", "name"),
    [
        (apply_first_block_cache, FirstBlockCacheConfig(), "first_block_cache"),
        (
            apply_pyramid_attention_broadcast,
            CACHES["PyramidAttentionBroadcast"],
            "pyramid_attention_broadcast",
        ),
        (apply_layer_skip, LayerSkipConfig(indices=[1], fqn="transformer_blocks"), "layer_skip"),
    ],
)
def test_hooks_placed_without_enable_cache_are_refused(
    model: FluxTransformer2DModel, apply: Any, config: Any, name: str
) -> None:
    apply(model, config)
    with pytest.raises(ModelError, match=rf"hooks of diffusers\.hooks\.{name} are on"):
        refuse_shortcuts(model)


def test_hooks_that_leave_the_pass_whole_are_not_refused(model: FluxTransformer2DModel) -> None:
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    with model.cache_context("cond"):
        refuse_shortcuts(model)


def test_a_cache_enabled_later_is_refused_on_entering_and_before_the_next_pass(model: FluxTransformer2DModel) -> None:
    inputs, concepts = flux_inputs(model), concept_embeddings()
    seen = trace(model, concepts)
    model.enable_cache(FirstBlockCacheConfig())
    before = snapshot(model)
    with pytest.raises(ModelError, match="FirstBlockCache"), seen:
        pass
    assert snapshot(model) == before
    model.disable_cache()
    ran: list[Any] = []
    with torch.no_grad(), trace(model, concepts) as seen:
        model(**inputs)
        model.enable_cache(CACHES["PyramidAttentionBroadcast"])
        model.x_embedder.register_forward_pre_hook(lambda *_: ran.append(1))
        with pytest.raises(ModelError, match="PyramidAttentionBroadcast"):
            model(**inputs)
    assert not ran
    assert seen.passes == 1


def test_runs_refuse_before_anything_is_stored(home: Path) -> None:
    pipe = flux_pipeline()
    pipe.transformer.enable_cache(FirstBlockCacheConfig())
    with pytest.raises(ModelError, match="FirstBlockCache"):
        workbench.capture(Image.new("RGB", (16, 16)), ["dog"], model=pipe, size=(16, 16), home=home, progress=False)
    with pytest.raises(ModelError, match="FirstBlockCache"):
        workbench.generate("a dog", ["dog"], model=pipe, steps=1, size=(16, 16), home=home, progress=False)
    assert not [path for path in home.rglob("*") if path.is_file() and not path.name.startswith(".")]
