"""The model families that are supported, as data that costs nothing to read: no torch, no diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Family:
    """A model family.

    Attributes
    ----------
    name : str
        What people call it.
    transformers, pipelines : tuple of str
        Names of the diffusers classes that its adapters serve, with their subclasses.
    adapter, pipeline_adapter : str
        ``"module:Class"`` of a :class:`.transformer.TransformerAdapter` and of a :class:`.pipeline.PipelineAdapter`.
    models : tuple of str
        Models that people know it by.
    guidance : str
        How ``generate`` is told the strength of guidance.
    note : str
        What else a user has to know; empty where there is nothing.
    """

    name: str
    transformers: tuple[str, ...]
    pipelines: tuple[str, ...]
    adapter: str
    pipeline_adapter: str
    models: tuple[str, ...]
    guidance: str
    note: str = ""


FAMILIES: Final = (
    Family(
        name="FLUX.1",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux:FluxPipelineAdapter",
        models=("FLUX.1-schnell", "FLUX.1-dev", "tiny-flux"),
        guidance="guidance= (distilled), true_guidance= with negative_prompt=",
        note="inputs: prompt_embeds and pooled_prompt_embeds in place of a prompt, as FLUX.1 Redux makes them",
    ),
    Family(
        name="FLUX.1 from a picture",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxImg2ImgPipeline", "FluxInpaintPipeline"),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxVariantAdapter",
        models=("FLUX.1-schnell", "FLUX.1-dev", "tiny-flux"),
        guidance="guidance= (distilled), true_guidance= with negative_prompt=",
        note="inputs: image, strength; mask_image for inpainting",
    ),
    Family(
        name="FLUX.1 Kontext",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxKontextPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxKontextAdapter",
        models=("FLUX.1-Kontext-dev",),
        guidance="guidance= (distilled), true_guidance= with negative_prompt=",
        note="inputs: image, whose tokens are attended to and not recorded",
    ),
    Family(
        name="FLUX.1 Fill and Control",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxFillPipeline", "FluxControlPipeline"),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxChannelsAdapter",
        models=("FLUX.1-Fill-dev", "FLUX.1-Canny-dev", "FLUX.1-Depth-dev"),
        guidance="guidance= (distilled)",
        note="generate only; inputs: image, mask_image and strength of Fill, control_image of Control",
    ),
    Family(
        name="FLUX.1 with a ControlNet",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxControlNetPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxControlNetAdapter",
        models=("FLUX.1-dev",),
        guidance="guidance= (distilled), true_guidance= with negative_prompt=",
        note="inputs: control_image, control_mode and the ControlNet's scales; a capture leaves the ControlNet out",
    ),
    Family(
        name="Stable Diffusion 3, 3.5",
        transformers=("SD3Transformer2DModel",),
        pipelines=("StableDiffusion3Pipeline",),
        adapter="workbench.models.sd3:SD3Adapter",
        pipeline_adapter="workbench.models.sd3_pipeline:SD3PipelineAdapter",
        models=("Stable Diffusion 3 medium", "3.5 medium", "3.5 large", "3.5 large turbo"),
        guidance="guidance=",
        note="the turbo model needs its own steps= and guidance=: its configuration does not say that it is one",
    ),
    Family(
        name="Stable Diffusion 3, 3.5 from a picture",
        transformers=("SD3Transformer2DModel",),
        pipelines=("StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
        adapter="workbench.models.sd3:SD3Adapter",
        pipeline_adapter="workbench.models.sd3_variants:SD3VariantAdapter",
        models=("Stable Diffusion 3 medium", "3.5 medium", "3.5 large"),
        guidance="guidance=",
        note="inputs: image, strength; mask_image for inpainting",
    ),
    Family(
        name="Stable Diffusion 3, 3.5 with a ControlNet",
        transformers=("SD3Transformer2DModel",),
        pipelines=("StableDiffusion3ControlNetPipeline",),
        adapter="workbench.models.sd3:SD3Adapter",
        pipeline_adapter="workbench.models.sd3_variants:SD3ControlNetAdapter",
        models=("Stable Diffusion 3 medium", "3.5 medium", "3.5 large"),
        guidance="guidance=",
        note="inputs: control_image and the ControlNet's scales; a capture leaves the ControlNet out",
    ),
    Family(
        name="FLUX.2",
        transformers=("Flux2Transformer2DModel",),
        pipelines=("Flux2Pipeline",),
        adapter="workbench.models.flux2:Flux2Adapter",
        pipeline_adapter="workbench.models.flux2_pipeline:Flux2PipelineAdapter",
        models=("FLUX.2-dev",),
        guidance="guidance= (distilled)",
        note="its text processor needs torchvision",
    ),
    Family(
        name="FLUX.2 klein",
        transformers=("Flux2Transformer2DModel",),
        pipelines=("Flux2KleinPipeline",),
        adapter="workbench.models.flux2:Flux2Adapter",
        pipeline_adapter="workbench.models.klein_pipeline:KleinPipelineAdapter",
        models=("FLUX.2-klein",),
        guidance="guidance=",
    ),
    Family(
        name="Qwen-Image",
        transformers=("QwenImageTransformer2DModel",),
        pipelines=("QwenImagePipeline",),
        adapter="workbench.models.qwen:QwenAdapter",
        pipeline_adapter="workbench.models.qwen_pipeline:QwenPipelineAdapter",
        models=("Qwen-Image",),
        guidance="true_guidance= with negative_prompt=",
    ),
    Family(
        name="Qwen-Image from a picture, or with a ControlNet",
        transformers=("QwenImageTransformer2DModel",),
        pipelines=("QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline", "QwenImageControlNetPipeline"),
        adapter="workbench.models.qwen:QwenAdapter",
        pipeline_adapter="workbench.models.qwen_variants:QwenVariantAdapter",
        models=("Qwen-Image",),
        guidance="true_guidance= with negative_prompt=",
        note="inputs: image, strength; mask_image for inpainting; control_image and the ControlNet's scales",
    ),
    Family(
        name="Qwen-Image-Edit",
        transformers=("QwenImageTransformer2DModel",),
        pipelines=("QwenImageEditPipeline",),
        adapter="workbench.models.qwen:QwenAdapter",
        pipeline_adapter="workbench.models.qwen_variants:QwenEditAdapter",
        models=("Qwen-Image-Edit",),
        guidance="true_guidance= with negative_prompt=",
        note="generate only; inputs: image, seen by the text encoder, its tokens attended to and not recorded",
    ),
    Family(
        name="Qwen-Image-Edit 2509 and later",
        transformers=("QwenImageTransformer2DModel",),
        pipelines=("QwenImageEditPlusPipeline",),
        adapter="workbench.models.qwen:QwenAdapter",
        pipeline_adapter="workbench.models.qwen_variants:QwenEditPlusAdapter",
        models=("Qwen-Image-Edit-2509",),
        guidance="true_guidance= with negative_prompt=",
        note="generate only; inputs: image, one or a list, as in Qwen-Image-Edit",
    ),
)


def families() -> tuple[Family, ...]:
    """All families that are supported, in the order in which they are tried.

    Returns
    -------
    tuple of Family
        ``capture`` and ``generate`` take the pipeline classes that a family names, ``trace`` its transformer classes.
    """
    return FAMILIES


def family_named(pipeline: str) -> Family | None:
    """The family that serves a pipeline class of this name; None where none does."""
    return next((family for family in families() if pipeline in family.pipelines), None)
