"""Datasets side by side, behind one set of controls."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

import ipywidgets
import numpy as np
import xarray as xr

from workbench import schema
from workbench.numerics.measures import OVERVIEW
from workbench.schema import InputError, WorkbenchError
from workbench.store.reading import Run
from workbench.widgets.explore.difference import LETTERS, minus, titles
from workbench.widgets.explore.explorer import Explorer
from workbench.widgets.explore.state import State
from workbench.widgets.shared.copied_dataset import named, opening
from workbench.widgets.shared.drawing import Beside, Block, Still, Text, png
from workbench.widgets.shared.refusals import problem, shown
from workbench.widgets.shared.spaces import held_spaces, names_of
from workbench.widgets.shared.static_output import StaticOutput

_PAUSE: Final = 0.1
"""Seconds without a change, before the differences are drawn anew."""
_NARROWEST: Final = 270
"""In pixels: views stand side by side where each has that much, as two have in a notebook of 700."""
_GAP: Final = 12
"""Pixels between views."""
_ABREAST: Final = 3
"""Views side by side in a picture."""


def aligned(state: State, ds: xr.Dataset, other: xr.Dataset) -> State:
    """The state of another dataset that shows the same as a state of this one.

    Layers correspond by relative depth (index divided by the last captured index), or by index when both runs come
    from the same model; timesteps by the nearest sigma; concepts by name; patches by their relative place. What the
    other dataset does not have falls back to its default.

    Parameters
    ----------
    state
        Of ``ds``.
    ds, other
        The two datasets.
    """
    space = state.space if state.space in held_spaces(other) else None
    default = State.default(other, space)
    here, there = names_of(ds, state.space), names_of(other, default.space)
    where = {index: there.index(name) for index, name in enumerate(here) if name in there}
    shown = None if state.concepts is None else tuple(where[index] for index in state.concepts if index in where)
    difference = None
    if state.difference is not None and set(state.difference) <= set(where):
        difference = (where[state.difference[0]], where[state.difference[1]])
    raw = len(there) < 2  # a softmax over one concept says nothing
    lacking = OVERVIEW[state.statistic].against == "truth" and schema.TRUTH not in other
    return dataclasses.replace(
        default,
        layers=_layers(state.layers, ds, other),
        timesteps=_timesteps(state.timesteps, ds, other),
        heads=_heads(state.heads, ds, other, default.space),
        sample=_held(state.sample, other, schema.SAMPLE, default.sample),
        frame=_held(state.frame, other, schema.FRAME, default.frame),
        reduce="mean" if raw else state.reduce,
        concepts=tuple(sorted(shown)) if shown else default.concepts,
        difference=difference,
        focus=None if state.focus is None else where.get(state.focus, default.focus),
        pin=_pin(state.pin, ds, other),
        statistic=default.statistic if lacking else state.statistic,
        cmap=state.cmap,
        opacity=state.opacity,
        smooth=state.smooth,
        picture=state.picture,
        limits=None if raw and state.reduce != "mean" else state.limits,
        head_layer=None if state.head_layer is None else _layers((state.head_layer,) * 2, ds, other)[0],
        open=state.open,
    )


def compare(
    ds_a: xr.Dataset | Run,
    ds_b: xr.Dataset | Run,
    *more: xr.Dataset | Run,
    state: Mapping[str, Any] | None = None,
) -> Comparison:
    """Datasets side by side, in JupyterLab, with one set of controls.

    The controls belong to the first; the others follow by relative depth and by sigma (see :func:`aligned`). A patch
    that is pointed at or pinned in one is marked in all. They share a colour scale from 0 to 1 until it is changed.
    Below them are the maps of the first minus those of each other.

    Parameters
    ----------
    ds_a, ds_b, *more
        Captured datasets or stored runs, up to eight. Copied code opens stored runs; datasets it calls as the notebook
        does, or ``ds_a``, ``ds_b``, ….
    state
        What to show at first, of ``ds_a``, as :attr:`Explorer.state` gives it.

    Raises
    ------
    InputError, SelectionError
        If there are more datasets than eight, or the state does not fit ``ds_a``.
    """
    given = [ds_a, ds_b, *more]
    if len(given) > len(LETTERS):
        raise InputError(f"{len(given)} datasets were given; expected two to {len(LETTERS)}: choose among them.")
    opened = [_opened(one, f"ds_{letter.lower()}") for one, letter in zip(given, LETTERS, strict=False)]
    datasets = [one for one, _, _ in opened]
    sound = [not problem(ds) for ds in datasets]
    named = titles(datasets) if all(sound) else [""] * len(datasets)
    views = []
    for index, ((ds, name, source), title) in enumerate(zip(opened, named, strict=True)):
        own = None if index else {"limits": [0.0, 1.0], **(state or {})}
        views.append(Explorer(ds, state=own, controls=not index, variable=name, source=source, title=title))
    for view, ds, fits in zip(views[1:], datasets[1:], sound[1:], strict=True):
        if sound[0] and fits:
            _link(views[0], view, shown(datasets[0]), shown(ds))
    return Comparison(views)


def _opened(given: Any, variable: str) -> tuple[Any, str, str]:
    """A dataset, or why it cannot be opened; what copied code calls it; and the code that opens it."""
    if not isinstance(given, Run):
        return given, *named(given, variable)
    try:
        return given.open(), variable, opening(given, variable)
    except WorkbenchError as error:
        return error, variable, ""


class Comparison(StaticOutput, ipywidgets.Box):  # type: ignore[misc]
    """Views side by side; :func:`compare` makes one.

    Parameters
    ----------
    views
        Of each dataset; the first one has the controls.

    Attributes
    ----------
    views : tuple of Explorer
        The same. Below them, the maps of the first minus those of each other.
    """

    _soon: asyncio.TimerHandle | None = None

    def __init__(self, views: Sequence[Explorer]) -> None:
        self.views = tuple(views)
        self._minus = ipywidgets.Image(
            format="png", layout={"grid_area": "auto / 1 / auto / -1", "max_width": "min(960px, 100%)", "margin": "0"}
        )
        for view in views:
            view.layout.min_width = "0"
            view.observe(self._changed_state, "state")
        layout = {"display": "grid", "grid_gap": f"{_GAP}px", "align_items": "flex-start"}
        # As many columns as fit, and no more than views: what spans them all would keep empty ones open.
        share = f"calc((100% - {_GAP * (len(views) - 1)}px) / {len(views)})"
        columns = f"repeat(auto-fit, minmax(min(max({_NARROWEST}px, {share}), 100%), 1fr))"
        super().__init__([*views, self._minus], layout=layout | {"grid_template_columns": columns})
        self.add_class("wb-compare")  # where views look for one another
        self._subtract()

    def _changed_state(self, _change: object) -> None:
        """Draw the differences anew, once for what changes in several views."""
        self.renew()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._subtract()
            return
        if self._soon is not None:
            self._soon.cancel()
        self._soon = loop.call_later(_PAUSE, self._subtract)

    def _differences(self) -> list[Block]:
        """The first minus each other, as far as they can be shown."""
        first, *others = (view.held() for view in self.views)
        if first is None:
            return []
        ds_a, state_a, totals_a = first
        blocks: list[Block] = []
        for letter, other in zip(LETTERS[1:], others, strict=False):
            if other is None:
                continue
            ds, state, totals = other
            try:
                blocks += minus(ds_a, state_a, ds, state, (totals_a, totals), letter)
            except WorkbenchError as error:
                blocks.append(Text(f"A − {letter} is not drawn: {error}", soft=True))
        return blocks

    def _subtract(self) -> None:
        self._soon = None
        blocks = self._differences()
        self._minus.value = png(blocks, {"title": "the first minus the others"}) if blocks else b""
        self._minus.layout.display = None if blocks else "none"

    def still(self) -> Still:
        """What the views show now, for a picture of it."""
        found = [view.still() for view in self.views]
        facts = {name: still.facts for name, still in zip(LETTERS, found, strict=False)}
        said = (f"{name}: {still.words}" for name, still in zip(LETTERS, found, strict=False))
        rows = [Beside([still.blocks for still in found[at : at + _ABREAST]]) for at in range(0, len(found), _ABREAST)]
        return Still(" ".join(said), [*rows, *self._differences()], facts)

    def close(self) -> None:
        """Close the views, and let go of their datasets."""
        self.settle()
        if self._soon is not None:
            self._soon.cancel()
        for child in self.children:
            child.close()
        super().close()


def _link(first: Explorer, second: Explorer, ds_a: xr.Dataset, ds_b: xr.Dataset) -> None:
    leading = False

    def follow(_: object = None) -> None:
        if not leading:
            second.state = aligned(State.from_json(first.state, ds_a), ds_a, ds_b).to_json()

    def lead(_: object) -> None:
        """What is clicked or pressed in the second view changes the first, which does not answer: rounding would move
        the second away from what was chosen there."""
        nonlocal leading
        mine = State.from_json(first.state, ds_a)
        expected = aligned(mine, ds_a, ds_b).to_json()
        changed = [name for name, value in second.state.items() if value != expected[name]]
        if not changed or leading:
            return
        chosen = aligned(State.from_json(second.state, ds_b), ds_b, ds_a)
        leading = True
        try:
            first.state = dataclasses.replace(mine, **{name: getattr(chosen, name) for name in changed}).to_json()
        finally:
            leading = False

    follow()
    first.observe(follow, "state")
    second.observe(lead, "state")


def _layers(layers: tuple[int, int], ds: xr.Dataset, other: xr.Dataset) -> tuple[int, int]:
    here, there = ds[schema.LAYER].to_numpy(), other[schema.LAYER].to_numpy()
    # Two folders may have one name.
    same = all(ds.attrs.get(name) == other.attrs.get(name) for name in ("model", "default_layers"))
    scale = 1.0 if same else float(there.max()) / max(float(here.max()), 1.0)
    first, last = (int(there[np.abs(there - layer * scale).argmin()]) for layer in layers)
    return first, last


def _timesteps(timesteps: tuple[float, float], ds: xr.Dataset, other: xr.Dataset) -> tuple[float, float]:
    there = other[schema.SIGMA].to_numpy()
    sigmas = (ds[schema.SIGMA].sel({schema.TIMESTEP: timestep}).item() for timestep in timesteps)
    high, low = (other[schema.TIMESTEP].to_numpy()[np.abs(there - sigma).argmin()].item() for sigma in sigmas)
    return high, low


def _heads(heads: tuple[int, ...] | None, ds: xr.Dataset, other: xr.Dataset, space: str) -> tuple[int, ...] | None:
    """Heads mean nothing in another model, so they stay chosen only where both have the same ones."""
    if heads is None or space not in other or not ds.indexes[schema.HEAD].equals(other.indexes[schema.HEAD]):
        return None
    return heads


def _held(value: int | None, other: xr.Dataset, dim: str, default: int | None) -> int | None:
    if value is None and default is not None:
        return default
    return value if value is None or (dim in other.coords and value in other[dim].to_numpy()) else default


def _pin(pin: tuple[int, int] | None, ds: xr.Dataset, other: xr.Dataset) -> tuple[int, int] | None:
    if pin is None:
        return None
    row, column = (
        int((place + 0.5) / ds.sizes[dim] * other.sizes[dim])
        for place, dim in zip(pin, (schema.Y, schema.X), strict=True)
    )
    return row, column
