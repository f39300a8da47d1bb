"""What the runs of one experiment share: encoded words, prompts and pictures, the pipeline's identity, and an end."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Event
from typing import Any, TypeVar

from workbench.schema import CancelledError

_T = TypeVar("_T")


@dataclass
class _Session:
    cancel: Event | None
    kept: dict[Hashable, Any] = field(default_factory=dict)
    endings: list[Callable[[], None]] = field(default_factory=list)


_session: ContextVar[_Session | None] = ContextVar("session", default=None)


@contextmanager
def session(cancel: Event | None = None) -> Iterator[None]:
    """Inside, equal things are encoded once; the pipeline must not be changed meanwhile, or its runs are thrown away.

    Parameters
    ----------
    cancel
        Once it is set, runs inside end behind the forward pass that is under way.
    """
    here = _Session(cancel)
    token = _session.set(here)
    try:
        yield
    finally:
        _session.reset(token)
        for ending in here.endings:
            ending()


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
    return found[1]


def check_cancelled() -> None:
    """Stop here if the session was cancelled.

    Raises
    ------
    CancelledError
        Then.
    """
    here = _session.get()
    if here is not None and here.cancel is not None and here.cancel.is_set():
        raise CancelledError("it was cancelled; what was finished is kept where it is stored: the same call goes on.")
