"""Which adapter serves which diffusers class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from diffusers import FluxPipeline, FluxTransformer2DModel

from workbench.models.base import PipelineAdapter, TransformerAdapter
from workbench.models.flux import FluxAdapter, FluxPipelineAdapter
from workbench.models.flux_sites import FluxSites
from workbench.models.shortcuts import refuse_shortcuts
from workbench.models.sites import BlockSites
from workbench.schema import ModelError

TRANSFORMERS: dict[type[Any], Callable[[Any], TransformerAdapter]] = {FluxTransformer2DModel: FluxAdapter}
PIPELINES: dict[type[Any], Callable[[Any, Mapping[str, Any] | None], PipelineAdapter]] = {
    FluxPipeline: FluxPipelineAdapter
}
SITES: dict[type[TransformerAdapter], Callable[[TransformerAdapter], BlockSites]] = {FluxAdapter: FluxSites}


def adapter_for(transformer: Any) -> TransformerAdapter:
    """Return the adapter of a transformer; a compiled one is unwrapped.

    Raises
    ------
    ModelError
        If its class is not supported, or a step-skipping cache is enabled on it.
    """
    module: Any = getattr(transformer, "_orig_mod", transformer)
    for supported, adapter in TRANSFORMERS.items():
        if isinstance(module, supported):
            refuse_shortcuts(module)
            return adapter(module)
    _refuse_wrapped(module)
    raise _unsupported("transformer", module, TRANSFORMERS)


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
    for supported, adapter in PIPELINES.items():
        if isinstance(pipe, supported):
            _refuse_wrapped(getattr(pipe, "transformer", None))
            return adapter(pipe, info)
    error = _unsupported("pipeline", pipe, PIPELINES)
    if isinstance(getattr(pipe, "transformer", None), tuple(TRANSFORMERS)):
        error = ModelError(f"{error} {_TRACE}")
    raise error


def sites_for(adapter: TransformerAdapter) -> BlockSites:
    """Return the places of a family's blocks that interventions reach."""
    return SITES[type(adapter)](adapter)


_TRACE = (
    "Its transformer can be recorded while you call it yourself: with workbench.trace(pipe.transformer, embeddings) "
    "as seen: pipe(...)."
)


def _refuse_wrapped(module: Any) -> None:
    """Refuse a model inside a wrapper that splits its work, such as ``DataParallel``; a compiled one is none."""
    inner = getattr(module, "module", None)
    if isinstance(inner, tuple(TRANSFORMERS)):
        raise ModelError(
            f"the transformer is wrapped in {type(module).__name__}, which splits a pass over devices: give the model "
            "itself, pipe.transformer = pipe.transformer.module."
        )


def _unsupported(what: str, given: Any, supported: Iterable[type[Any]]) -> ModelError:
    names = ", ".join(cls.__name__ for cls in supported)
    return ModelError(f"a {what} of class {type(given).__name__} is not supported. Supported {what} classes: {names}.")
