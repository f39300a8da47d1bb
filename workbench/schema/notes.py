"""Warnings, and a way to collect them that concerns the calling thread alone.

``warnings.catch_warnings`` replaces what all threads share: two that use it at once can leave the other's behind.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from workbench.schema.errors import WorkbenchWarning

_notes: ContextVar[list[str] | None] = ContextVar("notes", default=None)


def warn(message: str, stacklevel: int = 2) -> None:
    """Warn of something legal but suspicious.

    Parameters
    ----------
    message
        Whole sentences.
    stacklevel
        As in :func:`warnings.warn`: 2 names the caller of the function that calls this one.
    """
    notes = _notes.get()
    if notes is None:
        warnings.warn(message, WorkbenchWarning, stacklevel=stacklevel + 1)
    elif message not in notes:
        notes.append(message)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Inside, in this thread, warnings of the package are kept, each once, and not given."""
    notes: list[str] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)
