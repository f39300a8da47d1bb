"""A view in a page: its controls, and what its canvases show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import matplotlib
import numpy as np
import numpy.typing as npt
import xarray as xr

from tests.browser.chromium import pixels

if TYPE_CHECKING:
    from playwright.sync_api import Locator

ROUNDING: Final = 4 / 255
"""One of 256 colours to the next."""

Colours = npt.NDArray[np.float64]


class View:
    """One ``div.wb-view``."""

    def __init__(self, root: Locator) -> None:
        self.root = root
        root.wait_for()
        self.settle()

    @property
    def state(self) -> dict[str, Any]:
        """What it shows, as the browser has it."""
        return dict(self.root.evaluate("root => root.workbench.state"))

    @property
    def code(self) -> str:
        """What "copy as code" copies."""
        return str(self.root.evaluate("root => root.workbench.code"))

    def settle(self) -> None:
        """Until what is painted is what was asked for, and the picture has come."""
        self.root.page.wait_for_function(
            """root => {
                const picture = root.querySelector('.wb-panel[data-kind=picture] canvas');
                const opaque = canvas => canvas.getContext('2d').getImageData(0, 0, 1, 1).data[3] > 0;
                return root.workbench && root.dataset.painted === root.dataset.revision &&
                    root.querySelector('.wb-panel canvas') && (!picture || opaque(picture));
            }""",
            arg=self.root.element_handle(),
            polling="raf",
            timeout=60_000,
        )

    def set(self, **fields: Any) -> None:
        """Change fields of the state, not through a control."""
        self.root.evaluate("(root, fields) => root.workbench.set(fields)", fields)
        self.settle()

    def control(self, name: str) -> Locator:
        """The control of that name."""
        return self.root.locator(f"[data-control='{name}']")

    def unfold(self, section: str) -> Locator:
        """Open a section, and give it back."""
        found = self.root.locator(f"details[data-section={section}]")
        if not found.evaluate("details => details.open"):
            found.locator("summary").first.click()
        return found

    def press(self, control: str, key: str, times: int = 1) -> None:
        """Press a key on a control."""
        self.control(control).focus()
        for _ in range(times):
            self.root.page.keyboard.press(key)
        self.settle()

    def select(self, control: str, value: str) -> None:
        """Choose from a list."""
        self.control(control).select_option(value)
        self.settle()

    def click(self, control: str) -> None:
        """Click a button or a check box."""
        self.control(control).click()
        self.settle()

    def canvas(self, kind: str, index: int | None = None) -> Locator:
        """The canvas of a panel."""
        which = "" if index is None else f"[data-index='{index}']"
        return self.root.locator(f".wb-panel[data-kind={kind}]{which} canvas").first

    def colours(self, kind: str, index: int | None = None) -> Colours:
        """The colours at the centres of the patches: (y, x, rgb), 0 to 1."""
        rows, columns = self.root.evaluate("root => root.workbench.maps.shape.slice(1)")
        found = pixels(self.canvas(kind, index))
        high, wide = found.shape[:2]
        at = np.ix_(
            ((np.arange(rows) + 0.5) * high / rows).astype(int),
            ((np.arange(columns) + 0.5) * wide / columns).astype(int),
        )
        return found[at][..., :3] / 255

    def click_patch(self, row: int, column: int, kind: str = "concept", index: int | None = 0) -> None:
        """Click the centre of a patch."""
        self.canvas(kind, index).click(position=self._place(kind, index, row, column))
        self.settle()

    def hover_patch(self, row: int, column: int, kind: str = "concept", index: int | None = 0) -> None:
        """Move the pointer to the centre of a patch."""
        self.canvas(kind, index).hover(position=self._place(kind, index, row, column))

    def _place(self, kind: str, index: int | None, row: int, column: int) -> Any:
        rows, columns = self.root.evaluate("root => root.workbench.maps.shape.slice(1)")
        canvas = self.canvas(kind, index)
        canvas.element_handle().wait_for_element_state("stable")
        box = canvas.bounding_box()
        assert box is not None
        return {"x": (column + 0.5) * box["width"] / columns, "y": (row + 0.5) * box["height"] / rows}


def coloured(values: npt.NDArray[Any], limits: tuple[float, float] | None = None, cmap: str = "viridis") -> Colours:
    """Values as matplotlib colours them: (..., rgb), 0 to 1."""
    low, high = limits or (float(np.nanmin(values)), float(np.nanmax(values)))
    return np.asarray(matplotlib.colormaps[cmap]((values - low) / (high - low)))[..., :3]


def check_maps(
    view: View, maps: xr.DataArray, cmap: str = "viridis", limits: tuple[float, float] | None = None
) -> None:
    """The panels of the concepts show these maps, on one colour scale."""
    values = maps.transpose("concept", "y", "x").to_numpy()
    expected = coloured(values, limits, cmap)
    for index in range(len(values)):
        np.testing.assert_allclose(view.colours("concept", index), expected[index], atol=ROUNDING)
