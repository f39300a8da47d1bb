"""Pipelines around the tiny transformers that take pictures of their own."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import (
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextPipeline,
)
from torch import nn

from tests.tiny_random import FLUX_CONFIG, flux_pipeline

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
    parts = flux_pipeline(dtype=dtype, **(_CHANNELS.get(kind, {}) | overrides)).components | more
    taken = inspect.signature(kind.__init__).parameters
    pipe = kind(**{name: part for name, part in parts.items() if name in taken})
    pipe.set_progress_bar_config(disable=True)
    return pipe


FLUX_VARIANTS = (
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextPipeline,
    FluxFillPipeline,
    FluxControlPipeline,
    FluxControlNetPipeline,
)
