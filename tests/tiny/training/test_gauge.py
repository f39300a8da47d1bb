from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from tests.tiny_random import random_bank
from workbench.tiny.training import gauge
from workbench.tiny.training.bank import Bank
from workbench.tiny.training.objective import SUPERVISED, Student, Words, sample_batch
from workbench.tiny.training.train import new_student


@pytest.fixture(scope="module")
def bank() -> Bank:
    return random_bank(scenes=8, cells=16)


@pytest.fixture
def student() -> tuple[Student, Words]:
    torch.manual_seed(3)
    found, words = new_student("cpu")
    for parameter in found.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return found.eval(), words


def _velocity(student: Student, words: Words, bank: Bank) -> Tensor:
    batch = dataclasses.replace(sample_batch(bank, words, 4, (0, 1), "cpu"), sigma=torch.full((4,), 0.4))
    with torch.no_grad():
        return student.denoise(batch.tokens, batch)[0]


def _scores(student: Student, words: Words, bank: Bank) -> tuple[list[Tensor], Tensor]:
    heard, present = gauge.listen(student, words, bank, batches=2, rows=6, seed=1)
    return [one.concepts @ one.patches.T for one in heard], present


@pytest.mark.slow
def test_shift_and_scale_change_outputs_and_nothing_else(student: tuple[Student, Words], bank: Bank) -> None:
    model, words = student
    velocity = _velocity(model, words, bank)
    before, _ = gauge.listen(model, words, bank, batches=1, rows=4, seed=5)
    by = torch.randn(model.denoiser.inner_dim)
    attention = model.denoiser.transformer_blocks[2].attn
    gauge.shift(attention, by)
    gauge.scale(attention, 3.0)
    after, _ = gauge.listen(model, words, bank, batches=1, rows=4, seed=5)
    for depth, (one, other) in enumerate(zip(before, after, strict=True)):
        for old, new in ((one.concepts, other.concepts), (one.patches, other.patches)):
            expected = 3 * (old + by) if depth == 2 else old
            torch.testing.assert_close(new, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(_velocity(model, words, bank), velocity, rtol=1e-3, atol=1e-3)


def test_a_direction_tells_what_is_there() -> None:
    torch.manual_seed(0)
    present = (torch.arange(4000) % 4 == 0).float()
    outputs = torch.randn(4000, 12)
    outputs[:, 7] += 9 * present
    found = gauge.direction(outputs, present)
    heights = outputs @ found
    assert (heights[present > 0.5].mean() - heights[present < 0.5].mean()).item() == pytest.approx(1, abs=1e-4)
    assert heights[present > 0.5].std() < 0.15
    assert gauge.accuracy(heights, present) > 0.99
    assert found.abs().argmax() == 7


@pytest.mark.slow
def test_settled_scores_have_their_spread_and_absent_words_score_low(
    student: tuple[Student, Words], bank: Bank
) -> None:
    model, words = student
    velocity = _velocity(model, words, bank)
    gauge.settle(model, words, bank, batches=2, rows=6, seed=1)
    torch.testing.assert_close(_velocity(model, words, bank), velocity, rtol=1e-3, atol=1e-3)
    scores, present = _scores(model, words, bank)
    for depth, found in enumerate(scores):
        if depth not in SUPERVISED:
            assert found.std().item() == pytest.approx(gauge.SPREAD, rel=0.05)
        else:
            means = found.mean(1)
            assert means[present > 0.5].mean() > means[present < 0.5].mean() + 0.5 * gauge.STRENGTH * gauge.SPREAD
