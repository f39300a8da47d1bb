"""Pipeline side of AuraFlow: text of a T5 behind registers, ordinary guidance in one batch, an upcast autoencoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from diffusers.pipelines.aura_flow.pipeline_aura_flow import retrieve_timesteps
from torch import Tensor

from workbench.models.auraflow import AuraFlowAdapter, positions_of
from workbench.models.classifier_free import ClassifierFree
from workbench.models.guidance import Branch, in_batch
from workbench.models.latents import Picture, ScaledLatents
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Posterior, Schedule, Text
from workbench.models.schedules import checked_schedule
from workbench.models.templates import TemplatePipeline, TemplateReader
from workbench.schema import InputError

TEXT_LENGTH = 256
NATIVE = 1024
"""Sides of the square that the model was made for, in pixels: its configuration's ``sample_size`` is half of it."""


class AuraFlowPipelineAdapter(ClassifierFree, ScaledLatents, TemplatePipeline):
    """``AuraFlowPipeline``.

    A T5 reads the text without a template, padded with zeros that are attended. The transformer's text begins with
    eight registers, so that the prompt's tokens are behind them. No public code of the method has this family: heat
    maps are of the second half of all blocks, most of which are single ones, and of timestep 500, as FLUX.1's.
    """

    transformer_side: ClassVar[type[AuraFlowAdapter]] = AuraFlowAdapter
    shifted = False
    usual_steps = 50
    usual_guidance = 3.5

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * int(self.pipe.transformer.config.patch_size)

    @property
    def _longest(self) -> int:
        """Pixels of the longest side that the model has positions for."""
        return positions_of(self.pipe.transformer) * self.patch

    @property
    def native(self) -> tuple[int, int]:
        if "size" in self.info:
            return super().native
        side = min(NATIVE, self._longest)
        return side, side

    def native_size(self, height: int, width: int) -> tuple[int, int]:
        found = super().native_size(height, width)
        if max(found) <= self._longest:
            return found
        scale = self._longest / max(height, width)
        rounded = (max(1, round(side * scale / self.patch)) * self.patch for side in (height, width))
        return next(rounded), next(rounded)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        found = super().grid(height, width)
        if max(height, width) > self._longest:
            raise InputError(
                f"size {height} x {width} has {' x '.join(map(str, found))} patches, and the model has positions for "
                f"{self._longest // self.patch} of a side: the longer side may be {self._longest} pixels."
            )
        return found

    # --- text ---------------------------------------------------------------------------------------------------
    @property
    def _registers(self) -> int:
        return self.inner.registers

    @property
    def _read(self) -> int:
        return int(self.info.get("text_length", TEXT_LENGTH))

    @property
    def text_length(self) -> int:
        return self._registers + self._read

    @property
    def reader(self) -> TemplateReader:
        return TemplateReader("T5", self.component("tokenizer"), self._read, str, special=True)

    def concept_tokens(self, concept: str) -> list[int]:
        return list(self.reader.place(concept).positions)

    concept_positions = PipelineAdapter.concept_positions  # text has no positions

    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        positions, words = super().prompt_tokens(prompt)
        return [self._registers + position for position in positions], words

    def padding(self, prompt: str) -> list[bool]:
        return [False] * self._registers + super().padding(prompt)

    @torch.no_grad()
    def encode_prompt(self, prompt: str) -> Text:
        embeddings, *_ = self.pipe.encode_prompt(
            prompt, do_classifier_free_guidance=False, device=self.device, max_sequence_length=self._read
        )
        return Text(embeddings)

    # --- latents ------------------------------------------------------------------------------------------------
    @contextmanager
    def _upcast(self) -> Iterator[None]:
        """The autoencoder in float32 where the pipeline has it so, since it overflows in float16; as it was after."""
        vae = self.component("vae")
        if vae.dtype != torch.float16 or not vae.config.force_upcast:
            yield
            return
        vae.to(torch.float32)
        try:
            yield
        finally:
            vae.to(torch.float16)

    def encode_image(self, image: Picture) -> Posterior:
        with self._upcast():
            return super().encode_image(image)

    def decode(self, latents: Tensor) -> Picture:
        with self._upcast():
            return super().decode(latents)

    def inputs(self, noised: Tensor, timestep: float, text: Text, grid: tuple[int, int]) -> dict[str, Any]:
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        batch = len(noised)
        return {
            "hidden_states": noised.to(**like),
            "encoder_hidden_states": text.embeddings.to(**like).expand(batch, -1, -1),
            "timestep": torch.full((batch,), self.sigma(timestep), **like),
        }

    # --- generation ---------------------------------------------------------------------------------------------
    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        return Schedule.of_flow(
            checked_schedule(
                self.component("scheduler"), steps, lambda copied: retrieve_timesteps(copied, steps, "cpu")
            )
        )

    def guided(self) -> Mapping[str, Branch]:
        return in_batch("unconditional")

    def call_options(self) -> dict[str, Any]:
        return {"max_sequence_length": self._read}

    def generate(self, prompt: str, **options: Any) -> Picture:
        # Left to itself the pipeline would keep the autoencoder in float32, which is another fingerprint.
        with self._upcast():
            return super().generate(prompt, **options)
