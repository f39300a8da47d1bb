"""Answers to the questions a view asks about its dataset, as messages: plain values, and buffers of numbers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from workbench import schema
from workbench.analysis.origin import stem_of
from workbench.schema import InputError, WorkbenchError, noted
from workbench.widgets.explore import arrays, cube
from workbench.widgets.explore.state import State
from workbench.widgets.shared.description import picture
from workbench.widgets.shared.refusals import drawable

Message = tuple[dict[str, Any], list[Any]]
"""The values of a message, and its buffers."""

_RESIDENT: Final = 1_000_000_000
"""In bytes: whole-head scores of a space up to this size are kept in memory until they are freed."""

logger = logging.getLogger(__name__)


class Answers:
    """Answers questions about one dataset; nothing it is asked makes it raise.

    Parameters
    ----------
    ds
        A captured dataset without a :func:`workbench.widgets.shared.refusals.problem`.
    page
        Makes the text of the page that a view is saved as; without it, none can be asked for.
    """

    def __init__(self, ds: xr.Dataset, page: Callable[[xr.Dataset, State], str] | None = None) -> None:
        self._ds = ds
        self._make_page = page
        self._resident: dict[str, xr.Dataset] = {}
        self._overviews: dict[State, NDArray[np.float32]] = {}

    def answer(self, question: Mapping[str, Any], state: Mapping[str, Any] | None = None) -> Iterator[Message]:
        """Answer one question.

        Parameters
        ----------
        question
            Its ``type``, its ``id``, which is repeated, and the ``state`` it is about.
        state
            The state where the question holds none; without it, the default.

        Yields
        ------
        The parts of a cube, if that was asked for; then the answer. ``error`` in it says what went wrong, ``notes``
        are the warnings that were given.
        """
        kind = question.get("type")
        if kind not in _KINDS:
            return
        reply: dict[str, Any] = {"type": kind, "id": question.get("id")}
        buffers: list[Any] = []
        with noted() as notes:
            try:
                chosen = State.from_json(question.get("state") or state or {}, self._ds)
                reply["space"] = chosen.space
                if kind == "cube":
                    yield from self._parts(chosen)
                values, buffers = _KINDS[kind](self, chosen, question)
                reply |= values
            except WorkbenchError as error:
                reply["error"] = str(error)
            except Exception as error:
                logger.exception("the view could not answer %r", kind)
                reply["error"] = f"This could not be computed ({type(error).__name__}: {error})."
        reply["notes"] = notes
        yield reply, buffers

    def free(self) -> None:
        """Let go of everything that was kept in memory."""
        self._resident.clear()
        self._overviews.clear()

    def _ready(self, state: State, _question: Any) -> Message:
        """What is drawn beside the maps: the picture and the truth."""
        values: dict[str, Any] = {"kinds": []}
        buffers: list[Any] = []
        if drawable(self._ds):
            values["media"], encoded = picture(self._ds, state.sample, state.frame)
            values["kinds"] += ["picture"]
            buffers += [encoded]
        if schema.TRUTH in self._ds and schema.CONCEPT in self._ds.sizes:
            values["kinds"] += ["truth", "area"]
            buffers += [_buffer(count, np.float32) for count in arrays.truth_counts(self._ds, state)]
        return values, buffers

    def _maps(self, state: State, _question: Any) -> Message:
        found = arrays.maps(state, self.totals(state.space))
        return {"shape": list(found.shape)}, [_buffer(found, np.float32)]

    def _picture(self, state: State, _question: Any) -> Message:
        media, encoded = picture(self._ds, state.sample, state.frame)
        return {"media": media}, [encoded]

    def _parts(self, state: State) -> Iterator[Message]:
        for index, part in enumerate(cube.pack(self.totals(state.space), state.space)):
            values = {"type": "part", "space": state.space, "timestep": index}
            yield values, [_buffer(each, each.dtype) for each in part]

    def _cube_end(self, state: State, _question: Any) -> Message:
        """The browser holds the scores from here on, so they need not be kept here too."""
        self._resident.pop(state.space, None)
        return {}, []

    def _overview(self, state: State, _question: Any) -> Message:
        blank = State.default(self._ds, state.space)
        key = replace(blank, sample=state.sample, frame=state.frame, statistic=state.statistic)
        if key not in self._overviews:
            self._overviews[key] = arrays.overview(key, self.totals(state.space))
        values = self._overviews[key]
        rows = [[float(value) if np.isfinite(value) else None for value in row] for row in values]
        return {"values": rows, "statistic": state.statistic}, []

    def _heads(self, state: State, _question: Any) -> Message:
        found = arrays.head_maps(state, self.totals(state.space))
        values = {"layer": state.strip_layer, "focus": state.focus or 0, "reduce": state.reduce}
        return {**values, "shape": list(found.shape)}, [_buffer(found, np.float32)]

    def _runs(self, state: State, _question: Any) -> Message:
        found = arrays.runs(state, self.totals(state.space))
        return {}, [_buffer(each, np.float32) for each in found]

    def _page(self, state: State, _question: Any) -> Message:
        if self._make_page is None:
            raise InputError("a saved page cannot be saved again from here: it is the file that is open.")
        return {"name": f"{stem_of(self._ds)}.html"}, [self._make_page(self._ds, state).encode()]

    def totals(self, space: str) -> xr.Dataset:
        """The dataset with a space's whole-head scores in memory, where they are not too large."""
        if space not in self._resident:
            totals = self._ds[schema.total(space)]
            small = totals.nbytes <= _RESIDENT
            self._resident[space] = self._ds.assign({schema.total(space): totals.compute()}) if small else self._ds
        return self._resident[space]


_KINDS: Final[dict[str, Callable[[Answers, State, Mapping[str, Any]], Message]]] = {
    "ready": Answers._ready,
    "maps": Answers._maps,
    "picture": Answers._picture,
    "cube": Answers._cube_end,
    "overview": Answers._overview,
    "heads": Answers._heads,
    "runs": Answers._runs,
    "page": Answers._page,
}


def _buffer(values: NDArray[Any], dtype: DTypeLike) -> memoryview:
    return memoryview(np.ascontiguousarray(values, dtype=dtype).data)
