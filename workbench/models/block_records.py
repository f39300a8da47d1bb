"""Small records that pass between a transformer's adapter and recording, and items of the batch of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, Self, TypeAlias

import torch
from accelerate.utils import send_to_device
from torch import Tensor

from workbench.schema import InputError

Stream = Literal["image", "text"]
Both: TypeAlias = dict[Stream, Tensor]
"""Tokens (batch, token, width) of image and text."""
Change: TypeAlias = Callable[[Tensor], Tensor | None]
"""Gives the edited tensor, or None to leave it; never writes into the one it is given."""
WHOLE = slice(None)


@dataclass(frozen=True)
class ConceptText:
    """The whole text that a concept is a word of, for families whose text attends to itself before its blocks.

    Attributes
    ----------
    embeddings : Tensor (batch or 1, token, embedding_dim)
        Of the tokens that are seen, template included, before the model's own text embedder.
    tokens : tuple of int
        Which of them stand for the concept: their mean is taken behind the embedder.
    first : int
        Position of the first token in the model's text.
    """

    embeddings: Tensor
    tokens: tuple[int, ...]
    first: int = 0


@dataclass(frozen=True)
class Concepts:
    """What the concept stream of each forward pass begins with.

    Attributes
    ----------
    embeddings : Tensor (batch or 1, concept, embedding_dim)
        Before the model's own text embedder.
    pooled : Tensor (batch or 1, pooled_dim) or None
        Pooled text that concepts are conditioned on; None for the family's convention.
    positions : tuple of int or None
        Positions in the model's text sequence, one for each concept: the concepts then are one text at those positions.
        None where each is a text of its own.
    own_positions : tuple of int or None
        Position of each in the text that it is on its own; None for the family's position of a concept.
    texts : tuple of ConceptText or None
        Those texts, for a family that refines them; None where each is a text of one token there.
    """

    embeddings: Tensor
    pooled: Tensor | None = None
    positions: tuple[int, ...] | None = None
    own_positions: tuple[int, ...] | None = None
    texts: tuple[ConceptText, ...] | None = None


@dataclass(frozen=True)
class BlockCall:
    """What a block was called with in the pass under way.

    Attributes
    ----------
    given : mapping of str to Any
        The block's arguments by name.
    text : int
        Text tokens in the joint sequence.
    temb : Any
        The timestep embedding, as the block got it.
    mask : Tensor or None
        Attention mask, as the block got it.
    rotary, text_rotary : Any
        Position embeddings of the image's and of the text's tokens, for :meth:`TransformerAdapter.rotate`.
    by_item : bool
        Whether position embeddings have the batch as their first axis.
    """

    given: Mapping[str, Any]
    text: int
    temb: Any = None
    mask: Tensor | None = None
    rotary: Any = None
    text_rotary: Any = None
    by_item: bool = False

    def of(self, items: slice) -> Self:
        """The same with position embeddings of some items of the batch."""
        if not self.by_item:
            return self
        return replace(self, rotary=items_of(self.rotary, items), text_rotary=items_of(self.text_rotary, items))


def items_of(value: Any, items: slice) -> Any:
    """Some items of the batch of every tensor in nested tuples."""
    if isinstance(value, Tensor):
        return value[items] if len(value) > 1 else value
    return tuple(items_of(part, items) for part in value) if isinstance(value, tuple | list) else value


@dataclass(frozen=True)
class BlockTensors:
    """What the model itself computed in one block; only the tensors that were asked for are present.

    Attributes
    ----------
    call : BlockCall
        What the block was called with.
    output : Tensor (batch, head, patch, dim)
        Attention output of the image's tokens, before the output projection.
    query, key, value : Tensor (batch, head, patch, dim)
        Of the image's tokens; queries and keys normalised, before the rotary embedding.
    prompt_query, prompt_key : Tensor (batch, head, token, dim)
        Normalised queries and keys of the prompt, before the rotary embedding.
    patches : slice
        Which of the image's tokens are patches of the picture: some families pad them, or append a reference.
    text_bias : Tensor (batch or 1, 1, 1, token) or None
        What the model adds to the logits of the image over each token of the text, relative to those over the image:
        minus infinity where a token is masked. None where all of them are seen alike.
    """

    call: BlockCall
    output: Tensor
    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    prompt_query: Tensor | None = None
    prompt_key: Tensor | None = None
    patches: slice = field(default_factory=lambda: WHOLE)
    text_bias: Tensor | None = None

    def of(self, items: slice) -> Self:
        """The same of some items of the batch."""
        batched = ("output", "query", "key", "value", "prompt_query", "prompt_key", "text_bias")
        if items == WHOLE:
            return self
        parts = {name: items_of(getattr(self, name), items) for name in batched}
        return replace(self, call=self.call.of(items), **parts)


@dataclass(frozen=True)
class ConceptStream:
    """The concept tokens between two blocks.

    Attributes
    ----------
    hidden : Tensor (batch, concept, width)
        Hidden states.
    conditioning : Any
        What the family modulates text tokens with (FLUX.1: the timestep embedding of a zero pooled text).
    rotary : Any
        Position embedding of the concepts, for :meth:`TransformerAdapter.rotate`; None where it is the identity.
    lead : int
        Tokens before the concepts that go with them without being one, such as registers.
    bias : Tensor (batch or 1, 1, concept or 1, concept) or None
        What is added to the concepts' logits over each other, relative to those over the image, where they are one text
        that the model masks.
    """

    hidden: Tensor
    conditioning: Any
    rotary: Any = None
    lead: int = 0
    bias: Tensor | None = None

    def of(self, items: slice) -> Self:
        """The same of some items of the batch."""
        if items == WHOLE:
            return self
        return replace(self, hidden=self.hidden[items], conditioning=items_of(self.conditioning, items))

    def to(self, device: torch.device) -> Self:
        """The stream on a device, for a model whose blocks are on several."""
        if self.hidden.device == device:
            return self
        hidden, conditioning, rotary = send_to_device((self.hidden, self.conditioning, self.rotary), device)
        return replace(self, hidden=hidden, conditioning=conditioning, rotary=rotary)


@dataclass(frozen=True)
class Projection:
    """Concept tokens inside a block, ready for attention.

    Attributes
    ----------
    query, key, value : Tensor (batch, head, concept, dim)
        With the family's norms, before the position embedding.
    rest : Any
        What :meth:`TransformerAdapter.advance` needs to finish the block.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    rest: Any


@dataclass(frozen=True)
class Attention:
    """What the image attends with in one block, after norms and position embedding.

    Attributes
    ----------
    query, key, value : Tensor (batch, head, patch, dim)
        Of the image's tokens.
    text_key, text_value : Tensor (batch, head, token, dim)
        Of the prompt.
    output : Tensor (batch, head, patch, dim)
        The model's own attention output of the image's tokens, before the output projection.
    scale : float
        What logits are multiplied with.
    bias : callable
        Gives ``text_bias``, or refuses a mask that has none; most callers never ask.
    patches : slice
        As in :class:`BlockTensors`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    text_key: Tensor
    text_value: Tensor
    output: Tensor
    scale: float
    bias: Callable[[], Tensor | None] = lambda: None
    patches: slice = field(default_factory=lambda: WHOLE)

    @cached_property
    def text_bias(self) -> Tensor | None:
        """As in :class:`BlockTensors`."""
        return self.bias()

    def of(self, items: slice) -> Self:
        """The same of some items of the batch."""
        if items == WHOLE:
            return self
        batched = ("query", "key", "value", "text_key", "text_value", "output")
        parts = {name: items_of(getattr(self, name), items) for name in batched}
        return replace(self, bias=lambda: items_of(self.text_bias, items), **parts)


def for_batch(name: str, given: Tensor, batch: int) -> Tensor:
    """Expand a tensor of batch 1 to the batch of the forward pass, as a view.

    Raises
    ------
    InputError
        If its batch is neither 1 nor that of the forward pass.
    """
    if len(given) not in (1, batch):
        raise InputError(
            f"{name} has batch {len(given)} but the forward pass has batch {batch}: give batch 1 or {batch}."
        )
    return given.expand(batch, *given.shape[1:])


def replace_rows(tokens: Tensor, rows: slice, new: Tensor) -> Tensor:
    """A copy of (batch, token, width) with some of its tokens replaced."""
    if rows == WHOLE:
        return new
    copy = tokens.clone()
    copy[:, rows] = new
    return copy
