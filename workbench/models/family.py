"""Model families as data: which adapters serve which diffusers classes, found by the classes' names.

Classes are matched by name along the method resolution order, and adapters are imported when they match: knowing a
family costs nothing until one of its models is met.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from workbench.models.known import Family, families
from workbench.models.pipeline import PipelineAdapter
from workbench.models.plugins import plugins
from workbench.models.quiet import imported
from workbench.models.refused import REFUSED, refusal
from workbench.models.shortcuts import refuse_shortcuts
from workbench.models.transformer import TransformerAdapter
from workbench.schema import ModelError, WorkbenchError


def pipeline_names() -> tuple[str, ...]:
    """Names of all pipeline classes that are served."""
    return tuple(name for family in families() for name in family.pipelines)


def transformer_names() -> tuple[str, ...]:
    """Names of all transformer classes that are served."""
    return tuple(dict.fromkeys(name for family in families() for name in family.transformers))


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
    adapter: TransformerAdapter = _made(family, "adapter", module)
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
        if _serving("transformers", transformer) is not None and type(pipe).__name__ not in REFUSED:
            error = ModelError(f"{error} {_TRACE}")
        raise error
    _refuse_wrapped(transformer)
    adapter: PipelineAdapter = _made(family, "pipeline_adapter", pipe, info)
    return adapter


def adapter_class(family: Family, side: Literal["adapter", "pipeline_adapter"]) -> type[Any]:
    """The adapter class of a family, imported now.

    Parameters
    ----------
    family : Family
        The family.
    side : {"adapter", "pipeline_adapter"}
        Which of the two.

    Raises
    ------
    ModelError
        If another distribution brings the family, and it cannot be imported or is no adapter.
    """
    path = getattr(family, side)
    if not family.distribution:
        built_in: type[Any] = imported(*path.split(":"))
        return built_in
    expected = TransformerAdapter if side == "adapter" else PipelineAdapter
    try:
        found = imported(*path.split(":"))
    except (Exception, SystemExit) as error:  # whatever another's code does
        raise _unusable(family, f"its {side} {path} cannot be imported", error) from error
    if not isinstance(found, type) or not issubclass(found, expected):
        raise _unusable(family, f"its {side} {path} is no workbench.models.{expected.__name__}")
    return found


def _made(family: Family, side: Literal["adapter", "pipeline_adapter"], *given: Any) -> Any:
    cls = adapter_class(family, side)
    try:
        return cls(*given)
    except WorkbenchError:
        raise
    except Exception as error:
        if not family.distribution:
            raise
        raise _unusable(family, f"its {side} failed on a {type(given[0]).__name__}", error) from error


def _unusable(family: Family, why: str, error: BaseException | None = None) -> ModelError:
    reason = "" if error is None else f" ({type(error).__name__}: {' '.join(str(error).split()).rstrip('.')})"
    return ModelError(
        f"the family {family.name!r} of {family.origin} cannot be used: {why}{reason}. Install a version of it that "
        "works with this one of workbench, or uninstall it."
    )


def family_of(pipe: Any) -> Family | None:
    """The family that serves a pipeline; None where none does."""
    return _serving("pipelines", pipe)


def brought_to(pipe: Any) -> tuple[Family, ...]:
    """The families of other distributions that serve a pipeline and its transformer, which may be of two of them."""
    transformer = getattr(pipe, "transformer", None)
    served = (_serving("pipelines", pipe), _serving("transformers", getattr(transformer, "_orig_mod", transformer)))
    return tuple(dict.fromkeys(family for family in served if family is not None and family.distribution))


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
        if cls.__name__ in REFUSED:
            return None
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
    if sentence := next(filter(None, (refusal(cls.__name__) for cls in type(given).__mro__)), ""):
        return ModelError(sentence)
    names = ", ".join(supported)
    unused = "".join(f" {problem[0].upper()}{problem[1:]}" for problem in plugins().problems)
    return ModelError(
        f"a {what} of class {type(given).__name__} is not supported. Supported {what} classes: {names}.{unused}"
        f"{_meant(what, given)}"
    )


def _meant(what: str, given: Any) -> str:
    """What to do with something that is no pipeline, or no transformer, at all."""
    if isinstance(given, type):
        return f" This is the class itself: load a {what}, {given.__name__}.from_pretrained(…)."
    if what == "transformer":
        inner = _serving("transformers", getattr(given, "transformer", None))
        return "" if inner is None else " This is the pipeline around one: give pipe.transformer."
    if _serving("transformers", given) is not None:
        return " This is the transformer alone: give the pipeline around it, or record it with workbench.trace."
    if hasattr(given, "transformer"):
        return ""
    return " Give a loaded pipeline, or a name or a path: a string, such as 'tiny-flux'."
