"""What is stored of a piece: its scores in float16 with the rest, their sums over heads, and whether float16 fits.

All of it is a few tensor operations that run wherever the scores are: on a GPU before the copy, which is then a
quarter shorter, or on the host. On the CPU both give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from workbench.recording import fused
from workbench.recording.block_reading import Record
from workbench.recording.checks import magnitude, not_finite
from workbench.schema import TraceError, residual, total
from workbench.store.residuals import split

HALF_LIMIT: Final = 65520.0
"""What does not stay below this rounds to infinity in float16."""
_ALIGNMENT: Final = 256
_HALF: Final = " float16"
_MAGNITUDE: Final = " magnitude"


class _Field(NamedTuple):
    shape: tuple[int, ...]
    dtype: torch.dtype
    start: int

    @property
    def end(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.itemsize


class Layout:
    """Where the reduced tensors of a piece are in one buffer of bytes, so that one copy moves all of them.

    Parameters
    ----------
    piece : Record
        Batch 1; every piece of a run has the same layout.
    """

    def __init__(self, piece: Record) -> None:
        self._fields: dict[str, _Field] = {}
        for name, scores in piece.scores.items():
            shape = tuple(scores.shape[1:])
            self._add(name + _HALF, shape, torch.float16)
            self._add(residual(name), shape, torch.int8)
            self._add(total(name), shape[1:], torch.float32)
            self._add(name + _MAGNITUDE, (), torch.float32)
        for name, values in (*piece.lse.items(), *piece.mass.items()):
            self._add(name, tuple(values.shape[1:]), torch.float32)

    @property
    def size(self) -> int:
        """Bytes of a buffer."""
        return max((field.end for field in self._fields.values()), default=0)

    def views(self, buffer: Tensor) -> dict[str, Tensor]:
        """The tensors inside a buffer (byte) of at least :attr:`size`."""
        return {
            name: buffer[field.start : field.end].view(field.dtype).view(field.shape)
            for name, field in self._fields.items()
        }

    def _add(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        last = max((field.end for field in self._fields.values()), default=0)
        self._fields[name] = _Field(shape, dtype, math.ceil(last / _ALIGNMENT) * _ALIGNMENT)


def reduce_into(views: Mapping[str, Tensor], piece: Record) -> None:
    """Fill the tensors of a :class:`Layout` from a piece of batch 1 on the same device; nothing waits for the device.

    Parameters
    ----------
    views : mapping of str to Tensor
        From :meth:`Layout.views`.
    piece : Record
        Scores (batch 1, head, concept, patch), log-sum-exps (batch 1, head, concept), mass (batch 1, head, text).
    """
    for name, scores in piece.scores.items():
        half, rest = views[name + _HALF], views[residual(name)]
        summed, most = views[total(name)], views[name + _MAGNITUDE]
        known = piece.magnitudes.get(name)
        known = magnitude(scores) if known is None else known
        if not fused.reduce(scores[0], known, half, rest, summed, most):
            torch.sum(scores[0], dim=0, out=summed)
            for view, part in zip((half, rest), split(scores[0], torch), strict=True):
                view.copy_(part)
            most.copy_(known)
    for name, values in (*piece.lse.items(), *piece.mass.items()):
        views[name].copy_(values[0])


def stored_values(views: Mapping[str, Tensor], piece: Record, grid: tuple[int, int]) -> dict[str, Any]:
    """What the store takes of a piece: per-head maps (head, concept, y, x), their sums, and the rest as it is.

    Parameters
    ----------
    views : mapping of str to Tensor
        The filled tensors of a layout, on the host.
    piece : Record
        Where they came from, on any device: scores that overflow float16 are fetched from it as they are.
    grid : tuple of int
        Patches per column and row.

    Returns
    -------
    dict of str to ndarray
        ``<space>`` in float16 with its residual, or in float32 with one of zeros when a value would overflow;
        ``<space>_total``, summed over heads in float32 before anything is rounded; log-sum-exps
        and mass in float32 where there are any.

    Raises
    ------
    TraceError
        If a value is NaN or infinite.
    """
    values: dict[str, Any] = {}
    for name in piece.scores:
        fits = float(views[name + _MAGNITUDE]) < HALF_LIMIT  # not when one of them is NaN
        scores = views[name + _HALF] if fits else piece.scores[name][0].cpu()
        rest = views[residual(name)] if fits else torch.zeros_like(scores, dtype=torch.int8)
        for key, tensor in ((name, scores), (residual(name), rest), (total(name), views[total(name)])):
            array = tensor.numpy()
            values[key] = array.reshape(*array.shape[:-1], *grid)
        if not fits:
            _check_finite(values[total(name)], piece, name)
    for name in (*piece.lse, *piece.mass):
        values[name] = views[name].numpy()
        _check_finite(values[name], piece, name)
    return values


def _check_finite(values: np.ndarray[Any, Any], piece: Record, name: str) -> None:
    if not np.isfinite(values).all():
        raise TraceError(not_finite([f"layer {piece.layer} {name}"]) + ".")
