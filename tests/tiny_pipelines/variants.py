"""Pipelines around the tiny transformers that take pictures of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from diffusers import (
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxPriorReduxPipeline,
    QwenImageControlNetModel,
    QwenImageControlNetPipeline,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    SD3ControlNetModel,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3InpaintPipeline,
)
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from torch import nn
from transformers import (
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tests.tiny_pipelines.qwen import QWEN_CONFIG, qwen_pipeline
from tests.tiny_pipelines.sd3 import SD3_CONFIG, sd3_pipeline
from tests.tiny_random import FLUX_CONFIG, JOINT_DIM, flux_pipeline

_CHANNELS: dict[Any, dict[str, int]] = {
    FluxFillPipeline: {"in_channels": 16 + 16 + 16, "out_channels": 16},
    FluxControlPipeline: {"in_channels": 32, "out_channels": 16},
}
"""Of FLUX.1's variants whose transformers read more beside the latents; a mask has as many as there are pixels."""


def flux_controlnet() -> FluxControlNetModel:
    """A ControlNet that adds something to every block."""
    names = set(FLUX_CONFIG) - {"num_layers", "num_single_layers"}
    with torch.random.fork_rng():
        torch.manual_seed(6)
        net = FluxControlNetModel(**{name: FLUX_CONFIG[name] for name in names}, num_layers=1, num_single_layers=1)
        for linear in [*net.controlnet_blocks, *net.controlnet_single_blocks, net.controlnet_x_embedder]:
            nn.init.normal_(linear.weight)
    return net.eval()


def flux_variant(kind: type[Any] = FluxImg2ImgPipeline, dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """A variant of the tiny FLUX.1 pipeline.

    Parameters
    ----------
    kind : type
        Its class.
    dtype : torch.dtype
        Of all models.
    **overrides
        Configuration of the transformer that differs from `FLUX_CONFIG` and from what the variant reads.
    """
    more: dict[str, Any] = {"controlnet": flux_controlnet().to(dtype)} if kind is FluxControlNetPipeline else {}
    return _around(kind, flux_pipeline(dtype=dtype, **(_CHANNELS.get(kind, {}) | overrides)).components | more)


def redux_prior(pipe: Any) -> FluxPriorReduxPipeline:
    """FLUX.1 Redux around the text encoders of a tiny FLUX.1 pipeline: an image becomes four tokens."""
    config = SiglipVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        encoder, embedder = SiglipVisionModel(config).eval(), ReduxImageEncoder(8, JOINT_DIM).eval()
    images = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    parts = {name: getattr(pipe, name) for name in ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")}
    return FluxPriorReduxPipeline(encoder, images, embedder, **parts)


def sd3_variant(kind: type[Any], dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """A variant of the tiny Stable Diffusion 3 pipeline."""
    more: dict[str, Any] = {}
    if kind is StableDiffusion3InpaintPipeline:  # takes transformers of these many only
        overrides = {"in_channels": 16, "out_channels": 16} | overrides
    if kind is StableDiffusion3ControlNetPipeline:
        with torch.random.fork_rng():
            torch.manual_seed(6)
            net = SD3ControlNetModel(**(SD3_CONFIG | {"num_layers": 2}))
            for linear in [*net.controlnet_blocks, net.pos_embed_input.proj]:
                nn.init.normal_(linear.weight)
        more["controlnet"] = net.eval().to(dtype)
    return _around(kind, sd3_pipeline(dtype=dtype, **overrides).components | more)


def qwen_variant(kind: type[Any], dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """A variant of the tiny Qwen-Image pipeline."""
    more: dict[str, Any] = {}
    if kind is QwenImageControlNetPipeline:
        with torch.random.fork_rng():
            torch.manual_seed(6)
            net = QwenImageControlNetModel(**(QWEN_CONFIG | {"num_layers": 2}))
            for linear in [*net.controlnet_blocks, net.controlnet_x_embedder]:
                nn.init.normal_(linear.weight)
        more["controlnet"] = net.eval().to(dtype)
    edits = kind in (QwenImageEditPipeline, QwenImageEditPlusPipeline)
    pipe = qwen_pipeline(dtype=dtype, shown=edits, **overrides)
    if edits:
        images = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 6 * 28 * 28})
        # What it reads videos with would need torchvision.
        with patch.object(Qwen2VLProcessor, "check_argument_for_proper_class"):
            more["processor"] = Qwen2VLProcessor(images, pipe.tokenizer)
    return _around(kind, pipe.components | more)


def guided_variant(kind: type[Any], make: Callable[..., Any], dtype: torch.dtype = torch.float32) -> Any:
    """A variant of a tiny pipeline, of its own components."""
    return _around(kind, make(dtype=dtype).components)


def _around(kind: type[Any], parts: dict[str, Any]) -> Any:
    """A pipeline of those components that it takes."""
    taken = inspect.signature(kind.__init__).parameters
    pipe = kind(**{name: part for name, part in parts.items() if name in taken})
    pipe.set_progress_bar_config(disable=True)
    return pipe
