"""Pipeline side of variants with ordinary guidance: Chroma from a picture, Z-Image from one or inside a mask."""

from __future__ import annotations

from typing import Any

from workbench.models.chroma_pipeline import ChromaPipelineAdapter
from workbench.models.classifier_free import ClassifierFree
from workbench.models.latents import Picture
from workbench.models.pipeline_variants import GuidedFromPicture
from workbench.models.z_image_pipeline import ZImagePipelineAdapter


class GuidedVariant(GuidedFromPicture, ClassifierFree):
    """From a picture, with ordinary guidance."""


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
