"""Where the blocks of a model family can be edited: the places that interventions reach, and hooks that reach them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from torch import Tensor, nn

from workbench.models.base import Hooks, Layer, TransformerAdapter

Stream = Literal["image", "text"]
Both: TypeAlias = dict[Stream, Tensor]
"""Tokens (batch, token, width) of image and text."""
Change: TypeAlias = Callable[[Tensor], Tensor | None]
"""Gives the edited tensor, or None to leave it; never writes into the one it is given."""


@dataclass(frozen=True)
class Attention:
    """What the image attends with in one block, after norms and position embedding.

    Attributes
    ----------
    query, key, value : Tensor (batch, head, patch, dim)
        Of the image patches.
    text_key, text_value : Tensor (batch, head, token, dim)
        Of the prompt.
    output : Tensor (batch, head, patch, dim)
        The model's own attention output of the patches, before the output projection.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    text_key: Tensor
    text_value: Tensor
    output: Tensor


class Changes(Hooks):
    """Hooks whose callbacks may replace what goes into a module or comes out of it; None leaves it as it is."""

    def change_before(
        self,
        module: nn.Module,
        callback: Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]] | None],
    ) -> None:
        """Call ``callback(args, kwargs)`` before each forward pass of a module, which then gets what it returns."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return callback(args, kwargs) if self.active else None

        self.modules.append(module)
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def change_after(
        self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any], Any], Any | None]
    ) -> None:
        """Call ``callback(args, kwargs, output)`` after each forward pass of a module, which then gives its result."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            return callback(args, kwargs, output) if self.active else None

        self.modules.append(module)
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))


class BlockSites(ABC):
    """The places of one family's transformer.

    Each method places hooks; callbacks are called in the order of placing, each with what the one before it made.

    Parameters
    ----------
    adapter : TransformerAdapter
        Of the transformer.
    """

    def __init__(self, adapter: TransformerAdapter) -> None:
        self.adapter = adapter

    @abstractmethod
    def timesteps(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """1000 x sigma of each item, (batch,), from the arguments of the transformer's forward pass."""

    @abstractmethod
    def grid(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[int, int]:
        """Patches per column and row, from the arguments of the transformer's forward pass."""

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

    def by_head(self, tokens: Tensor) -> Tensor:
        """Split (batch, token, head x dim) into (batch, head, token, dim), as a view."""
        heads = self.adapter.heads
        split: Tensor = tokens.unflatten(-1, (heads, tokens.shape[-1] // heads)).transpose(1, 2)
        return split

    @staticmethod
    def joined(heads: Tensor) -> Tensor:
        """The inverse of :meth:`by_head`."""
        joined: Tensor = heads.transpose(1, 2).flatten(2)
        return joined


def replace_rows(tokens: Tensor, rows: slice, new: Tensor) -> Tensor:
    """A copy of (batch, token, width) with some of its tokens replaced."""
    if rows == slice(None):
        return new
    copy = tokens.clone()
    copy[:, rows] = new
    return copy
