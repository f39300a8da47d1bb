"""Pipelines whose latents and schedule are FLUX.1's: 2 x 2 patches as tokens, a flow shifted by their number."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import retrieve_timesteps
from torch import Tensor

from workbench.models.classifier_free import ClassifierFree
from workbench.models.latents import ScaledLatents
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Schedule, Text
from workbench.models.readers import TextReader
from workbench.models.schedules import checked_schedule, shift_of


class FluxLikePipeline(ScaledLatents):
    """Packed latents of an ``AutoencoderKL``, and a schedule that is shifted by the number of tokens.

    Attributes
    ----------
    leaves_sigmas : bool
        Whether the pipeline leaves the spacing to a scheduler that has its own.
    """

    leaves_sigmas: ClassVar[bool] = False

    @property
    def patch(self) -> int:
        return int(self.pipe.vae_scale_factor) * 2

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        scheduler = self.component("scheduler")
        config = scheduler.config
        rows, columns = self.grid(height, width)
        shift = shift_of(scheduler, rows * columns)
        own = self.leaves_sigmas and config.get("use_flow_sigmas")
        sigmas = None if own else np.linspace(1.0, 1 / steps, steps).tolist()
        checked = checked_schedule(
            scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas, mu=shift)
        )
        return Schedule.of_flow(checked)

    def noised(self, latents: Tensor, noise: Tensor, timestep: float) -> Tensor:
        mixed = super().noised(latents, noise, timestep)
        tokens: Tensor = self.pipe._pack_latents(mixed, *mixed.shape)
        return tokens

    def token_inputs(self, noised: Tensor, timestep: float, text: Text) -> dict[str, Any]:
        """Tokens of image and text, and the timestep from 0 to 1, as the transformer is given them."""
        like = {"device": self.device, "dtype": self.pipe.transformer.dtype}
        return {
            "hidden_states": noised.to(**like),
            "encoder_hidden_states": text.embeddings.to(**like).expand(len(noised), -1, -1),
            "timestep": torch.full((len(noised),), self.sigma(timestep), **like),
        }


class T5Text(PipelineAdapter):
    """Text of one T5, whose tokens begin at position 0.

    Attributes
    ----------
    t5_tokenizer : str
        Name of its tokenizer among the pipeline's components.
    """

    t5_tokenizer: ClassVar[str] = "tokenizer"

    @property
    def t5(self) -> TextReader:
        """How it reads a text."""
        return TextReader("T5", self.component(self.t5_tokenizer), self.text_length)

    def readers(self, made: bool) -> tuple[TextReader, ...]:
        return (self.t5,)

    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        words = self.t5.words(prompt)
        return list(range(len(words))), words


class GuidedFluxLike(ClassifierFree, FluxLikePipeline):
    """Ordinary classifier-free guidance in passes of their own, the conditional one first."""
