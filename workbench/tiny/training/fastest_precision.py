"""In which precision a device trains fastest."""

from __future__ import annotations

import time
from functools import cache

import torch

_SHAPE = (7000, 128, 512)
"""Rows, inner and outer width of a product as the blocks' projections have it."""
_ROUNDS = 5


@cache
def quickest(device: str) -> torch.dtype:
    """bfloat16 on a CPU that multiplies matrices faster in it than in float32, else float32.

    Measured once: some have instructions for bfloat16 and are slower with it all the same. A GPU is through with this
    model's products sooner than with starting them, so there nothing is gained by less precision.

    Parameters
    ----------
    device
        Torch device.
    """
    if torch.device(device).type != "cpu":
        return torch.float32
    seconds = {dtype: _seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return min(seconds, key=lambda dtype: seconds[dtype])


def _seconds(dtype: torch.dtype) -> float:
    """The quickest of a few products."""
    rows, inner, outer = _SHAPE
    left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(inner, outer, dtype=dtype)
    found = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        left @ right
        found.append(time.perf_counter() - start)
    return min(found)


def mixed(device: str) -> torch.autocast:
    """A context in which products are in bfloat16 where that is :func:`quickest`, and nothing changes elsewhere."""
    enabled = quickest(device) == torch.bfloat16
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=enabled)
