"""Ovis-Image: FLUX.1's blocks with gated MLPs, without pooled text, and text tokens at positions of their own."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from workbench.models.flux_like import FluxLikeAdapter


class OvisAdapter(FluxLikeAdapter):
    """Transformer side of Ovis-Image (``OvisImageTransformer2DModel``).

    Text tokens are numbered along the diagonal of the picture's rows and columns: the position a concept takes decides
    its scores. A concept on its own stands at position 1, behind the colon that ends the pipeline's instruction.
    """

    timer = "timestep_embedder"
    concept_position = 1

    def embed(self, embeddings: Tensor) -> Tensor:
        model: Any = self.transformer
        return super().embed(model.context_embedder_norm(embeddings))

    def mlp(self, block: Any, normed: Tensor) -> Tensor:
        hidden, gate = block.proj_mlp(normed).chunk(2, dim=-1)
        gated: Tensor = block.act_mlp(gate) * hidden
        return gated
