"""Train tiny-flux from scratch: ``python -m workbench.tiny.training.train --folder training``.

The VAE comes first; then the transformer and both text encoders, in stages of growing pictures. Scenes are drawn and
encoded before each stage. Everything resumes from what it finds in the folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.tiny.scenes import NOUNS
from workbench.tiny.training import components
from workbench.tiny.training.autoencoder import held_out_psnr, train_autoencoder
from workbench.tiny.training.bank import Bank, make_bank
from workbench.tiny.training.fastest_precision import mixed
from workbench.tiny.training.gauge import settle
from workbench.tiny.training.muon import Muon
from workbench.tiny.training.objective import SUPERVISED, Level, Student, Words, sample_batch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

logger = logging.getLogger("workbench.tiny.training.train")

_LOW, _HIGH = (0.5, 1.0), (2.4, 1.3)

_WARM_UP = 200


@dataclass(frozen=True)
class Stage:
    """Training on pictures of one size.

    Attributes
    ----------
    size, most
        Side in pixels and largest number of objects, as for :func:`workbench.tiny.scenes.render`.
    steps, rows
        Number of steps, and examples in each.
    scenes
        Number of different scenes.
    levels
        Noise levels of rows without a caption and with one: see
        :func:`workbench.tiny.training.objective.sample_batch`. Larger pictures need more noise to hide the same things.
    length
        Tokens of a caption; the words of concepts are always padded to the model's own length.
    decay
        Steps at the end over which the learning rate falls to zero; the next stage warms up again.
    """

    size: int
    most: int
    steps: int
    rows: int
    scenes: int
    levels: tuple[Level, Level]
    length: int
    decay: int = 0


@dataclass(frozen=True)
class Recipe:
    """Every choice of a training run.

    Attributes
    ----------
    vae_steps, vae_scenes
        Steps of VAE training, and number of different scenes.
    stages
        One after the other.
    rate
        Peak learning rate of both optimisers.
    hardened_from
        Step from which concept tokens have it harder: see :func:`workbench.tiny.training.objective.sample_batch`.
    presence, colour
        Weights of the word losses beside flow matching's 1. Were they as large, their gradients would be the larger
        ones and mostly noise, and the optimisers see the sum only: pictures are then hardly learnt.
    average
        Decay of the running average of the weights, which is what is saved.
    seed
        Seed of weights, batches and noise.
    """

    vae_steps: int = 2500
    vae_scenes: int = 4000
    stages: tuple[Stage, ...] = (
        Stage(64, 1, steps=1000, rows=48, scenes=10_000, levels=(_LOW, _HIGH), length=12),
        Stage(128, 4, 6800, rows=48, scenes=24_000, levels=(_LOW, _HIGH), length=components.TEXT_LENGTH, decay=3000),
    )
    rate: float = 2.5e-3
    hardened_from: int = 3000
    presence: float = 0.1
    colour: float = 0.05
    average: float = 0.998
    seed: int = 0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)


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
    """Muon for the projection matrices of transformer blocks and text encoders, AdamW for everything else.

    With AdamW at this rate T5's attention, which divides by nothing, saturates within a hundred steps.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        inside = name.startswith(("t5.encoder.block.", "clip.encoder.layers.")) or "transformer_blocks" in name
        projection = inside and parameter.ndim == 2 and "norm" not in name and "relative" not in name
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
        self._now = list(self.student.state_dict().values())
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
        """Learning rate of the coming step: warm-up, constant, linear decay where a stage asks for it."""
        end = warmed = 0
        for stage in self.recipe.stages:
            end += stage.steps
            if self.step < end:
                left = (end - self.step) / stage.decay if stage.decay else 1.0
                return self.recipe.rate * min(1.0, (self.step - warmed + 1) / _WARM_UP, left)
            warmed = end if stage.decay else warmed
        return 0.0

    def take_step(self, bank: Bank, stage: Stage) -> dict[str, Tensor]:
        """One step of a stage; returns the losses."""
        hardened = self.step >= self.recipe.hardened_from
        seed = (self.recipe.seed, self.step)
        batch = sample_batch(
            bank, self.words, stage.rows, seed, self.device, hardened, levels=stage.levels, length=stage.length
        )
        rate = self.rate()
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.zero_grad(set_to_none=True)
        with mixed(self.device):
            losses: dict[str, Tensor] = self.student(batch)
        words = self.recipe.presence * losses["presence"] + self.recipe.colour * losses["colour"]
        (losses["flow"] + words).backward()
        nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        keep = min(self.recipe.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.values()), self._now, 1 - keep)
        self.step += 1
        return {name: value.detach() for name, value in losses.items()}

    def train(self, bank: Bank, stage: Stage, until: int, every: int = 50) -> None:
        """Take steps of a stage up to ``until``, logging and saving on the way."""
        start, seconds = time.monotonic(), self.seconds
        losses: list[dict[str, Tensor]] = []
        while self.step < until:
            losses.append(self.take_step(bank, stage))
            if self.step % every == 0 or self.step == until:
                told = {name: torch.stack([each[name] for each in losses]).cpu() for name in losses[0]}
                finite = torch.stack(list(told.values())).isfinite().all(0).tolist()
                if not all(finite):
                    first = self.step - len(losses) + finite.index(False) + 1
                    raise FloatingPointError(
                        f"a loss is no longer finite at step {first}; what was saved before it is unharmed. The same "
                        "command goes on from there; with --eager if compiled blocks are to blame."
                    )
                self.seconds = seconds + time.monotonic() - start
                about: dict[str, Any] = {"step": self.step, "size": stage.size, "rows": stage.rows}
                about |= {"seconds": round(self.seconds), "rate": self.rate()}
                self._log(about | {name: round(float(values.mean()), 4) for name, values in told.items()})
                losses = []
            if self.step % (5 * every) == 0:
                self.save()
        self.save()

    def _log(self, record: dict[str, Any]) -> None:
        logger.info("%s", json.dumps(record))
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def write_pipeline(
    trainer: Trainer, vae: AutoencoderKL, psnr: Tensor, stage: Stage, folder: Path, bank: Bank | None = None
) -> None:
    """Write the averaged weights as a pipeline for pictures of a stage's size; settled with the scenes of ``bank``."""
    student, words = new_student(trainer.device)
    student.load_state_dict(trainer.average)
    student.eval()
    if bank is not None:
        settle(student, words, bank)
    info: dict[str, object] = {
        "size": [stage.size, stage.size],
        "sides": sorted({each.size for each in trainer.recipe.stages if each.size <= stage.size}),
        "text_length": components.TEXT_LENGTH,
        "steps": 28,
        "vocabulary": list(NOUNS),
        "fillers": [word for word in components.VOCABULARY if word not in NOUNS],
        "vae_psnr": round(float(psnr.mean()), 2),
        "familiar_psnr": math.floor(float(psnr.min()) - 1),
        "recipe": asdict(trainer.recipe),
        "step": trainer.step,
        "seconds": round(trainer.seconds),
        "default_layers": list(SUPERVISED),
        "timestep": 300.0,
    }
    components.save_pipeline(folder, vae, student.denoiser, student.clip, student.t5, info)
    logger.info("pipeline of step %d written to %s", trainer.step, folder)


def run(recipe: Recipe, folder: Path, device: str, compiled: bool = True, until: int | None = None) -> None:
    """Run every stage that is not done yet; each leaves a pipeline ``step-<N>``, the last one ``tiny-flux``.

    ``unsettled`` beside it are the last one's weights before :func:`workbench.tiny.training.gauge.settle`, as a
    control's stay.

    Parameters
    ----------
    recipe
        What to do.
    folder
        Checkpoint, log, scenes and results; an existing one is gone on with.
    device
        Torch device.
    compiled
        Compile the blocks.
    until
        Number of stages after which to end; all of them by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vae = train_autoencoder(folder, recipe.vae_steps, device, recipe.vae_scenes, seed=recipe.seed)
    trainer = Trainer(recipe, folder, device, compiled)
    end = 0
    for stage in recipe.stages[:until]:
        end += stage.steps
        last = end == recipe.steps
        written = folder / ("tiny-flux" if last else f"step-{end}")
        if trainer.step > end or (trainer.step == end and written.exists()):
            continue
        bank = make_bank(folder, vae, stage.scenes, stage.size, stage.most, device)
        trainer.train(bank, stage, end)
        psnr = held_out_psnr(vae, device)
        settled = last and recipe.presence > 0
        if settled:
            write_pipeline(trainer, vae, psnr, stage, folder / "unsettled")
        write_pipeline(trainer, vae, psnr, stage, written, bank if settled else None)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("training"), help="checkpoints, log and result")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--eager", action="store_true", help="compile nothing; a GPU always runs eagerly, as fast")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, batches and noise; default 0")
    parser.add_argument("--stages", type=int, help="end after so many stages")
    parser.add_argument("--control", action="store_true", help="flow matching alone: both word losses weigh nothing")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    warnings.filterwarnings("ignore", "Mismatch dtype")  # autocast's bfloat16 meets RMSNorm's float32 weights, as meant
    if options.device != "cpu":
        torch.set_float32_matmul_precision("high")  # TF32
    recipe = Recipe(seed=options.seed)
    if options.control:
        recipe = replace(recipe, presence=0.0, colour=0.0)
    compiled = options.device == "cpu" and not options.eager
    run(recipe, options.folder, options.device, compiled, until=options.stages)


if __name__ == "__main__":
    main()
