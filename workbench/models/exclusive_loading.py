"""A model is loaded while none is in use: loading changes what all threads of the process share.

Diffusers and transformers put empty parameters in place of real ones, and set torch's default dtype to that of the
weights. Two threads that load would leave parameters without values, and a forward pass beside them could make tensors
of another dtype. So a load waits for calls and traces that use a model, and those wait for it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from tqdm.auto import tqdm

logger = logging.getLogger(__name__)

LOOK: Final = 0.1
"""Seconds after which a waiting call looks whether it was interrupted or cancelled."""
PATIENCE: Final = 1.0
"""Seconds after which a waiting call says what it waits for."""

while_waiting: Final[list[Callable[[], None]]] = []
"""Called now and then by those who wait; what one of them raises ends the waiting."""

_changed = threading.Condition()
_using: Counter[int] = Counter()
"""By thread, how many calls inside each other use a model."""
_waiting: list[int] = []
"""Threads that load or wait to load, in the order of asking; the first one loads once nobody uses a model."""
_loading: set[int] = set()
"""The thread that loads, while one does."""


@contextmanager
def using(progress: bool = False) -> Iterator[None]:
    """Inside, no other thread loads a model. Several threads may use models at once.

    Parameters
    ----------
    progress
        Show, not only log, what is waited for.
    """
    me = threading.get_ident()
    with _changed:
        # A call inside another one, or inside a load, goes on: who waits, waits for the outer one.
        _wait(
            lambda: bool(_using[me]) or me in _loading or not _waiting,
            "a call waits for a model to be loaded",
            progress,
        )
        _using[me] += 1
    try:
        yield
    finally:
        with _changed:
            _using[me] -= 1
            _tidy(me)


@contextmanager
def resting() -> Iterator[None]:
    """Inside, this thread computes nothing, whatever calls it is in: others may load."""
    me = threading.get_ident()
    with _changed:
        calls = _using.pop(me, 0)
        _changed.notify_all()
    try:
        yield
    finally:
        with _changed:
            while calls and _loading - {me}:
                _changed.wait(LOOK)
            _using[me] += calls
            _tidy(me)


@contextmanager
def loading_alone(what: str) -> Iterator[None]:
    """Inside, no other thread loads a model or uses one.

    Parameters
    ----------
    what
        What is loaded, for the log of those who wait.
    """
    me = threading.get_ident()
    if me in _loading:
        yield
        return
    try:
        # A thread that waits here computes nothing: two such must not wait for each other.
        with resting(), _changed:
            _waiting.append(me)
            _wait(lambda: _waiting[0] == me and not _using, f"loading {what} waits for calls that use a model")
            _loading.add(me)
        yield
    finally:
        with _changed:
            _loading.discard(me)
            if me in _waiting:
                _waiting.remove(me)
            _changed.notify_all()


def _wait(may_go_on: Callable[[], bool], sentence: str, progress: bool = False) -> None:
    """Wait until something is true; the lock is held."""
    begun, said = time.monotonic(), False
    while not may_go_on():
        if not said and time.monotonic() - begun > PATIENCE:
            said = True
            logger.info(sentence)
            if progress:
                tqdm.write(sentence)
        _changed.wait(LOOK)
        for look in while_waiting:
            look()


def _tidy(thread: int) -> None:
    """Forget a thread that uses nothing any more, and wake those who wait; the lock is held."""
    if not _using[thread]:
        del _using[thread]
    _changed.notify_all()


def _after_fork() -> None:
    """A child process has none of the threads that used or loaded models, but for the one that forked."""
    global _changed
    _changed = threading.Condition()
    me = threading.get_ident()
    for thread in _using.keys() - {me}:
        del _using[thread]
    _waiting[:] = [thread for thread in _waiting if thread == me]
    _loading.intersection_update({me})


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
