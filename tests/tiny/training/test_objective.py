from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor

import workbench as wb
from tests.tiny_random import random_bank
from workbench.tiny.scenes import OBJECTS
from workbench.tiny.training import components, curves
from workbench.tiny.training.bank import Bank
from workbench.tiny.training.objective import (
    CONCEPTS,
    LOUDEST,
    SUPERVISED,
    Batch,
    pack,
    sample_batch,
    visibility,
)
from workbench.tiny.training.train import Recipe, Stage, Trainer, new_student

MIXED = pytest.mark.filterwarnings("ignore:Mismatch dtype")  # bfloat16 autocast and the float32 weights of RMSNorm


@pytest.fixture(scope="module")
def bank() -> Bank:
    return random_bank(scenes=20, cells=8)


def _batch(bank: Bank, hardened: bool = False, rows: int = 3) -> Batch:
    return sample_batch(bank, new_student("cpu")[1], rows, (0, 7), "cpu", hardened)


def test_the_training_s_passes_are_diffusers_own_and_a_trace_s(bank: Bank) -> None:
    """The student's prompt and image must go through the blocks as in diffusers, and its concept tokens as the
    concept stream that capture reads, or it would train something else."""
    torch.manual_seed(1)
    student, words = new_student("cpu")
    for parameter in student.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    clip_ids, t5_ids = words(["a red sun on grass"])
    batch = dataclasses.replace(
        _batch(bank, rows=1), t5_ids=t5_ids, clip_ids=clip_ids, pooled=torch.tensor([False]), sigma=torch.tensor([0.4])
    )
    seen: dict[int, torch.Tensor] = {}
    for index, block in enumerate(student.denoiser.transformer_blocks):
        block.attn.to_add_out.register_forward_pre_hook(lambda _, args, index=index: seen.update({index: args[0]}))
    with torch.no_grad():
        velocity, _ = student.denoise(batch.tokens, batch)
        concepts = student.t5(student.noun_ids)[0][:, 0][batch.nouns]
        inputs = {
            "hidden_states": batch.tokens,
            "encoder_hidden_states": student.t5(t5_ids)[0],
            "pooled_projections": torch.zeros(1, components.POOLED_WIDTH),
            "timestep": batch.sigma,
            "img_ids": torch.cartesian_prod(torch.zeros(1), torch.arange(4.0), torch.arange(4.0)),
            "txt_ids": torch.zeros(components.TEXT_LENGTH, 3),
        }
        training = {index: value[:, components.TEXT_LENGTH :].clone() for index, value in seen.items()}
        student.denoiser.set_attn_processor(FluxAttnProcessor())
        with wb.trace(student.denoiser, concepts, vectors=True) as trace:
            plain = student.denoiser(**inputs).sample
    torch.testing.assert_close(velocity, plain, rtol=1e-3, atol=1e-4)
    for index, value in training.items():
        traced = trace.vectors["concept_output"][index].transpose(1, 2).flatten(2)
        torch.testing.assert_close(value, traced, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_nobody_sees_concepts_and_concepts_do_not_see_the_prompt(bank: Bank) -> None:
    torch.manual_seed(4)
    student, _ = new_student("cpu")
    for parameter in student.denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    batch = _batch(bank)
    with torch.no_grad():
        velocity, states = student.denoise(batch.tokens, batch)
        other = dataclasses.replace(batch, nouns=batch.nouns.flip(1))
        again, _ = student.denoise(batch.tokens, other)
        assert torch.equal(velocity, again), "the image does not see the concepts"
        # In the first block, where the image has not read the prompt yet, another prompt changes no concept.
        prompted = dataclasses.replace(batch, t5_ids=batch.t5_ids.roll(1, 0))
        assert torch.equal(student.denoise(batch.tokens, prompted)[1][0], states[0])
        alone = dataclasses.replace(batch, hidden=torch.ones_like(batch.hidden))
        unseeing, blind = (student.denoise(tokens, alone)[1] for tokens in (batch.tokens, -batch.tokens))
    assert torch.equal(unseeing[-1], blind[-1]), "hidden patches are not seen"
    assert not torch.equal(unseeing[0], states[0])


def test_a_row_hides_its_own_patches() -> None:
    seen = visibility(2, torch.tensor([[False, True, False], [False, False, False]])) == 0
    assert seen[:, 0, 0].tolist() == [[True, True, True, False, True], [True] * 5]


def test_tokens_are_packed_as_the_pipeline_packs_them() -> None:
    latents = torch.randn(2, 8, 6, 4)
    assert torch.equal(pack(latents), FluxPipeline._pack_latents(latents, *latents.shape))


@pytest.mark.parametrize("hardened", [False, True])
def test_a_batch_knows_captions_only(bank: Bank, hardened: bool) -> None:
    batch = _batch(bank, hardened, rows=16)
    assert batch.nouns.shape == (16, CONCEPTS)
    for row in range(16):
        nouns = batch.nouns[row].tolist()
        assert len(set(nouns)) == CONCEPTS
        present = {noun for noun, there in zip(nouns, batch.present[row].tolist(), strict=True) if there}
        assert present in ({0, 3, 13}, {5, 12})
        coloured = {noun for noun, colour in zip(nouns, batch.colours[row].tolist(), strict=True) if colour >= 0}
        assert coloured == {noun for noun in present if noun < len(OBJECTS)}
    again = _batch(bank, hardened, rows=16)
    assert torch.equal(batch.noise, again.noise)
    assert torch.equal(batch.nouns, again.nouns)
    assert batch.jitter.any().item() is hardened
    assert batch.restart.any().item() is hardened


def test_word_losses_are_not_asked_for_in_noise(bank: Bank) -> None:
    student, _ = new_student("cpu")
    batch = dataclasses.replace(_batch(bank), sigma=torch.full((3,), LOUDEST + 0.01))
    losses = student(batch)
    assert losses["presence"].item() == 0
    assert losses["colour"].item() == 0
    assert losses["flow"].item() > 0


@pytest.mark.slow
def test_only_rows_without_a_caption_are_asked_for_words(bank: Bank) -> None:
    student, words = new_student("cpu")
    batch = _batch(bank, rows=32)
    assert torch.equal(batch.bare, batch.t5_ids[:, 0] == words([""])[1][0, 0])
    assert 0 < batch.bare.sum() < 32
    for head in student.reader.heads:
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.constant_(head.bias, 9.0)
    seen = torch.full((32,), 0.4)
    there = dataclasses.replace(batch, sigma=seen, present=batch.bare[:, None].float().expand(32, CONCEPTS))
    found = student(there)
    assert found["accuracy"].item() == 1, "every word is there where there is no caption"
    assert found["presence"].item() == pytest.approx(0, abs=1e-3)
    found = student(dataclasses.replace(there, bare=torch.zeros(32, dtype=torch.bool)))
    assert found["presence"].item() == found["colour"].item() == 0


def test_rows_with_a_caption_may_be_noisier(bank: Bank) -> None:
    batch = sample_batch(bank, new_student("cpu")[1], 64, (0, 7), "cpu", levels=((-9.0, 1.0), (9.0, 1.0)))
    assert torch.equal(batch.sigma < 0.5, batch.bare)


def test_a_restart_forgets_what_was_read(bank: Bank) -> None:
    torch.manual_seed(2)
    student, _ = new_student("cpu")
    batch = _batch(bank)
    anew = dataclasses.replace(batch, restart=torch.tensor([SUPERVISED[0], 0, 0]))
    with torch.no_grad():
        plain, restarted = (student.denoise(batch.tokens, one)[1] for one in (batch, anew))
    assert torch.equal(plain[SUPERVISED[0] - 1], restarted[SUPERVISED[0] - 1])
    changed = (plain[SUPERVISED[0]] != restarted[SUPERVISED[0]]).flatten(1).any(1)
    assert changed.tolist() == [True, False, False]


@MIXED
@pytest.mark.slow
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(bank: Bank, tmp_path: Path) -> None:
    stage = Stage(size=32, most=2, steps=4, rows=4, scenes=20, levels=((0.5, 1.0), (0.5, 1.0)), length=16, decay=3)
    recipe = Recipe(stages=(stage,), hardened_from=2)

    def weights(folder: Path, *stops: int) -> Tensor:
        folder.mkdir()
        for stop in stops:
            trainer = Trainer(recipe, folder, "cpu", compiled=False)
            trainer.train(bank, stage, stop)
        return torch.cat([value.flatten() for value in trainer.average.values()])

    whole = weights(tmp_path / "whole", 4)
    torch.testing.assert_close(weights(tmp_path / "parts", 1, 3, 4), whole, rtol=0, atol=1e-6)


@pytest.mark.slow
@MIXED
@pytest.mark.parametrize(("presence", "colour"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_a_recipe_weighs_the_word_losses(bank: Bank, tmp_path: Path, presence: float, colour: float) -> None:
    stage = Stage(32, 2, 1, rows=4, scenes=20, levels=((0.5, 1.0), (0.5, 1.0)), length=16)
    recipe = Recipe(stages=(stage,), presence=presence, colour=colour)
    trainer = Trainer(recipe, tmp_path, "cpu", compiled=False)
    losses = trainer.take_step(bank, stage)
    assert losses["presence"] > 0
    for head in trainer.student.reader.heads:
        assert bool(head.weight.grad[0].any()) == (presence > 0)
        assert bool(head.weight.grad[1:].any()) == (colour > 0)
    assert trainer.student.denoiser.proj_out.weight.grad.any(), "flow matching is always asked for"


@pytest.mark.slow
@MIXED
def test_a_loss_that_is_not_finite_ends_the_training(bank: Bank, tmp_path: Path) -> None:
    stage = Stage(size=32, most=2, steps=3, rows=4, scenes=20, levels=((0.5, 1.0), (0.5, 1.0)), length=16)
    trainer = Trainer(Recipe(stages=(stage,)), tmp_path, "cpu", compiled=False)
    trainer.train(bank, stage, 1)
    saved = (tmp_path / "checkpoint.pt").read_bytes()
    torch.nn.init.constant_(trainer.student.denoiser.proj_out.bias, torch.nan)
    with pytest.raises(FloatingPointError, match=r"no longer finite at step 2; .* --eager"):
        trainer.train(bank, stage, 3)
    assert (tmp_path / "checkpoint.pt").read_bytes() == saved


@pytest.mark.slow
@MIXED
def test_a_training_s_log_can_be_drawn(bank: Bank, tmp_path: Path) -> None:
    stage = Stage(size=32, most=2, steps=2, rows=2, scenes=20, levels=((0.5, 1.0), (0.5, 1.0)), length=16)
    Trainer(Recipe(stages=(stage,)), tmp_path, "cpu", compiled=False).train(bank, stage, 2, every=1)
    log = curves.read_log(tmp_path / "log.jsonl")
    assert [(record["step"], record["size"], record["rows"]) for record in log] == [(1, 32, 2), (2, 32, 2)]
    (axes,) = curves.loss_curves(log).axes
    assert [text.get_text() for text in axes.texts] == ["32 px\n2 rows"]
