"""Pipeline side of Z-Image: captions of their own length, ordinary guidance in one batch with the prompt first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from diffusers.pipelines.z_image.pipeline_z_image import (
    get_default_z_image_sigmas,
    retrieve_timesteps,
)
from torch import Tensor

from workbench.models.classifier_free import ClassifierFree
from workbench.models.guidance import Branch, in_batch
from workbench.models.latents import ScaledLatents
from workbench.models.pipeline_records import Schedule, Text
from workbench.models.schedules import checked_schedule, shift_of
from workbench.models.templates import TemplatePipeline, TemplateReader
from workbench.models.z_image import ZImageAdapter, padded

TEXT_LENGTH = 512
NATIVE = 1024


class ZImagePipelineAdapter(ClassifierFree, ScaledLatents, TemplatePipeline):
    """``ZImagePipeline``, of Z-Image and Z-Image-Turbo.

    Qwen3 reads the text behind the start of the user's turn, so that a concept's first token stands at position 3. The
    caption is padded to a multiple of 32 with learned tokens that are attended: concepts have none of them. No public
    code of the method has this family; heat maps are of the second half of the blocks and of timestep 500, as FLUX.1's.
    """

    transformer_side: ClassVar[type[ZImageAdapter]] = ZImageAdapter
    usual_steps = 50
    usual_guidance = 5.0
    unguided = 0.0

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * 2

    @property
    def native(self) -> tuple[int, int]:
        return super().native if "size" in self.info else (NATIVE, NATIVE)

    # --- text ---------------------------------------------------------------------------------------------------
    @property
    def text_length(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    def length_of(self, prompt: str) -> int:
        return len(self.padding(prompt))

    def padding(self, prompt: str) -> list[bool]:
        own = super().padding(prompt)
        return own + [True] * (padded(len(own)) - len(own))

    def template(self, text: str) -> str:
        """What the language model is given for a text."""
        messages = [{"role": "user", "content": text}]
        return str(
            self.component("tokenizer").apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=True
            )
        )

    @property
    def reader(self) -> TemplateReader:
        return TemplateReader("Qwen3", self.component("tokenizer"), self.text_length, self.template, padded=False)

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        (embeddings,), _ = self.pipe.encode_prompt(
            prompt, device=self.device, do_classifier_free_guidance=False, max_sequence_length=self.text_length
        )
        return Text(embeddings[None])

    # --- a real image -------------------------------------------------------------------------------------------
    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        return {
            "x": list(noised.to(**like).unsqueeze(2)),  # pictures of one frame
            "t": torch.full((batch,), 1 - self.sigma(timestep), dtype=torch.float32, device=self.device),
            "cap_feats": list(text.embeddings.to(**like).expand(batch, -1, -1)),
        }

    # --- generation ---------------------------------------------------------------------------------------------
    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        rows, columns = self.grid(height, width)
        shift = shift_of(scheduler, rows * columns)
        sigmas = get_default_z_image_sigmas(steps)
        checked = checked_schedule(
            scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas, mu=shift)
        )
        return Schedule.of_flow(checked)

    def guided(self) -> Mapping[str, Branch]:
        return in_batch("conditional")
