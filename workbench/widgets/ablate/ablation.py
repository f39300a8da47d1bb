"""The ablation panel: a form, a run in a thread, curves, the maps behind a point, and a table of results."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import anywidget
import traitlets
import xarray as xr

from workbench.analysis.origin import stem
from workbench.schema import InputError, WorkbenchError
from workbench.widgets.ablate.ablation_still import still_of
from workbench.widgets.ablate.effect_plots import BY_LAYER
from workbench.widgets.ablate.finished_runs import INTERVENTION, SWEEP, Result, figure, netcdf, table
from workbench.widgets.ablate.intervention_form import Interventions
from workbench.widgets.ablate.tasks import Mode
from workbench.widgets.shared import assets
from workbench.widgets.shared.drawing import Still, Text
from workbench.widgets.shared.python_code import continued
from workbench.widgets.shared.static_output import HIDING, StaticOutput
from workbench.widgets.shared.worker import Worker

MODES: Final = (SWEEP, INTERVENTION)
ORDER: Final = (
    "shared/palette.js",
    "shared/maths.js",
    "shared/dom.js",
    "shared/panels.js",
    "shared/plotting.js",
    "ablate/ablation-plots.js",
    "ablate/ablation-form.js",
    "ablate/ablation.js",
)

logger = logging.getLogger(__name__)


class Ablation(StaticOutput, anywidget.AnyWidget):
    """The panel; :func:`workbench.ablate` makes one.

    Parameters
    ----------
    modes
        What it can do, by name: :data:`workbench.widgets.ablate.finished_runs.SWEEP`,
        :data:`workbench.widgets.ablate.finished_runs.INTERVENTION`, or both.
    lacks
        By name, why a mode is not there, in a sentence.
    title
        What it is about.
    picture
        A picture to draw truth on: its media type and file.
    facts
        Where the run comes from that it is about, as :func:`workbench.analysis.origin.provenance` says it.
    source
        Code that opens what the panel is about, where copied code has to begin with it.
    uses
        The variables of the notebook that copied code needs.
    error
        A sentence to show in place of the panel.

    Attributes
    ----------
    state : dict
        The mode, and what is chosen in each, as plain values.
    meta : dict
        What there is to choose from.
    error : str
        Shown in place of the panel.
    """

    state = traitlets.Dict().tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        modes: Mapping[str, Mode] | None = None,
        *,
        lacks: Mapping[str, str] | None = None,
        title: str = "",
        picture: tuple[str, bytes] | None = None,
        facts: Mapping[str, Any] | None = None,
        source: str = "",
        uses: Sequence[str] = (),
        error: str = "",
    ) -> None:
        self._esm = assets.packed(*ORDER)
        self._css = assets.joined("shared/view.css", "ablate/ablation.css") + HIDING
        self._modes = dict(modes or {})
        self._picture = picture
        self._facts = dict(facts or {})
        self._source = source
        known = [str(self._facts.get(name, "")) for name in ("edit", "key")]
        self._stem = f"{stem(self._facts.get('concepts', ()), *known)}-" if self._facts else ""
        self._last: Result | None = None
        self._results: dict[str, list[Result]] = {mode: [] for mode in MODES}
        self._worker = Worker(self._progressed)
        self._running = ""
        self._open = True
        described = {name: mode.describe() for name, mode in self._modes.items()}
        state = {name: values.pop("form") for name, values in described.items()}
        first = next((name for name in MODES if name in described), "")
        super().__init__(
            meta={"title": title, "modes": described, "lacks": dict(lacks or {}), "uses": list(uses)},
            state={"mode": first, **state},
            error=error,
        )
        self.on_msg(self._hear)

    @property
    def results(self) -> dict[str, list[xr.Dataset]]:
        """The datasets of all finished runs, sweeps and interventions apart."""
        return {mode: [result.found for result in results] for mode, results in self._results.items()}

    def close(self) -> None:
        """Stop what runs, close the panel, and let go of everything."""
        self._open = False
        self.settle()
        self._worker.stop()
        for results in self._results.values():
            for result in results:
                result.shown.free()
            results.clear()
        self._modes.clear()
        self._picture = self._last = None
        super().close()

    def still(self) -> Still:
        """What the panel shows now, for a picture of it."""
        if self.error:
            return Still(self.error, [Text(self.error, most=12)])
        return still_of(self.meta["title"], self._results, self._last, self._facts)

    def _hear(self, _widget: Any, question: Any, _buffers: Any) -> None:
        kind = question.get("type") if isinstance(question, dict) else None
        if kind not in _KINDS or not self._open:
            return
        try:
            _KINDS[kind](self, question)
        except WorkbenchError as error:
            self._say({"type": "failed", "of": kind, "mode": question.get("mode"), "error": str(error)})
        except Exception as error:
            logger.exception("the panel could not answer %r", kind)
            sentence = f"This could not be computed ({type(error).__name__}: {error})."
            self._say({"type": "failed", "of": kind, "mode": question.get("mode"), "error": sentence})

    def _say(self, content: dict[str, Any], buffers: Any = None) -> None:
        if self._open:
            self.send(content, buffers)

    def _ready(self, _question: Any) -> None:
        rows = {mode: [result.row() for result in results] for mode, results in self._results.items()}
        values = {"type": "ready", "rows": rows, "running": self._running if self._worker.busy else ""}
        media, buffers = self._picture or ("", b""), []
        if self._picture is not None:
            values["media"] = media[0]
            buffers = [media[1]]
        self._say(values, buffers)

    def _run(self, question: Any) -> None:
        mode = _mode(question)
        if mode not in self._modes:
            raise InputError(self.meta["lacks"].get(mode, f"this panel runs no {mode}s."))
        task = self._modes[mode].task(question.get("form"))
        begun = time.monotonic()

        def finished(kind: str, value: Any, notes: list[str]) -> None:
            if not self._open:
                return
            if kind == "done":
                try:
                    result = task.finish(value, len(self._results[mode]) + 1, time.monotonic() - begun)
                    written = continued(self._source, result.code)
                    result = replace(result, notes=tuple(notes), facts=self._facts, code=written)
                except Exception as error:
                    logger.exception("the result could not be shown")
                    kind, value = "failed", f"The result could not be shown ({type(error).__name__}: {error})."
                else:
                    self._results[mode].append(result)
                    self._last = result
                    self.renew()
                    self._say({"type": "done", "mode": mode, "row": result.row()})
                    return
            self._say({"type": kind, "of": "run", "mode": mode, "error": value or "", "notes": notes})

        if self._worker.busy:
            raise InputError("another run is under way: wait for it, or stop it first.")
        self._running = mode
        self._say({"type": "started", "mode": mode})
        self._worker.start(task.work, finished)

    def _stop(self, _question: Any) -> None:
        self._worker.stop()

    def _progressed(self, done: int, total: int, remaining: float | None) -> None:
        self._say({"type": "progress", "mode": self._running, "done": done, "total": total, "remaining": remaining})

    def _plot(self, question: Any) -> None:
        result = self._result(question)
        measure = question.get("measure") or next(iter(result.plots))
        if measure not in result.plots:
            raise InputError(f"this result has no {measure!r}; it has {', '.join(result.plots)}.")
        values = {"type": "plot", "mode": result.mode, "number": result.number, "measure": measure}
        self._say({**values, "plot": result.plots[measure], "code": result.code, "notes": list(result.notes)})

    def _prompts(self, question: Any) -> None:
        """Prompts that could be meant by another run's."""
        mode = self._modes.get(_mode(question))
        if isinstance(mode, Interventions):
            self._say({"type": "prompts", "mode": INTERVENTION, "prompts": mode.prompts()})

    def _maps(self, question: Any) -> None:
        """The maps behind a point, beside those without the choice or the edit."""
        result = self._result(question)
        index = [int(at) for at in question.get("at", ())]
        by_layer = str(question.get("measure")).endswith(BY_LAYER)
        pair, buffers = result.shown.pair(index, by_layer=True) if by_layer else result.shown.pair(index)
        self._say({"type": "maps", "mode": result.mode, "number": result.number, "at": index, **pair}, buffers)

    def _export(self, question: Any) -> None:
        what, mode = question.get("what"), _mode(question)
        if what == "table":
            name, content = f"{self._stem}{mode}s.csv", table(self._results[mode]).encode()
        elif what in _FILES:
            result = self._result(question)
            ending, make = _FILES[what]
            name, content = f"{self._stem}{result.name}.{ending}", make(result, question)
        else:
            raise InputError(f"there is no file of {what!r}; there is table, {', '.join(_FILES)}.")
        self._say({"type": "file", "mode": mode, "name": name}, [content])

    def _result(self, question: Any) -> Result:
        results = self._results[_mode(question)]
        number = question.get("number")
        if not isinstance(number, int) or not 1 <= number <= len(results):
            raise InputError(
                f"there is no result {number!r} among the {len(results)} of this panel: run the cell again."
            )
        return results[number - 1]


_KINDS: Final[dict[str, Callable[[Ablation, Any], None]]] = {
    "ready": Ablation._ready,
    "run": Ablation._run,
    "stop": Ablation._stop,
    "plot": Ablation._plot,
    "maps": Ablation._maps,
    "prompts": Ablation._prompts,
    "export": Ablation._export,
}

_FILES: Final[dict[str, tuple[str, Callable[[Result, Any], bytes]]]] = {
    "csv": ("csv", lambda result, _: table([result]).encode()),
    "dataset": ("nc", lambda result, _: netcdf(result)),
    "figure": ("pdf", lambda result, asked: figure(result, asked.get("measure"), asked.get("line"))),
}


def _mode(question: Any) -> str:
    mode = question.get("mode")
    if mode not in MODES:
        raise InputError(f"mode is {mode!r}; expected one of {', '.join(MODES)}.")
    return str(mode)
