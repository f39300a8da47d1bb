"""Answers in a thread to the newest of questions that come faster than they can be answered."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock, Thread
from typing import Any


class Latest:
    """Works on one question at a time; of those that come meanwhile the last one is next, and the others are dropped.

    Parameters
    ----------
    work
        Called in a thread with a question; raises nothing.
    """

    def __init__(self, work: Callable[[Any], None]) -> None:
        self._work = work
        self._lock = Lock()
        self._waiting: list[Any] = []
        self._thread: Thread | None = None

    def ask(self, question: Any) -> None:
        """Ask, without waiting."""
        with self._lock:
            self._waiting[:] = [question]
            if self._thread is None:
                self._thread = Thread(target=self._run, daemon=True)
                self._thread.start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until everything is answered."""
        if (thread := self._thread) is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                question = self._waiting.pop()
            self._work(question)
