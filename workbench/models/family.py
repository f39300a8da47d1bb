"""Model families as data: which adapters serve which diffusers classes, found by the classes' names.

Classes are matched by name along the method resolution order, and adapters are imported when they match: knowing a
family costs nothing until one of its models is met.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from workbench.models.pipeline import PipelineAdapter
from workbench.models.quiet import imported
from workbench.models.shortcuts import refuse_shortcuts
from workbench.models.transformer import TransformerAdapter
from workbench.schema import ModelError


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
    """

    name: str
    transformers: tuple[str, ...]
    pipelines: tuple[str, ...]
    adapter: str
    pipeline_adapter: str


FAMILIES: Final = (
    Family(
        name="FLUX.1",
        transformers=("FluxTransformer2DModel",),
        pipelines=("FluxPipeline",),
        adapter="workbench.models.flux:FluxAdapter",
        pipeline_adapter="workbench.models.flux:FluxPipelineAdapter",
    ),
    Family(
        name="Stable Diffusion 3, 3.5",
        transformers=("SD3Transformer2DModel",),
        pipelines=("StableDiffusion3Pipeline",),
        adapter="workbench.models.sd3:SD3Adapter",
        pipeline_adapter="workbench.models.sd3_pipeline:SD3PipelineAdapter",
    ),
    Family(
        name="FLUX.2",
        transformers=("Flux2Transformer2DModel",),
        pipelines=("Flux2Pipeline",),
        adapter="workbench.models.flux2:Flux2Adapter",
        pipeline_adapter="workbench.models.flux2_pipeline:Flux2PipelineAdapter",
    ),
    Family(
        name="FLUX.2 klein",
        transformers=("Flux2Transformer2DModel",),
        pipelines=("Flux2KleinPipeline",),
        adapter="workbench.models.flux2:Flux2Adapter",
        pipeline_adapter="workbench.models.flux2_pipeline:KleinPipelineAdapter",
    ),
    Family(
        name="Qwen-Image",
        transformers=("QwenImageTransformer2DModel",),
        pipelines=("QwenImagePipeline",),
        adapter="workbench.models.qwen:QwenAdapter",
        pipeline_adapter="workbench.models.qwen_pipeline:QwenPipelineAdapter",
    ),
)


def families() -> tuple[Family, ...]:
    """All families that are known, in the order in which they are tried."""
    return FAMILIES


def family_named(pipeline: str) -> Family | None:
    """The family that serves a pipeline class of this name; None where none does."""
    return next((family for family in families() if pipeline in family.pipelines), None)


def pipeline_names() -> tuple[str, ...]:
    """Names of all pipeline classes that are served."""
    return tuple(name for family in families() for name in family.pipelines)


def transformer_names() -> tuple[str, ...]:
    """Names of all transformer classes that are served."""
    return tuple(name for family in families() for name in family.transformers)


def adapter_for(transformer: Any) -> TransformerAdapter:
    """Return the adapter of a transformer; a compiled one is unwrapped.

    Raises
    ------
    ModelError
        If its class is not supported, or a step-skipping cache is enabled on it.
    """
    module: Any = getattr(transformer, "_orig_mod", transformer)
    family = _serving("transformers", module)
    if family is None:
        _refuse_wrapped(module)
        raise _unsupported("transformer", module, transformer_names())
    refuse_shortcuts(module)
    adapter: TransformerAdapter = imported(*family.adapter.split(":"))(module)
    return adapter


def pipeline_adapter_for(pipe: Any, info: Mapping[str, Any] | None = None) -> PipelineAdapter:
    """Return the adapter of a loaded pipeline.

    Parameters
    ----------
    pipe : DiffusionPipeline
        The pipeline.
    info : mapping, optional
        Contents of the ``workbench.json`` beside its ``model_index.json``.

    Raises
    ------
    ModelError
        If its class, or that of its transformer, is not supported.
    """
    family = _serving("pipelines", pipe)
    transformer = getattr(pipe, "transformer", None)
    if family is None:
        error = _unsupported("pipeline", pipe, pipeline_names())
        if _serving("transformers", transformer) is not None:
            error = ModelError(f"{error} {_TRACE}")
        raise error
    _refuse_wrapped(transformer)
    adapter: PipelineAdapter = imported(*family.pipeline_adapter.split(":"))(pipe, info)
    return adapter


def family_of(pipe: Any) -> Family | None:
    """The family that serves a pipeline; None where none does."""
    return _serving("pipelines", pipe)


_TRACE = (
    "Its transformer can be recorded while you call it yourself: with workbench.trace(pipe.transformer, embeddings) "
    "as seen: pipe(...)."
)


def _serving(what: str, given: Any) -> Family | None:
    """The family with the nearest of an object's classes, by name."""
    for cls in type(given).__mro__:
        for family in families():
            if cls.__name__ in getattr(family, what):
                return family
    return None


def _refuse_wrapped(module: Any) -> None:
    """Refuse a model inside a wrapper that splits its work, such as ``DataParallel``; a compiled one is none."""
    inner = getattr(module, "module", None)
    if _serving("transformers", inner) is not None:
        raise ModelError(
            f"the transformer is wrapped in {type(module).__name__}, which splits a pass over devices: give the model "
            "itself, pipe.transformer = pipe.transformer.module."
        )


def _unsupported(what: str, given: Any, supported: tuple[str, ...]) -> ModelError:
    names = ", ".join(supported)
    return ModelError(f"a {what} of class {type(given).__name__} is not supported. Supported {what} classes: {names}.")
