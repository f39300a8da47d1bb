"""The transformer's side of a model family.

An adapter says where a block's tensors are, how a text-side token goes through a block, and where a block can be
edited. Everything that differs between families is behind it; hooks, attention and scores are not.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from torch import Tensor, nn

from workbench.models.block_records import (
    WHOLE,
    Attention,
    BlockCall,
    BlockTensors,
    Both,
    Change,
    Concepts,
    ConceptStream,
    Projection,
    Stream,
    items_of,
)
from workbench.models.hooks import Changes, Hooks, by_name
from workbench.models.layers import Layer
from workbench.schema import ATTEND_MODES, SPACES, InputError


class TransformerAdapter(ABC):
    """Where the tensors of one family's transformer are, and how a text-side token goes through its blocks.

    Modules are always called, never read: LoRA, quantisation and offloading keep working. An adapter serves one trace
    at a time: between :meth:`begin` and the end of a pass it may keep what belongs to that pass.

    Attributes
    ----------
    transformer : nn.Module
        The unmodified diffusers model.
    layers : tuple of Layer
        All blocks by depth.
    heads, head_dim : int
        Attention heads, and the width of each.
    embedding_dim : int
        Width of the text encoder's output that concepts are given in.
    pooled_dim : int or None
        Width of the pooled text input; None for a family that has none.
    spaces, attends : tuple of str
        What can be read from its blocks, and what concepts can attend to in them.
    refines : bool
        Whether text attends to itself before it meets the image, so that a concept needs the text it is a word of.
    registers : int
        Learned tokens that the model puts before the text.
    patches : slice
        Which of the image's tokens are patches of the picture in the pass under way.
    rotates_pairs : bool
        Whether rotary embeddings are ``(cos, sin)`` (sequence, dim) of neighbouring dimensions: ``(a, b)`` becomes
        ``(a cos - b sin, b cos + a sin)`` in float32, rounded to the dtype of the vectors.
    """

    transformer: nn.Module
    layers: tuple[Layer, ...]
    heads: int
    head_dim: int
    embedding_dim: int
    pooled_dim: int | None = None
    spaces: ClassVar[tuple[str, ...]] = SPACES
    attends: ClassVar[tuple[str, ...]] = ATTEND_MODES
    refines: ClassVar[bool] = False
    registers: int = 0
    patches: slice = WHOLE
    rotates_pairs: ClassVar[bool] = False

    # --- a forward pass of the transformer ----------------------------------------------------------------------
    def given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments of the transformer's forward pass by name."""
        return by_name(self.transformer, args, kwargs)

    def begin(self, given: Mapping[str, Any]) -> None:  # noqa: B027 - a family may have nothing to keep
        """Told of the arguments of each forward pass by name, before it runs."""

    @abstractmethod
    def timesteps(self, given: Mapping[str, Any]) -> Tensor:
        """Timestep of each item, (batch,), 1000 x sigma for a flow, from the arguments of a forward pass."""

    @abstractmethod
    def grid(self, given: Mapping[str, Any]) -> tuple[int, int]:
        """Patches per column and row, from the arguments of the transformer's forward pass."""

    # --- reading ------------------------------------------------------------------------------------------------
    @abstractmethod
    def watch_start(self, hooks: Hooks, concepts: Concepts, on_start: Callable[[ConceptStream], None]) -> None:
        """Place the hooks that start the concept stream of each forward pass.

        Parameters
        ----------
        hooks : Hooks
            Where to place them.
        concepts : Concepts
            What the stream begins with.
        on_start : callable
            Receives the stream before the first block.
        """

    @abstractmethod
    def watch_block(
        self, hooks: Hooks, layer: Layer, needs: Collection[str], on_block: Callable[[BlockTensors], None]
    ) -> None:
        """Place the hooks of one block.

        Parameters
        ----------
        hooks : Hooks
            Where to place them.
        layer : Layer
            The block.
        needs : collection of str
            Which of ``query``, ``key``, ``value``, ``prompt_query``, ``prompt_key``, ``text_bias`` to deliver; the
            others are None.
        on_block : callable
            Receives the tensors once the block's attention is computed, while the block's weights are in place.
        """

    def structure(self) -> Any:
        """What, beside the modules themselves, decides where hooks go; a trace refuses passes once it has changed."""
        return ()

    # --- the concept stream -------------------------------------------------------------------------------------
    @abstractmethod
    def project(self, layer: Layer, stream: ConceptStream, call: BlockCall) -> Projection:
        """Take concept tokens to the block's attention: modulation, projections, norms; no position embedding."""

    @abstractmethod
    def advance(
        self, layer: Layer, stream: ConceptStream, call: BlockCall, projection: Projection, attended: Tensor
    ) -> ConceptStream:
        """Take concept tokens from the attention output (batch, head, concept, dim) to the end of the block."""

    @abstractmethod
    def rotate(self, vectors: Tensor, rotary: Any) -> Tensor:
        """Apply the family's position embedding to queries or keys (batch, head, sequence, dim)."""

    def rotary_at(self, rotary: Any, positions: tuple[int, ...]) -> Any:
        """Position embeddings of some positions of the text, from those of all of it: (sequence, …) tables."""
        if isinstance(rotary, tuple | list):
            return tuple(self.rotary_at(part, positions) for part in rotary)
        return None if rotary is None else rotary[list(positions)]

    def placed(self, stream: ConceptStream, call: BlockCall, places: tuple[int, ...], items: slice) -> ConceptStream:
        """The stream with the position embedding and mask that concepts have at places of the model's own text.

        Parameters
        ----------
        stream : ConceptStream
            Of some items of the batch.
        call : BlockCall
            Of a block, with position embeddings of the same items.
        places : tuple of int
            Of the concepts.
        items : slice
            The items.

        Raises
        ------
        InputError
            If a place is outside the text.
        """
        if max(places) >= call.text:
            raise InputError(f"position {max(places)} is outside the text's {call.text} tokens.")
        bias = items_of(self.own_bias(call, places), items)
        return replace(stream, rotary=self.rotary_at(call.text_rotary, places), bias=bias)

    def own_bias(self, call: BlockCall, places: tuple[int, ...]) -> Tensor | None:
        """What a block's mask adds to the logits of text tokens over each other; see :class:`ConceptStream`."""
        return None

    def scale(self, call: BlockCall) -> float:
        """What the model multiplies attention logits with."""
        return 1 / math.sqrt(self.head_dim)

    # --- edits: callbacks are called in the order of placing, each with what the one before it made -------------
    @abstractmethod
    def change_text(self, changes: Changes, layer: Layer, change: Change) -> None:
        """Edit the prompt's tokens (batch, token, width) where they enter the attention, after modulation."""

    @abstractmethod
    def change_attention(self, changes: Changes, layer: Layer, change: Callable[[Attention], Tensor | None]) -> None:
        """Edit the attention output of the image (batch, head, patch, dim)."""

    @abstractmethod
    def change_heads(self, changes: Changes, layer: Layer, stream: Stream, change: Change) -> None:
        """Edit the attention output (batch, head, token, dim) of image or text, before the output projection."""

    @abstractmethod
    def change_block(self, changes: Changes, layer: Layer, change: Callable[[Both, Both], Both | None]) -> None:
        """Edit what a block gives; ``change`` gets what went in and what came out."""

    def block(self, layer: Layer) -> nn.Module:
        """Return the module of a layer."""
        return self.transformer.get_submodule(layer.name)

    def attention(self, layer: Layer) -> Any:
        """Return the attention module of a layer, which gets text and image after their modulation."""
        block: Any = self.block(layer)
        return block.attn
