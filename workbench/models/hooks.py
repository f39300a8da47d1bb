"""Forward hooks that are placed, silenced and removed together: those that look, and those that change."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import nn


class Hooks:
    """Forward hooks that are placed together, can be silenced together and are removed together.

    The callbacks only look: whatever they return is dropped, so a hook cannot alter the model's output.

    Attributes
    ----------
    active : bool
        While false, no callback is called.
    """

    def __init__(self) -> None:
        self.active = False
        self.modules: list[nn.Module] = []
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def before(self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any]], None]) -> None:
        """Call ``callback(args, kwargs)`` before each forward pass of a module."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if self.active:
                callback(args, kwargs)

        self.modules.append(module)
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def after(self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any], Any], None]) -> None:
        """Call ``callback(args, kwargs, output)`` after each forward pass of a module."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self.active:
                callback(args, kwargs, output)

        self.modules.append(module)
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    @contextmanager
    def silenced(self) -> Iterator[None]:
        """Let the trace call the model's modules without being seen by its own hooks, and without gradients."""
        active, self.active = self.active, False
        try:
            with torch.no_grad():
                yield
        finally:
            self.active = active

    def remove(self) -> None:
        """Remove every hook."""
        self.active = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.modules.clear()


class Changes(Hooks):
    """Hooks whose callbacks may replace what goes into a module or comes out of it; None leaves it as it is."""

    def change_before(
        self,
        module: nn.Module,
        callback: Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]] | None],
    ) -> None:
        """Call ``callback(args, kwargs)`` before each forward pass of a module, which then gets what it returns."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return callback(args, kwargs) if self.active else None

        self.modules.append(module)
        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def change_after(
        self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any], Any], Any | None]
    ) -> None:
        """Call ``callback(args, kwargs, output)`` after each forward pass of a module, which then gives its result."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            return callback(args, kwargs, output) if self.active else None

        self.modules.append(module)
        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))


class Looks(Changes):
    """Hooks where changes could be made, whose callbacks only look: nothing is replaced and no gradient passes them."""

    def before(self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().before(module, torch.no_grad()(callback))

    def after(self, module: nn.Module, callback: Callable[[tuple[Any, ...], dict[str, Any], Any], Any]) -> None:
        super().after(module, torch.no_grad()(callback))

    change_before = before
    change_after = after


@cache
def _names(cls: Any) -> tuple[str, ...]:
    """Names of the arguments of a class's forward pass, in order, without ``self``."""
    return tuple(inspect.signature(cls.forward).parameters)[1:]


def by_name(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a module's forward pass by name, however they were passed; those left out are absent."""
    # Of the class: offloading puts a forward of its own, of any arguments, on the instance.
    cls: Any = type(module)
    return dict(zip(_names(cls), args, strict=False)) | kwargs


def with_argument(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str, value: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with one of them replaced, where it was passed."""
    if name in kwargs:
        return args, kwargs | {name: value}
    cls: Any = type(module)
    place = _names(cls).index(name)
    return (*args[:place], value, *args[place + 1 :]), kwargs
