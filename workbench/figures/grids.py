"""Pictures with their maps, segmentation and truth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Unpack

import matplotlib as mpl
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgba
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image

from workbench import schema
from workbench.analysis.adding_truth import masks_of, void_of
from workbench.analysis.heatmaps import HeatmapOptions, heatmap, segment
from workbench.analysis.normalising import normalised
from workbench.analysis.origin import provenance
from workbench.analysis.plane import patch_side
from workbench.figures.paper import DPI, FONT_SIZE, PaperFigure, colour, style, text_width, wrap
from workbench.interventions import edit_of
from workbench.schema import InputError
from workbench.schema.given_options import check_names

_PICTURE_SIDE: Final = 512
"""Pictures of more than twice this many pixels a side are reduced: each panel holds a copy."""
_PLANE_OF_PICTURE: Final = (schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL)
_OVERLAY: Final = 0.75
"""Opacity of maps over the picture."""
_VOID_COLOUR: Final = "#9a9a9a"
"""Of pixels that count for nothing, in the truth and the segmentation beside it."""
_MOST_COLUMNS: Final = 5
_SELECTED: Final = ("space", "layers", "timesteps", "heads", "samples", "reduce")
"""Attributes of maps that say what they are of."""
_TITLE_LINES: Final = 3
# In inches.
_MARGIN: Final = 0.06
_GAP: Final = 0.08
_LINE: Final = 1.35 * FONT_SIZE / 72
_SWATCH_SPACE: Final = 3.5 * FONT_SIZE / 72
_BAR: Final = 0.09
_TICK: Final = 0.08
_BAR_HEIGHT: Final = 2.0
_LEAST_SIDE: Final = 0.4
_LEAST_HEIGHT: Final = 0.9
"""Less would cut off what the colours mean."""


def concept_grid(
    ds: xr.Dataset,
    *,
    overlay: bool = True,
    segmentation: bool = True,
    truth: bool | None = None,
    cmap: str | Colormap = "viridis",
    dark: bool = False,
    columns: int | None = None,
    width: float = 7.0,
    **options: Unpack[HeatmapOptions],
) -> PaperFigure:
    """The picture, one heat map per concept, the segmentation and the truth, side by side.

    Above them a line says what was edited in the network, where it was edited.

    Parameters
    ----------
    ds
        A captured dataset; of a dataset of several pictures choose one with ``samples``.
    overlay
        Lay the maps over a pale grey copy of the picture. The colour bar shows the pure colours.
    segmentation
        Add the strongest of all captured concepts at each patch, whichever concepts are shown.
    truth
        Add the masks stored in the dataset; None adds them when there are any.
    cmap
        A perceptually uniform colour map such as ``viridis``, ``cividis`` or ``magma``, shared by all maps.
    dark
        Draw on black, for slides.
    columns
        Panels in a row; by default at most five, in rows as even as possible.
    width
        Width of the figure in inches; 7 fills a page of two columns.
    **options
        Those of :func:`workbench.analysis.heatmaps.heatmap`, except ``keep`` and ``space="prompt"``: what is averaged,
        and which concepts are shown.

    Returns
    -------
    A figure, ready for ``savefig``.

    Raises
    ------
    SelectionError
        If something chosen is not in the dataset; lists what is.
    InputError
        If there is no picture or no one picture to draw, or no truth where it is asked for.
    """
    own = ("overlay", "segmentation", "truth", "cmap", "dark", "columns", "width")
    check_names("concept_grid", options, (*own, *HeatmapOptions.__annotations__))
    if options.get("keep") or options.get("space") == schema.PROMPT:
        raise InputError("concept_grid draws one map per concept: leave out keep and space='prompt'.")
    ds = normalised(ds)
    masks = masks_of(ds) if truth or (truth is None and schema.TRUTH in ds) else None
    if columns is not None and columns < 1:
        raise InputError(f"columns is {columns}; expected 1 or more, or None to choose for you.")
    maps = heatmap(ds, **options)
    picture = _picture(ds, maps)
    names = [str(name) for name in ds[schema.CONCEPT].to_numpy()]
    areas: dict[str, xr.DataArray] = {}
    if segmentation:
        everything: HeatmapOptions = {**options, "concepts": None}
        areas["segmentation"] = segment(ds, **everything)
    if masks is not None:
        areas["truth"] = masks.argmax(schema.CONCEPT).where(masks.any(schema.CONCEPT), -1)
    shown = sorted({int(label) for area in areas.values() for label in np.unique(area) if label >= 0})

    with mpl.rc_context(style(dark)):
        titles = ["picture", *(str(name) for name in maps[schema.CONCEPT].to_numpy()), *areas]
        legend = [(names[label], colour(label)) for label in shown]
        void = void_of(ds) if masks is not None else None
        if void is not None:
            legend.append(("void", _VOID_COLOUR))
        norm = Normalize(float(maps.min()), float(maps.max()))
        over, under = _extent(maps, ds), _extent(ds[schema.IMAGE], ds)
        shape = (over[2] - over[3]) / (over[1] - over[0])
        scale, edit = ScalarMappable(norm, cmap), edit_of(ds.attrs)
        caption = f"edited: {edit}" if edit else ""
        figure, axes = _panels(titles, legend, shape, columns, width, scale, _meaning(maps), caption)
        axes[0].imshow(picture, extent=under)
        for index, ax in enumerate(axes[1 : 1 + maps.sizes[schema.CONCEPT]]):
            values = maps.isel({schema.CONCEPT: index}).transpose(*_plane(maps)).to_numpy()
            if overlay:
                ax.imshow(_grey(picture), extent=under, cmap="gray", vmin=0, vmax=1)
            ax.imshow(values, extent=over, norm=norm, cmap=cmap, alpha=_OVERLAY if overlay else 1)
        colours = np.array([(0.0, 0.0, 0.0, 0.0), *(to_rgba(colour(label)) for label in range(len(names)))])
        for ax, area in zip(axes[1 + maps.sizes[schema.CONCEPT] :], areas.values(), strict=True):
            ax.imshow(colours[area.transpose(*_plane(area)).to_numpy() + 1], extent=_extent(area, ds))
            if void is not None:
                shades = np.array([(0.0, 0.0, 0.0, 0.0), to_rgba(_VOID_COLOUR)])
                ax.imshow(shades[void.to_numpy().astype(int)], extent=_extent(void, ds))
        for ax in axes:
            ax.set(xlim=over[:2], ylim=over[2:])
    figure.facts = provenance(ds) | {"selection": {name: maps.attrs[name] for name in _SELECTED if name in maps.attrs}}
    return figure


def _meaning(maps: xr.DataArray) -> str:
    space = (
        f"{maps.attrs['space']}, centred by {maps.attrs['center']}" if "center" in maps.attrs else maps.attrs["space"]
    )
    if maps.attrs["reduce"] == "mean":
        return f"{space} score"
    count = len(maps.attrs["softmax_over"])
    return f"share among {count} concept{'s' * (count != 1)} ({space})"


def _picture(ds: xr.Dataset, maps: xr.DataArray) -> NDArray[np.uint8]:
    """(pixel_y, pixel_x, channel), reduced so that a panel does not hold more pixels than can be printed."""
    if schema.IMAGE not in ds:
        raise InputError("this dataset has no picture to draw: it has no variable 'image'.")
    image = ds[schema.IMAGE]
    if schema.SAMPLE in image.dims:
        samples = maps.attrs["samples"]
        if len(samples) > 1:
            raise InputError(f"this dataset holds {len(samples)} different pictures; choose one: samples={samples[0]}.")
        image = image.sel({schema.SAMPLE: samples[0]})
    if set(image.dims) != set(_PLANE_OF_PICTURE) or image.dtype != np.uint8 or image.sizes[schema.CHANNEL] != 3:
        raise InputError(
            f"the variable 'image' is {image.dtype} along {', '.join(map(str, image.dims)) or 'no dimension'}; "
            "expected uint8 along pixel_y, pixel_x and three channels: keep the variable as it was captured."
        )
    pixels = image.transpose(*_PLANE_OF_PICTURE).to_numpy()
    factor = max(pixels.shape[:2]) // _PICTURE_SIDE
    return np.asarray(Image.fromarray(pixels).reduce(factor)) if factor > 1 else pixels


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The picture in shades of grey, 0 to 1, for maps to lie on."""
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114]) / 255)


def _plane(values: xr.DataArray) -> tuple[str, ...]:
    """The two dimensions of the picture plane: patches or pixels."""
    plane = schema.spatial(values.dims)
    if len(plane) > 2:
        raise InputError(f"this draws one picture, and the run has {plane[0]}s: choose one, ds.isel({plane[0]}=0).")
    return plane


def _extent(values: xr.DataArray, ds: xr.Dataset) -> tuple[float, float, float, float]:
    """Left, right, bottom and top edges in pixels, row 0 at the top."""
    across, down = (patch_side(ds, dim) / 2 if schema.Y in values.dims else 0.5 for dim in (schema.X, schema.Y))
    y, x = (values[dim].to_numpy() for dim in _plane(values))
    return float(x[0] - across), float(x[-1] + across), float(y[-1] + down), float(y[0] - down)


@dataclass(frozen=True)
class _Layout:
    """Where everything goes, in inches, so that panels have the picture's shape and no text leaves the canvas.

    ``shape`` is height over width of a panel; ``bar_space`` is what the colour bar and its text take on the right.
    """

    titles: list[str]
    names: list[str]
    shape: float
    columns: int
    width: float
    bar_space: float
    caption: str = ""

    @cached_property
    def above(self) -> str:
        """The caption in lines."""
        return wrap(self.caption, self.width - 2 * _MARGIN, _TITLE_LINES) if self.caption else ""

    @property
    def header(self) -> float:
        """Height of the caption."""
        return (self.above.count("\n") + 1) * _LINE + _GAP if self.above else 0.0

    @property
    def side(self) -> float:
        return (self.width - 2 * _MARGIN - self.bar_space - (self.columns - 1) * _GAP) / self.columns

    @cached_property
    def rows(self) -> list[list[str]]:
        """The wrapped titles of each row."""
        wrapped = [wrap(title, self.side, _TITLE_LINES) for title in self.titles]
        return [wrapped[first : first + self.columns] for first in range(0, len(wrapped), self.columns)]

    @cached_property
    def heads(self) -> list[float]:
        """Height of each row's titles."""
        return [max(title.count("\n") + 1 for title in row) * _LINE + _GAP / 2 for row in self.rows]

    @cached_property
    def entries(self) -> list[str]:
        """The legend's names, shortened."""
        return [wrap(name, self.width / 3, 1) for name in self.names]

    @cached_property
    def legend_columns(self) -> int:
        widest = max((text_width(name) for name in self.entries), default=1.0) + _SWATCH_SPACE
        return max(1, min(len(self.entries), int((self.width - 2 * _MARGIN) / widest)))

    @property
    def body(self) -> float:
        """Height of the panels and their titles."""
        return sum(self.heads) + len(self.rows) * self.side * self.shape + (len(self.rows) - 1) * _GAP

    @property
    def filled(self) -> float:
        """Height of panels and legend."""
        return self.body + (math.ceil(len(self.entries) / self.legend_columns) * _LINE + _GAP if self.entries else 0)

    @property
    def total(self) -> float:
        return 2 * _MARGIN + self.header + max(self.filled, _LEAST_HEIGHT)

    @property
    def margin(self) -> float:
        """Space above and below, without the caption."""
        return (self.total - self.header - self.filled) / 2


def _panels(
    titles: list[str],
    legend: list[tuple[str, str]],
    shape: float,
    columns: int | None,
    width: float,
    scale: ScalarMappable,
    meaning: str,
    caption: str,
) -> tuple[PaperFigure, list[Axes]]:
    """A figure with one empty panel per title, all of one size, and its colour bar and legend in place."""
    columns = columns or math.ceil(len(titles) / math.ceil(len(titles) / _MOST_COLUMNS))
    ticks = _ticks(*scale.get_clim())
    ticks_width = max(text_width(text) for text in ticks.values())
    for lines in (1, 2, 3):
        bar_space = _GAP + _BAR + _TICK + ticks_width + _GAP / 2 + lines * _LINE
        layout = _Layout(titles, [name for name, _ in legend], shape, columns, width, bar_space, caption)
        if layout.side < _LEAST_SIDE:
            raise InputError(
                f"{columns} columns in {width} inches leave {max(layout.side, 0):.2f} inches to a panel, which needs "
                f"{_LEAST_SIDE}; give fewer columns or a greater width."
            )
        label = wrap(meaning, layout.total - 2 * _MARGIN, lines)
        if not label.endswith("…"):
            break

    total, side, height = layout.total, layout.side, layout.side * shape
    figure = PaperFigure(figsize=(width, total), dpi=DPI)
    if layout.above:
        figure.text(_MARGIN / width, 1 - _MARGIN / total, layout.above, ha="left", va="top", fontsize=FONT_SIZE)
    axes, edge = [], total - layout.header - layout.margin
    for index, (row, head) in enumerate(zip(layout.rows, layout.heads, strict=True)):
        edge -= head + height + (_GAP if index else 0)
        for column, title in enumerate(row):
            x = _MARGIN + column * (side + _GAP)
            ax = figure.add_axes((x / width, edge / total, side / width, height / total), xticks=[], yticks=[])
            ax.set_title(title, fontsize=FONT_SIZE, pad=_GAP / 2 * 72)
            axes.append(ax)

    full = layout.body - layout.heads[0]
    tall = min(full, _BAR_HEIGHT)
    x = width - _MARGIN - bar_space + _GAP
    bar = figure.add_axes((x / width, (edge + (full - tall) / 2) / total, _BAR / width, tall / total))
    figure.colorbar(scale, cax=bar)
    every = math.ceil(len(ticks) * _LINE / tall)
    bar.set_yticks(list(ticks)[::every], list(ticks.values())[::every])
    reach = max(map(text_width, label.split("\n"))) / 2 + _MARGIN
    middle = min(max(edge + full / 2, reach), total - reach)
    figure.text(
        1 - _MARGIN / width, middle / total, label, rotation=90, ha="right", va="center", multialignment="center"
    )
    if legend:
        figure.legend(
            handles=[Patch(facecolor=tint) for _, tint in legend],
            labels=layout.entries,
            loc="lower center",
            bbox_to_anchor=(0.5, layout.margin / total),
            ncols=layout.legend_columns,
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            handlelength=1,
            handletextpad=0.5,
            columnspacing=1.5,
            labelspacing=0.3,
        )
    return figure, axes


def _ticks(low: float, high: float) -> dict[float, str]:
    """At most six round values of a colour bar and how to write them."""
    inside = [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= tick <= high]
    return {tick: f"{tick:.4g}".replace("-", "−") for tick in inside or [low]}
