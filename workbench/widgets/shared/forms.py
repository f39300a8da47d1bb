"""Checks that the states and forms of views share."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from workbench.schema import InputError


def check_names(what: str, values: Any, known: Collection[str]) -> None:
    """Refuse what is no mapping, or holds a name that is not known.

    Raises
    ------
    InputError
        Then.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{what} is no {type(values).__name__}; it holds {', '.join(known)}.")
    for name in values:
        if name not in known:
            raise InputError(f"{what} has no {name!r}; it holds {', '.join(known)}.")


def one_of(name: str, value: Any, allowed: Collection[str]) -> Any:
    """The value, when it is one of the allowed strings.

    Raises
    ------
    InputError
        Otherwise.
    """
    if not isinstance(value, str) or value not in allowed:
        raise InputError(f"{name} is {value!r}; expected one of {', '.join(allowed)}.")
    return value
