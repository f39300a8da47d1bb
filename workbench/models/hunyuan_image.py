"""HunyuanImage: image before text, which is refined first and not rotated, with glyphs before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.block_records import Concepts, ConceptStream, for_batch
from workbench.models.flux_like import FluxLikeAdapter
from workbench.models.hooks import Hooks
from workbench.models.layers import Layer
from workbench.models.refined import RefinedAdapter
from workbench.models.taps import Tap, Taps
from workbench.schema import ModelError


class HunyuanImageAdapter(RefinedAdapter, FluxLikeAdapter):
    """Transformer side of HunyuanImage 2.1 (``HunyuanImageTransformer2DModel``).

    The refiner of text also pools it, so it sees a concept as all of a text. Glyphs, the quoted parts of a prompt as
    ByT5 reads them, come before the text and are no part of a concept's; padding of both comes behind them, masked.
    """

    text_first = False
    returns = ("image", "text")
    text_width = "text_embed_dim"

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__(transformer)
        self._times: Tensor | None = None

    def begin(self, given: Mapping[str, Any]) -> None:
        super().begin(given)
        latents, glyphs = given["hidden_states"], given.get("encoder_hidden_states_2")
        if latents.ndim == 5 and latents.shape[2] > 1:
            raise ModelError(f"the latents have {latents.shape[2]} frames, and only pictures of one are supported.")
        model: Any = self.transformer
        if glyphs is not None and model.context_embedder_2 is not None:
            self.text_length += int(glyphs.shape[1])
        self._times = given["timestep"]

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double()

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        model: Any = self.transformer
        height, width = given["hidden_states"].shape[-2:]
        return height // model.config.patch_size[-2], width // model.config.patch_size[-1]

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        seen: list[Tensor] = []

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            seen[:] = [output]

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                found = self.refined(concepts, len(output), args[0])
            on_start(ConceptStream(for_batch("concepts", found.hidden, len(output)), seen.pop()))

        hooks.after(model.time_guidance_embed, after_time)
        hooks.after(model.context_embedder, after_text)

    def refine(self, texts: Tensor, positions: Tensor) -> Tensor:
        model: Any = self.transformer
        assert self._times is not None
        times = self._times.repeat_interleave(len(texts) // len(self._times))
        refined: Tensor = model.context_embedder(texts, times, torch.ones_like(positions, dtype=torch.bool))
        return refined

    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        if layer.kind == "dual":
            return self.attention_taps(attention)
        return self.shared_taps(attention, Tap(attention, part=0))

    def fused(self, attention: Any) -> bool:
        return False  # its processor runs the projections one by one, whether they were fused or not

    def mask(self, given: Mapping[str, Any]) -> Tensor | None:
        mask: Tensor | None = given["attention_mask"]
        return mask

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        return given["image_rotary_emb"], None
