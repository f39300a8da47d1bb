"""Rows of a table of results: a method under a protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from workbench.evaluation.captured import Captured, Captures
from workbench.evaluation.methods import TITLES, Method, blind
from workbench.evaluation.names import BLIND, METHODS
from workbench.evaluation.protocols import Protocol
from workbench.schema import SPACES, InputError


@dataclass(frozen=True)
class Entry:
    """One row of a table: a method under a protocol.

    Attributes
    ----------
    title
        What the table calls it.
    method
        What makes the maps.
    protocol
        The rules.
    """

    title: str
    method: Method
    protocol: Protocol


def entry(method: str | Method, protocol: Protocol, captures: Captures, title: str = "") -> Entry:
    """A row of a table from the name of a method, or a method.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(method, str):
        if method in SPACES:
            return Entry(title or method, Captured(method, method, captures), protocol)
        if method in BLIND:
            return Entry(title or TITLES[method], blind(method), protocol)
        raise InputError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}.")
    if not isinstance(method, Method) or not isinstance(method.name, str) or not isinstance(method.settings, Mapping):
        raise InputError(
            f"method is a {type(method).__name__}; expected a name, or an object with name, settings (a mapping of "
            "what decides its maps), prepare(setting) and maps(examples, concepts)."
        )
    return Entry(title or method.name, method, protocol)
