"""LongCat-Image: FLUX.1's blocks without pooled text, and text tokens at positions of their own."""

from __future__ import annotations

from workbench.models.flux_like import FluxLikeAdapter


class LongCatAdapter(FluxLikeAdapter):
    """Transformer side of LongCat-Image (``LongCatImageTransformer2DModel``), and of its edit model.

    Text tokens are numbered along the diagonal of rows and columns, before the picture's: the position a concept takes
    decides its scores. A concept on its own stands at position 0, since the template around it is dropped.
    """

    timer = "time_embed"
    concept_position = 0
