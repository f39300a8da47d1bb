"""What training leaves open: scale and origin of the values of each dual block.

Attention outputs are means of values, with weights that sum to one. A vector added to all values of a block, the
image's and the text's, is added to every output, and a bias behind the attention can take it back; a factor on the
values and its inverse behind the attention cancel as well. So one network has many sets of weights that compute the
same pictures, and their maps in the output space differ: with a vector m, each concept's map gets an offset
``<m, o_c>`` of its own, and the factor is the temperature of the softmax over concepts. No loss asks for either;
:func:`settle` chooses them with pictures and captions only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from workbench.tiny.training.bank import Bank
from workbench.tiny.training.objective import SUPERVISED, Student, Words, sample_batch

logger = logging.getLogger(__name__)

SPREAD = 1.5
"""Standard deviation of a block's scores, over patches and concepts: the softmax over concepts is soft."""
STRENGTH = 2.0
"""How far the scores of words in the picture lie above those of absent ones through the offset, in spreads."""
LEVELS = (0.3, 0.5)
"""Noise levels at which the outputs are looked at."""
_RIDGE = 1e-3


@dataclass(frozen=True)
class Heard:
    """Attention outputs of one dual block.

    Attributes
    ----------
    concepts
        (example, width) of concept tokens, all heads side by side.
    patches
        (patch, width) of some patches.
    """

    concepts: Tensor
    patches: Tensor


def shift(attention: Any, by: Tensor) -> None:
    """Add a vector (width) to every attention output of a dual block, and leave what the block computes as it is."""
    with torch.no_grad():
        for values, after in _ways(attention):
            values.bias.add_(by)
            after.bias.sub_(after.weight @ by)


def scale(attention: Any, by: float) -> None:
    """Multiply every attention output of a dual block, and leave what the block computes as it is."""
    with torch.no_grad():
        for values, after in _ways(attention):
            values.weight.mul_(by)
            values.bias.mul_(by)
            after.weight.div_(by)


def _ways(attention: Any) -> tuple[tuple[nn.Linear, nn.Linear], ...]:
    """The image's and the text's projections to values, and from outputs."""
    return (attention.to_v, attention.to_out[0]), (attention.add_v_proj, attention.to_add_out)


def direction(concepts: Tensor, present: Tensor) -> Tensor:
    """The vector (width) on which outputs lie at 1/2 for words in the picture and at -1/2 for others, on average.

    A ridge regression in which both kinds weigh the same: it also keeps words that are there at the same height.

    Parameters
    ----------
    concepts
        (example, width) attention outputs.
    present
        (example,) 1.0 where the picture's caption names the word, else 0.0.
    """
    weights = torch.where(present > 0.5, 0.5 / present.mean(), 0.5 / (1 - present.mean()))[:, None]
    targets = present[:, None] - 0.5
    centred = concepts - (weights * concepts).mean(0)
    moments = (weights * centred).T @ centred / len(centred)
    moments += _RIDGE * moments.diagonal().mean() * torch.eye(len(moments), device=moments.device)
    found: Tensor = torch.linalg.solve(moments, (weights * centred).T @ targets / len(centred))[:, 0]
    heights = concepts @ found
    gap = heights[present > 0.5].mean() - heights[present < 0.5].mean()
    return found / gap


def accuracy(heights: Tensor, present: Tensor) -> float:
    """Share of examples that lie on their side of the middle between the two kinds' means."""
    there = present > 0.5
    middle = (heights[there].mean() + heights[~there].mean()) / 2
    return float(((heights > middle) == there).float().mean())


@contextmanager
def _listening(student: Student, length: int) -> Iterator[list[tuple[list[Tensor], list[Tensor]]]]:
    """Per dual block, what goes into the projections behind the attention: of concept tokens, and of patches."""
    found: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in student.denoiser.transformer_blocks]
    handles = []
    for block, (concepts, patches) in zip(student.denoiser.transformer_blocks, found, strict=True):
        attention: Any = block.attn
        handles += [
            attention.to_add_out.register_forward_pre_hook(
                lambda _, given, to=concepts: to.append(given[0][:, length:].flatten(0, 1).float())
            ),
            attention.to_out[0].register_forward_pre_hook(
                lambda _, given, to=patches: to.append(given[0][:, ::16].flatten(0, 1).float())
            ),
        ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def listen(
    student: Student, words: Words, bank: Bank, batches: int, rows: int, seed: int
) -> tuple[list[Heard], Tensor]:
    """Attention outputs for training scenes without captions, and which of the words are there (example,)."""
    device = str(next(student.parameters()).device)
    t5_ids, clip_ids = (ids.to(device) for ids in reversed(words([""] * rows)))
    present = []
    with _listening(student, t5_ids.shape[1]) as found:
        for index in range(batches):
            batch = sample_batch(bank, words, rows, (seed, index), device)
            level = LEVELS[index % len(LEVELS)]
            student(
                replace(
                    batch,
                    t5_ids=t5_ids,
                    clip_ids=clip_ids,
                    pooled=torch.zeros_like(batch.pooled),
                    sigma=torch.full_like(batch.sigma, level),
                )
            )
            present.append(batch.present.flatten())
    return [Heard(torch.cat(concepts), torch.cat(patches)) for concepts, patches in found], torch.cat(present)


def settle(student: Student, words: Words, bank: Bank, batches: int = 30, rows: int = 24, seed: int = 1) -> None:
    """Choose scale and origin of the values of every dual block, in place.

    Scores get the standard deviation :data:`SPREAD`. In the blocks that the word losses read, the origin is such that a
    concept's offset is its height on :func:`direction`, so that words that are not in the picture score low.

    Parameters
    ----------
    student
        Trained, in evaluation mode, with uncompiled blocks.
    words, bank
        Tokenizers, and training scenes.
    batches, rows
        How many scenes are looked at.
    seed
        Seed of the choice of scenes, words and noise.
    """
    heard, present = listen(student, words, bank, batches, rows, seed)
    for depth, (block, one) in enumerate(zip(student.denoiser.transformer_blocks, heard, strict=True)):
        attention: Any = block.attn
        spread = float((one.patches[:2000] @ one.concepts[:2000].T).std())
        if depth in SUPERVISED:
            found = direction(one.concepts, present)
            shift(attention, STRENGTH * spread * found)
            right = accuracy(one.concepts @ found, present)
            logger.info("block %d: outputs tell %.1f %% of the words that are there from others", depth, 100 * right)
        scale(attention, (SPREAD / spread) ** 0.5)
