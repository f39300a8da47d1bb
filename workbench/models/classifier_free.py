"""Ordinary classifier-free guidance: how a pipeline is told of it, and called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from workbench.models.guidance import Branch, alone, in_passes, refuse_true_guidance
from workbench.models.latents import Picture, rgb
from workbench.models.pipeline import PipelineAdapter


class ClassifierFree(PipelineAdapter):
    """A pipeline that takes the strength of its guidance, and the negative prompt, as arguments of its call.

    Attributes
    ----------
    usual_steps, usual_guidance : int, float
        What the pipeline takes where nothing is said.
    unguided : float
        The strongest guidance that is none.
    """

    usual_steps: ClassVar[int]
    usual_guidance: ClassVar[float]
    unguided: ClassVar[float] = 1.0

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", self.usual_steps))

    @property
    def default_guidance(self) -> float:
        return float(self.info.get("guidance", self.usual_guidance))

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        refuse_true_guidance(options)
        return self.guided() if options["guidance"] > self.unguided else alone()

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
            **self.extra,
        )
        return rgb(result.images)
