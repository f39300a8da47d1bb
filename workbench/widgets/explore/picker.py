"""A list of stored runs to choose from: pictures, a search field, and the view of the chosen run below.

Runs that were made for experiments are folded away below the run that they belong to.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import anywidget
import ipywidgets
import xarray as xr

from workbench import schema, store
from workbench.schema import WorkbenchError
from workbench.store.listing import Family, Run, counted, families
from workbench.widgets.shared import assets
from workbench.widgets.shared.copied_dataset import opening
from workbench.widgets.shared.drawing import Block, Still, Table, Text
from workbench.widgets.shared.refusals import drawable
from workbench.widgets.shared.static_output import HIDING, StaticOutput

_THUMBNAIL: Final = 144
"""Longest side of a picture in the list, in pixels: twice what is shown, for dense screens."""
_MOST: Final = 500
"""Runs that are listed, and of experiments below each of them; of more, the newest."""
_LONGEST_PROMPT: Final = 160
_PICTURED: Final = 12
"""Runs in a picture of the list."""

logger = logging.getLogger(__name__)


class Picker(anywidget.AnyWidget):
    """The list itself.

    Parameters
    ----------
    runs
        What to list.
    chosen
        Called with the dataset of the run that was clicked, and with the run.
    """

    _esm = assets.text("explore/picker.js")
    _css = assets.text("explore/picker.css") + HIDING

    def __init__(self, runs: Sequence[Run], chosen: Callable[[xr.Dataset, Run], None]) -> None:
        groups = families(runs)
        self._groups = [Family(group.head, group.derived[:_MOST]) for group in groups[:_MOST]]
        self._summaries = {group.head.key: _summary(group) for group in groups}
        self._runs = {run.key: run for group in self._groups for run in (group.head, *group.derived)}
        self._left = max(len(groups) - _MOST, 0)
        self._chosen = chosen
        super().__init__()
        self.on_msg(self._answer)

    def _answer(self, _widget: Any, content: Any, _buffers: Any) -> None:
        kind = content.get("type")
        if kind == "ready":
            self.send({"type": "runs", "runs": list(map(self._listed, self._groups)), "left": self._left})
            return
        if (run := self._runs.get(content.get("key"))) is None:
            return
        reply: dict[str, Any] = {"type": kind, "key": run.key}
        buffers: list[bytes] = []
        try:
            if kind == "thumbnail":
                buffers = _thumbnail(run.open())
            elif kind == "open":
                self._chosen(run.open(), run)
        except WorkbenchError as error:
            reply["error"] = str(error)
        except Exception as error:
            logger.exception("the run %s could not be opened", run.key)
            reply["error"] = f"The run {run.key} could not be opened ({type(error).__name__}: {error})."
        self.send(reply, buffers)

    def _listed(self, group: Family) -> dict[str, Any]:
        derived = [_row(run) for run in group.derived]
        return _row(group.head) | {"derived": derived, "summary": self._summaries[group.head.key]}


class Choice(StaticOutput, ipywidgets.VBox):  # type: ignore[misc]
    """A list of runs, and the view of the one that was chosen.

    Parameters
    ----------
    runs
        What to list.
    view_of
        Makes the view of a dataset, which shows a ``state`` at first and knows its ``source``.
    state
        That state.

    Attributes
    ----------
    view : ipywidgets.DOMWidget or None
        The view of the chosen run.
    """

    def __init__(
        self, runs: Sequence[Run], view_of: Callable[..., anywidget.AnyWidget], state: Mapping[str, Any] | None = None
    ) -> None:
        self.view: Any = None
        self._view_of = view_of
        self._state = state
        self._listed = list(runs)
        self._picker = Picker(runs, self._show)
        super().__init__([self._picker])

    def _show(self, ds: xr.Dataset, run: Run) -> None:
        former, self.view = self.view, self._view_of(ds, state=self._state, source=opening(run))
        self.children = (self._picker, self.view)
        self.view.observe(self.renew, "state")
        self.renew()
        if former is not None:
            former.close()

    def still(self) -> Still:
        """The list, and what the view of the chosen run shows now, for a picture of it."""
        own = [run for run in self._listed if run.own]
        rows = [[", ".join(run.concepts), run.edit, run.model, run.created[:10], run.key] for run in own[:_PICTURED]]
        count = counted(own)
        blocks: list[Block] = [Text(count, size=15, bold=True)]
        if rows:
            blocks.append(Table(("concepts", "edit", "model", "made", "key"), rows))
        if len(own) > _PICTURED:
            blocks.append(Text(f"and {len(own) - _PICTURED} more", soft=True))
        words = f"{count} to choose from."
        if self.view is None:
            return Still(words, blocks)
        chosen = self.view.still()
        return Still(f"{words} The chosen one: {chosen.words}", [*blocks, *chosen.blocks], chosen.facts)

    def close(self) -> None:
        """Close the list and the view."""
        self.settle()
        for child in self.children:
            child.close()
        super().close()


def pick(
    view_of: Callable[..., anywidget.AnyWidget],
    runs: Sequence[Run] | None = None,
    *,
    state: Mapping[str, Any] | None = None,
) -> Choice:
    """Let the user choose a stored run in the notebook.

    Parameters
    ----------
    view_of
        Makes the view of the chosen run, from its dataset and a ``state``.
    runs
        What :func:`workbench.runs` lists, or some of it. Without it, all of the cache.
    state
        What the view of the chosen run shows at first.
    """
    return Choice(store.runs() if runs is None else runs, view_of, state)


def _summary(group: Family) -> str:
    """How many runs experiments made with a run; empty for none."""
    more = f", of which {_MOST} are listed" if len(group.derived) > _MOST else ""
    return group.summary + more if group.derived else ""


def _row(run: Run) -> dict[str, Any]:
    prompt = run.prompt if isinstance(run.prompt, str) else "; ".join(run.prompt)
    return {
        "key": run.key,
        "kind": run.kind,
        "model": run.model,
        "concepts": list(run.concepts),
        "prompt": prompt if len(prompt) <= _LONGEST_PROMPT else prompt[:_LONGEST_PROMPT] + "…",
        "created": run.created,
        "size": run.size,
        "edit": run.edit,
        "role": run.role,
    }


def _thumbnail(ds: xr.Dataset) -> list[bytes]:
    """The run's first picture as a PNG file, when it has one."""
    if not drawable(ds):
        return []
    from PIL import Image

    image = ds[schema.IMAGE]
    first = image.isel({dim: 0 for dim in (schema.SAMPLE, schema.FRAME) if dim in image.dims})
    picture = Image.fromarray(first.transpose(schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL).to_numpy())
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return [buffer.getvalue()]
