"""The concept step of a 16-bit model on a CUDA device: a few kernels that read each image tensor once.

Keys, values and outputs are multiplied as the model rounded them, and everything else is float32, as in the general
path of :mod:`workbench.recording.block_reading`, which widens, rotates and writes whole image tensors first. They need
Triton, which PyTorch brings along on Linux, and a C compiler; without them the general path is taken.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from typing import Any, Final, NamedTuple, TypeVar

import torch
from torch import Tensor

log = logging.getLogger(__name__)

MOST_CONCEPTS: Final = 64
"""Above it, matrix products are faster than reading each image tensor once."""
_DIMS: Final = (16, 32, 64, 128, 256)
_BLOCK: Final = 64
"""Patches that one program handles."""
_ATTENTION_WARPS: Final = 4
_SCORES_WARPS: Final = 8
"""Warps of a program, of 4 and 8 (blocks of 32, 64 and 128 patches) the fastest on an H200."""
_GROUP: Final = 16
"""Concepts that tensor cores take at a time."""
_STEP: Final = 32
"""Blocks that are joined at a time."""
_LENGTH: Final = 1024
"""Scores of a head that one program reduces."""
_HALVES: Final = (torch.bfloat16, torch.float16)

_Result = TypeVar("_Result")
_zeros: dict[tuple[torch.device, int], list[tuple[Tensor, Tensor]]] = {}
_proven: dict[torch.device, bool] = {}
"""Devices on which the kernels have run, or could not be built."""


class Attended(NamedTuple):
    """What concepts got from a block.

    Attributes
    ----------
    output : Tensor (batch, head, concept, dim)
        Of concept attention, float32.
    logits : Tensor (batch, head, concept, patch)
        Over the image.
    magnitude : Tensor ()
        The largest of the logits without their signs; NaN if one is.
    lse : Tensor (2, batch, head, concept)
        Log-sum-exps of the logits over the image, then over concepts.
    """

    output: Tensor
    logits: Tensor
    magnitude: Tensor
    lse: Tensor


def fits(
    concepts: Sequence[Tensor], images: Sequence[Tensor | None] = (), table: tuple[Tensor, Tensor] | None = None
) -> bool:
    """Whether the kernels can take what concepts and image have in a block.

    Parameters
    ----------
    concepts : sequence of Tensor (batch, head, concept, dim)
        Such as their queries.
    images : sequence of Tensor (batch, head, patch, dim) or None
        Keys, values or outputs.
    table : tuple of Tensor (patch, dim), optional
        Cosines and sines of the rotary embedding.
    """
    first = concepts[0]
    device, dim = first.device, first.shape[-1]
    if device.type != "cuda" or torch.version.hip is not None or not _proven.get(device, True) or dim not in _DIMS:
        return False
    if any(each.size(2) > MOST_CONCEPTS for each in concepts):
        return False
    given = [image for image in images if image is not None]
    if any(image.dtype not in _HALVES or image.dtype != given[0].dtype for image in given):
        return False
    if table is not None and (
        table[0].dtype != torch.float32 or table[1].dtype != torch.float32 or table[0].stride() != table[1].stride()
    ):
        return False
    tensors = (*concepts, *given, *(table or ()))
    return all(each.stride(-1) == 1 and each.size(-1) == dim and each.device == device for each in tensors)


def attend(
    query: Tensor,
    own_key: Tensor,
    own_value: Tensor,
    key: Tensor,
    value: Tensor,
    table: tuple[Tensor, Tensor],
    scale: float,
    *,
    with_own: bool,
) -> Attended | None:
    """Let concepts attend to the image, and to each other as well if ``with_own``.

    Parameters
    ----------
    query, own_key, own_value : Tensor (batch, head, concept, dim)
        Of the concepts.
    key, value : Tensor (batch, head, patch, dim)
        Of the image, 16 bits; keys before the rotary embedding.
    table : tuple of Tensor (patch, dim)
        Cosines and sines of the rotary embedding of neighbouring dimensions.
    scale : float
        What queries are multiplied with.
    with_own : bool
        Whether concepts see each other.

    Returns
    -------
    Attended or None
        None where the kernels cannot be built.
    """
    batch, heads, concepts, dim = query.shape
    patches = key.shape[2]
    blocks = -(-patches // _BLOCK)
    cos, sin = table

    def run(kernels: Any) -> Attended:
        new = partial(torch.empty, device=query.device, dtype=torch.float32)
        logits = new(batch, heads, concepts, patches)
        parts = new(batch * heads * concepts * blocks * (dim + 2))
        joined = new(batch, concepts, heads, dim)
        lse = new(2, batch, heads, concepts)
        bits, magnitude = _zero(query.device)
        kernels.attention_kernel[blocks, heads, batch](
            *(query, key, value, cos, sin, logits, bits, parts, scale, concepts, patches),
            *(*query.stride()[:3], *key.stride()[:3], *value.stride()[:3], cos.stride(0)),
            BLOCK=_BLOCK,
            DIM=dim,
            GROUP=_GROUP,
            num_warps=_ATTENTION_WARPS,
            enable_fp_fusion=False,  # the model rounds products before it adds them
        )
        kernels.joining_kernel[concepts, heads, batch](
            *(query, own_key, own_value, parts, joined, lse, scale, concepts, blocks),
            *(*query.stride()[:3], *own_key.stride()[:3], *own_value.stride()[:3]),
            OWN=with_own,
            CONCEPTS=_power(concepts),
            BLOCKS=_power(blocks),
            STEP=_STEP,
            DIM=dim,
        )
        return Attended(joined.transpose(1, 2), logits, magnitude, lse)

    return _on(query.device, run)


def scores(
    vectors: Tensor, image: Tensor, scale: float = 1.0, table: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor] | None:
    """Inner products of concepts and image, head by head.

    Parameters
    ----------
    vectors : Tensor (batch, head, concept, dim)
        Of the concepts.
    image : Tensor (batch, head, patch, dim)
        16 bits.
    scale : float
        What the concepts' vectors are multiplied with.
    table : tuple of Tensor (patch, dim), optional
        Cosines and sines of a rotary embedding that the image gets first.

    Returns
    -------
    tuple of Tensor (batch, head, concept, patch) and Tensor (), or None
        The scores, and the largest of them without their signs, NaN if one is; None where kernels cannot be built.
    """
    batch, heads, concepts, dim = vectors.shape
    patches = image.shape[2]
    cos, sin = table or (image, image)

    def run(kernels: Any) -> tuple[Tensor, Tensor]:
        found = torch.empty(batch, heads, concepts, patches, device=vectors.device, dtype=torch.float32)
        bits, magnitude = _zero(vectors.device)
        kernels.scores_kernel[-(-patches // _BLOCK), heads, batch](
            *(vectors, image, cos, sin, found, bits, scale, concepts, patches),
            *(*vectors.stride()[:3], *image.stride()[:3], cos.stride(0)),
            ROTARY=table is not None,
            BLOCK=_BLOCK,
            DIM=dim,
            num_warps=_SCORES_WARPS,
            enable_fp_fusion=False,  # the model rounds products before it adds them
        )
        return found, magnitude

    return _on(vectors.device, run)


def reduce(values: Tensor, magnitude: Tensor, half: Tensor, rest: Tensor, summed: Tensor, most: Tensor) -> bool:
    """Split scores (head, concept, patch) as stored, sum them over heads, and keep their magnitude, in given tensors.

    ``half`` and ``rest`` are what :func:`workbench.store.residuals.split` gives, bit for bit.

    Returns
    -------
    bool
        Whether it was done; it is not where the kernels cannot be built.
    """
    if values.device.type != "cuda" or torch.version.hip is not None or not values.is_contiguous():
        return False
    length = math.prod(values.shape[1:])

    def run(kernels: Any) -> bool:
        grid = (-(-length // _LENGTH),)
        kernels.reducing_kernel[grid](values, magnitude, half, rest, summed, most, len(values), length, BLOCK=_LENGTH)
        return True

    return bool(_on(values.device, run))


def _zero(device: torch.device) -> tuple[Tensor, Tensor]:
    """A zero that only work on the current stream writes, as int32 and as float32; many are made at a time."""
    stream = torch.cuda.current_stream(device).cuda_stream
    free = _zeros.setdefault((device, stream), [])
    if not free:
        with torch.inference_mode(False):
            bits = torch.zeros(256, device=device, dtype=torch.int32)
            free.extend(zip(bits.unbind(), bits.view(torch.float32).unbind(), strict=True))
    return free.pop()


def _power(number: int) -> int:
    """The next power of two."""
    return 1 << (number - 1).bit_length()


@cache
def _kernels() -> Any:
    return import_module("workbench.recording.kernels")


def _on(device: torch.device, run: Callable[[Any], _Result]) -> _Result | None:
    """Run kernels on a device; None where they cannot be built, which the first time shows."""
    if not _proven.get(device, True):
        return None
    with torch.cuda.device(device):
        if device in _proven:
            return run(_kernels())
        try:
            result = run(_kernels())
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # no Triton, no compiler, a GPU too old for it
            log.warning("concepts are followed without fused kernels, which takes longer, on %s: %s", device, error)
            _proven[device] = False
            return None
        _proven[device] = True
        return result
