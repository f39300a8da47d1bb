"""Whose code runs: what installed libraries define can be named in a key, everything else cannot.

A function of a notebook or a script has a name, but next time another body. Whether a function is a library's is told
by the module in which it was defined, which a decorator that copies names leaves as it is.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any, Final

import accelerate
import diffusers
import torch
import transformers

_PACKAGES: Final = (torch, diffusers, transformers, accelerate)
"""Also where these are used from a checkout."""
_PATCHED: Final = ("torch", "torch.nn.functional")
"""Modules whose functions models call, beside those that define their classes and all of ``diffusers.models``."""
_BUILTIN: Final = frozenset(sys.builtin_module_names)


def name_of(code: Any) -> str:
    """How a class or function is called: module and qualified name."""
    return f"{getattr(code, '__module__', '')}.{getattr(code, '__qualname__', type(code).__qualname__)}"


def is_library(code: Any) -> bool:
    """Whether a class or callable, and everything it wraps, was defined by an installed library."""
    if isinstance(code, FunctionType):  # what is asked for most, thousands of times a run
        wrapped = getattr(code, "__wrapped__", None)
        return _is_installed(code.__globals__.get("__name__", "")) and (wrapped is None or is_library(wrapped))
    if isinstance(code, partial):
        return is_library(code.func)
    if isinstance(code, MethodType):
        return is_library(code.__func__)
    if isinstance(code, staticmethod | classmethod):
        return is_library(code.__func__)
    if isinstance(code, property):
        return all(is_library(each) for each in (code.fget, code.fset, code.fdel) if each is not None)
    if isinstance(code, type):
        return _is_installed(code.__module__)
    # Functions and objects written in C, and instances of classes.
    return _is_installed(getattr(code, "__module__", None) or type(code).__module__) and is_library(type(code))


def foreign_code(classes: Iterable[type]) -> Iterator[str]:
    """Classes, their methods, and functions of the modules that define them, which no library defined.

    Parameters
    ----------
    classes
        Those of a pipeline's objects; the classes they derive from are looked at too.

    Yields
    ------
    str
        What is not a library's, and why it matters.
    """
    bases = {base for cls in classes for base in cls.__mro__ if base is not object}
    for own in sorted(name_of(base) for base in bases if not is_library(base)):
        yield f"the class {own} takes part"
    bases = {base for base in bases if is_library(base)}
    for base in sorted(bases, key=name_of):
        for name, method in vars(base).items():
            if isinstance(method, FunctionType | staticmethod | classmethod | property) and not is_library(method):
                yield f"{name_of(base)}.{name} was replaced"
    names = {base.__module__ for base in bases} | {name for name in sys.modules if name.startswith("diffusers.models.")}
    for module in sorted((names & set(sys.modules)) | set(_PATCHED)):
        for name, value in list(vars(sys.modules[module]).items()):
            if isinstance(value, FunctionType) and not is_library(value):
                yield f"{module}.{name} was replaced"


@cache
def _roots(path: tuple[str, ...]) -> tuple[Path, ...]:
    """Folders of installed packages, with this ``sys.path``."""
    folders = {sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    # Wherever else packages were installed: an environment below this one, a folder of `pip install --target`.
    folders |= {folder for folder in path if folder and next(Path(folder).glob("*.dist-info"), None) is not None}
    folders |= {str(Path(str(package.__file__)).parent) for package in _PACKAGES}
    folders.add(str(Path(__file__).parents[1]))
    return tuple(Path(folder).resolve() for folder in folders)


def _is_installed(module: str) -> bool:
    found = sys.modules.get(module)
    if found is None:
        return False
    if found.__name__ in _BUILTIN or found.__name__.partition(".")[0] in _BUILTIN:
        return True
    return _has_library_file(found)


def _has_library_file(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if file is None:  # frozen, namespace packages and modules made by torch in C
        package = sys.modules.get(module.__name__.partition(".")[0])
        return (
            module.__name__ != "__main__"
            and package is not None
            and package is not module
            and _is_installed(package.__name__)
        )
    return _is_under_roots(file, tuple(sys.path))


@cache
def _is_under_roots(file: str, path: tuple[str, ...]) -> bool:
    parents = Path(file).resolve().parents
    return any(root in parents for root in _roots(path))
