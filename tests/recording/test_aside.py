"""Concept steps run beside the model only where nothing they read is moved or kept between calls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate.hooks import ModelHook, add_hook_to_module
from torch import nn

from workbench.models.block_records import BlockCall, BlockTensors, ConceptStream
from workbench.recording.aside import Aside


def block(device: str = "cpu") -> BlockTensors:
    return BlockTensors(BlockCall({}, 0), torch.ones(1, 2, 6, 4, device=device))


def stream(device: str = "cpu") -> ConceptStream:
    return ConceptStream(torch.ones(1, 3, 8, device=device), None)


class Quantised(nn.Parameter):
    pass


def moved() -> nn.Module:
    return add_hook_to_module(nn.Linear(2, 2), ModelHook())


def quantised() -> nn.Module:
    module = nn.Linear(2, 2)
    module.weight = Quantised(module.weight.data)
    return module


@pytest.mark.parametrize(
    ("make", "allowed"), [(lambda: nn.Linear(2, 2, bias=False), True), (moved, False), (quantised, False)]
)
def test_which_models_allow_it(make: Any, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    aside = Aside()
    aside.begin(nn.Sequential(nn.LayerNorm(2), make()).modules())
    assert aside._allowed is allowed


def test_nothing_changes_on_the_cpu() -> None:
    aside = Aside()
    aside.begin([nn.Linear(2, 2)])
    with aside.step(block(), stream()):
        assert not aside._kept
    aside.join()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_a_step_reads_is_kept_until_it_is_over() -> None:
    aside = Aside()
    aside.begin([nn.Linear(2, 2)])
    main = torch.cuda.current_stream()
    totals = []
    for number in range(20):
        read = BlockTensors(torch.full((2**22,), float(number), device="cuda"), *[None] * 7)
        with aside.step(read, stream("cuda")):
            assert torch.cuda.current_stream() != main
            torch.cuda._sleep(2_000_000)
            totals.append(read.output.mean())
        del read
        torch.full((2**22,), -1.0, device="cuda")  # takes the memory if it was given back too early
    aside.join()
    assert torch.cuda.current_stream() == main
    assert torch.stack(totals).tolist() == list(range(20))
