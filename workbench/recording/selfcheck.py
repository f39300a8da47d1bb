"""What an adapter says of a model, compared with what the model does, the first time that model is met.

Every map rests on an adapter's word for where queries, keys, values and outputs are, how they are rotated, scaled and
masked, and in which order text and image come. A model of a known class that does something else, because a library
has changed, an attention processor was replaced or a configuration was never tried, would give maps that look right.
So attention is computed again from what was captured, for a few patches of one block of each kind, and compared with
the output that the model made itself.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from workbench.models.block_records import Attention
from workbench.models.hooks import Looks
from workbench.models.layers import Layer
from workbench.models.tested import untested, warn_of_untested
from workbench.models.transformer import TransformerAdapter
from workbench.schema import ModelError

PATCHES: Final = 8
"""How many patches are compared, evenly over the picture."""
TOLERANCE: Final = {torch.float32: 1e-2, torch.float64: 1e-2}
"""Largest difference of the outputs, relative to the model's own, in the mean over what is compared."""
_ROUNDED: Final = 0.1
"""The same of 16-bit models, whose kernels may round what is in between."""

_passed: WeakKeyDictionary[nn.Module, set[Any]] = WeakKeyDictionary()
"""Blocks of models that have passed, with what they were made of then."""


class SelfCheck:
    """The check of one trace; it does nothing for a model that has passed before.

    Parameters
    ----------
    adapter : TransformerAdapter
        Of the model.
    layers : tuple of Layer
        Blocks that run; the first of each kind is checked.
    """

    def __init__(self, adapter: TransformerAdapter, layers: tuple[Layer, ...]) -> None:
        self._adapter = adapter
        self._layers = [next(layer for layer in layers if layer.kind == kind) for kind in _kinds(layers)]
        self._hooks = Looks()
        self._found: dict[Layer, _Found] = {}

    def place(self) -> None:
        """Place the hooks, before those of edits: what they see is the model's own."""
        passed = _passed.get(self._adapter.transformer, ())
        self._layers = [layer for layer in self._layers if self._mark(layer) not in passed]
        for layer in self._layers:
            self._adapter.change_attention(self._hooks, layer, partial(self._look, layer))

    def begin(self) -> None:
        """A recorded pass begins."""
        self._found.clear()
        self._hooks.active = True

    def rest(self) -> None:
        """A pass begins that may not be recorded."""
        self._hooks.active = False

    def silenced(self) -> AbstractContextManager[None]:
        """Let concepts go through the model's modules, which are then no part of its own attention."""
        return self._hooks.silenced()

    def remove(self) -> None:
        """Leave the model as it was."""
        self._hooks.remove()
        self._found.clear()

    def finish(self) -> None:
        """A recorded pass is over: judge it, and do not look again where all is well.

        Raises
        ------
        ModelError
            If attention differs.

        Warns
        -----
        WorkbenchWarning
            Once in a process, if it does not, and diffusers is of a version that was not tested.
        """
        self.rest()
        for layer, found in self._found.items():
            off = float(found.difference)
            if not off <= TOLERANCE.get(found.dtype, _ROUNDED):
                raise ModelError(self._told(layer, off, found))
            _passed.setdefault(self._adapter.transformer, set()).add(self._mark(layer))
        if self._found:
            warn_of_untested()
        if self._layers and len(self._found) == len(self._layers):
            self.remove()

    def _look(self, layer: Layer, attention: Attention) -> None:
        count, output = attention.output.shape[2], attention.output
        rows = sorted({round(place * (count - 1) / (PATCHES - 1)) for place in range(PATCHES)})
        with torch.autocast(output.device.type, enabled=False):
            try:
                rebuilt = attended(attention, rows)
            except ModelError:  # a mask that says something else to each patch
                return
            made = output[:, :, rows].float()
            difference = (rebuilt - made).norm() / made.norm().clamp(min=1e-30)
        self._found[layer] = _Found(difference, output.dtype, tuple(output.shape), attention.text_key.shape[2])

    def _mark(self, layer: Layer) -> Any:
        return self._adapter.structure(), layer, self._processor(layer)

    def _processor(self, layer: Layer) -> str:
        attention = self._adapter.attention(layer)
        return type(getattr(attention, "processor", attention)).__name__

    def _told(self, layer: Layer, off: float, found: _Found) -> str:
        _, heads, patches, dim = found.shape
        return (
            f"the attention of {layer.name} that follows from its queries, keys and values ({heads} heads of {dim}, "
            f"{patches} patches, {found.text} text tokens; {type(self._adapter).__name__}) differs from the one that "
            f"{type(self._adapter.transformer).__name__} computed, by {off:.1%}: maps would be wrong. Likely causes: "
            f"its {self._processor(layer)} does something else than attend, which set_attn_processor puts right; an "
            f"attention backend that rounds a lot; or {untested() or 'a class of a family whose models differ'}."
        )


class _Found(NamedTuple):
    """How far the attention of one block is off, relative to the model's own, and of what it was."""

    difference: Tensor
    dtype: torch.dtype
    shape: tuple[int, ...]
    text: int


def attended(attention: Attention, rows: list[int]) -> Tensor:
    """Attention output (batch, head, row, dim) of some patches, in float32, from queries, keys and values.

    Parameters
    ----------
    attention : Attention
        Of one block.
    rows : list of int
        Which of the image's tokens.
    """
    query = attention.query[:, :, rows].float()
    keys = torch.cat([attention.text_key, attention.key], dim=2).float()
    values = torch.cat([attention.text_value, attention.value], dim=2).float()
    logits = query @ keys.transpose(-1, -2) * attention.scale
    if attention.text_bias is not None:
        logits[..., : attention.text_key.shape[2]] += attention.text_bias
    attended: Tensor = logits.softmax(dim=-1) @ values
    return attended


def _kinds(layers: tuple[Layer, ...]) -> list[str]:
    return list(dict.fromkeys(layer.kind for layer in layers))
