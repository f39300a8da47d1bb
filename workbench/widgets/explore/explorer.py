"""The view of one dataset in JupyterLab."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets
import xarray as xr

from workbench.schema import WorkbenchError
from workbench.store.reading import Run
from workbench.widgets.explore import front_end
from workbench.widgets.explore.answers import Answers
from workbench.widgets.explore.meta import meta_of
from workbench.widgets.explore.page import page
from workbench.widgets.explore.picker import pick
from workbench.widgets.explore.state import State
from workbench.widgets.shared.refusals import problem, shown


class Explorer(anywidget.AnyWidget):
    """An interactive view of a captured dataset; :func:`explore` makes one.

    Parameters
    ----------
    ds
        A captured dataset. One that cannot be shown gives a sentence in its place.
    state
        What to show, as the trait ``state`` gives it; what is left out is as in
        :meth:`workbench.widgets.explore.state.State.default`.
    snapshot
        Whether the notebook also keeps a picture of the first state, for readers without widgets.
    controls
        Whether the view has controls of its own.
    cube
        Whether the browser holds the scores summed over heads and computes the maps by itself. None means so when
        they take less than :data:`workbench.widgets.explore.cube.LARGEST`.

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
        snapshot: bool = False,
        controls: bool = True,
        cube: bool | None = None,
    ) -> None:
        self._esm = front_end.module()
        self._css = front_end.style()
        self._ds: xr.Dataset | None = None
        self._snapshot = snapshot
        self._answers: Answers | None = None
        sentence = problem(ds)
        if sentence is not None:
            super().__init__(error=sentence)
            return
        ds = shown(ds)
        meta = {**meta_of(ds, cube=cube), "controls": controls, "page": True}
        chosen = State.default(ds)
        if state is not None:
            try:
                chosen = State.from_json(state, ds)
            except WorkbenchError as error:
                meta["remarks"] = [*meta["remarks"], f"The state does not fit and was left out: {error}"]
        self._ds = ds
        self._answers = Answers(ds, page)
        super().__init__(meta=meta, state=chosen.to_json())
        self.on_msg(self._answer)

    @property
    def code(self) -> str:
        """Python that computes the numbers on screen from a dataset ``ds``; empty without one."""
        return "" if self._ds is None else State.from_json(self.state, self._ds).call(self._ds)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        bundle = super()._repr_mimebundle_(**options)
        if not self._snapshot or self._ds is None or bundle is None:
            return bundle
        data, metadata = bundle
        return {**data, **_picture(State.from_json(self.state, self._ds), self._ds)}, metadata

    def close(self) -> None:
        """Close the view and let go of the dataset."""
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


def explore(ds: Any = None, *, state: Mapping[str, Any] | None = None, snapshot: bool = False) -> Any:
    """Show a captured dataset: maps over the picture, with sliders for layers and timesteps.

    Parameters
    ----------
    ds
        A dataset from ``capture``, ``generate`` or ``open``; a stored run, or a list of them; without it, all stored
        runs to choose from.
    state
        What to show, as ``view.state`` or a saved state gives it; what is left out is as usual.
    snapshot
        Keep a picture of the maps in the notebook as well, for readers without a kernel (it adds its size to the file).

    Returns
    -------
    An ipywidgets object. Whatever cannot be shown gives a sentence in its place.
    """
    if ds is None or (isinstance(ds, list | tuple) and all(isinstance(run, Run) for run in ds)):
        return pick(Explorer, ds, state=state)
    if isinstance(ds, Run):
        try:
            ds = ds.open()
        except WorkbenchError as error:
            return Explorer(error)
    return Explorer(ds, state=state, snapshot=snapshot)


def _picture(state: State, ds: xr.Dataset) -> dict[str, str]:
    """The figure of a state as a PNG for a notebook; nothing where there is no picture to draw on."""
    from workbench.figures import concept_grid

    try:
        figure = concept_grid(ds, **state.options(ds))
    except WorkbenchError:
        return {}
    return {"image/png": base64.b64encode(figure._repr_png_()).decode("ascii")}
