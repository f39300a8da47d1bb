"""Edits in words: the one place that says to people what was changed in a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from workbench.interventions.describing import Given, read
from workbench.schema import EDIT, InputError


def in_words(edits: Given | Iterable[Given]) -> str:
    """Edits that act together, in a line.

    Parameters
    ----------
    edits
        As :func:`workbench.interventions.read` takes them.

    Returns
    -------
    str
        Such as ``"SkipBlock(3) + MaskText()"``; empty for no edit.

    Raises
    ------
    InputError
        If something given is no edit.
    """
    return " + ".join(map(str, read(edits)))


def edit_of(attrs: Mapping[Any, Any]) -> str:
    """What was edited in the run that a dataset holds.

    Parameters
    ----------
    attrs
        Of a captured dataset.

    Returns
    -------
    str
        In words, as :func:`in_words` says it; empty for an unedited run.
    """
    given = attrs.get("interventions")
    if attrs.get(EDIT) or not given:
        return str(attrs.get(EDIT, ""))
    try:
        return in_words(given)
    except InputError:  # another version of the package described them
        return "an edit that this version of the package does not know"
