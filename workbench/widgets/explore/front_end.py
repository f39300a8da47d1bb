"""What the view of a dataset is in the browser: one ES module and one style sheet."""

from __future__ import annotations

from typing import Final

from workbench.widgets.shared import assets
from workbench.widgets.shared.static_output import HIDING

ORDER: Final = (
    "shared/palette.js",
    "shared/maths.js",
    "shared/dom.js",
    "explore/sliders.js",
    "shared/panels.js",
    "shared/plotting.js",
    "explore/charts.js",
    "explore/store-kernel.js",
    "explore/code.js",
    "explore/store-maps.js",
    "explore/store.js",
    "explore/saving.js",
    "explore/tour.js",
    "explore/view-parts.js",
    "explore/view-drawing.js",
    "explore/view-keys.js",
    "explore/view.js",
)
"""Each file may use what is defined in those before it; the last one exports."""


def module() -> str:
    """The ES module of the view; its default export has ``initialize`` and ``render``."""
    return assets.joined(*ORDER)


def packed() -> str:
    """The same module, compressed."""
    return assets.packed(*ORDER)


def style() -> str:
    """The style sheet of the view."""
    return assets.text("shared/view.css") + HIDING
