"""The arithmetic of edited attention: prompt tokens hidden or blurred, and random directions of a given size."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from workbench.interventions import BlurAttention, Intervention, MaskText
from workbench.models.block_records import Attention
from workbench.schema import InputError, TraceError

Seed: TypeAlias = str | tuple[str, ...]
"""What names a random draw."""
MOST_LOGITS: Final = 2**24
"""Logits of one block of queries: the full matrix of attention weights never exists."""


def attend_edited(attention: Attention, edits: Sequence[Intervention], grid: tuple[int, int]) -> Tensor | None:
    """Attention output of the image with prompt tokens hidden or blurred for some heads.

    Parameters
    ----------
    attention : Attention
        Of one block.
    edits : sequence of Intervention
        Each :class:`MaskText` or :class:`BlurAttention`; on one head at most one of the latter.
    grid : tuple of int
        Patches per column and row, for blurring.

    Returns
    -------
    Tensor (batch, head, patch, dim) or None
        The other heads as the model made them; None where nothing is edited.
    """
    heads, tokens = attention.query.shape[1], attention.text_key.shape[2]
    for edit in edits:
        check_tokens(edit, tokens)
    output = None
    for chosen, hidden, blurs in _groups(edits, heads, tokens):
        query, key, value, text_key, text_value = (
            tensor[:, chosen]
            for tensor in (attention.query, attention.key, attention.value, attention.text_key, attention.text_value)
        )
        kept = [token for token in range(tokens) if token not in hidden]
        text_key, text_value = text_key[:, :, kept], text_value[:, :, kept]
        keys, values = torch.cat([text_key, key], dim=2), torch.cat([text_value, value], dim=2)
        if blurs is not None:
            width, blurred = blurs
            rows = torch.tensor(
                [token in blurred for token in kept] + [False] * key.shape[2], dtype=torch.bool, device=key.device
            )
            rows = rows[:, None]
            # A key sees one half of the doubled queries, plain or blurred: blurring queries blurs logits.
            blurred_query = query.clone()
            blurred_query[:, :, attention.patches] = blur(query[:, :, attention.patches], grid, width)
            query = torch.cat([query, blurred_query], dim=-1)
            keys = torch.cat([keys.masked_fill(rows, 0), keys.masked_fill(~rows, 0)], dim=-1)
        output = attention.output.clone() if output is None else output
        bias = None
        if attention.text_bias is not None:
            over_text = attention.text_bias[..., kept]
            bias = torch.cat([over_text, over_text.new_zeros(*over_text.shape[:-1], key.shape[2])], dim=-1).to(query)
        output[:, chosen] = blocked_attention(query, keys, values, attention.scale, bias=bias).to(output.dtype)
    return output


def _groups(
    edits: Sequence[Intervention], heads: int, tokens: int
) -> list[tuple[list[int], frozenset[int], tuple[float, frozenset[int]] | None]]:
    """Heads that are treated alike: which, the tokens hidden from them, and width and tokens of their blur."""
    groups: dict[Any, list[int]] = {}
    for head in range(heads):
        hidden: set[int] = set()
        blurred: tuple[float, frozenset[int]] | None = None
        for edit in edits:
            if edit["heads"] is None or head in edit["heads"]:
                chosen = range(tokens) if edit["tokens"] is None else edit["tokens"]
                if isinstance(edit, MaskText):
                    hidden.update(chosen)
                elif isinstance(edit, BlurAttention) and edit.width and len(chosen):
                    blurred = (edit.width, frozenset(chosen))
        if hidden or blurred:
            groups.setdefault((frozenset(hidden), blurred), []).append(head)
    return [(chosen, hidden, blurred) for (hidden, blurred), chosen in groups.items()]


def blocked_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, logits: int = MOST_LOGITS, bias: Tensor | None = None
) -> Tensor:
    """Softmax attention, computed for blocks of queries.

    Parameters
    ----------
    query : Tensor (batch, head, query, dim)
    key : Tensor (batch, head, key, dim)
    value : Tensor (batch, head, key, value dim)
    scale : float
        What logits are multiplied with.
    logits : int
        How many there may be at a time; at least those of one query.
    bias : Tensor (batch or 1, 1, 1, key), optional
        What is added to the logits of each key.

    Returns
    -------
    Tensor (batch, head, query, value dim)
    """
    batch, heads, keys = key.shape[:3]
    size = max(1, logits // (batch * heads * keys))
    blocks = [
        functional.scaled_dot_product_attention(part, key, value, bias, scale=scale)
        for part in query.split(size, dim=2)
    ]
    return torch.cat(blocks, dim=2)


def blur(patches: Tensor, grid: tuple[int, int], width: float) -> Tensor:
    """Blur vectors (batch, head, patch, dim) over the picture.

    A Gaussian of standard deviation ``width`` patches, cut off at three of them; beyond the border the nearest patch
    counts.
    """
    radius = math.ceil(3 * width)
    offsets = torch.arange(-radius, radius + 1, device=patches.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / width) ** 2)
    weights = weights / weights.sum()
    values = patches.float().unflatten(2, grid)
    for dim, length in ((2, grid[0]), (3, grid[1])):
        # (to, from): the weights of one axis as a matrix, the border's gathered on its nearest patch.
        at = torch.arange(length, dtype=torch.int64, device=patches.device)
        matrix = torch.zeros(length, length, dtype=torch.float32, device=patches.device)
        for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
            matrix[at, (at + offset).clamp(0, length - 1)] += weight
        values = torch.tensordot(values, matrix, dims=([dim], [1])).movedim(-1, dim)
    blurred: Tensor = values.flatten(2, 3).to(patches.dtype)
    return blurred


def random_direction(original: Tensor, edited: Tensor, seed: Seed, matched: bool = False) -> Tensor:
    """Move vectors (..., dim) in random directions, each as far as an edit moved it.

    Parameters
    ----------
    original, edited : Tensor (..., dim)
        Before and after the edit.
    seed : str or tuple of str
        Names the direction; several name that of each vector along the last axis but one, such as that of each
        concept. Drawn on the CPU in float32, so it means the same on every device.
    matched : bool
        Whether directions have the covariance of ``original`` along the last axis but one.

    Raises
    ------
    TraceError
        If they should, and there is one vector only.
    """
    if isinstance(seed, str):
        direction = _drawn(tuple(original.shape), seed)
    else:
        shape = (*original.shape[:-2], original.shape[-1])
        direction = torch.stack([_drawn(shape, one) for one in seed], dim=-2)
    direction = direction.to(original.device)
    if matched:
        direction = _coloured(direction, original.float())
    distance = (edited.float() - original.float()).norm(dim=-1, keepdim=True)
    moved: Tensor = original.float() + distance * functional.normalize(direction, dim=-1)
    return moved.to(original.dtype)


def _coloured(white: Tensor, vectors: Tensor) -> Tensor:
    """Directions (..., vector, dim) that vary as some vectors do, from directions without a preference."""
    count = vectors.shape[-2]
    if count < 2:
        raise TraceError(
            "a random direction with the covariance of activations needs several tokens, and here is one: leave "
            "matched out."
        )
    centred = vectors - vectors.mean(dim=-2, keepdim=True)
    covariance = centred.transpose(-1, -2) @ centred / (count - 1)
    # The symmetric root: unlike others it does not depend on signs that a library chooses.
    values, axes = torch.linalg.eigh(covariance)
    root = (axes * values.clamp(min=0).sqrt()[..., None, :]) @ axes.transpose(-1, -2)
    coloured: Tensor = white @ root
    return coloured


def _drawn(shape: tuple[int, ...], seed: str) -> Tensor:
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7], "big")
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(number), dtype=torch.float32, device="cpu")


def check_tokens(edit: Intervention, length: int) -> None:
    """Refuse places outside the text, and words, which nothing here can look up.

    Raises
    ------
    InputError
        If there are any.
    """
    wrong = [token for token in edit["tokens"] or () if isinstance(token, str) or token >= length]
    if wrong:
        raise InputError(f"tokens of {edit} holds {wrong}; expected places from 0 to {length - 1} in the text.")
