"""The model families that are supported, as data that costs nothing to read: no torch, no diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from workbench.models.known_variants import VARIANTS
from workbench.schema import InputError


@dataclass(frozen=True)
class Licence:
    """A licence of weights.

    Attributes
    ----------
    name : str
        What it is called.
    models : tuple of str
        The weights, as people name them.
    terms : str
        What it forbids, in a few words; empty for one that forbids no use.
    """

    name: str
    models: tuple[str, ...]
    terms: str = ""


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
    licences : tuple of Licence
        Licences of weights that people load; those of others are on their model cards.
    distribution, version : str
        The installed distribution that brings the family, which fills them in; empty for the families of this package.

    Raises
    ------
    InputError
        If a field is of another kind.
    """

    name: str
    transformers: tuple[str, ...]
    pipelines: tuple[str, ...]
    adapter: str
    pipeline_adapter: str
    models: tuple[str, ...]
    guidance: str
    note: str = ""
    licences: tuple[Licence, ...] = ()
    distribution: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        # A string would be taken for the tuple of its letters.
        for field in ("transformers", "pipelines", "models"):
            value = getattr(self, field)
            if not isinstance(value, tuple) or not all(isinstance(name, str) and name for name in value):
                raise InputError(f"{field} of the family {self.name!r} is {value!r}; expected a tuple of names.")
        for field, classes in (("adapter", self.transformers), ("pipeline_adapter", self.pipelines)):
            value = getattr(self, field)
            named = isinstance(value, str) and all(value.partition(":")[::2])
            if not named and (classes or value != ""):
                raise InputError(
                    f"{field} of the family {self.name!r} is {value!r}; expected 'module:Class', such as "
                    "'my_family:MyAdapter'."
                )
        if not isinstance(self.name, str) or not self.name.strip():
            raise InputError(f"the name of a family is {self.name!r}; expected what people call it.")
        if not self.transformers and not self.pipelines:
            raise InputError(f"the family {self.name!r} names no class: give transformers=, pipelines=, or both.")

    @property
    def origin(self) -> str:
        """Where the family comes from: a distribution with its version, or this package."""
        return f"{self.distribution} {self.version}".strip() or "built in"


APACHE: Final = "Apache-2.0"
NON_COMMERCIAL: Final = "no commercial use"
SEE_CARD: Final = "see its model card"

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
        licences=(
            Licence(APACHE, ("FLUX.1-schnell",)),
            Licence(
                "FLUX.1 [dev] Non-Commercial License",
                (
                    "FLUX.1-dev",
                    "FLUX.1-Kontext-dev",
                    "FLUX.1-Fill-dev",
                    "FLUX.1-Redux-dev",
                    "FLUX.1-Canny-dev",
                    "FLUX.1-Depth-dev",
                ),
                NON_COMMERCIAL,
            ),
            Licence("MIT", ("tiny-flux",)),
        ),
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
        licences=(
            Licence(
                "Stability AI Community License",
                ("Stable Diffusion 3 medium", "3.5 medium", "3.5 large", "3.5 large turbo"),
                "commercial use up to a yearly revenue of 1 million US dollars",
            ),
        ),
    ),
    Family(
        name="FLUX.2",
        transformers=("Flux2Transformer2DModel",),
        pipelines=("Flux2Pipeline",),
        adapter="workbench.models.flux2:Flux2Adapter",
        pipeline_adapter="workbench.models.flux2_pipeline:Flux2PipelineAdapter",
        models=("FLUX.2-dev",),
        guidance="guidance= (distilled)",
        note="its text processor needs torchvision; inputs: image, one or a list, attended to and not recorded",
        licences=(Licence("FLUX [dev] Non-Commercial License", ("FLUX.2-dev",), NON_COMMERCIAL),),
    ),
    Family(
        name="FLUX.2 klein",
        transformers=("Flux2Transformer2DModel",),
        pipelines=("Flux2KleinPipeline",),
        adapter="workbench.models.flux2:Flux2Adapter",
        pipeline_adapter="workbench.models.klein_pipeline:KleinPipelineAdapter",
        models=("FLUX.2-klein",),
        guidance="guidance=",
        note="inputs: image, one or a list, attended to and not recorded",
        licences=(
            Licence(APACHE, ("FLUX.2-klein-4B",)),
            Licence("FLUX Non-Commercial License", ("FLUX.2-klein-9B",), NON_COMMERCIAL),
        ),
    ),
    Family(
        name="FLUX.3",
        transformers=("Flux3Transformer2DModel",),
        pipelines=(),
        adapter="workbench.models.flux3:Flux3Adapter",
        pipeline_adapter="",
        models=("FLUX.3",),
        guidance="of its modular pipeline",
        note="its pipeline is a modular one, which capture and generate do not take; the passes of its guider have no "
        "name: tell trace which are which with branches=",
        licences=(Licence("Black Forest Labs' own licence", ("FLUX.3",), SEE_CARD),),
    ),
    Family(
        name="Qwen-Image",
        transformers=("QwenImageTransformer2DModel",),
        pipelines=("QwenImagePipeline",),
        adapter="workbench.models.qwen:QwenAdapter",
        pipeline_adapter="workbench.models.qwen_pipeline:QwenPipelineAdapter",
        models=("Qwen-Image",),
        guidance="true_guidance= with negative_prompt=",
        licences=(Licence(APACHE, ("Qwen-Image", "Qwen-Image-Edit", "Qwen-Image-Edit-2509")),),
    ),
    *(Family(**row) for row in VARIANTS),
    Family(
        name="Chroma",
        transformers=("ChromaTransformer2DModel",),
        pipelines=("ChromaPipeline",),
        adapter="workbench.models.chroma:ChromaAdapter",
        pipeline_adapter="workbench.models.chroma_pipeline:ChromaPipelineAdapter",
        models=("Chroma1-HD", "Chroma1-Base", "Chroma1-Flash"),
        guidance="guidance=",
        note="the Flash model needs its own steps= and guidance=: its configuration does not say that it is one",
        licences=(Licence(APACHE, ("Chroma1-HD", "Chroma1-Base", "Chroma1-Flash")),),
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
        licences=(Licence(APACHE, ("LongCat-Image", "LongCat-Image-Dev", "LongCat-Image-Edit")),),
    ),
    Family(
        name="Ovis-Image",
        transformers=("OvisImageTransformer2DModel",),
        pipelines=("OvisImagePipeline",),
        adapter="workbench.models.ovis:OvisAdapter",
        pipeline_adapter="workbench.models.ovis_pipeline:OvisPipelineAdapter",
        models=("Ovis-Image-7B",),
        guidance="guidance=",
        licences=(Licence(APACHE, ("Ovis-Image-7B",)),),
    ),
    Family(
        name="Bria 3.2",
        transformers=("BriaTransformer2DModel",),
        pipelines=("BriaPipeline",),
        adapter="workbench.models.bria:BriaAdapter",
        pipeline_adapter="workbench.models.bria_pipeline:BriaPipelineAdapter",
        models=("BRIA-3.2",),
        guidance="guidance=",
        licences=(Licence("Bria's own licence", ("BRIA-3.2",), "commercial use needs an agreement with Bria"),),
    ),
    Family(
        name="Z-Image",
        transformers=("ZImageTransformer2DModel",),
        pipelines=("ZImagePipeline",),
        adapter="workbench.models.z_image:ZImageAdapter",
        pipeline_adapter="workbench.models.z_image_pipeline:ZImagePipelineAdapter",
        models=("Z-Image", "Z-Image-Turbo"),
        guidance="guidance=",
        note="the turbo model needs its own steps= and guidance=0: its configuration does not say that it is one",
        licences=(Licence(APACHE, ("Z-Image", "Z-Image-Turbo")),),
    ),
    Family(
        name="HunyuanImage 2.1",
        transformers=("HunyuanImageTransformer2DModel",),
        pipelines=("HunyuanImagePipeline",),
        adapter="workbench.models.hunyuan_image:HunyuanImageAdapter",
        pipeline_adapter="workbench.models.hunyuan_image_pipeline:HunyuanImagePipelineAdapter",
        models=("HunyuanImage-2.1", "HunyuanImage-2.1-Distilled"),
        guidance="guidance= (distilled); otherwise that of pipe.guider and pipe.ocr_guider, with negative_prompt=",
        note="the distilled model needs its own steps=",
        licences=(
            Licence(
                "Tencent Hunyuan Community License",
                ("HunyuanImage-2.1", "HunyuanImage-2.1-Distilled"),
                "not in the European Union, the United Kingdom and South Korea",
            ),
        ),
    ),
    Family(
        name="AuraFlow",
        transformers=("AuraFlowTransformer2DModel",),
        pipelines=("AuraFlowPipeline",),
        adapter="workbench.models.auraflow:AuraFlowAdapter",
        pipeline_adapter="workbench.models.auraflow_pipeline:AuraFlowPipelineAdapter",
        models=("AuraFlow", "AuraFlow-v0.2", "AuraFlow-v0.3"),
        guidance="guidance=",
        note="few of its blocks are dual ones: where no layers are named, those of both kinds are recorded",
        licences=(Licence(APACHE, ("AuraFlow", "AuraFlow-v0.2", "AuraFlow-v0.3")),),
    ),
    Family(
        name="Lumina-Image 2",
        transformers=("Lumina2Transformer2DModel",),
        pipelines=("Lumina2Pipeline",),
        adapter="workbench.models.lumina2:Lumina2Adapter",
        pipeline_adapter="workbench.models.lumina2_pipeline:Lumina2PipelineAdapter",
        models=("Lumina-Image-2.0",),
        guidance="guidance=",
        licences=(Licence(APACHE, ("Lumina-Image-2.0",)),),
    ),
    Family(
        name="CogView4",
        transformers=("CogView4Transformer2DModel",),
        pipelines=("CogView4Pipeline",),
        adapter="workbench.models.cogview4:CogView4Adapter",
        pipeline_adapter="workbench.models.cogview4_pipeline:CogView4PipelineAdapter",
        models=("CogView4-6B",),
        guidance="guidance=",
        note="timesteps are what the model is told, not 1000 x sigma: the coordinate sigma says how noisy it is",
        licences=(Licence(APACHE, ("CogView4-6B",)),),
    ),
)


def families() -> tuple[Family, ...]:
    """All families that are supported: those of this package, then those that installed distributions bring.

    Returns
    -------
    tuple of Family
        ``capture`` and ``generate`` take the pipeline classes that a family names, ``trace`` its transformer classes.
        See :mod:`workbench.models` for how to bring one.

    Warns
    -----
    WorkbenchWarning
        Once, if a distribution brings families that cannot be used; the others are.
    """
    from workbench.models.plugins import plugins

    return (*FAMILIES, *plugins().families)


def family_named(pipeline: str) -> Family | None:
    """The family that serves a pipeline class of this name; None where none does."""
    return next((family for family in families() if pipeline in family.pipelines), None)


def around_the_same(pipeline: str) -> tuple[str, ...]:
    """Names of the pipeline classes, itself among them, whose transformers are of the same class."""
    own = family_named(pipeline)
    sides = set(() if own is None else own.transformers)
    return tuple(one for family in families() if sides & set(family.transformers) for one in family.pipelines)
