"""Pipeline side of FLUX.1's variants: from a picture, inside a mask, under a control image, beside a reference."""

from __future__ import annotations

from typing import Any, ClassVar

from workbench.models.call_inputs import EMBEDDINGS, STRENGTH
from workbench.models.flux import SCHNELL_STEPS, FluxPipelineAdapter
from workbench.models.variants import REFERENCE, Variant


class FluxVariantAdapter(Variant, FluxPipelineAdapter):
    """``FluxImg2ImgPipeline``: begins with a noised picture, as far into the schedule as ``strength`` says."""

    extras: ClassVar[tuple[str, ...]] = ("image", STRENGTH, *EMBEDDINGS)
    needs: ClassVar[tuple[str, ...]] = ("image",)

    @property
    def default_steps(self) -> int:
        steps: int = self.default("num_inference_steps") if self._guided else SCHNELL_STEPS
        return int(self.info.get("steps", steps))

    @property
    def default_guidance(self) -> float | None:
        return float(self.default("guidance_scale")) if self._guided else None


class FluxInpaintAdapter(FluxVariantAdapter):
    """``FluxInpaintPipeline``: outside of the mask, every step is given the noised picture again."""

    extras: ClassVar[tuple[str, ...]] = ("image", "mask_image", STRENGTH, *EMBEDDINGS)
    needs: ClassVar[tuple[str, ...]] = ("image", "mask_image")


class FluxFillAdapter(FluxInpaintAdapter):
    """``FluxFillPipeline``: the transformer reads the masked picture and the mask beside the noised latents."""

    uncaptured: ClassVar[str] = (
        "its transformer reads a masked picture and a mask in further channels beside the noised picture"
    )


class FluxControlAdapter(FluxVariantAdapter):
    """``FluxControlPipeline``: the transformer reads a control image in further channels."""

    extras: ClassVar[tuple[str, ...]] = ("control_image", *EMBEDDINGS)
    needs: ClassVar[tuple[str, ...]] = ("control_image",)
    uncaptured: ClassVar[str] = "its transformer reads a control image in further channels beside the noised picture"


class FluxControlNetAdapter(FluxVariantAdapter):
    """``FluxControlNetPipeline``: residuals of another model are added to the image between blocks.

    Text and concepts see them through the image alone. A real image is captured without them.
    """

    extras: ClassVar[tuple[str, ...]] = (
        "control_image",
        "control_mode",
        "controlnet_conditioning_scale",
        "control_guidance_start",
        "control_guidance_end",
        *EMBEDDINGS,
    )
    needs: ClassVar[tuple[str, ...]] = ("control_image",)

    @property
    def default_guidance(self) -> float | None:
        nets: Any = getattr(self.pipe.controlnet, "nets", [self.pipe.controlnet])
        # The pipeline gives it to either model that was taught one.
        told = self._guided or any(net.config.guidance_embeds for net in nets)
        return float(self.default("guidance_scale")) if told else None

    @property
    def several(self) -> bool:
        return hasattr(self.pipe.controlnet, "nets")


class FluxKontextAdapter(FluxVariantAdapter):
    """``FluxKontextPipeline``: the tokens of a reference image stand behind those of the picture."""

    extras: ClassVar[tuple[str, ...]] = ("image", "_auto_resize", *EMBEDDINGS)
    needs: ClassVar[tuple[str, ...]] = ()

    @property
    def left_out(self) -> str:
        return REFERENCE if "image" in self.extra else ""

    def _further(self, size: tuple[int, int]) -> dict[str, Any]:
        # The pipeline brings height and width to an area of its own otherwise.
        return {"max_area": size[0] * size[1]} | super()._further(size)
