"""Runs for a panel: one after another on a model that stays loaded, watched while they grow, stopped inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import xarray as xr

from workbench.folders import BUNDLED
from workbench.models.loading import bundled, load_model
from workbench.recording.arguments import check_vocabulary
from workbench.recording.asking import check_asked, facts_of, model_facts
from workbench.recording.capturing import capture
from workbench.recording.generating import generate
from workbench.recording.opening import open_adapter
from workbench.recording.provenance import given_as, model_name
from workbench.recording.sessions import Encodings, check_cancelled, session
from workbench.recording.text_warnings import text_remarks, word_remarks
from workbench.recording.turns import holder, turn
from workbench.schema import InputError
from workbench.store.pieces import Writer

if TYPE_CHECKING:
    from workbench.models.pipeline import PipelineAdapter

_OFTEN: Final = 1.0
"""Seconds, at least, between two looks at a run that grows; a short run is not looked at."""
_SHARE: Final = 0.1
"""How much of a run's time looking may take."""
_DEFAULTS: Final[Mapping[str, Any]] = {
    "prompt": "",
    "layers": None,
    "spaces": ("output", "cross"),
    "samples": 1,
    "seed": 0,
    "size": None,
    "attend": "both",
    "pool": "first",
    "home": None,
}


class Remark(NamedTuple):
    """A sentence about what was typed.

    Attributes
    ----------
    word
        The concept that it is about; empty for all of them, the prompt or the model.
    text
        The sentence.
    refused
        Whether a run would be refused for it.
    """

    word: str
    text: str
    refused: bool


class Watcher(Protocol):
    """Told, in the thread of a run, how it gets on."""

    @property
    def stage(self) -> Callable[[str], None]:
        """Told what is done now, in words."""

    @property
    def passed(self) -> Callable[[int, int], None]:
        """Told how many forward passes are done, of how many."""

    @property
    def grown(self) -> Callable[[xr.Dataset], None]:
        """Given what can be shown already."""


class Runner:
    """Captures and generates; the last model that was named stays loaded, and what it encoded is kept."""

    def __init__(self) -> None:
        self._named: tuple[str, Any] | None = None
        self._loading = Lock()
        self._encodings = Encodings()

    def at_hand(self, model: Any) -> bool:
        """Whether a model can be asked without downloading or reading large files."""
        return not isinstance(model, str) or model in BUNDLED or (self._named or ("",))[0] == model

    def facts(self, model: Any) -> dict[str, Any]:
        """What is known of a model, as from :func:`workbench.recording.asking.model_facts`; a name loads nothing.

        Raises
        ------
        WorkbenchError
            If there is no such model.
        """
        if isinstance(model, str):
            return model_facts(model)
        adapter = open_adapter(model)
        kinds = [layer.kind for layer in adapter.layers]
        return facts_of(adapter.info, (kinds.count("dual"), kinds.count("single")))

    def remarks(
        self, model: Any, concepts: Sequence[str], prompt: str, *, made: bool, pool: str = "first"
    ) -> list[Remark]:
        """What is to be said of words, before they are run.

        Parameters
        ----------
        model
            A name, a path, or a loaded pipeline. The tokenizers of one that is not at hand are not asked.
        concepts, prompt
            What was typed.
        made
            Whether an image is made from the prompt.
        pool
            As in :func:`workbench.capture`.

        Raises
        ------
        WorkbenchError
            If there is no such model.
        """
        name, facts = model_name(model), self.facts(model)
        info = {"vocabulary": facts["words"], "fillers": facts["fillers"]} if facts["words"] else {}
        found = []
        for word, text in [*((concept, "") for concept in concepts), ("", prompt)]:
            try:
                check_vocabulary([word] if word else [], text, name, info)
            except InputError as error:
                found.append(Remark(word, f"{str(error).partition('. ')[0]}.", True))
        if not self.at_hand(model):
            return found
        adapter = self._adapter(model)
        if holder(adapter.transformer) is not None:  # it runs: its tokenizers are asked afterwards
            return found
        refused = {remark.word for remark in found}
        with turn(adapter.pipe, "a look at words"):
            for word in concepts:
                if word in refused:
                    continue
                try:
                    found += [Remark(word, text, False) for text in word_remarks(adapter, word, pool)]
                except InputError as error:
                    found.append(Remark(word, str(error), True))
            try:
                found += [Remark("", text, False) for text in text_remarks(adapter, concepts, prompt, made=made)]
            except InputError as error:
                found.append(Remark("", str(error), True))
        return found

    def run(
        self,
        subject: Any,
        concepts: Sequence[str],
        model: Any,
        options: Mapping[str, Any],
        *,
        prompted: bool,
        watcher: Watcher,
        cancel: Event,
    ) -> xr.Dataset:
        """Call :func:`workbench.capture` for an image, or :func:`workbench.generate` for a prompt.

        Parameters
        ----------
        subject
            The image, or the prompt.
        concepts, model, options
            As those functions take them.
        prompted
            Whether the subject is a prompt.
        watcher
            Told how it gets on.
        cancel
            Once it is set, the run ends behind the forward pass that is under way; the same call goes on from there.

        Raises
        ------
        WorkbenchError
            As from those functions; :class:`workbench.schema.CancelledError` when it was stopped.
        """
        asked = {**_DEFAULTS, **options, **({"prompt": subject} if prompted else {"image": subject})}
        if isinstance(model, str):
            check_asked(concepts, model=model, **asked)
        if not self.at_hand(model):
            watcher.stage(f"Loading {model}, which may take minutes (it is downloaded the first time)…")
        else:
            watcher.stage("Loading the model…")
        with session(cancel, watch=_watch(watcher), encodings=self._encodings), given_as(_given(model)):
            pipe = self._adapter(model).pipe
            check_cancelled()
            watcher.stage("Running…")
            call: Callable[..., xr.Dataset] = generate if prompted else capture
            return call(subject, list(concepts), model=pipe, progress=False, **options)

    def close(self) -> None:
        """Let go of the model and of what was encoded."""
        self._named, self._encodings = None, Encodings()

    def _adapter(self, model: Any) -> PipelineAdapter:
        if not isinstance(model, str):
            return open_adapter(model)
        with self._loading:
            if model in BUNDLED:
                return open_adapter(bundled(model))
            if self._named is None or self._named[0] != model:
                self.close()  # before the next one is loaded: two may not fit
                self._named = model, load_model(model)
            return open_adapter(self._named[1])


def _given(model: Any) -> str | None:
    return model if isinstance(model, str) else None


def _watch(watcher: Watcher) -> Callable[[int, int, Writer], None]:
    """Reports every pass, and now and then what is there."""
    next_look = time.monotonic() + _OFTEN

    def watch(done: int, total: int, run: Writer) -> None:
        nonlocal next_look
        watcher.passed(done, total)
        begun = time.monotonic()
        if done == total or begun < next_look:
            return
        if (found := run.so_far()) is not None:
            watcher.grown(found)
        ended = time.monotonic()
        next_look = ended + max(_OFTEN, (ended - begun) / _SHARE)

    return watch
