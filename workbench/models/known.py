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
        name="FLUX.1, image to image",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxImg2ImgPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxVariantAdapter",
        models=("FLUX.1-schnell", "FLUX.1-dev", "tiny-flux"),
        guidance="guidance= (distilled), true_guidance= with negative_prompt=",
        note="inputs: image, strength",
    ),
    Family(
        name="FLUX.1, inpainting",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxInpaintPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxInpaintAdapter",
        models=("FLUX.1-schnell", "FLUX.1-dev", "tiny-flux"),
        guidance="guidance= (distilled), true_guidance= with negative_prompt=",
        note="inputs: image, mask_image, strength",
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
        name="FLUX.1 Fill",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxFillPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxFillAdapter",
        models=("FLUX.1-Fill-dev",),
        guidance="guidance= (distilled)",
        note="generate only; inputs: image, mask_image, strength",
    ),
    Family(
        name="FLUX.1 Control",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxControlPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxControlAdapter",
        models=("FLUX.1-Canny-dev", "FLUX.1-Depth-dev"),
        guidance="guidance= (distilled)",
        note="generate only; inputs: control_image",
    ),
    Family(
        name="FLUX.1 with ControlNet",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxControlNetPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux_variants:FluxControlNetAdapter",
        models=("FLUX.1-dev with a ControlNet of its own",),
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
        note="the transformer of its edit pipelines is recorded with trace only",
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
