"""FLUX.1's blocks, as several families have them: text and image apart at first, then as one sequence, text before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from workbench.models.block_records import BlockCall, Concepts, ConceptStream, Projection, for_batch
from workbench.models.hooks import Hooks
from workbench.models.layers import Layer, numbered
from workbench.models.reference_images import ReferenceAdapter
from workbench.models.taps import Tap, Taps


class FluxLikeAdapter(ReferenceAdapter):
    """A transformer of dual-stream blocks, then single-stream blocks, with FLUX.1's names.

    Attributes
    ----------
    text_width : str
        Entry of the configuration that is the width of text embeddings.
    timer : str
        Name of the module whose output modulates the blocks.
    concept_position : int or None
        Position of a concept in the text that it is on its own, where nothing else is said; None where text has none,
        and its rotary embedding is the identity.
    """

    rotates_pairs = True
    text_width: ClassVar[str] = "joint_attention_dim"
    timer: ClassVar[str]
    concept_position: ClassVar[int | None] = None

    def __init__(self, transformer: nn.Module) -> None:
        config: Mapping[str, Any] = transformer.config  # type: ignore[assignment]
        self.transformer = transformer
        self.heads = config["num_attention_heads"]
        self.head_dim = config["attention_head_dim"]
        self.embedding_dim = config[self.text_width]
        self.layers = numbered(
            ("dual", "transformer_blocks", config["num_layers"]),
            ("single", "single_transformer_blocks", config["num_single_layers"]),
        )

    # --- what families differ in --------------------------------------------------------------------------------
    def conditioning(self, concepts: Concepts, args: tuple[Any, ...], output: Tensor) -> Tensor:
        """What concepts are modulated with, from what the timer was given and what it gave."""
        return output

    def modulation(self, layer: Layer, stream: ConceptStream) -> Tensor:
        """The part of it that a block takes for text."""
        conditioning: Tensor = stream.conditioning
        return conditioning

    def embed(self, embeddings: Tensor) -> Tensor:
        """Text embeddings (batch, token, embedding_dim) as hidden states, as the model makes them of its own text."""
        model: Any = self.transformer
        hidden: Tensor = model.context_embedder(embeddings)
        return hidden

    def mlp(self, block: Any, normed: Tensor) -> Tensor:
        """The MLP's part of a single-stream block, before the projection that it shares with attention."""
        activated: Tensor = block.act_mlp(block.proj_mlp(normed))
        return activated

    # --- a pass -------------------------------------------------------------------------------------------------
    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        timestep: Tensor = given["timestep"]
        return timestep.double() * 1000

    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        model: Any = self.transformer
        conditioning: list[Tensor] = []

        def after_time(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                conditioning[:] = [self.conditioning(concepts, args, output)]

        def after_text(args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> None:
            with hooks.silenced():
                hidden = self.embed(concepts.embeddings.to(args[0]))
                rotary = self._own_rotary(concepts, output.device)
            on_start(ConceptStream(for_batch("concepts", hidden, len(output)), conditioning.pop(), rotary))

        hooks.after(getattr(model, self.timer), after_time)
        hooks.after(model.context_embedder, after_text)

    def _own_rotary(self, concepts: Concepts, device: torch.device) -> Any:
        """Position embeddings of concepts that are texts of their own."""
        if self.concept_position is None:
            return None
        model: Any = self.transformer
        places = concepts.own_positions or (self.concept_position,) * concepts.embeddings.shape[1]
        # Text tokens lie on the diagonal of the image's rows and columns.
        along = torch.tensor(places, dtype=torch.float32, device=device)
        return model.pos_embed(torch.stack([torch.zeros_like(along), along, along], dim=1))

    # --- a block ------------------------------------------------------------------------------------------------
    def taps(self, layer: Layer) -> Taps:
        attention = self.attention(layer)
        if layer.kind == "dual":
            return self.attention_taps(attention)
        return Taps(
            query=Tap(attention.norm_q, by_head=True),
            key=Tap(attention.norm_k, by_head=True),
            value=self.projected(attention, "to_v", "to_qkv", 2),
            output=Tap(attention),
        )

    def rotary(self, given: Mapping[str, Any], text: int) -> tuple[Any, Any]:
        cos, sin = given["image_rotary_emb"]
        return (cos[text:], sin[text:]), (cos[:text], sin[:text])

    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        block: Any = self.block(layer)
        modulation = self.modulation(layer, stream)
        if layer.kind == "dual":
            normed, *rest = block.norm1_context(stream.hidden, emb=modulation)
            return Projection(*self.project_text(block.attn, normed), rest)
        normed, gate = block.norm(stream.hidden, emb=modulation)
        return Projection(*self.project_shared(block.attn, normed), (normed, gate))

    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        block: Any = self.block(layer)
        hidden = stream.hidden
        if layer.kind == "dual":
            hidden = self.finish_text(block, hidden, attended, projection.rest)
        else:
            normed, gate = projection.rest
            both = torch.cat([self.merge(attended, hidden), self.mlp(block, normed)], dim=2)
            hidden = hidden + gate.unsqueeze(1) * block.proj_out(both)
        if hidden.dtype == torch.float16:
            # As the model's own blocks do with text tokens.
            hidden = hidden.clip(-65504, 65504)
        return replace(stream, hidden=hidden)
