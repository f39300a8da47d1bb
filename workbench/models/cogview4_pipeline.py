"""Pipeline side of CogView4: text padded on the left, and noise that is not at the time the model is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.cogview4.pipeline_cogview4 import calculate_shift, retrieve_timesteps
from torch import Tensor

from workbench.models.classifier_free import ClassifierFree
from workbench.models.cogview4 import CogView4Adapter
from workbench.models.latents import ScaledLatents
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Schedule, Text
from workbench.models.schedules import checked_schedule
from workbench.models.templates import Placed, TemplatePipeline, TemplateReader
from workbench.schema import ModelError

TEXT_LENGTH = 1024
MULTIPLE = 16
"""What the pipeline pads texts on the left to a multiple of."""
_OF_ALL_STEPS = ("shift_terminal", "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
"""Options of the scheduler under which the noise of a step depends on the other steps."""


@dataclass(frozen=True)
class GlmReader(TemplateReader):
    """GLM, whose texts are padded on the left, and the padding read and attended."""

    def place(self, text: str) -> Placed:
        placed = super().place(text)
        added = -len(placed.padding) % MULTIPLE
        return replace(
            placed,
            positions=tuple(added + position for position in placed.positions),
            padding=(True,) * added + placed.padding,
        )


class CogView4PipelineAdapter(ClassifierFree, ScaledLatents, TemplatePipeline):
    """``CogView4Pipeline``.

    GLM reads the text without a template, padded on the left to a multiple of 16 tokens, all of which are attended. The
    pipeline shifts the noise of its steps by the size of the picture, and tells the model the time before that: a
    timestep of this family is what the model is told, and :meth:`sigma` how noisy the latents are then. No public code
    of the method has this family: heat maps are of the second half of the blocks and of the timestep at which a picture
    of the native size is half noise, as FLUX.1's.
    """

    transformer_side: ClassVar[type[CogView4Adapter]] = CogView4Adapter
    process: ClassVar[str] = "flow of shifted time"
    shifted = False
    usual_steps = 50
    usual_guidance = 5.0

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * int(self.pipe.transformer.config.patch_size)

    # --- text ---------------------------------------------------------------------------------------------------
    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    def length_of(self, prompt: str) -> int:
        return len(self.padding(prompt))

    @property
    def reader(self) -> GlmReader:
        return GlmReader("GLM", self.component("tokenizer"), self.text_length, str, padded=False, special=True)

    concept_positions = PipelineAdapter.concept_positions  # text is not rotated

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings, _ = self.pipe.encode_prompt(
            prompt, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.text_length
        )
        return Text(embeddings)

    # --- noise --------------------------------------------------------------------------------------------------
    def _shift_of(self, size: tuple[int, int]) -> float:
        """By how much the pipeline shifts the noise of pictures of a height and width."""
        config = self.component("scheduler").config
        rows, columns = self.grid(*size)
        shift: float = calculate_shift(
            rows * columns,
            config.get("base_image_seq_len", 256),
            config.get("base_shift", 0.25),
            config.get("max_shift", 0.75),
        )
        return shift

    def sigma(self, timestep: float, size: tuple[int, int] | None = None) -> float:
        scheduler = self.component("scheduler")
        if found := [name for name in _OF_ALL_STEPS if scheduler.config.get(name)]:
            raise ModelError(
                f"the pipeline's {type(scheduler).__name__} has {' and '.join(found)}: how noisy the latents are at a "
                "timestep then depends on the other steps, which a real image does not have. Use a scheduler without."
            )
        time = timestep / scheduler.config.num_train_timesteps
        if scheduler.config.get("use_dynamic_shifting"):
            return float(scheduler.time_shift(self._shift_of(size or self.native), 1.0, time))
        return float(scheduler.shift * time / (1 + (scheduler.shift - 1) * time))

    @property
    def default_timestep(self) -> float:
        if "timestep" in self.info:
            return super().default_timestep
        times = np.arange(1, 1000)
        sigmas = np.array([self.sigma(float(time)) for time in times])
        return float(times[np.abs(sigmas - 0.5).argmin()])

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler, size = self.component("scheduler"), (height, width)
        trained = scheduler.config.num_train_timesteps
        times = np.linspace(trained, 1.0, steps).astype(np.int64).astype(np.float32)
        options: dict[str, Any] = {"timesteps": times, "sigmas": times / trained, "mu": self._shift_of(size)}
        sigmas = checked_schedule(
            scheduler,
            steps,
            lambda copied: retrieve_timesteps(copied, steps, "cpu", **options),
            lambda timestep: self.sigma(timestep, size),
        )
        return Schedule(tuple(map(float, times)), sigmas)

    def noised(self, latents: Tensor, noise: Tensor, timestep: float) -> Tensor:
        height, width = (side * int(self.pipe.vae_scale_factor) for side in latents.shape[-2:])
        sigma = self.sigma(timestep, (height, width))
        return sigma * noise + (1 - sigma) * latents

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        size = torch.tensor([[side * self.patch for side in grid]], **like).expand(batch, -1)
        return {
            "hidden_states": noised.to(**like),
            "encoder_hidden_states": text.embeddings.to(**like).expand(batch, -1, -1),
            "timestep": torch.full((batch,), timestep, dtype=torch.float32, device=self.device),
            "original_size": size,
            "target_size": size,
            "crop_coords": torch.zeros_like(size),
        }

    # --- generation ---------------------------------------------------------------------------------------------
    def call_options(self) -> dict[str, Any]:
        return {"max_sequence_length": self.text_length}
