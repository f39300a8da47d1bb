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
    Family(
        name="Chroma",
        transformers=("ChromaTransformer2DModel",),
        pipelines=("ChromaPipeline",),
        adapter="workbench.models.chroma:ChromaAdapter",
        pipeline_adapter="workbench.models.chroma_pipeline:ChromaPipelineAdapter",
        models=("Chroma1-HD", "Chroma1-Base", "Chroma1-Flash"),
        guidance="guidance=",
        note="the Flash model needs its own steps= and guidance=: its configuration does not say that it is one",
    ),
    Family(
        name="LongCat-Image",
        transformers=("LongCatImageTransformer2DModel",),
        pipelines=("LongCatImagePipeline",),
        adapter="workbench.models.longcat:LongCatAdapter",
        pipeline_adapter="workbench.models.longcat_pipeline:LongCatPipelineAdapter",
        models=("LongCat-Image", "LongCat-Image-Dev"),
        guidance="guidance=",
        note="prompts are taken as they are: the pipeline's rewriting of them is off; the transformer of its edit "
        "pipeline is recorded with trace only",
    ),
    Family(
        name="Ovis-Image",
        transformers=("OvisImageTransformer2DModel",),
        pipelines=("OvisImagePipeline",),
        adapter="workbench.models.ovis:OvisAdapter",
        pipeline_adapter="workbench.models.ovis_pipeline:OvisPipelineAdapter",
        models=("Ovis-Image-7B",),
        guidance="guidance=",
    ),
    Family(
        name="Bria 3.2",
        transformers=("BriaTransformer2DModel",),
        pipelines=("BriaPipeline",),
        adapter="workbench.models.bria:BriaAdapter",
        pipeline_adapter="workbench.models.bria_pipeline:BriaPipelineAdapter",
        models=("BRIA-3.2",),
        guidance="guidance=",
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
