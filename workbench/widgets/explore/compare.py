"""Two datasets side by side, behind one set of controls."""

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
from workbench.schema import WorkbenchError
from workbench.widgets.explore.difference import LETTERS, minus, titles
from workbench.widgets.explore.explorer import Explorer
from workbench.widgets.explore.state import State
from workbench.widgets.shared.drawing import Beside, Block, Still, Text, png
from workbench.widgets.shared.refusals import problem, shown
from workbench.widgets.shared.spaces import held_spaces, names_of
from workbench.widgets.shared.static_output import StaticOutput

_PAUSE: Final = 0.1
"""Seconds without a change, before the differences are drawn anew."""


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
    lacking = OVERVIEW[state.statistic].against == "truth" and schema.TRUTH not in other
    return dataclasses.replace(
        default,
        layers=_layers(state.layers, ds, other),
        timesteps=_timesteps(state.timesteps, ds, other),
        heads=_heads(state.heads, ds, other, default.space),
        sample=_held(state.sample, other, schema.SAMPLE, default.sample),
        frame=_held(state.frame, other, schema.FRAME, default.frame),
        reduce=state.reduce,
        concepts=tuple(sorted(shown)) if shown else default.concepts,
        difference=difference,
        focus=None if state.focus is None else where.get(state.focus, default.focus),
        pin=_pin(state.pin, ds, other),
        statistic=default.statistic if lacking else state.statistic,
        cmap=state.cmap,
        opacity=state.opacity,
        smooth=state.smooth,
        picture=state.picture,
        limits=state.limits,
        open=state.open,
    )


def compare(ds_a: xr.Dataset, ds_b: xr.Dataset, *, state: Mapping[str, Any] | None = None) -> Comparison:
    """Two datasets side by side, in JupyterLab, with one set of controls.

    The controls belong to the first; the second follows by relative depth and by sigma (see :func:`aligned`). Both
    share a colour scale from 0 to 1 until it is changed.

    Parameters
    ----------
    ds_a, ds_b
        Captured datasets.
    state
        What to show at first, of ``ds_a``, as :attr:`Explorer.state` gives it.

    Raises
    ------
    InputError, SelectionError
        If the state does not fit ``ds_a``.
    """
    sound = not problem(ds_a) and not problem(ds_b)
    named = titles([ds_a, ds_b]) if sound else ["", ""]
    first = Explorer(ds_a, state={"limits": [0.0, 1.0], **(state or {})}, variable="ds_a", title=named[0])
    second = Explorer(ds_b, controls=False, variable="ds_b", title=named[1])
    if sound:
        _link(first, second, shown(ds_a), shown(ds_b))
    return Comparison([first, second])


class Comparison(StaticOutput, ipywidgets.Box):  # type: ignore[misc]
    """Views side by side; :func:`compare` makes one.

    Parameters
    ----------
    views
        Of each dataset; the first one has the controls.

    Attributes
    ----------
    views : tuple of Explorer
        The same. Below them, the maps of the first minus those of the second.
    """

    _soon: asyncio.TimerHandle | None = None

    def __init__(self, views: Sequence[Explorer]) -> None:
        self.views = tuple(views)
        self._minus = ipywidgets.Image(format="png", layout={"flex": "1 1 100%", "max_width": "960px"})
        for view in views:
            view.layout.flex = "1 1 420px"
            view.layout.min_width = "0"
            view.observe(self._changed_state, "state")
        layout = {"display": "flex", "flex_flow": "row wrap", "grid_gap": "12px"}
        super().__init__([*views, self._minus], layout=layout)
        self._subtract()

    def _changed_state(self, _change: object) -> None:
        """Draw the differences anew, once for what changes in both views."""
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
        """A − B, where there are two views that can be shown."""
        held = [found for view in self.views if (found := view.held()) is not None]
        if len(held) != 2:
            return []
        (ds_a, state_a, totals_a), (ds_b, state_b, totals_b) = held
        return minus(ds_a, state_a, ds_b, state_b, (totals_a, totals_b))

    def _subtract(self) -> None:
        self._soon = None
        try:
            blocks = self._differences()
        except WorkbenchError as error:
            blocks = [Text(f"A − B is not drawn: {error}", soft=True)]
        self._minus.value = png(blocks, {"title": "A − B"}) if blocks else b""
        self._minus.layout.display = None if blocks else "none"

    def still(self) -> Still:
        """What the views show now, for a picture of it."""
        found = [view.still() for view in self.views]
        facts = {name: still.facts for name, still in zip(LETTERS, found, strict=False)}
        said = (f"{name}: {still.words}" for name, still in zip(LETTERS, found, strict=False))
        return Still(" ".join(said), [Beside([still.blocks for still in found]), *self._differences()], facts)

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
