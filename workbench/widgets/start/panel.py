"""The start panel: the form, and the messages between it and what runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import anywidget
import traitlets

from workbench.schema import InputError, WorkbenchError, noted
from workbench.widgets.shared import assets
from workbench.widgets.shared.static_output import HIDING
from workbench.widgets.start.backend import Backend
from workbench.widgets.start.form import StartForm, choices
from workbench.widgets.start.history import Entry
from workbench.widgets.start.latest import Latest
from workbench.widgets.start.subjects import Picture, Upload, example, examples

_ORDER: Final = (
    "shared/palette.js",
    "shared/dom.js",
    "shared/unanswered.js",
    "start/picture.js",
    "start/words.js",
    "start/fields.js",
    "start/start.js",
)

logger = logging.getLogger(__name__)


class StartPanel(anywidget.AnyWidget):
    """The form; :class:`workbench.widgets.start.starter.Start` makes one and carries out what it asks for.

    Parameters
    ----------
    backend
        What knows models.
    run
        Called with a form and its picture when Run is pressed.
    stop
        Called when Stop is pressed.
    show
        Called with an entry of the history that is to be shown again.
    form
        What is chosen at first.

    Attributes
    ----------
    state : dict
        What is chosen, as plain values (:class:`workbench.widgets.start.form.StartForm`).
    meta : dict
        What there is to choose from.
    picture : Picture or None
        What is captured.
    entries : list of Entry
        The finished runs.
    shown : int
        The number of the finished run that is shown; 0 for none, or for a part of one that is under way or was stopped.
    """

    state = traitlets.Dict().tag(sync=True)
    meta = traitlets.Dict().tag(sync=True)
    picture = traitlets.Instance(Picture, allow_none=True)

    def __init__(
        self,
        backend: Backend,
        run: Callable[[StartForm, Picture | None], None],
        stop: Callable[[], None],
        show: Callable[[Entry], None],
        form: StartForm | None = None,
    ) -> None:
        self._esm = assets.joined(*_ORDER)
        self._css = assets.joined("shared/view.css", "start/start.css") + HIDING
        self._backend = backend
        self._run_form, self._stop_run, self._show_entry = run, stop, show
        self.entries: list[Entry] = []
        self._upload = Upload()
        self._words = Latest(self._look)
        self._open = True
        self.shown = 0
        self.running = False
        told = [{"name": one.name, "caption": one.caption, "words": list(one.words)} for one in examples()]
        super().__init__(meta={**choices(), "examples": told}, state=(form or StartForm()).to_json())
        self.on_msg(self._hear)

    def close(self) -> None:
        """Close the panel and let go of everything."""
        self._open = False
        self.entries.clear()
        self.picture = None
        super().close()

    def say(self, kind: str, content: dict[str, Any] | None = None, buffers: Any = None) -> None:
        """Send a message, if there is still somebody to hear it."""
        if self._open:
            self.send({"type": kind, **(content or {})}, buffers)

    def model_of(self, form: StartForm) -> Any:
        """The model of a form: its name, or the pipeline in the kernel.

        Raises
        ------
        InputError
            If there is no such pipeline (any more).
        """
        if not form.kernel:
            return form.model.strip()
        pipelines = self._backend.pipelines()
        if form.model not in pipelines:
            held = ", ".join(pipelines) or "none"
            raise InputError(f"the kernel has no pipeline {form.model} any more (it has {held}): choose another model.")
        return pipelines[form.model]

    def _hear(self, _widget: Any, question: Any, buffers: Any) -> None:
        kind = question.get("type") if isinstance(question, dict) else None
        if not isinstance(kind, str) or kind not in _KINDS or not self._open:
            return
        try:
            _KINDS[kind](self, question, buffers)
        except WorkbenchError as error:
            self.say("failed", {"of": kind, "error": str(error)})
        except Exception as error:
            logger.exception("the panel could not answer %r", kind)
            self.say("failed", {"of": kind, "error": f"This could not be done ({type(error).__name__}: {error})."})

    def _ready(self, _question: Any, _buffers: Any) -> None:
        rows = [entry.row() for entry in self.entries]
        thumbnails = [one.thumbnail() for one in examples()]
        self.say("ready", {"rows": rows, "shown": self.shown, "running": self.running}, thumbnails)
        self._models({}, None)
        if self.picture is not None:
            self._tell_picture(self.picture, [], ())

    def _models(self, _question: Any, _buffers: Any) -> None:
        found = {name: type(pipe).__name__ for name, pipe in self._backend.pipelines().items()}
        self.say("models", {"kernel": found})

    def _take(self, question: Any, buffers: Any) -> None:
        """A part of a file that was dropped, pasted or chosen."""
        if (file := self._upload.take(question, buffers)) is None:
            return
        with noted() as notes:
            pixels = self._backend.read(file)
        name = str(question.get("name") or "the picture")
        self.picture = Picture(name, pixels)
        self._tell_picture(self.picture, notes, ())

    def _example(self, question: Any, _buffers: Any) -> None:
        chosen = example(question.get("name"))
        self.picture = chosen.open()
        self._tell_picture(self.picture, [], chosen.words)

    def _forget(self, _question: Any, _buffers: Any) -> None:
        self.picture = None

    def _tell_picture(self, picture: Picture, notes: Sequence[str], words: Sequence[str]) -> None:
        height, width = picture.pixels.shape[:2]
        known = {"name": picture.name, "size": [height, width], "notes": list(notes), "words": list(words)}
        self.say("picture", known, [picture.preview()])

    def _ask_words(self, question: Any, _buffers: Any) -> None:
        self._words.ask(question.get("form"))

    def _look(self, values: Any) -> None:
        """Answer what is to be said of the words of a form; in a thread, since a model may have to be imported."""
        try:
            form = StartForm.from_json(values)
            model = self.model_of(form)
            with noted():
                facts = {**self._backend.facts(model), "at_hand": self._backend.at_hand(model)}
                self.say("facts", {"form": values, "facts": facts})  # before a library is imported for the rest
                prompt = form.prompt if form.prompted else form.about
                found = self._backend.remarks(model, form.concepts, prompt, made=form.prompted, pool=form.pool)
        except WorkbenchError as error:
            self.say("words", {"form": values, "remarks": [], "facts": {}, "error": str(error)})
            return
        except Exception as error:
            logger.exception("the words could not be looked at")
            sentence = f"The words could not be looked at ({type(error).__name__}: {error})."
            self.say("words", {"form": values, "remarks": [], "facts": {}, "error": sentence})
            return
        remarks = [{"word": one.word, "text": one.text, "refused": one.refused} for one in found]
        self.say("words", {"form": values, "remarks": remarks, "facts": facts, "error": ""})

    def _run(self, question: Any, _buffers: Any) -> None:
        form = StartForm.from_json(question.get("form"))
        form.options()
        if not form.prompted and self.picture is None:
            raise InputError("there is no picture: drop one, paste one, choose a file or take an example.")
        self._run_form(form, None if form.prompted else self.picture)

    def _stop(self, _question: Any, _buffers: Any) -> None:
        self._stop_run()

    def _show(self, question: Any, _buffers: Any) -> None:
        number = question.get("number")
        if not isinstance(number, int) or not 1 <= number <= len(self.entries):
            raise InputError(f"there is no run {number!r} among the {len(self.entries)} of this panel.")
        entry = self.entries[number - 1]
        if entry.picture is not None:
            self.picture = entry.picture
            self._tell_picture(entry.picture, [], ())
        self._show_entry(entry)


_KINDS: Final[dict[str, Callable[[StartPanel, Any, Any], None]]] = {
    "ready": StartPanel._ready,
    "models": StartPanel._models,
    "take": StartPanel._take,
    "example": StartPanel._example,
    "forget": StartPanel._forget,
    "words": StartPanel._ask_words,
    "run": StartPanel._run,
    "stop": StartPanel._stop,
    "show": StartPanel._show,
}
