"""Checks of arguments that calls of every kind have: options, whole numbers, numbers, True and False."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Collection, Iterable
from typing import Any

from workbench.schema.errors import InputError


def check_names(call: str, given: Iterable[str], known: Collection[str], beside: str = "it takes") -> None:
    """Refuse the names of options that a call does not have, and name the nearest ones.

    Parameters
    ----------
    call
        What the call is named.
    given
        Names of the options that were passed.
    known
        Names of those that it takes; a class of options, a :class:`typing.TypedDict`, has them in ``__annotations__``.
    beside
        Comes before the list of those that it takes.

    Raises
    ------
    InputError
        If one is not known.
    """
    wrong = [name for name in given if name not in known]
    if not wrong:
        return
    near = [(name, difflib.get_close_matches(name, known, 1)) for name in wrong]
    meant = "".join(f" Did you mean {found[0]}= for {name}=?" for name, found in near if found)
    raise InputError(f"{call} takes no {', '.join(wrong)}.{meant} {beside.capitalize()} {', '.join(known)}.")


def check_count(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number, ``least`` or more, up to ``most``.

    Raises
    ------
    InputError
        If it is anything else.
    """
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or int(value) < least or (most is not None and int(value) > most):
        expected = f", {least} or more" if most is None else f" from {least} to {most}"
        raise InputError(f"{name} is {value!r}; expected a whole number{expected}.")
    return int(value)


def check_flag(name: str, value: bool) -> bool:
    """The value, when it is True or False.

    Raises
    ------
    InputError
        Otherwise.
    """
    if not isinstance(value, bool):
        raise InputError(f"{name} is {value!r}; expected True or False.")
    return value


def is_number(value: Any) -> bool:
    """Whether something is a real number, neither NaN nor infinite, and not True or False."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    # Compared, not converted: `math.isfinite` raises for whole numbers beyond every float.
    return real and bool(-math.inf < value < math.inf)
