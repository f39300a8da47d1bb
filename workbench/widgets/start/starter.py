"""``start``: a panel from a picture and words to maps, and the view of its newest run below."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from threading import Event, Lock
from typing import Any, Final

import ipywidgets
import xarray as xr

from workbench import schema
from workbench.schema import InputError, WorkbenchError, warn
from workbench.widgets.explore.explorer import Explorer
from workbench.widgets.explore.state import State
from workbench.widgets.shared.drawing import Still
from workbench.widgets.shared.static_output import StaticOutput
from workbench.widgets.shared.worker import Progress, Worker
from workbench.widgets.start.backend import Backend, Watcher
from workbench.widgets.start.form import StartForm
from workbench.widgets.start.history import Entry, truth_of
from workbench.widgets.start.panel import StartPanel
from workbench.widgets.start.starter_still import named, still_of_form, still_of_run
from workbench.widgets.start.subjects import Picture

_OF_WORDS: Final = ("concepts", "focus", "difference")
"""Parts of a view's state that number its concepts."""

logger = logging.getLogger(__name__)


class Start(StaticOutput, ipywidgets.VBox):  # type: ignore[misc]
    """The panel, and below it the view of what it ran; :func:`workbench.start` makes one.

    Parameters
    ----------
    backend
        What knows models.
    form
        What is chosen at first.

    Attributes
    ----------
    view : Explorer or None
        The view of the run that is shown; while a run is under way, of what there is of it. When such a run is stopped
        or fails, the run before is shown again.
    """

    def __init__(self, backend: Backend, form: StartForm | None = None) -> None:
        self.view: Explorer | None = None
        self._backend = backend
        self._worker = Worker(lambda done, total, remaining: None)  # passes are timed without what came before them
        self._former = _Former()
        self._open = True
        self._what = ""
        self._failure = ""
        self._unfinished = False  # whether what is shown is a part of a run
        self.panel = StartPanel(backend, self._run, self._worker.stop, self._show, form)
        super().__init__([self.panel])
        self.add_class("wb-start-box")
        self.panel.observe(self.renew, ["state", "picture"])

    @property
    def results(self) -> list[xr.Dataset]:
        """The datasets of all finished runs, the newest last."""
        return [entry.ds for entry in self.panel.entries]

    @property
    def ds(self) -> xr.Dataset:
        """The dataset that is shown.

        Raises
        ------
        InputError
            If nothing was run yet, or what is shown is a part of a run that is not finished.
        """
        if self._unfinished:
            what = "is under way: wait until it is done" if self.panel.running else "was stopped: press Run to go on"
            raise InputError(f"what is shown is not finished, its run {what}. Finished runs are in results.")
        if not self.panel.shown:
            raise InputError("nothing was run in this panel yet: choose a picture and words, and press Run.")
        return self.panel.entries[self.panel.shown - 1].ds

    @property
    def code(self) -> str:
        """Python that makes the dataset that is shown; empty before the first run, and for what is not finished."""
        return self.panel.entries[self.panel.shown - 1].code() if self.panel.shown and not self._unfinished else ""

    def still(self) -> Still:
        """What the panel and the view show now, for a picture of them."""
        remark = "A run is under way." if self.panel.running else self._failure
        while (view := self.view) is not None:
            what = self._what
            try:
                found = still_of_run(what, view.still(), remark)
            except Exception:
                if view is self.view:
                    raise
            else:
                if view is self.view:  # a run that grows has put another in its place meanwhile, and closed it
                    return found
        return still_of_form(StartForm.from_json(self.panel.state), self.panel.picture, remark)

    def close(self) -> None:
        """Stop what runs, close panel and view, and let go of everything."""
        self._open = False
        self.settle()
        self._worker.stop()
        self._former.close_all()
        for child in self.children:
            child.close()
        self.view = None
        self._backend.close()
        super().close()

    def _run(self, form: StartForm, picture: Picture | None) -> None:
        if self._worker.busy:
            raise InputError("a run is under way: wait for it, or stop it first.")
        panel, model, passes = self.panel, self.panel.model_of(form), 0
        begun = since = time.monotonic()
        subject: Any = form.prompt if picture is None else picture.path or picture.pixels

        def work(_progress: Progress, cancel: Event) -> xr.Dataset:
            def stage(text: str) -> None:
                nonlocal since
                since = time.monotonic()
                panel.say("stage", {"text": text})

            def passed(done: int, total: int) -> None:
                nonlocal passes
                passes = done
                remaining = (time.monotonic() - since) / done * (total - done)
                panel.say("progress", {"done": done, "total": total, "remaining": remaining})

            def grown(ds: xr.Dataset) -> None:
                if not cancel.is_set():
                    self._look_at(ds, f"a run that is not finished: {named(form, picture)}", growing=True)

            watcher = Watcher(stage, passed, grown)
            found = self._backend.run(
                subject,
                form.concepts,
                model,
                form.options(),
                prompted=form.prompted,
                watcher=watcher,
                cancel=cancel,
            )
            return _with_truth(found, picture, form)

        def finished(kind: str, value: Any, notes: list[str]) -> None:
            panel.running = False
            if not self._open:
                return
            if kind == "done":
                entry = Entry(len(panel.entries) + 1, form, picture, value, time.monotonic() - begun, passes)
                self._arrived(replace(entry, notes=tuple(notes)))
            else:
                back = self._back()
                if kind == "stopped":
                    self._failure = "The last run was stopped."
                    panel.say("stopped", {"passes": passes, "back": back, "part": self._unfinished})
                else:
                    self._failure = f"The last run failed: {value}"
                    panel.say("failed", {"of": "run", "error": value or "", "notes": notes, "back": back})
            self.renew()

        panel.running, self._failure = True, ""
        panel.say("started")
        self.renew()
        try:
            self._worker.start(work, finished)
        except WorkbenchError:
            panel.running = False
            raise

    def _arrived(self, entry: Entry) -> None:
        """Show a finished run, whatever its view has to say."""
        try:
            self._look_at_run(entry)
        except Exception as error:
            logger.exception("the run could not be shown")
            sentence = f"The run is stored as {entry.key}, but could not be shown ({type(error).__name__}: {error})."
            self._failure = sentence
            self.panel.say("failed", {"of": "run", "error": sentence})
            return
        self.panel.entries.append(entry)
        self.panel.shown = entry.number
        self.panel.say("done", {"row": entry.row()})

    def _back(self) -> int:
        """Show the run before in place of the part of one that ended early; its number, 0 where nothing changed."""
        if not (self._unfinished and self.panel.shown):
            return 0
        entry = self.panel.entries[self.panel.shown - 1]
        try:
            self._look_at_run(entry)
        except Exception:
            logger.exception("run %s could not be shown again", entry.number)
            return 0
        return entry.number

    def _show(self, entry: Entry) -> None:
        self._failure = ""
        self._look_at_run(entry)
        self.panel.shown = entry.number
        self.panel.say("showing", {"number": entry.number})

    def _look_at_run(self, entry: Entry) -> None:
        self._look_at(entry.ds, f"run {entry.number}: {named(entry.form, entry.picture)}")

    def _look_at(self, ds: xr.Dataset, what: str, *, growing: bool = False) -> None:
        """Put a view of a dataset below the panel, in place of the one that is there, showing the same of it."""
        if not self._open:
            return
        former = self.view
        view = Explorer(ds, state=_carried(former, ds))
        self._former.watch(view)
        view.observe(self.renew, "state")
        self.panel.say("swap", {"growing": growing})  # the page keeps its height meanwhile
        self._what, self._unfinished = what, growing
        self.view = view
        self.children = (self.panel, view)
        if former is not None:
            self._former.close(former)
        self.renew()


class _Former:
    """Closes views that were replaced, but not before the browser has made them: it would report an error."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._heard: set[Explorer] = set()
        self._left: set[Explorer] = set()

    def watch(self, view: Explorer) -> None:
        """Take note when the browser's half of a view speaks for the first time."""
        view.on_msg(self._hear)

    def close(self, view: Explorer) -> None:
        """Close a view, now or as soon as that may be."""
        with self._lock:
            self._left.add(view)
            now = view in self._heard
        if now:
            self._end(view)

    def close_all(self) -> None:
        """Close what was left, also what no browser has made."""
        for view in list(self._left):
            self._end(view)
        self._heard.clear()

    def _hear(self, view: Explorer, _content: Any, _buffers: Any) -> None:
        with self._lock:
            self._heard.add(view)
            now = view in self._left
        if now:
            self._end(view)

    def _end(self, view: Explorer) -> None:
        with self._lock:
            self._left.discard(view)
            self._heard.discard(view)
        view.close()


def _with_truth(ds: xr.Dataset, picture: Picture | None, form: StartForm) -> xr.Dataset:
    """The dataset with the masks of an example, where they show every concept."""
    if (truth := truth_of(picture, form, ds)) is None:
        return ds
    path, options = truth
    try:
        found: xr.Dataset = ds.wb.with_truth(path, **options)
    except WorkbenchError as error:
        warn(f"the masks of this example are left out: {error}")
        return ds
    return found


def _carried(former: Explorer | None, ds: xr.Dataset) -> dict[str, Any] | None:
    """What a user has changed in the view before, as far as it fits another dataset; None for nothing."""
    if former is None or former.error or former._ds is None:
        return None
    first = State.default(former._ds).to_json()
    changed = {name: value for name, value in former.state.items() if value != first[name]}
    if former._ds[schema.CONCEPT].to_numpy().tolist() != ds[schema.CONCEPT].to_numpy().tolist():
        changed = {name: value for name, value in changed.items() if name not in _OF_WORDS}
    try:
        State.from_json(changed, ds)
    except WorkbenchError:
        return None
    return changed or None
