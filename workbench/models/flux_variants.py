"""Pipeline side of FLUX.1's variants: from a picture, inside a mask, under a control image, beside a reference."""

from __future__ import annotations

from typing import Any, ClassVar

from workbench.models.call_inputs import EMBEDDINGS, REFERENCE
from workbench.models.flux import SCHNELL_STEPS, FluxPipelineAdapter
from workbench.models.pipeline_variants import FROM_PICTURE, WITH_CONTROLNET, Variant


class FluxVariantAdapter(Variant, FluxPipelineAdapter):
    """``FluxImg2ImgPipeline`` begins with a noised picture, as far into the schedule as ``strength`` says.

    ``FluxInpaintPipeline`` does so too, and puts the noised picture back outside of the mask after every step.
    """

    extras: ClassVar[tuple[str, ...]] = (*FROM_PICTURE, *EMBEDDINGS)

    @property
    def default_steps(self) -> int:
        steps: int = self.default("num_inference_steps") if self._guided else SCHNELL_STEPS
        return int(self.info.get("steps", steps))

    @property
    def default_guidance(self) -> float | None:
        return float(self.default("guidance_scale")) if self._guided else None


class FluxChannelsAdapter(FluxVariantAdapter):
    """``FluxFillPipeline`` and ``FluxControlPipeline``: the transformer reads pictures in further channels.

    They are as many tokens as without: a masked picture with its mask, or a control image.
    """

    extras: ClassVar[tuple[str, ...]] = (*FROM_PICTURE, "control_image", *EMBEDDINGS)
    uncaptured: ClassVar[str] = "its transformer reads further pictures, in channels beside those of the noised one"


class FluxControlNetAdapter(FluxVariantAdapter):
    """``FluxControlNetPipeline``: residuals of another model are added to the image between blocks.

    Text and concepts see them through the image alone. A real image is captured without them.
    """

    extras: ClassVar[tuple[str, ...]] = (*WITH_CONTROLNET, "control_mode", *EMBEDDINGS)

    @property
    def default_guidance(self) -> float | None:
        nets: Any = getattr(self.pipe.controlnet, "nets", [self.pipe.controlnet])
        # The pipeline gives it to either model that was taught one.
        told = self._guided or any(net.config.guidance_embeds for net in nets)
        return float(self.default("guidance_scale")) if told else None


class FluxKontextAdapter(FluxVariantAdapter):
    """``FluxKontextPipeline``: the tokens of a reference image stand behind those of the picture."""

    extras: ClassVar[tuple[str, ...]] = ("image", "_auto_resize", *EMBEDDINGS)

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def left_out(self) -> str:
        return REFERENCE if "image" in self.extra else ""

    def _further(self, size: tuple[int, int]) -> dict[str, Any]:
        # The pipeline brings height and width to an area of its own otherwise.
        return {"max_area": size[0] * size[1]} | super()._further(size)
