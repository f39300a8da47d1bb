"""Edits in words: the one place that says to people what was changed in a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workbench.interventions.records import Given, read
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


def layers_in_words(layers: Sequence[int]) -> str:
    """Layers in words: ``"layer 4"``, ``"layers 4, 6"`` or ``"layers 4–9"``."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    whole = len(layers) > 2 and list(layers) == list(range(layers[0], layers[-1] + 1))
    return f"layers {f'{layers[0]}–{layers[-1]}' if whole else ', '.join(map(str, layers))}"
