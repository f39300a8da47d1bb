"""Stable Diffusion 3 and 3.5: image before text, no position embedding in the blocks, the last block without text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from workbench.models.block_records import BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks
from workbench.models.joint import JointAdapter
from workbench.models.layers import Layer, numbered
from workbench.models.taps import Taps


class SD3Adapter(JointAdapter):
    """Transformer side of SD3 (``SD3Transformer2DModel``): dual blocks only.

    Concepts are modulated as the prompt is, with its own pooled text (the public code's choice for this family, where
    FLUX.1's is zero). ``attn2`` of 3.5 medium attends over the image alone: it has no part in concept attention.
    """

    text_first = False
    heads_first = True

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config["joint_attention_dim"]
        self.pooled_dim = config["pooled_projection_dim"]
        self.layers = numbered(("dual", "transformer_blocks", config["num_layers"]))

    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double()

    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        patch: int = self.transformer.config.patch_size  # type: ignore[union-attr, assignment]
        height, width = given["hidden_states"].shape[-2:]
        return height // patch, width // patch

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        conditioning: list[Tensor] = []

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            conditioning[:] = [output]
            if concepts.pooled is not None:
                timestep, text = args
                own = for_batch("pooled", concepts.pooled.to(text), len(text))
                with hooks.silenced():
                    conditioning[:] = [model.time_text_embed(timestep, own)]

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                hidden = model.context_embedder(concepts.embeddings.to(args[0]))
            on_start(ConceptStream(for_batch("concepts", hidden, len(output)), conditioning.pop()))

        hooks.after(model.time_text_embed, after_time)
        hooks.after(model.context_embedder, after_text)

    def fused(self, attention: Any) -> bool:
        # Undoing it leaves the attribute `fused_projections` as it was: only the processor says what runs.
        return "Fused" in type(attention.processor).__name__

    def norm_of(self, attention: Any, name: str) -> nn.Module | None:
        # The fused processor leaves the norms of queries and keys out.
        return None if self.fused(attention) else super().norm_of(attention, name)

    def taps(self, layer: Layer) -> Taps:
        return self.attention_taps(self.attention(layer))

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[None, None]:
        return None, None

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        if block.context_pre_only:  # nothing behind the attention is modulated
            normed, rest = block.norm1_context(stream.hidden, stream.conditioning), []
        else:
            normed, *rest = block.norm1_context(stream.hidden, emb=stream.conditioning)
        return Projection(*self.project_text(block.attn, normed), rest)

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        return replace(stream, hidden=self.finish_text(self.block(layer), stream.hidden, attended, projection.rest))
