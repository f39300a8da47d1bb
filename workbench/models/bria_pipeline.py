"""Pipeline side of Bria 3.2: T5 text with zeros behind it, ordinary guidance in one batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.bria.pipeline_bria import get_original_sigmas
from diffusers.pipelines.flux.pipeline_flux import retrieve_timesteps
from torch import Tensor

from workbench.models.bria import BriaAdapter
from workbench.models.flux_like_pipeline import GuidedFluxLike, T5Text
from workbench.models.guidance import Branch, in_batch
from workbench.models.pipeline_records import Schedule, Text
from workbench.models.schedules import checked_schedule

TEXT_LENGTH = 128


class BriaPipelineAdapter(T5Text, GuidedFluxLike):
    """``BriaPipeline``: T5 reads the text unpadded, and zeros follow, which the transformer attends to.

    Without a negative prompt the unconditional text is zeros too. No public code of the method has this family: its
    conventions here are ours, and FLUX.1's where that has any. Heat maps so are of the second half of the dual blocks
    and of timestep 500.
    """

    transformer_side: ClassVar[type[BriaAdapter]] = BriaAdapter
    usual_steps = 30
    usual_guidance = 5.0
    _is_negative = False

    @property
    def patch(self) -> int:
        # The pipeline counts the patches of 2 x 2 in.
        return int(self.pipe.vae_scale_factor)

    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    def negative(self) -> Self:
        other = copy.copy(self)
        other._is_negative = True
        return other

    def padding(self, prompt: str) -> list[bool]:
        # An empty negative prompt is not read: zeros stand in place of all of it.
        return [True] * self.text_length if self._is_negative and not prompt else super().padding(prompt)

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        self.component("text_encoder")
        embeddings, _, _ = self.pipe.encode_prompt(
            prompt, self.device, do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return Text(embeddings)

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        if isinstance(scheduler, FlowMatchEulerDiscreteScheduler) and scheduler.config.use_dynamic_shifting:
            return super().schedule(steps, height, width)
        sigmas = get_original_sigmas(scheduler.config.num_train_timesteps, steps)
        return Schedule.of_flow(
            checked_schedule(scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas))
        )

    def guided(self) -> Mapping[str, Branch]:
        return in_batch()

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        (ids,) = self.pipe._prepare_latent_image_ids(1, *grid, **like)
        return self.token_inputs(noised, timestep, text) | {
            "timestep": torch.full((batch,), timestep, dtype=torch.float32, device=self.device),
            "img_ids": ids,
            "txt_ids": torch.zeros(text.embeddings.shape[1], 3, dtype=torch.float32, device=self.device),
        }
