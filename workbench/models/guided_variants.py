"""Pipeline side of variants with ordinary guidance: Chroma from a picture, Z-Image from one or inside a mask."""

from __future__ import annotations

from typing import Any, ClassVar

from workbench.models.chroma_pipeline import ChromaPipelineAdapter
from workbench.models.classifier_free import ClassifierFree
from workbench.models.latents import Picture
from workbench.models.pipeline_variants import FROM_PICTURE, Variant
from workbench.models.z_image_pipeline import ZImagePipelineAdapter


class GuidedVariant(Variant, ClassifierFree):
    """They begin with a noised picture, as far into the schedule as ``strength`` says, with defaults of their own."""

    extras: ClassVar[tuple[str, ...]] = FROM_PICTURE

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", self.default("num_inference_steps")))

    @property
    def default_guidance(self) -> float:
        return float(self.info.get("guidance", self.default("guidance_scale")))


class ChromaVariantAdapter(GuidedVariant, ChromaPipelineAdapter):
    """``ChromaImg2ImgPipeline``."""


class ZImageVariantAdapter(GuidedVariant, ZImagePipelineAdapter):
    """``ZImageImg2ImgPipeline`` and ``ZImageInpaintPipeline``.

    They take pictures of the size of the new one only, and are given the picture resized to it. Inpainting puts the
    noised picture back outside of the mask after every step.
    """

    def generate(self, prompt: str, *, size: tuple[int, int], **options: Any) -> Picture:
        height, width = size
        picture = self.pipe.image_processor.resize(self.extra["image"], height, width)
        sized = self.with_inputs({**self.extra, "image": picture})
        return super(ZImageVariantAdapter, sized).generate(prompt, size=size, **options)
