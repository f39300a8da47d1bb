"""The view of one dataset in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import anywidget
import numpy as np
import traitlets
import xarray as xr

from workbench import schema
from workbench.schema import InputError, WorkbenchError, noted
from workbench.store.reading import Run
from workbench.widgets.explore import arrays, front_end
from workbench.widgets.explore.answers import Answers
from workbench.widgets.explore.explorer_still import moving, still_of
from workbench.widgets.explore.meta import meta_of
from workbench.widgets.explore.page import page
from workbench.widgets.explore.picker import pick
from workbench.widgets.explore.state import State
from workbench.widgets.shared.copied_dataset import begun, named, opening, reopening
from workbench.widgets.shared.drawing import Still, Text
from workbench.widgets.shared.refusals import problem, shown
from workbench.widgets.shared.spaces import names_of
from workbench.widgets.shared.static_output import StaticOutput


class Explorer(StaticOutput, anywidget.AnyWidget):
    """An interactive view of a captured dataset; :func:`explore` makes one.

    Parameters
    ----------
    ds
        A captured dataset. One that cannot be shown gives a sentence in its place.
    state
        What to show, as the trait ``state`` gives it; what is left out is as in
        :meth:`workbench.widgets.explore.state.State.default`.
    snapshot
        Whether the notebook also keeps a picture and a description of what is shown, for readers without a kernel.
    controls
        Whether the view has controls of its own.
    cube
        Whether the browser holds the scores summed over heads and computes the maps by itself. None means so when
        they take less than :data:`workbench.widgets.explore.cube.LARGEST`.
    variable
        What copied code calls the dataset.
    source
        Code that opens the dataset, where it is known.
    title
        Stands above everything else.

    Attributes
    ----------
    state : dict
        What is shown, as plain values (:class:`workbench.widgets.explore.state.State`); setting it changes the view.
    meta : dict
        What the browser knows about the dataset.
    error : str
        Shown in place of the view.
    """

    state = traitlets.Dict().tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        ds: Any,
        *,
        state: Mapping[str, Any] | None = None,
        snapshot: bool = True,
        controls: bool = True,
        cube: bool | None = None,
        variable: str = "ds",
        source: str = "",
        title: str = "",
    ) -> None:
        self._esm = front_end.packed()
        self._css = front_end.style()
        self._ds: xr.Dataset | None = None
        self._static = snapshot
        self._answers: Answers | None = None
        sentence = problem(ds)
        if sentence is not None:
            super().__init__(error=sentence)
            return
        # Files are read where no variable of this notebook is.
        reopened = source or reopening(ds, variable)
        self._page_of = partial(page, source=reopened, variable=variable)
        ds = shown(ds)
        meta = {
            **meta_of(ds, cube=cube, variable=variable, source=source),
            "controls": controls,
            "page": True,
            "reopening": reopened,
            "title": title,
        }
        chosen = State.default(ds)
        if state is not None:
            try:
                chosen = State.from_json(state, ds)
            except WorkbenchError as error:
                meta["remarks"] = [*meta["remarks"], f"The state does not fit and was left out: {error}"]
        if chosen.concepts is not None and "concepts" not in (state or {}):
            chosen = _with_largest(chosen, ds)
        self._ds = ds
        self._answers = Answers(ds, self._page_of)
        super().__init__(meta=meta, state=chosen.to_json())
        self.on_msg(self._answer)
        self.observe(self.renew, "state")

    @property
    def code(self) -> str:
        """Python that computes the numbers on screen, as "Code" in the view copies it; empty without a dataset."""
        if self._ds is None:
            return ""
        return begun(self.meta["source"], State.from_json(self.state, self._ds).call(self._ds, self.meta["variable"]))

    def still(self) -> Still:
        """What the view shows now, for a picture of it.

        Raises
        ------
        InputError
            If it shows a sentence in place of a dataset, or was closed.
        """
        held = self.held()
        if held is None:
            raise self._nothing()
        still = still_of(*held)
        code = begun(self.meta["reopening"], held[1].call(held[0], self.meta["variable"]))
        still = replace(still, facts={**still.facts, "code": code})
        if not self.meta["title"]:
            return still
        blocks = [Text(self.meta["title"], size=15, bold=True), *still.blocks]
        return Still(f"{self.meta['title']}. {still.words}", blocks, still.facts)

    def held(self) -> tuple[xr.Dataset, State, xr.Dataset] | None:
        """The dataset, what of it is shown, and the dataset with the scores of that space in memory if they fit."""
        if self._ds is None or self._answers is None:
            return None
        state = State.from_json(self.state, self._ds)
        return self._ds, state, self._answers.totals(state.space)

    def savers(self) -> dict[str, Callable[..., bytes]]:
        """What makes a file of each ending."""
        return {**super().savers(), ".html": self._page, ".gif": self._moving}

    def _page(self) -> bytes:
        ds, state = self._shown()
        return self._page_of(ds, state).encode()

    def _moving(self, over: str = schema.TIMESTEP) -> bytes:
        ds, state = self._shown()
        return moving(ds, state, over)

    def _shown(self) -> tuple[xr.Dataset, State]:
        if self._ds is None:
            raise self._nothing()
        return self._ds, State.from_json(self.state, self._ds)

    def _nothing(self) -> InputError:
        return InputError(self.error or "this view was closed: make a new one, wb.explore(ds).")

    def close(self) -> None:
        """Close the view and let go of the dataset."""
        self.settle()
        if self._answers is not None:
            self._answers.free()
        self._ds = self._answers = None
        super().close()

    @traitlets.validate("state")
    def _checked(self, proposal: Any) -> dict[str, Any]:
        if self._ds is None:
            return dict(proposal["value"])
        try:
            return State.from_json(proposal["value"], self._ds).to_json()
        except WorkbenchError as error:
            raise traitlets.TraitError(str(error)) from error

    def _answer(self, _widget: Any, question: Any, _buffers: Any) -> None:
        if self._answers is None or not isinstance(question, dict):
            return
        if question.get("type") == "closed":
            self._answers.free()
        for reply, buffers in self._answers.answer(question, self.state):
            self.send(reply, buffers)


def _with_largest(state: State, ds: xr.Dataset) -> State:
    """Of more concepts than there are panels at first, those that are strongest at the most patches."""
    try:
        with noted():  # the view itself says what there is to warn of
            labels = arrays.maps(state, ds).argmax(0)
    except WorkbenchError:
        return state
    counts = np.bincount(labels.ravel(), minlength=len(names_of(ds, state.space)))
    largest = np.argsort(-counts, kind="stable")[: len(state.concepts or counts)]
    return replace(state, concepts=tuple(sorted(largest.tolist())))


def explore(ds: Any = None, *, state: Mapping[str, Any] | None = None, snapshot: bool = True) -> Any:
    """Show a captured dataset: maps over the picture, with sliders for layers and timesteps.

    Parameters
    ----------
    ds
        A dataset from ``capture``, ``generate`` or ``open``; a stored run, or a list of them; without it, all stored
        runs to choose from.
    state
        What to show, as ``view.state`` or a saved state gives it; what is left out is as usual.
    snapshot
        Keep a picture of what is shown in the notebook as well (at most 100 kB), and a description: for readers without
        a kernel, for exports, and for sites that show notebooks.

    Returns
    -------
    An ipywidgets object. Whatever cannot be shown gives a sentence in its place.
    """
    if ds is None or (isinstance(ds, list | tuple) and all(isinstance(run, Run) for run in ds)):
        return pick(Explorer, ds, state=state)
    if not isinstance(ds, Run):
        variable, source = named(ds)
        return Explorer(ds, state=state, snapshot=snapshot, variable=variable, source=source)
    try:
        return Explorer(ds.open(), state=state, snapshot=snapshot, source=opening(ds))
    except WorkbenchError as error:
        return Explorer(error)
