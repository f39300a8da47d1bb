"""The versions of diffusers that the adapters were tested with, and what is said of others.

Adapters rest on the insides of diffusers' models, which may change with any version.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from workbench.schema import warn

TESTED: Final = ("0.42.0", "0.42.1")
"""Versions of diffusers with which all tests of the adapters passed."""

_told: set[str] = set()


def untested() -> str:
    """A sentence about the installed version of diffusers; empty where it is one that was tested."""
    found = version("diffusers")
    if found in TESTED:
        return ""
    return f"diffusers {found} is installed, and this package was tested with {' and '.join(TESTED)}"


def warn_of_untested() -> None:
    """Warn once in a process, if diffusers is another; called where a model has passed the check of its attention.

    Warns
    -----
    WorkbenchWarning
        If it is.
    """
    sentence = untested()
    if sentence and sentence not in _told:
        _told.add(sentence)
        warn(
            f"{sentence}: attention rebuilt from what is captured equals the model's own, so maps are most likely "
            "right. `workbench check-model` tries everything else.",
            stacklevel=3,
        )
