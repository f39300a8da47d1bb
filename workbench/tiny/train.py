"""Train tiny-flux from scratch: ``python -m workbench.tiny.train --folder training``.

Stages: the VAE; drawing and encoding the training scenes; the transformer and both text encoders on 64-pixel scenes,
then on 96-pixel scenes with a linear decay at the end. Every stage resumes from what it finds in the folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.tiny import components
from workbench.tiny.autoencoder import held_out_psnr, train_autoencoder
from workbench.tiny.bank import Bank, make_bank
from workbench.tiny.muon import Muon
from workbench.tiny.objective import Student, Words, sample_batch
from workbench.tiny.scenes import NOUNS, SIZE

logger = logging.getLogger("workbench.tiny.train")


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training run.

    Attributes
    ----------
    vae_minutes
        Minutes of VAE training.
    small_steps, small_rows, small_scenes
        Steps, rows a step and number of scenes of the first stage (64 x 64 pixels, at most two objects).
    large_steps, large_rows, large_scenes
        The same for the second stage (96 x 96 pixels).
    decay
        Share of the second stage's steps over which the learning rate falls to zero.
    rate
        Peak learning rate of both optimisers.
    hardened_from
        Step from which concept tokens have it harder: see :func:`workbench.tiny.objective.sample_batch`.
    presence, colour
        Weights of the word losses beside flow matching's 1.
    average
        Decay of the running average of the weights, which is what is saved.
    seed
        Seed of weights, batches and noise.
    """

    vae_minutes: float = 7.0
    small_steps: int = 1000
    small_rows: int = 64
    small_scenes: int = 12_000
    large_steps: int = 6000
    large_rows: int = 40
    large_scenes: int = 24_000
    decay: float = 0.3
    rate: float = 1.5e-3
    hardened_from: int = 3000
    presence: float = 1.0
    colour: float = 0.5
    average: float = 0.998
    seed: int = 0


def new_student(device: str) -> tuple[Student, Words]:
    """An untrained student and the captions' tokenizer."""
    clip_tokenizer, t5_tokenizer = components.tokenizers()
    clip, t5 = components.text_encoders(len(clip_tokenizer), len(t5_tokenizer))
    words = Words(clip_tokenizer, t5_tokenizer)
    noun_ids = words(list(NOUNS))[1]
    student = Student(components.transformer(), clip, t5, noun_ids)
    for block in [*student.denoiser.transformer_blocks, *student.denoiser.single_transformer_blocks]:
        for name, module in block.named_modules():
            if name.endswith(("norm1.linear", "norm1_context.linear", "norm.linear")):
                assert isinstance(module, nn.Linear)
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
                module.bias.data[2 * module.in_features : 3 * module.in_features] = 0.3
                module.bias.data[5 * module.in_features : 6 * module.in_features] = 0.3
    nn.init.zeros_(student.denoiser.proj_out.weight)
    return student.to(device), words


def optimisers(student: Student, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' projection matrices, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        projection = "transformer_blocks" in name and parameter.ndim == 2 and "norm" not in name
        (matrices if projection else rest).append(parameter)
    return [
        Muon(matrices, lr=rate),
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Trainer:
    """State of a run: student, optimisers, averaged weights and the number of steps taken."""

    def __init__(self, recipe: Recipe, folder: Path, device: str, compiled: bool) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.folder, self.device = recipe, folder, device
        self.student, self.words = new_student(device)
        self.optimisers = optimisers(self.student, recipe.rate)
        self.average = {name: value.detach().clone() for name, value in self.student.state_dict().items()}
        self.step = 0
        self.seconds = 0.0
        self._path = folder / "checkpoint.pt"
        if self._path.exists():
            state = torch.load(self._path, map_location=device, weights_only=True)
            self.student.load_state_dict(state["student"])
            for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
            self.average, self.step, self.seconds = state["average"], state["step"], state["seconds"]
            logger.info("resumed at step %d", self.step)
        if compiled:
            for block in [*self.student.denoiser.transformer_blocks, *self.student.denoiser.single_transformer_blocks]:
                block.compile(dynamic=False)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "student": self.student.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "average": self.average,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self._path.with_suffix(".part"))
        self._path.with_suffix(".part").replace(self._path)

    def rate(self) -> float:
        """Learning rate of the coming step: warm-up, constant, linear decay at the end."""
        total = self.recipe.small_steps + self.recipe.large_steps
        tail = self.recipe.decay * self.recipe.large_steps
        return self.recipe.rate * min(1.0, (self.step + 1) / 200, max(0.0, (total - self.step) / tail))

    def take_step(self, bank: Bank, rows: int) -> dict[str, Tensor]:
        """One step on ``rows`` examples; returns the losses."""
        hardened = self.step >= self.recipe.hardened_from
        batch = sample_batch(bank, self.words, rows, (self.recipe.seed, self.step), self.device, hardened)
        rate = self.rate()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            losses: dict[str, Tensor] = self.student(batch)
        loss = losses["flow"] + self.recipe.presence * losses["presence"] + self.recipe.colour * losses["colour"]
        loss.backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.student.state_dict().items():
                self.average[name].lerp_(value, 1 - keep)
        self.step += 1
        return {name: value.detach() for name, value in losses.items()}

    def train(self, bank: Bank, rows: int, until: int, every: int = 100) -> None:
        """Take steps up to ``until``, logging and saving on the way."""
        start, seconds = time.monotonic(), self.seconds
        sums: dict[str, float] = {}
        while self.step < until:
            for name, value in self.take_step(bank, rows).items():
                sums[name] = sums.get(name, 0.0) + float(value)
            self.seconds = seconds + time.monotonic() - start
            if self.step % every == 0:
                means = {name: round(value / every, 4) for name, value in sums.items()}
                size = components.PATCH * bank.latents.shape[-1] // 2
                about = {"step": self.step, "size": size, "rows": rows, "seconds": round(self.seconds)}
                self._log(about | {"rate": self.rate()} | means)
                sums = {}
            if self.step % (5 * every) == 0:
                self.save()
        self.save()

    def _log(self, record: dict[str, Any]) -> None:
        logger.info("%s", json.dumps(record))
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def averaged(trainer: Trainer) -> Student:
    """The student with its averaged weights, uncompiled, ready to save."""
    student, _ = new_student(trainer.device)
    student.load_state_dict(trainer.average)
    return student.eval()


def run(recipe: Recipe, folder: Path, device: str, compiled: bool = True) -> None:
    """Run every stage that is not done yet and write the pipeline to ``folder / "tiny-flux"``."""
    folder.mkdir(parents=True, exist_ok=True)
    vae = train_autoencoder(folder, recipe.vae_minutes, device, seed=recipe.seed)
    small = make_bank(folder, vae, recipe.small_scenes, size=64, most=2, device=device)
    trainer = Trainer(recipe, folder, device, compiled)
    trainer.train(small, recipe.small_rows, recipe.small_steps)
    large = make_bank(folder, vae, recipe.large_scenes, size=96, most=3, device=device)
    trainer.train(large, recipe.large_rows, recipe.small_steps + recipe.large_steps)
    student = averaged(trainer)
    psnr = held_out_psnr(vae, device)
    info: dict[str, object] = {
        "size": [SIZE, SIZE],
        "sides": [64, SIZE],
        "text_length": components.TEXT_LENGTH,
        "steps": 28,
        "vocabulary": list(NOUNS),
        "fillers": [word for word in components.VOCABULARY if word not in NOUNS],
        "vae_psnr": round(float(psnr.mean()), 2),
        "familiar_psnr": math.floor(float(psnr.min()) - 1),
        "recipe": asdict(recipe),
        "seconds": round(trainer.seconds),
    }
    components.save_pipeline(folder / "tiny-flux", vae, student.denoiser, student.clip, student.t5, info)
    logger.info("pipeline written to %s", folder / "tiny-flux")


def main() -> None:
    """Command line: one flag per field of :class:`Recipe`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints, log and result")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="do not compile the blocks")
    for name, value in asdict(Recipe()).items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value, help=f"default {value}")
    options = vars(parser.parse_args())
    folder, device, eager = options.pop("folder"), options.pop("device"), options.pop("eager")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    warnings.filterwarnings("ignore", "Mismatch dtype")  # autocast's bfloat16 meets RMSNorm's float32 weights, as meant
    run(Recipe(**options), folder, device, compiled=not eager)


if __name__ == "__main__":
    main()
