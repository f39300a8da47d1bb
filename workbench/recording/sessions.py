"""What the runs of one experiment share: encoded words, prompts and pictures, the pipeline's identity, and an end.

A panel keeps what was encoded from one session to the next, see :class:`Encodings`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final, TypeAlias, TypeVar

from workbench.schema import CancelledError
from workbench.store.pieces import Writer

_T = TypeVar("_T")

Watch: TypeAlias = Callable[[int, int, Writer], None]
"""Called behind each forward pass with how many are done, of how many, and the run that grows."""

ENCODED_CONCEPT: Final = "concept"
ENCODED_PROMPT: Final = "prompt"
ENCODED_IMAGE: Final = "image"
UNFAMILIAR: Final = "unfamiliar"
"""What the key of an image begins with that was compared with what its model knows."""
_ENCODED: Final = (ENCODED_CONCEPT, ENCODED_PROMPT, ENCODED_IMAGE)
"""What the keys of encodings begin with."""
_MOST: Final = 256


class Encodings:
    """What was encoded, from one session to the next, for as long as the pipeline stays what it is."""

    def __init__(self) -> None:
        self._pipe: Any = None
        self._identity: Any = None
        self._kept: dict[Hashable, Any] = {}

    def of(self, pipe: Any, identity: Any) -> dict[Hashable, Any]:
        """What is known of a pipeline; nothing of one that has changed."""
        same = pipe is self._pipe and identity == self._identity
        return dict(self._kept) if same else {}

    def keep(self, pipe: Any, identity: Any, found: dict[Hashable, Any]) -> None:
        """Keep what a session has encoded; of very much the newest, and nothing of any other pipeline."""
        self._pipe, self._identity = pipe, identity
        self._kept = dict(list(found.items())[-_MOST:])


@dataclass
class _Session:
    cancel: Event | None
    watch: Watch | None = None
    encodings: Encodings | None = None
    images: int | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict)
    endings: list[Callable[[], None]] = field(default_factory=list)
    identified: tuple[Any, Any] | None = None


_session: ContextVar[_Session | None] = ContextVar("session", default=None)


@contextmanager
def session(
    cancel: Event | None = None,
    *,
    watch: Watch | None = None,
    encodings: Encodings | None = None,
    images: int | None = None,
) -> Iterator[None]:
    """Inside, equal things are encoded once; the pipeline must not be changed meanwhile, or its runs are thrown away.

    Parameters
    ----------
    cancel
        Once it is set, runs inside end behind the forward pass that is under way.
    watch
        Told of every forward pass, in the thread of the run.
    encodings
        What earlier sessions have encoded; what this one encodes is added when it ends well.
    images
        How many encoded images, and how many prompts, are kept, the newest ones; all of them by default.
    """
    here = _Session(cancel, watch, encodings, images)
    token = _session.set(here)
    try:
        yield
    finally:
        _session.reset(token)
        for ending in here.endings:
            ending()
    if encodings is not None and here.identified is not None:
        pipe, identity = here.identified
        words = {key: found for key, found in here.kept.items() if _is_encoding(key, pipe)}
        encodings.keep(pipe, identity, words)


def in_session() -> bool:
    """Whether this call is one of several of an experiment."""
    return _session.get() is not None


def at_end(ending: Callable[[], None]) -> None:
    """Have something done when the session ends, however it ends; inside a session only."""
    here = _session.get()
    assert here is not None
    here.endings.append(ending)


def once(pipe: Any, key: Hashable, make: Callable[[], _T]) -> _T:
    """What ``make`` gives; inside a session, what it gave before for this pipeline and key."""
    here = _session.get()
    if here is None:
        return make()
    # The pipeline is kept too, so that its id is not given to another.
    found: tuple[Any, _T] | None = here.kept.get((id(pipe), key))
    if found is None:
        found = here.kept[id(pipe), key] = (pipe, make())
        if here.images is not None:
            for kind in (ENCODED_IMAGE, ENCODED_PROMPT, UNFAMILIAR):
                _forget(here.kept, kind, here.images)
    return found[1]


def recall(pipe: Any, identity: Any) -> None:
    """Take up what earlier sessions have encoded with a pipeline, if it is the same as it was then."""
    here = _session.get()
    if here is None or here.encodings is None or here.identified is not None:
        return
    here.identified = pipe, identity
    here.kept |= here.encodings.of(pipe, identity)


def passed(done: int, total: int, run: Writer) -> None:
    """Say that so many forward passes of a run are done."""
    here = _session.get()
    if here is not None and here.watch is not None:
        here.watch(done, total, run)


def _forget(kept: dict[Hashable, Any], kind: str, most: int) -> None:
    """Of what is kept under keys that begin with a kind, keep the newest."""
    held = [key for key in kept if isinstance(key, tuple) and isinstance(key[1], tuple) and key[1][0] == kind]
    for key in held[: max(0, len(held) - most)]:
        del kept[key]


def _is_encoding(key: Hashable, pipe: Any) -> bool:
    """Whether what a session keeps under a key is what a pipeline made of a text or an image."""
    match key:
        case (owner, (kind, *_)):
            return owner == id(pipe) and kind in _ENCODED
    return False


def check_cancelled() -> None:
    """Stop here if the session was cancelled.

    Raises
    ------
    CancelledError
        If it was.
    """
    here = _session.get()
    if here is not None and here.cancel is not None and here.cancel.is_set():
        raise CancelledError("it was cancelled; what was finished is kept where it is stored: the same call goes on.")
