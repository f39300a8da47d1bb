"""The browser's half of the views: the files in ``static`` of each room, put together."""

from __future__ import annotations

import functools
from importlib.resources import files


@functools.cache
def text(name: str) -> str:
    """A file of the views.

    Parameters
    ----------
    name
        The room and the file, such as ``"shared/view.css"``.
    """
    room, _, file = name.partition("/")
    return files("workbench.widgets").joinpath(room, "static", file).read_text("utf-8")


def joined(*names: str) -> str:
    """Several files, one after the other: each may use what is defined in those before it."""
    return "\n".join(map(text, names))
