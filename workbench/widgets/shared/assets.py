"""The browser's half of the views: files in ``static``, put together into one ES module and one style sheet."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import Final

_ORDER: Final = ("palette", "maths", "dom", "sliders", "panels", "charts", "store", "saving", "view")
"""Each file may use what is defined in those before it; the last one exports."""


@functools.cache
def module() -> str:
    """The ES module of the views; its default export has ``initialize`` and ``render``."""
    folder = files(__package__) / "static"
    return "\n".join((folder / f"{name}.js").read_text("utf-8") for name in _ORDER)


@functools.cache
def style() -> str:
    """The style sheet of the views."""
    return (files(__package__) / "static" / "view.css").read_text("utf-8")
