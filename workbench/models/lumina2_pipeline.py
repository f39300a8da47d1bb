"""Pipeline side of Lumina-Image 2: a system prompt before the prompt, none before the negative one, two passes."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from diffusers.pipelines.lumina2.pipeline_lumina2 import retrieve_timesteps
from torch import Tensor

from workbench.models.classifier_free import ClassifierFree
from workbench.models.latents import ScaledLatents
from workbench.models.lumina2 import Lumina2Adapter
from workbench.models.pipeline_records import Schedule, Text
from workbench.models.schedules import checked_schedule, shift_of
from workbench.models.templates import TemplatePipeline, TemplateReader

TEXT_LENGTH = 256


class Lumina2PipelineAdapter(ClassifierFree, ScaledLatents, TemplatePipeline):
    """``Lumina2Pipeline``, of Lumina-Image 2.

    Gemma reads a system prompt, then the text; negative prompts have no system prompt. Padding is dropped before the
    blocks. No public code of the method has this family: heat maps are of the second half of the blocks and of timestep
    500, as FLUX.1's.
    """

    transformer_side: ClassVar[type[Lumina2Adapter]] = Lumina2Adapter
    usual_steps = 30
    usual_guidance = 4.0
    _is_negative = False

    def negative(self) -> Self:
        other = copy.copy(self)
        other._is_negative = True
        return other

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * int(self.pipe.transformer.config.patch_size)

    # --- text ---------------------------------------------------------------------------------------------------
    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    def length_of(self, prompt: str) -> int:
        return len(self.padding(prompt))

    def template(self, text: str) -> str:
        """What the language model is given for a text."""
        return text if self._is_negative else f"{self.pipe.system_prompt} <Prompt Start> {text}"

    @property
    def reader(self) -> TemplateReader:
        tokenizer = self.component("tokenizer")
        return TemplateReader("Gemma", tokenizer, self.text_length, self.template, padded=False, special=True)

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings, mask, *_ = self.pipe.encode_prompt(
            prompt, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self.text_length
        )
        return Text(embeddings, mask=mask)

    # --- a real image -------------------------------------------------------------------------------------------
    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        assert text.mask is not None
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        return {
            "hidden_states": noised.to(**like),
            "timestep": torch.full((batch,), 1 - self.sigma(timestep), dtype=torch.float32, device=self.device),
            "encoder_hidden_states": text.embeddings.to(**like).expand(batch, -1, -1),
            "encoder_attention_mask": text.mask.to(self.device).expand(batch, -1),
        }

    # --- generation ---------------------------------------------------------------------------------------------
    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        # The pipeline takes the channels of the latents for the number of patches.
        shift = shift_of(scheduler, self.pipe.transformer.config.in_channels)
        sigmas: Any = np.linspace(1.0, 1 / steps, steps)
        checked = checked_schedule(
            scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas, mu=shift)
        )
        return Schedule.of_flow(checked)

    def call_options(self) -> dict[str, Any]:
        return {"max_sequence_length": self.text_length}
