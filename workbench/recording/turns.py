"""Calls that share any part of a model take turns, in the order in which they came.

A pipeline is full of state that a call sets and another would find: padding of a tokenizer, steps of a scheduler, hooks
of a trace. A turn is held from the first use of a tokenizer to the last use of the model. Calls on different pipelines
run side by side, unless the pipelines share a component or a part of one; none runs while another model is loaded.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from tqdm.auto import tqdm

from workbench.models.exclusive_loading import LOOK, PATIENCE, resting, using, while_waiting
from workbench.recording.sessions import check_cancelled
from workbench.schema import TraceError

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Turn:
    """A place in the queue."""

    parts: frozenset[int]
    what: str
    components: list[Any]  # kept, so that their ids are not given to others
    thread: int = field(default_factory=threading.get_ident)
    name: str = field(default_factory=lambda: threading.current_thread().name)
    since: float = field(default_factory=time.monotonic)


_queue: list[_Turn] = []
"""Turns that are held or waited for, in the order of asking."""
_changed = threading.Condition()
_traced: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Transformers of which a trace is open."""

while_waiting.append(check_cancelled)


@contextmanager
def turn(pipe: Any, what: str, progress: bool = False) -> Iterator[None]:
    """Wait until no call that came before uses any part of a pipeline, and keep later ones waiting.

    Inside another turn of the same thread on the same pipeline it is that turn.

    Parameters
    ----------
    pipe : DiffusionPipeline
        Its components, their parts, and itself.
    what
        What is done, for those who wait: ``"a capture of 'dog', 'sky'"``.
    progress
        Show, not only log, what is waited for.

    Raises
    ------
    CancelledError
        If the session was cancelled while waiting.
    TraceError
        If this thread holds a turn on a part of the pipeline, but not on all of it.
    """
    components = [component for component in pipe.components.values() if component is not None]
    mine = _Turn(_parts([pipe, *components]), what, [pipe, *components])
    held = [other for other in _queue_of(mine.thread) if other.parts & mine.parts]
    if any(mine.parts <= other.parts for other in held):
        yield
        return
    if held:
        raise TraceError(
            f"{what} was called inside {held[0].what}, on a pipeline that shares a component with it: finish that "
            "call first."
        )
    with _changed:
        _queue.append(mine)
    try:
        with resting():
            _wait(mine, progress)
        with using(progress):
            yield
    finally:
        with _changed:
            _queue.remove(mine)
            _changed.notify_all()


def quoted(words: Sequence[str], most: int = 3) -> str:
    """Some words as they are said of a call."""
    return ", ".join([*map(repr, words[:most]), *["…"] * (len(words) > most)])


def claim(transformer: nn.Module) -> None:
    """Have a transformer traced by one trace only, until it is released.

    Raises
    ------
    TraceError
        As from :func:`refuse_traced`.
    """
    with _changed:
        refuse_traced(transformer)
        _traced.add(transformer)


def release(transformer: nn.Module) -> None:
    """End what :func:`claim` began."""
    with _changed:
        _traced.discard(transformer)


def refuse_traced(transformer: nn.Module) -> None:
    """Refuse a transformer that is being traced.

    Raises
    ------
    TraceError
        If a trace of it is open, or a call in another thread uses it; says which.
    """
    other = holder(transformer)
    if other is not None or transformer in _traced:
        by = "" if other is None else f" by {other}"
        remedy = "close the first trace, or ask it for all spaces at once" if other is None else "wait for it"
        raise TraceError(f"this transformer is being traced already{by}: {remedy}.")


def holder(module: nn.Module) -> str | None:
    """What a call in another thread does that uses a module now; None when no call does."""
    with _changed:
        running = [each for each in _queue if id(module) in each.parts and _before(each) is None]
    return next((_described(each) for each in running if each.thread != threading.get_ident()), None)


def _wait(mine: _Turn, progress: bool) -> None:
    said = None
    with _changed:
        while (other := _before(mine)) is not None:
            if said is not other and time.monotonic() - mine.since > PATIENCE:
                said = other
                message = f"{mine.what} waits for {_described(other)}, which uses the same model"
                logger.info(message)
                if progress:
                    tqdm.write(message)
            _changed.wait(LOOK)
            check_cancelled()


def _before(mine: _Turn) -> _Turn | None:
    """The first call in front that shares a part; the lock is held."""
    for other in _queue:
        if other is mine:
            return None
        if other.parts & mine.parts:
            return other
    return None


def _queue_of(thread: int) -> list[_Turn]:
    with _changed:
        return [each for each in _queue if each.thread == thread]


def _described(other: _Turn) -> str:
    return f"{other.what} (in thread {other.name}, since {time.monotonic() - other.since:.0f} s)"


def _parts(components: list[Any]) -> frozenset[int]:
    """Ids of the components, and of every module inside them."""
    found = {id(component) for component in components}
    for component in components:
        if isinstance(component, nn.Module):
            found |= {id(part) for part in component.modules()}
    return frozenset(found)


def _after_fork() -> None:
    """A child process has none of the threads that held turns or waited for them, but for the one that forked."""
    global _changed
    _changed = threading.Condition()
    me = threading.get_ident()
    _queue[:] = [each for each in _queue if each.thread == me]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
