"""Bria 3.2: FLUX.1's blocks without pooled text, given timesteps as they are in the schedule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.models.flux_like import FluxLikeAdapter


class BriaAdapter(FluxLikeAdapter):
    """Transformer side of Bria 3.2 (``BriaTransformer2DModel``).

    Concepts sit at position id 0, where the rotary embedding is the identity.
    """

    timer = "time_embed"

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double()

    def mask(self, given: Mapping[str, Any]) -> Tensor | None:
        options = given.get("attention_kwargs") or {}
        found: Tensor | None = options.get("attention_mask")
        return found
