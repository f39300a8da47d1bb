"""What a trace watches of a model beside its blocks: the names of its passes, and whether hooked modules stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from torch import nn

from workbench.models.transformer import TransformerAdapter
from workbench.schema import TraceError

_Place = tuple[str, dict[str, nn.Module | None], str, nn.Module]
"""Path of a module, the children of its parent, its name among them, and the module."""
_CONTEXT: Final = "cache_context"


class Structure:
    """The modules that hooks are on, and whatever else decides where hooks go.

    Parameters
    ----------
    adapter : TransformerAdapter
        Of the model.
    hooked : iterable of nn.Module
        Those with hooks.
    """

    def __init__(self, adapter: TransformerAdapter, hooked: Iterable[nn.Module]) -> None:
        self._adapter = adapter
        self._places = _places(adapter.transformer, hooked)
        self._structure = adapter.structure()

    def check(self) -> None:
        """Refuse a pass of a model whose modules are others by now.

        Raises
        ------
        TraceError
            If one was replaced or removed, or projections were fused or unfused.
        """
        remedy = "do that before the trace, or open a new one after it."
        for path, children, name, module in self._places:
            if children.get(name) is not module:
                what = "replaced" if name in children else "removed"
                raise TraceError(
                    f"the module {path} was {what} while the trace was open, as loading and unloading a LoRA or "
                    f"unfusing projections does: {remedy}"
                )
        if self._adapter.structure() != self._structure:
            raise TraceError(
                f"query, key and value projections were fused or unfused while the trace was open: {remedy}"
            )


def _places(model: nn.Module, hooked: Iterable[nn.Module]) -> list[_Place]:
    """Where the hooked modules, and all modules above them, are in the model."""
    paths = {module: path for path, module in model.named_modules()}
    places: dict[str, _Place] = {}
    for hooked_path in dict.fromkeys(paths[module] for module in hooked):
        parent, path = model, ""
        for name in hooked_path.split("."):
            path = f"{path}.{name}".lstrip(".")
            child = parent.get_submodule(name)
            places[path] = (path, parent._modules, name, child)
            parent = child
    return list(places.values())


class PassNames:
    """The names that a pipeline gives its passes, through the ``cache_context`` of its model.

    An attribute of the instance shadows that method without touching ``forward``, which offloading exchanges in the
    middle of a pipeline's call.

    Attributes
    ----------
    current : str or None
        The name of the passes under way; None where they have none.
    """

    def __init__(self, model: nn.Module) -> None:
        self.current: str | None = None
        self._model = model
        self._shadowed: Any = None
        self._placed = False

    def place(self) -> None:
        """Begin to listen."""
        if hasattr(self._model, _CONTEXT):
            self._shadowed = self._model.__dict__.get(_CONTEXT)
            original: Any = getattr(self._model, _CONTEXT)
            self._model.__dict__[_CONTEXT] = lambda name, **options: _Named(self, original, name, **options)
            self._placed = True

    def remove(self) -> None:
        """Leave the model as it was."""
        if not self._placed:
            return
        self._placed = False
        if self._shadowed is None:
            del self._model.__dict__[_CONTEXT]
        else:
            self._model.__dict__[_CONTEXT] = self._shadowed


class _Named:
    """The model's own ``cache_context``, which also tells the name of the passes inside."""

    def __init__(self, names: PassNames, original: Callable[..., Any], name: str, **options: Any) -> None:
        self._names = names
        self._name = name
        self._inner = original(name, **options)

    def __enter__(self) -> Any:
        self._outer, self._names.current = self._names.current, self._name
        return self._inner.__enter__()

    def __exit__(self, *error: Any) -> Any:
        self._names.current = self._outer
        return self._inner.__exit__(*error)
