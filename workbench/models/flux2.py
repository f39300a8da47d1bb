"""FLUX.2: as FLUX.1, with modulation that blocks share, no pooled text, and text tokens at positions of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from workbench.models.block_records import BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks
from workbench.models.layers import Layer, numbered
from workbench.models.reference_images import ReferenceAdapter
from workbench.models.taps import Tap, Taps
from workbench.schema import ModelError

DEV_POSITION = 510
"""Where the public code puts every concept: the last token of a prompt that its template pads on the left to 512."""
KLEIN_POSITION = 3
"""Where klein's template puts the first token: behind the start of the user's turn."""


class Flux2Adapter(ReferenceAdapter):
    """Transformer side of FLUX.2 (``Flux2Transformer2DModel``): dev and klein.

    A text token's position is the last of four axes of its ids, so unlike FLUX.1's its rotary embedding is no identity:
    the position a concept takes decides its scores.
    """

    rotates_pairs = True

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["joint_attention_dim"]
        # Only dev has learnt its guidance.
        self.concept_position = DEV_POSITION if config["guidance_embeds"] else KLEIN_POSITION
        self.layers = numbered(
            ("dual", "transformer_blocks", config["num_layers"]),
            ("single", "single_transformer_blocks", config["num_single_layers"]),
        )

    def begin(self, given: Mapping[str, Any]) -> None:
        super().begin(given)
        if given.get("kv_cache_mode") is not None:
            raise ModelError(
                f"kv_cache_mode is {given['kv_cache_mode']!r}: the image then attends to keys of a reference that no "
                "block computes, so concept attention would leave them out. Call the transformer without it, with the "
                "reference among the image's tokens."
            )

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double() * 1000

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        seen: dict[str, Tensor] = {}

        def keep(name: str) -> Callable[[tuple[Any, ...], dict[str, Any], Tensor], None]:
            return lambda args, kwargs, output: seen.update({name: output})

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            count = concepts.embeddings.shape[1]
            positions = concepts.own_positions or (self.concept_position,) * count
            last = torch.tensor(positions, dtype=torch.float32, device=output.device)
            ids = functional.pad(last[:, None], (len(model.config.axes_dims_rope) - 1, 0))
            with hooks.silenced():
                hidden = model.context_embedder(concepts.embeddings.to(args[0]))
                rotary = model.pos_embed(ids)
            on_start(ConceptStream(for_batch("concepts", hidden, len(output)), (seen["dual"], seen["single"]), rotary))

        hooks.after(model.double_stream_modulation_txt, keep("dual"))
        hooks.after(model.single_stream_modulation, keep("single"))
        hooks.after(model.context_embedder, after_text)

    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        if layer.kind == "dual":
            return self.attention_taps(attention)
        width = self.heads * self.head_dim
        # Projections of attention and MLP are one module: query, key, value, MLP; then attention's output, MLP's.
        return Taps(
            query=Tap(attention.norm_q, by_head=True),
            key=Tap(attention.norm_k, by_head=True),
            value=Tap(attention.to_qkv_mlp_proj, columns=slice(2 * width, 3 * width)),
            output=Tap(attention.to_out, before=True, columns=slice(width)),
        )

    def fused(self, attention: Any) -> bool:
        return bool(getattr(attention, "fused_projections", False))

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        cos, sin = given["image_rotary_emb"]
        return (cos[text:], sin[text:]), (cos[:text], sin[:text])

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        dual, single = stream.conditioning
        if layer.kind == "dual":
            shift, scale, *rest = self._parts(dual, 6)
            normed = (1 + scale) * block.norm1_context(stream.hidden) + shift
            return Projection(*self.project_text(block.attn, normed), rest)
        shift, scale, gate = self._parts(single, 3)
        whole = block.attn.to_qkv_mlp_proj((1 + scale) * block.norm(stream.hidden) + shift)
        width = self.heads * self.head_dim
        query, key, value = whole[..., : 3 * width].chunk(3, dim=-1)
        return Projection(
            self._normed(block.attn, "norm_q", query),
            self._normed(block.attn, "norm_k", key),
            self.split(value),
            (gate, whole[..., 3 * width :]),
        )

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        hidden = stream.hidden
        if layer.kind == "dual":
            modulation = [part.squeeze(1) for part in projection.rest]
            hidden = self.finish_text(block, hidden, attended, modulation)
        else:
            gate, mlp = projection.rest
            both = torch.cat([self.merge(attended, hidden), block.attn.mlp_act_fn(mlp)], dim=-1)
            hidden = hidden + gate * block.attn.to_out(both)
        if hidden.dtype == torch.float16:
            # As the model's own blocks do with text tokens.
            hidden = hidden.clip(-65504, 65504)
        return replace(stream, hidden=hidden)

    @staticmethod
    def _parts(modulation: Tensor, count: int) -> tuple[Tensor, ...]:
        """Shift, scale and gate of each half, (batch, 1, width)."""
        return modulation.reshape(len(modulation), 1, -1).chunk(count, dim=-1)
