"""Pipelines whose latents and schedule are FLUX.1's: 2 x 2 patches as tokens, a flow shifted by their number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers.pipelines.flux.pipeline_flux import calculate_shift, retrieve_timesteps
from torch import Tensor

from workbench.models.guidance import Branch, alone, in_passes, refuse_true_guidance
from workbench.models.latents import Picture, ScaledLatents, rgb
from workbench.models.pipeline import PipelineAdapter, Schedule, Text
from workbench.models.readers import TextReader
from workbench.models.schedules import checked_schedule


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
        shift = calculate_shift(
            rows * columns,
            config.get("base_image_seq_len", 256),
            config.get("max_image_seq_len", 4096),
            config.get("base_shift", 0.5),
            config.get("max_shift", 1.15),
        )
        own = self.leaves_sigmas and config.get("use_flow_sigmas")
        sigmas = None if own else np.linspace(1.0, 1 / steps, steps).tolist()
        checked = checked_schedule(
            scheduler, steps, lambda copied: retrieve_timesteps(copied, steps, "cpu", sigmas=sigmas, mu=shift)
        )
        return Schedule.of_flow(checked)

    def noised(self, latents: Tensor, noise: Tensor, timestep: float) -> Tensor:
        sigma = self.sigma(timestep)
        mixed = sigma * noise + (1 - sigma) * latents
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


class GuidedFluxLike(FluxLikePipeline):
    """Ordinary classifier-free guidance in passes of their own, the conditional one first.

    Attributes
    ----------
    usual_steps, usual_guidance : int, float
        What the pipeline takes where nothing is said.
    """

    usual_steps: ClassVar[int]
    usual_guidance: ClassVar[float]

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", self.usual_steps))

    @property
    def default_guidance(self) -> float:
        return float(self.info.get("guidance", self.usual_guidance))

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        refuse_true_guidance(options)
        return self.guided() if options["guidance"] > 1 else alone()

    def guided(self) -> Mapping[str, Branch]:
        """Where the branches are when there is guidance."""
        return in_passes()

    def call_options(self) -> dict[str, Any]:
        """What the pipeline is called with beside what every one is."""
        return {"max_sequence_length": self.text_length}

    def generate(
        self,
        prompt: str,
        *,
        steps: int,
        guidance: float | None,
        seed: int,
        size: tuple[int, int],
        negative_prompt: str | None = None,
        true_guidance: float = 1.0,
    ) -> Picture:
        result = self.pipe(
            prompt,
            negative_prompt=negative_prompt,
            height=size[0],
            width=size[1],
            num_inference_steps=steps,
            guidance_scale=self.default_guidance if guidance is None else guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="pil",
            **self.call_options(),
        )
        return rgb(result.images)
