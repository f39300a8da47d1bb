"""What a view of a dataset shows at a moment, drawn without a browser."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.origin import provenance
from workbench.interventions import edit_of
from workbench.numerics.measures import MEASURES, Reference
from workbench.schema import InputError
from workbench.widgets.explore import arrays
from workbench.widgets.explore.state import State
from workbench.widgets.shared.description import picture
from workbench.widgets.shared.drawing import Block, Legend, Ramp, Still, Text, Tile, Tiles, gif
from workbench.widgets.shared.refusals import drawable
from workbench.widgets.shared.spaces import dim_of, names_of

if TYPE_CHECKING:
    from PIL.Image import Image

_DIVERGING: Final = "PuOr_r"
_MOST_NAMES: Final = 12
_FRAME: Final = 700
"""Milliseconds that each step of a moving picture stays."""
_LONGEST_PROMPT: Final = 160
_FAINTEST: Final = 0.35
"""Least opacity of areas over the picture, as in the browser."""


def still_of(ds: xr.Dataset, state: State, totals: xr.Dataset | None = None) -> Still:
    """A view of a dataset at a moment: maps, areas, colour scale, and what they are.

    Parameters
    ----------
    ds
        A captured dataset that can be shown.
    state
        What is shown.
    totals
        The dataset with the scores of the state's space in memory, where they are.

    Raises
    ------
    SelectionError
        If nothing of what is chosen was captured.
    SchemaError
        If scores are NaN that are not listed as missing.
    """
    return _Moment(ds, state, arrays.maps(state, ds if totals is None else totals)).still()


def moving(ds: xr.Dataset, state: State, over: str = schema.TIMESTEP) -> bytes:
    """A view of a dataset as a GIF file that runs over its timesteps or its layers, on one colour scale.

    Parameters
    ----------
    ds
        A captured dataset that can be shown.
    state
        What is shown; of ``over``, one after the other of what is chosen.
    over
        ``"timestep"``, from the noise to the picture, or ``"layer"``, deeper and deeper.

    Raises
    ------
    InputError
        If ``over`` is neither, or only one timestep or layer is chosen.
    """
    if over not in (schema.TIMESTEP, schema.LAYER):
        raise InputError(f"over is {over!r}; expected {schema.TIMESTEP!r} or {schema.LAYER!r}.")
    low, high = sorted(state.timesteps if over == schema.TIMESTEP else state.layers)
    labels = sorted((value for value in ds[over].to_numpy().tolist() if low <= value <= high), reverse=over != "layer")
    if len(labels) < 2:
        raise InputError(f"the view shows one {over}, which does not move: choose more of them, or save a .png.")
    states = [
        replace(state, timesteps=(label, label)) if over == schema.TIMESTEP else replace(state, layers=(label, label))
        for label in labels
    ]
    maps = [arrays.maps(each, ds) for each in states]
    limits = limits_of(state, np.concatenate(maps, axis=-1))
    steps = [_Moment(ds, replace(each, limits=limits), found).still() for each, found in zip(states, maps, strict=True)]
    facts = provenance(ds) | {"state": state.to_json(), "code": state.call(ds), "over": over, "frames": labels}
    return gif([step.blocks for step in steps], facts, _FRAME)


def limits_of(state: State, maps: NDArray[np.float32]) -> tuple[float, float]:
    """Ends of the colour scale of maps (concept, y, x); the browser's ``Store.scale`` says the same."""
    if state.limits is not None:
        return state.limits
    shown = maps if state.concepts is None else maps[list(state.concepts)]
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if state.reduce == "mean" and _map_name(state) == "diverging":
        most = max(abs(low), abs(high))
        return -most, most
    return low, high


def heading(ds: xr.Dataset, state: State) -> list[str]:
    """What a view is about, line by line: its concepts and model, what was edited, the prompt, what is chosen."""
    names = names_of(ds, state.space)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    lines = [f"{', '.join(names[:_MOST_NAMES])}{more} – {ds.attrs.get('model') or 'an unnamed model'}"]
    if edit := edit_of(ds.attrs):
        lines.append(f"edited: {edit}")
    prompt = ds.attrs.get("prompt") or ""
    if isinstance(prompt, str) and prompt:
        cut = prompt if len(prompt) <= _LONGEST_PROMPT else f"{prompt[:_LONGEST_PROMPT]}…"
        lines.append(f"prompt: “{cut}”")
    lines.append(selection(ds, state))
    return lines


def selection(ds: xr.Dataset, state: State) -> str:
    """What of a run is shown, in a line."""
    first, last = state.layers
    high, low = state.timesteps
    parts = [f"{state.space} space", f"layer {first}" if first == last else f"layers {first}–{last}"]
    parts.append(f"timestep {high:g}" if high == low else f"timesteps {high:g}–{low:g}")
    if state.heads is not None:
        parts.append(f"head{'s' * (len(state.heads) > 1)} {', '.join(map(str, state.heads))}")
    if ds.sizes.get(schema.SAMPLE, 1) > 1:
        parts.append(f"mean of {ds.sizes[schema.SAMPLE]} samples" if state.sample is None else f"sample {state.sample}")
    if state.frame is not None:
        parts.append(f"frame {state.frame}")
    return " · ".join(parts)


@dataclass(frozen=True)
class _Moment:
    """A state with its maps (concept, y, x)."""

    ds: xr.Dataset
    state: State
    maps: NDArray[np.float32]

    def still(self) -> Still:
        first, *more = heading(self.ds, self.state)
        blocks: list[Block] = [Text(first, size=15, bold=True, most=2), *(Text(line, soft=True) for line in more)]
        limits, tiles = limits_of(self.state, self.maps), self.tiles()
        blocks.append(Tiles(tiles, self.maps.shape[1] / self.maps.shape[2]))
        blocks.append(Ramp(_colours(_map_name(self.state)), limits, self.meaning))
        if self.state.difference is not None:
            blocks.append(Ramp(_colours("diverging"), _symmetric(self.difference), "difference"))
        if len(self.names) > 1:
            shares = [(f"{name} {share}", colour_of(index)) for index, name, share in self.areas()]
            blocks.append(Legend(shares[:_MOST_NAMES]))
        facts = provenance(self.ds) | {"state": self.state.to_json(), "code": self.state.call(self.ds)}
        return Still(self.words(), blocks, facts)

    def words(self) -> str:
        """What is shown, for those who cannot see it."""
        said = f"Concept maps: {'; '.join(heading(self.ds, self.state))}."
        if len(self.names) > 1:
            areas = ", ".join(f"{name} {share}" for _, name, share in self.areas()[:_MOST_NAMES])
            said += f" Share of the patches where each is strongest: {areas}."
        if (iou := self.mean_iou()) is not None:
            said += f" Mean IoU with the truth: {iou:.3f}."
        return said

    @property
    def names(self) -> list[str]:
        return names_of(self.ds, self.state.space)

    @property
    def meaning(self) -> str:
        noun = "tokens" if dim_of(self.state.space) == schema.TOKEN else "concepts"
        raw = self.state.reduce == "mean"
        return f"{self.state.space} score" if raw else f"share among {len(self.names)} {noun}"

    @property
    def difference(self) -> NDArray[np.float32]:
        one, other = self.state.difference or (0, 0)
        return np.asarray(self.maps[one] - self.maps[other])

    def areas(self) -> list[tuple[int, str, str]]:
        """Position, name and share of the patches where it is strongest, the largest first."""
        labels = self.maps.argmax(0)
        counts = np.bincount(labels.ravel(), minlength=len(self.names))
        order = sorted(range(len(self.names)), key=lambda index: -counts[index])
        return [(index, self.names[index], f"{100 * counts[index] / labels.size:.0f} %") for index in order]

    def mean_iou(self) -> float | None:
        """Mean IoU with the truth, where there is one."""
        if schema.TRUTH not in self.ds or dim_of(self.state.space) == schema.TOKEN:
            return None
        true, area = arrays.truth_counts(self.ds, self.state)
        measure = MEASURES["iou"]
        reference = Reference(true.astype(np.float64), area.astype(np.float64), labelled=np.nan)
        value = float(measure.value(*measure(self.maps[None], reference))[0])
        return value if np.isfinite(value) else None

    def tiles(self) -> list[Tile]:
        """The panels of the view."""
        state, tiles = self.state, []
        under = self.picture()
        if under is not None:
            tiles.append(Tile("picture", under))
        limits, name = limits_of(state, self.maps), _map_name(state)
        grey = under.grey() if under is not None and state.picture else None
        for index in range(len(self.names)) if state.concepts is None else state.concepts:
            shown = _Map(self.maps[index], limits, name, state, grey)
            pinned = "" if state.pin is None else f"{self.maps[index][state.pin]:.3f}"
            tiles.append(Tile(self.names[index], shown, colour_of(index), pinned))
        if state.difference is not None:
            title = " − ".join(self.names[index] for index in state.difference)
            tiles.append(Tile(title, _Map(self.difference, _symmetric(self.difference), "diverging", state, grey)))
        if len(self.names) > 1:
            tiles.append(Tile("segmentation", _Areas(self.maps.argmax(0), state, grey)))
        if schema.TRUTH in self.ds and dim_of(state.space) == schema.CONCEPT:
            tiles.append(Tile("truth", _Areas(self.true_labels(), state, grey)))
        return tiles

    def true_labels(self) -> NDArray[np.int64]:
        """(y, x): the concept with the most pixels of a patch, if they are half of it, else -1."""
        true, area = arrays.truth_counts(self.ds, self.state)
        best = true.argmax(0)
        most = np.take_along_axis(true, best[None], 0)[0]
        return np.where((area > 0) & (2 * most >= area), best, -1)

    def picture(self) -> _Ground | None:
        """The picture under the maps."""
        if not drawable(self.ds):
            return None
        from PIL import Image

        _, file = picture(self.ds, self.state.sample, self.state.frame)
        return _Ground(Image.open(io.BytesIO(file)).convert("RGB"))


@dataclass(frozen=True)
class _Map:
    """Draws a map (y, x) at a size."""

    values: NDArray[np.float32]
    limits: tuple[float, float]
    name: str
    state: State
    grey: _Ground | None

    def __call__(self, wide: int, tall: int) -> Image:
        from PIL import Image

        low, high = self.limits
        known = np.isfinite(self.values)
        level = (np.where(known, self.values, low) - low) / (high - low) if high > low else np.full(known.shape, 0.5)
        alpha = np.where(known, 255 * (self.state.opacity if self.grey else 1), 0)
        rgb = _colours(self.name)[np.rint(255 * np.clip(level, 0, 1)).astype(int)]
        over = Image.fromarray(np.dstack([rgb, np.rint(alpha).astype(np.uint8)[..., None]]), "RGBA")
        return _laid(over, self.grey, self.state, wide, tall, smooth=self.state.smooth)


@dataclass(frozen=True)
class _Areas:
    """Draws labels (y, x) at a size; -1 stays clear."""

    labels: NDArray[np.int64]
    state: State
    grey: _Ground | None

    def __call__(self, wide: int, tall: int) -> Image:
        from PIL import Image, ImageColor

        used = np.unique(self.labels)
        colours = {label: ImageColor.getrgb(colour_of(int(label))) for label in used if label >= 0}
        rgba = np.zeros((*self.labels.shape, 4), np.uint8)
        opacity = max(self.state.opacity, _FAINTEST) if self.grey else 1.0
        for label, colour in colours.items():
            faded = 1.0 if self.state.focus in (None, label) else 110 / 255
            rgba[self.labels == label] = (*colour[:3], round(255 * opacity * faded))
        return _laid(Image.fromarray(rgba, "RGBA"), self.grey, self.state, wide, tall, smooth=False)


def _laid(over: Image, under: _Ground | None, state: State, wide: int, tall: int, *, smooth: bool) -> Image:
    """Colours of the patches over a picture, with the pinned patch marked."""
    from PIL import Image, ImageDraw

    ground = Image.new("RGB", (wide, tall), "#eeeeee") if under is None else under(wide, tall)
    filtered = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    laid = Image.alpha_composite(ground.convert("RGBA"), over.resize((wide, tall), filtered)).convert("RGB")
    if state.pin is not None:
        rows, columns = over.height, over.width
        x, y = (state.pin[1] + 0.5) * wide / columns, (state.pin[0] + 0.5) * tall / rows
        w, t = max(wide / columns, 9) / 2, max(tall / rows, 9) / 2
        canvas = ImageDraw.Draw(laid)
        for width, colour in ((3, "#000000"), (1, "#ffffff")):
            canvas.rectangle((x - w, y - t, x + w, y + t), outline=colour, width=width)
    return laid


class _Ground:
    """A picture that lies under panels: fitted once to each size."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._fitted: dict[tuple[int, int], Image] = {}

    def grey(self) -> _Ground:
        return _Ground(self._image.convert("L").convert("RGB"))

    def __call__(self, wide: int, tall: int) -> Image:
        from PIL import Image

        if (wide, tall) not in self._fitted:
            way = Image.Resampling.LANCZOS if self._image.width > wide else Image.Resampling.NEAREST
            self._fitted[wide, tall] = self._image.resize((wide, tall), way)
        return self._fitted[wide, tall]


def difference_tile(title: str, values: NDArray[Any], all_values: NDArray[Any], state: State, colour: str) -> Tile:
    """A panel of signed values (y, x), on the scale of all of them, with nothing below."""
    plain = replace(state, picture=False, pin=state.pin)
    return Tile(title, _Map(values, _symmetric(all_values), "diverging", plain, None), colour)


def symmetric_ramp(values: NDArray[Any], meaning: str) -> Ramp:
    """The scale of signed values."""
    return Ramp(_colours("diverging"), _symmetric(values), meaning)


def colour_of(index: int) -> str:
    """The colour of a concept, which is that of the figures."""
    from workbench.figures.paper import colour

    return colour(index)


def _map_name(state: State) -> str:
    if state.cmap != "auto":
        return state.cmap
    return "diverging" if state.reduce == "mean" else "viridis"


def _colours(name: str) -> NDArray[np.uint8]:
    """The 256 colours of a map, (colour, rgb)."""
    import matplotlib as mpl

    found: NDArray[Any] = mpl.colormaps[_DIVERGING if name == "diverging" else name](np.arange(256), bytes=True)
    return found[:, :3]


def _symmetric(values: NDArray[np.float32]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    most = float(np.abs(finite).max()) if finite.size else 1.0
    return -most, most
