"""Checksums see every element, and depend on nothing but the elements."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench.models import checksums
from workbench.models.checksums import checksum, size_of

BLOCK = 8 * checksums._BLOCK


def bytes_of(count: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, count, dtype=np.uint8))


@given(count=st.integers(1, 300), place=st.integers(0, 299), change=st.integers(1, 255))
def test_one_byte_changes_it(count: int, place: int, change: int) -> None:
    data = bytes_of(count)
    before = checksum(data)
    data[place % count] ^= change
    assert checksum(data) != before


@pytest.mark.parametrize("count", [BLOCK - 1, BLOCK, BLOCK + 1, 65 * BLOCK + 3])
def test_one_byte_of_several_blocks_changes_it(count: int) -> None:
    data = bytes_of(count)
    before = checksum(data)
    for place in (0, count // 2, count - 1):
        data[place] ^= 128
        assert checksum(data) != before
        data[place] ^= 128
    assert checksum(data) == before


@settings(max_examples=50)
@given(pairs=st.lists(st.integers(0, 4999), min_size=2, max_size=6, unique=True))
def test_signs_do_not_cancel(pairs: list[int]) -> None:
    weights = torch.randn(5000, generator=torch.Generator().manual_seed(0)).bfloat16()
    before = checksum(weights)
    weights[pairs] *= -1
    assert checksum(weights) != before
    assert checksum(-weights) != checksum(weights)


def test_rows_that_change_places_change_it() -> None:
    rows = torch.randn(64, 300, generator=torch.Generator().manual_seed(0))
    assert checksum(rows) != checksum(rows.flip(0))
    assert checksum(rows) != checksum(rows.t().contiguous())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.bool, torch.int64])
def test_where_and_how_a_tensor_lies_does_not_matter(dtype: torch.dtype) -> None:
    values = torch.randn(37, 53, generator=torch.Generator().manual_seed(0)).to(dtype)
    shifted = torch.empty(values.numel() + 1, dtype=dtype)[1:].view(37, 53).copy_(values)
    strided = torch.empty(53, 37, dtype=dtype).t().copy_(values)
    assert checksum(values) == checksum(shifted) == checksum(strided) == checksum(torch.nn.Parameter(values, False))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_number_of_threads_does_not_matter(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes_of(7 * BLOCK + 5)
    before = checksum(data)
    checksums._pool.cache_clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert checksum(data) == before
    checksums._pool.cache_clear()


def test_it_stays_what_it_is() -> None:
    """A run's key has to be the same tomorrow, on any machine."""
    data = torch.arange(3 * checksums._BLOCK + 7, dtype=torch.int64)
    assert checksum(data) == "f72093e65369df15c3f14e37477b000914cf52278eb3a242250410626088b670"


def test_progress_counts_every_byte() -> None:
    data = bytes_of(70 * BLOCK + 3)
    done: list[int] = []
    checksum(data, done.append)
    assert sum(done) == size_of(data) == data.nbytes
    assert len(done) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    data = bytes_of(3 * BLOCK)
    before = checksum(data)
    child = os.fork()
    if not child:
        os._exit(0 if checksum(data) == before else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("count", [5, BLOCK, 70 * BLOCK + 3])
def test_a_gpu_gives_the_same(count: int) -> None:
    data = bytes_of(count)
    assert checksum(data.cuda()) == checksum(data)
    assert checksum(data.cuda()[1:]) == checksum(data[1:])
