"""Descriptions of edits from what records hold of them, and from what callers give in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from workbench.interventions.describing import Each, Intervention
from workbench.interventions.fields import Source
from workbench.interventions.random_direction import RandomDirection
from workbench.schema import InputError

Given: TypeAlias = Intervention | Mapping[str, Any]
"""A description, or what its :meth:`Intervention.as_dict` gave."""


def read(given: Given | Iterable[Given], name: str = "interventions") -> tuple[Intervention, ...]:
    """Read one or several descriptions.

    Parameters
    ----------
    given
        A description, a mapping such as ``attrs["interventions"]`` holds, or an iterable of those.
    name
        What errors call it.

    Raises
    ------
    InputError
        If something else is given, or a mapping describes no edit.
    """
    if given is None:
        raise InputError(f"{name} is None; expected edits such as SkipBlock(3), or () for none.")
    if isinstance(given, Each | Intervention | Mapping):
        return (_read_one(given, name),)
    kind = getattr(given, "__self__", given)
    if isinstance(kind, type) and issubclass(kind, Intervention):
        raise InputError(
            f"{name} is {kind.__name__} itself; expected one of its kind such as {kind.__name__}(3), or a plan of all, "
            f"{kind.__name__}.each(), with parentheses."
        )
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{name} is {given!r}; expected edits such as SkipBlock(3).")
    return tuple(_read_one(one, name) for one in given)


def _read_one(given: Any, name: str = "interventions") -> Intervention:
    if isinstance(given, Intervention) and type(given) is not Intervention:
        return given
    if isinstance(given, Each):
        raise InputError(
            f"{name} is a plan for wb.intervene, which runs its members one after the other; expected edits such as "
            "SkipBlock(3) here."
        )
    kinds = {kind.__name__: kind for kind in Intervention.__subclasses__()}
    if not isinstance(given, Mapping) or given.get("edit") not in kinds:
        raise InputError(f"{name} holds {given!r}; expected edits such as SkipBlock(3): {', '.join(kinds)}.")
    kind, options = kinds[given["edit"]], {name: value for name, value in given.items() if name != "edit"}
    try:
        if isinstance(options.get("source"), Mapping):
            options["source"] = Source(**options["source"])
        if "references" in options:  # its name in runs of early versions
            options["reference"] = options.pop("references")
        if "reference" in options:
            options["reference"] = [Source(**one) for one in options["reference"]]
        if kind is RandomDirection:
            options.setdefault("shared", True)
            options["of"] = _read_one(options.get("of"))
        return kind(**options)
    except TypeError as error:
        raise InputError(f"{name} holds {dict(given)!r}, which is no {kind.__name__}: {error}.") from error
