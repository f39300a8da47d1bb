"""The arguments of a pass: which items its batch has, and which text each of them reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def _texts(given: Mapping[str, Any], like: Tensor) -> list[Any]:
    """Batches of embeddings as wide as a text's, among a pass's arguments."""
    found: list[Any] = []
    for value in given.values():
        if isinstance(value, Tensor) and value.ndim == 3 and value.shape[-1] == like.shape[-1]:
            found.append(value)
        elif isinstance(value, list) and all(isinstance(one, Tensor) and one.ndim == 2 for one in value):
            found += [value] if value and value[0].shape[-1] == like.shape[-1] else []
    return found


def batch_of(given: Mapping[str, Any], like: Tensor) -> int:
    """Items of the batch of a pass, which has texts as wide as this one."""
    return max(map(len, _texts(given, like)), default=0)


def reads(given: Mapping[str, Any], item: int, text: Tensor) -> bool:
    """Whether an item of a pass is given the beginning of a text."""
    for batch in _texts(given, text):
        tokens = min(len(batch[item]), len(text))
        if torch.equal(batch[item][:tokens].to(text), text[:tokens]):
            return True
    return False


def item_of(given: Mapping[str, Any], item: int, like: Tensor) -> dict[str, Any]:
    """The arguments of one item of a batch."""
    batch = batch_of(given, like)
    if batch == 1:
        return dict(given)
    return {
        name: value[item : item + 1] if isinstance(value, Tensor | list) and len(value) == batch else value
        for name, value in given.items()
    }
