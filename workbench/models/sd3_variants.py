"""Pipeline side of the variants of Stable Diffusion 3 and 3.5: from a picture, inside a mask, with a ControlNet."""

from __future__ import annotations

from typing import ClassVar

import torch

from workbench.models.latents import Picture
from workbench.models.pipeline_records import Schedule
from workbench.models.pipeline_variants import WITH_CONTROLNET, GuidedFromPicture
from workbench.models.sd3_pipeline import SD3PipelineAdapter
from workbench.schema import ModelError


class SD3VariantAdapter(GuidedFromPicture, SD3PipelineAdapter):
    """``StableDiffusion3Img2ImgPipeline`` and ``StableDiffusion3InpaintPipeline``: they begin with a noised picture."""


class SD3ControlNetAdapter(SD3VariantAdapter):
    """``StableDiffusion3ControlNetPipeline``: residuals of another model are added to the image between blocks.

    It encodes the control image with noise of torch's own generator, which is seeded for the call and put back behind
    it. A real image is captured without the ControlNet.
    """

    extras: ClassVar[tuple[str, ...]] = WITH_CONTROLNET

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        if self.component("scheduler").config.get("use_dynamic_shifting"):
            raise ModelError(
                f"the pipeline's scheduler shifts its steps by the picture's size (use_dynamic_shifting), which "
                f"{type(self.pipe).__name__} does not tell it: use one of a constant shift."
            )
        return super().schedule(steps, height, width)

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
        kind = self.device.type if self.device.type != "cpu" else "cuda"
        devices = range(torch.get_device_module(kind).device_count())
        with torch.random.fork_rng(devices, device_type=kind):  # as many as are seeded
            torch.manual_seed(seed)
            return super().generate(
                prompt,
                steps=steps,
                guidance=guidance,
                seed=seed,
                size=size,
                negative_prompt=negative_prompt,
                true_guidance=true_guidance,
            )
