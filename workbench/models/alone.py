"""Loading a model is done alone: while it lasts, libraries change what all threads of the process share.

Diffusers and transformers put empty parameters in place of real ones, and set torch's default dtype to that of the
weights. Two threads that load would leave parameters without values, and a forward pass beside them could make tensors
of another dtype. So a load waits for calls that use a model, and those wait for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

logger = logging.getLogger(__name__)

_LOOK: Final = 0.1
"""Seconds after which a waiting call looks whether it was interrupted."""
_PATIENCE: Final = 1.0
"""Seconds after which a waiting call says what it waits for."""

_changed = threading.Condition()
_using: Counter[int] = Counter()
"""By thread, how many calls inside each other use a model."""
_asked: list[int] = []
"""Threads that load or wait to load, in the order of asking; the first one loads once nobody uses a model."""
_loads: set[int] = set()
"""The thread that loads, while one does."""


@contextmanager
def using() -> Iterator[None]:
    """Inside, no other thread loads a model. Several threads may use models at once."""
    me = threading.get_ident()
    with _changed:
        # A call inside another goes on: the load waits for the outer one.
        _wait(lambda: bool(_using[me]) or all(other == me for other in _asked), "a call waits for a model to be loaded")
        _using[me] += 1
    try:
        yield
    finally:
        with _changed:
            _using[me] -= 1
            _tidy(me)


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Inside, no other thread loads a model or uses one.

    Parameters
    ----------
    what
        What is loaded, for the log of those who wait.
    """
    me = threading.get_ident()
    if me in _loads:
        yield
        return
    with _changed:
        mine = _using.pop(me, 0)  # a thread that waits here computes nothing: two such must not wait for each other
        _asked.append(me)
        _changed.notify_all()
        try:
            _wait(lambda: _asked[0] == me and not _using, f"loading {what} waits for calls that use a model")
            _loads.add(me)
        except BaseException:
            _asked.remove(me)
            raise
        finally:
            _using[me] += mine
            _tidy(me)
    try:
        yield
    finally:
        with _changed:
            _loads.discard(me)
            _asked.remove(me)
            _changed.notify_all()


def _wait(may_go_on: Callable[[], bool], sentence: str) -> None:
    """Wait until something is true; the lock is held."""
    begun, said = time.monotonic(), False
    while not may_go_on():
        if not said and time.monotonic() - begun > _PATIENCE:
            said = True
            logger.info(sentence)
        _changed.wait(_LOOK)


def _tidy(thread: int) -> None:
    """Forget a thread that uses nothing any more, and wake those who wait; the lock is held."""
    if not _using[thread]:
        del _using[thread]
    _changed.notify_all()
