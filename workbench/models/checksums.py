"""Checksums over every element of a model's tensors, where they are, at about the speed of memory.

Each tensor is read as 64-bit words ``w``, in blocks of 65,536. With fixed random odd numbers ``r`` a block gives
``sum(w * r)`` and ``sum((w >> 32) * r)``, both modulo 2**64: the first differs whenever one word differs, the second
keeps changes of many words' uppermost bits (such as all signs) from cancelling. SHA-256 joins the sums of all blocks.
Integers make the result the same on every device and for every number of threads. It finds edits; it is no protection
against somebody who wants two models to look alike.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

_BLOCK: Final = 2**16
"""Words of a block: half a megabyte, which stays in a processor's cache."""
_TOGETHER: Final = 64
"""Blocks that one step takes: the unit of progress, and the memory a GPU needs for it."""
_SEED: Final = 1502_04320

_Words = npt.NDArray[np.int64]

_scratch = threading.local()


def checksum(tensor: torch.Tensor, advance: Callable[[int], Any] = lambda count: None) -> str:
    """Checksum of all elements of a tensor, and of nothing else: neither shape nor type, nor where it is.

    Parameters
    ----------
    tensor
        Any plain tensor with data, or a subclass made of such, as quantised weights are.
    advance
        Is called with the number of bytes done since the last call.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for part in plain_parts(tensor):
        left = part.nbytes
        for sums in _sums(part):
            digest.update(sums.astype("<i8").tobytes())
            done = min(left, 8 * _BLOCK * len(sums))
            left -= done
            advance(done)
    return digest.hexdigest()


def plain_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The plain tensors that a tensor subclass, such as a quantised weight, is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from plain_parts(getattr(tensor, name))
    else:
        yield tensor.detach().as_subclass(torch.Tensor)


def size_of(tensor: torch.Tensor) -> int:
    """Bytes of a tensor, also of one made of several."""
    return sum(part.nbytes for part in plain_parts(tensor))


def _sums(part: torch.Tensor) -> Iterator[_Words]:
    """The two sums (block, 2) of every block, a few blocks at a time."""
    flat = part.contiguous().reshape(-1).view(torch.uint8)
    whole = len(flat) // (8 * _BLOCK)
    step = 8 * _BLOCK * _TOGETHER
    for start in range(0, 8 * _BLOCK * whole, step):
        some = flat[start : min(start + step, 8 * _BLOCK * whole)]
        yield _sums_on_device(some) if some.device.type == "cuda" else _sums_on_host(some.cpu())
    if len(rest := flat[8 * _BLOCK * whole :]):
        # Zeros would add nothing to either sum, so only the last word is filled up with them.
        data = rest.cpu().numpy().tobytes()
        yield np.array([_sums_of(np.frombuffer(data + bytes(-len(data) % 8), np.int64))])


def _sums_on_device(blocks: torch.Tensor) -> _Words:
    if blocks.storage_offset() % 8:
        blocks = blocks.clone()
    words = blocks.view(torch.int64).view(-1, _BLOCK)
    odd = _on_device(blocks.device)
    sums = torch.stack([(words * odd).sum(1), ((words >> 32) * odd).sum(1)], dim=1)
    return sums.cpu().numpy()


def _sums_on_host(blocks: torch.Tensor) -> _Words:
    words = blocks.numpy().view(np.int64).reshape(-1, _BLOCK)
    return np.array(list(_pool().map(_sums_of, words)) if len(words) > 1 else [_sums_of(words[0])])


def _sums_of(block: _Words) -> tuple[np.int64, np.int64]:
    odd = _odd_numbers()[: len(block)]
    # Memory for the shifted words is kept by each thread: asking for it anew costs more than the arithmetic.
    shifted = _shifted_words()[: len(block)]
    return np.dot(block, odd), np.dot(np.right_shift(block, 32, out=shifted), odd)


def _shifted_words() -> _Words:
    if not hasattr(_scratch, "words"):
        _scratch.words = np.empty(_BLOCK, np.int64)
    words: _Words = _scratch.words
    return words


@cache
def _odd_numbers() -> _Words:
    # The raw output of a bit generator is the same in every version of NumPy.
    return np.random.PCG64(_SEED).random_raw(_BLOCK).astype(np.uint64).view(np.int64) | 1


@cache
def _on_device(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(_odd_numbers()).to(device)


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that outlive a call: starting them would take longer than a small model's checksum."""
    return ThreadPoolExecutor(max(1, torch.get_num_threads()), thread_name_prefix="workbench-checksum")


if hasattr(os, "register_at_fork"):  # a forked process has the pool, but none of its threads
    os.register_at_fork(after_in_child=_pool.cache_clear)
