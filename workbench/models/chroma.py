"""Chroma: FLUX.1's blocks, modulated by one table for all of them, under a mask that is added to the logits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.models.block_records import ConceptStream
from workbench.models.flux_like import FluxLikeAdapter
from workbench.models.layers import Layer


class ChromaAdapter(FluxLikeAdapter):
    """Transformer side of Chroma (``ChromaTransformer2DModel``).

    Concepts sit at position id 0, where the rotary embedding is the identity. The pipeline's mask of the text is no
    boolean one: its ones and zeros are added to the logits. So padding is attended to, by a factor of e less than what
    is seen, and concepts see themselves and the image as the prompt's own tokens do.
    """

    timer = "distilled_guidance_layer"

    def modulation(self, layer: Layer, stream: ConceptStream) -> Tensor:
        # One row for each shift, scale and gate: those of the single blocks, of the images of the dual ones, of their
        # texts, and of the output.
        singles = sum(other.kind == "single" for other in self.layers)
        duals = len(self.layers) - singles
        table: Tensor = stream.conditioning
        if layer.kind == "single":
            return table.narrow(1, 3 * (layer.index - duals), 3)
        return table.narrow(1, 3 * singles + 6 * duals + 6 * layer.index, 6)

    def mask(self, given: Mapping[str, Any]) -> Tensor | None:
        found: Tensor | None = given.get("attention_mask")
        return found

    def mask_rows(self, mask: Tensor, looking: slice | list[int]) -> Tensor:
        # Each block multiplies the entries of those who look and those who are seen.
        return mask[:, None, looking, None] * mask[:, None, None, :]
