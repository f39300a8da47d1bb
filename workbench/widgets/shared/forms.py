"""States and forms of views as plain values: each field is declared with what reads it, and refused in a sentence.

A reader is called with the name of a field and the value that a browser or a file gives for it. It returns the value as
it is kept, or raises InputError (of the wrong kind, out of range) or SelectionError (not in the dataset).
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from workbench.numerics.measures import renamed
from workbench.schema import InputError, SelectionError

Reader: TypeAlias = Callable[[str, Any], Any]
_LONGEST: Final = 2000
_MOST: Final = 12


def read(what: str, values: Any, readers: Mapping[str, Reader]) -> dict[str, Any]:
    """Read every field that is given.

    Parameters
    ----------
    what
        What the values are of, such as ``"a state"``.
    values
        A mapping from the names of fields.
    readers
        What reads each field there is.

    Raises
    ------
    InputError
        If it is no mapping, or a field does not exist or cannot be read.
    SelectionError
        If something that is chosen is not in the dataset.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{what} is a {type(values).__name__}; expected a mapping of {', '.join(readers)}.")
    for name in values:
        if name not in readers:
            near = difflib.get_close_matches(str(name), list(readers), 1)
            known = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(readers)}."
            raise InputError(f"{what} has no {name!r}; {known}")
    return {name: readers[name](name, value) for name, value in values.items()}


def plain(value: Any) -> Any:
    """A state or a form as values that JSON can hold."""
    if dataclasses.is_dataclass(value):
        return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, tuple | list) else value


def text(name: str, value: Any) -> str:
    """A text, not a book."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {value!r}; expected a text.")
    if len(value) > _LONGEST:
        raise InputError(f"{name} has {len(value)} letters; expected at most {_LONGEST}.")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; expected True or False.")
    return value


def real(least: float = -math.inf, most: float = math.inf, *, clip: bool = False) -> Reader:
    """A finite number between two ends, both included; with ``clip`` others become the nearer end."""
    ends = [f"{end:g}" for end in (least, most) if math.isfinite(end)]
    said = f" from {' to '.join(ends)}{'' if len(ends) > 1 else ' on'}" if ends and not clip else ""

    def reads(name: str, value: Any) -> float:
        if not _finite(value) or not (clip or least <= value <= most):
            raise InputError(f"{name} is {value!r}; expected a finite number{said}.")
        return float(min(max(value, least), most))

    return reads


def whole(least: float = -math.inf) -> Reader:
    """A whole number, also as a float, which browsers do not tell apart."""

    said = f", {least:g} or more" if math.isfinite(least) else ""

    def reads(name: str, value: Any) -> int:
        if not _finite(value) or value != int(value) or value < least:
            raise InputError(f"{name} is {value!r}; expected a whole number{said}.")
        return int(value)

    return reads


def _finite(value: Any) -> bool:
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return number and math.isfinite(value)


def one_of(allowed: Collection[str], former: Mapping[str, str] | None = None) -> Reader:
    """One of some names; with a warning also one of the release before."""

    def reads(name: str, value: Any) -> str:
        value = renamed(name, value, former or {})
        if not isinstance(value, str) or value not in allowed:
            raise InputError(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")
        return value

    return reads


def optional(reader: Reader) -> Reader:
    """None, or what another one reads."""
    return lambda name, value: None if value is None else reader(name, value)


def listed(name: str, value: Any) -> list[Any]:
    """Several values."""
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__iter__"):
        raise InputError(f"{name} is {value!r}; expected a list.")
    return list(value)


def several(reader: Reader) -> Reader:
    """Values in the order that is given."""
    return lambda name, value: tuple(reader(name, one) for one in listed(name, value))


def chosen(reader: Reader) -> Reader:
    """At least one value, each once, sorted; None for all."""

    def reads(name: str, value: Any) -> tuple[Any, ...] | None:
        if value is None:
            return None
        if not (found := sorted({reader(name, one) for one in listed(name, value)})):
            raise InputError(f"{name} is empty; None means all.")
        return tuple(found)

    return reads


def pair(first: Reader, second: Reader | None = None, *, order: Callable[..., Any] = tuple) -> Reader:
    """Two values, brought into an order."""

    def reads(name: str, value: Any) -> tuple[Any, Any]:
        given = listed(name, value)
        if len(given) != 2:
            raise InputError(f"{name} is {value!r}; expected two values.")
        one, other = order((first(name, given[0]), (second or first)(name, given[1])))
        return one, other

    return reads


def falling(values: Any) -> list[Any]:
    """Values with the largest first, as timesteps are."""
    return sorted(values, reverse=True)


def among(held: Sequence[int], what: str) -> Reader:
    """A whole number that a dataset holds; ``what`` it is called there."""
    number, values = whole(), list(held)

    def reads(_name: str, value: Any) -> int:
        found: int = number(what, value)
        if found not in held:
            ends = f"{values[0]} to {values[-1]}" if len(values) > _MOST else ", ".join(map(str, values)) or "none"
            raise SelectionError(f"{what} {found} does not exist; it has {ends}.")
        return found

    return reads


def ends(held: Sequence[Any]) -> Reader:
    """The first and the last of labels that a dataset holds, in its order."""

    def reads(name: str, value: Any) -> tuple[Any, Any]:
        given = listed(name, value)
        if len(given) != 2 or any(label not in held for label in given):
            labels = ", ".join(f"{label:g}" if isinstance(label, float) else str(label) for label in held)
            raise InputError(f"{name} is {value!r}; expected the first and the last of the {name} there are: {labels}.")
        first, last = sorted(held.index(label) for label in given)
        return held[first], held[last]

    return reads
