"""The model families, each as tiny random models; a new family joins by adding entries to `FAMILIES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from tests.tiny_random import flux_inputs, flux_transformer


@dataclass(frozen=True)
class Family:
    """How to make a tiny random model of a family, and inputs for it."""

    transformer: Callable[[], nn.Module]
    inputs: Callable[[Any], dict[str, Any]]


def _fused() -> nn.Module:
    model = flux_transformer()
    model.fuse_qkv_projections()
    return model


FAMILIES = {
    "flux": Family(flux_transformer, flux_inputs),
    "flux-guided-batch": Family(
        lambda: flux_transformer(guidance_embeds=True, num_attention_heads=3), lambda m: flux_inputs(m, batch=2)
    ),
    "flux-control": Family(lambda: flux_transformer(in_channels=32, out_channels=16), flux_inputs),
    "flux-fused": Family(_fused, flux_inputs),
    "flux-bfloat16": Family(lambda: flux_transformer().bfloat16(), flux_inputs),
    "flux-float16": Family(lambda: flux_transformer().half(), flux_inputs),
}
