"""AuraFlow: dual blocks, then single ones, without position embeddings, and learned registers before the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.block_records import BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks
from workbench.models.joint import JointAdapter
from workbench.models.layers import Layer, numbered
from workbench.models.taps import Tap, Taps
from workbench.schema import ModelError


class AuraFlowAdapter(JointAdapter):
    """Transformer side of AuraFlow (``AuraFlowTransformer2DModel``).

    Concepts go with registers of their own, as the prompt does: they are the model's, and no text. What a block adds is
    computed from its attention, which itself is not added. Of its 36 blocks only the first four are dual ones: where no
    layers are named all of them count, as in models of one stream.
    """

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        model: Any = transformer
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["joint_attention_dim"]
        self.registers = int(model.register_tokens.shape[1])
        self.layers = numbered(
            ("dual", "joint_transformer_blocks", config["num_mmdit_layers"]),
            ("single", "single_transformer_blocks", config["num_single_dit_layers"]),
            together=True,
        )

    def begin(self, given: Mapping[str, Any]) -> None:
        super().begin(given)
        self.text_length += self.registers
        grid, most = self.grid(given), positions_of(self.transformer)
        if max(grid) > most:
            raise ModelError(
                f"{' x '.join(map(str, grid))} patches are more than the {most} of a side that the model has positions "
                "for, and it would take others in their place: make a smaller picture."
            )

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double() * 1000

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        patch: int = self.transformer.config.patch_size  # type: ignore[union-attr, assignment]
        height, width = given["hidden_states"].shape[-2:]
        return height // patch, width // patch

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        seen: list[Tensor] = []

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            seen[:] = [output]

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                hidden = for_batch("concepts", model.context_embedder(concepts.embeddings.to(args[0])), len(output))
                registers = model.register_tokens.to(hidden).expand(len(hidden), -1, -1)
            whole = torch.cat([registers, hidden], dim=1)
            on_start(ConceptStream(whole, seen.pop(), lead=registers.shape[1]))

        hooks.after(model.time_step_proj, after_time)
        hooks.after(model.context_embedder, after_text)

    def fused(self, attention: Any) -> bool:
        # Undoing it leaves the attribute `fused_projections` as it was: only the processor says what runs.
        return "Fused" in type(attention.processor).__name__

    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        if layer.kind == "dual":
            return self.attention_taps(attention)
        return self.shared_taps(attention, Tap(attention.to_out[0], before=True))

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[None, None]:
        return None, None

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        if layer.kind == "dual":
            normed, *rest = block.norm1_context(stream.hidden, emb=stream.conditioning)
            return Projection(*self.project_text(block.attn, normed), rest)
        normed, *rest = block.norm1(stream.hidden, emb=stream.conditioning)
        return Projection(*self.project_shared(block.attn, normed), rest)

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        if layer.kind == "dual":
            out, norm, mlp = block.attn.to_add_out, block.norm2_context, block.ff_context
        else:
            out, norm, mlp = block.attn.to_out[0], block.norm2, block.ff
        gate, shift_mlp, scale_mlp, gate_mlp = (part.unsqueeze(1) for part in projection.rest)
        normed = norm(stream.hidden + gate * out(self.merge(attended, stream.hidden)))
        added = gate_mlp * mlp(normed * (1 + scale_mlp) + shift_mlp)
        return replace(stream, hidden=stream.hidden + added)


def positions_of(transformer: Any) -> int:
    """How many patches of a side have positions."""
    return math.isqrt(transformer.config.pos_embed_max_size)
