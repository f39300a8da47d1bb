"""Work in a thread, with its progress told, that can be stopped."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any, Final, TypeAlias

from workbench.schema import InputError, WorkbenchError, noted

Progress: TypeAlias = Callable[[int, int], None]
"""Called with how much is done, of how much."""
Work: TypeAlias = Callable[[Progress, Event], Any]
Finished: TypeAlias = Callable[[str, Any, list[str]], None]
"""Called with ``"done"`` and the result, ``"stopped"`` and None, or ``"failed"`` and a sentence; and with the warnings
that were given."""

_OFTEN: Final = 0.1
"""Seconds between two reports."""

logger = logging.getLogger(__name__)


class Worker:
    """Carries out one piece of work at a time.

    Parameters
    ----------
    report
        Called with the work done, all of it, and the seconds it will still take (None before that can be told).
    """

    def __init__(self, report: Callable[[int, int, float | None], None]) -> None:
        self._report = report
        self._lock = Lock()
        self._thread: Thread | None = None
        self._cancel = Event()

    @property
    def busy(self) -> bool:
        """Whether work is under way, also when it was told to stop."""
        return self._thread is not None

    def start(self, work: Work, finished: Finished) -> None:
        """Begin.

        Parameters
        ----------
        work
            Called in a thread; should look at the event from time to time, and raise once it is set.
        finished
            Called from the thread, once.

        Raises
        ------
        InputError
            If earlier work is not over yet.
        WorkbenchError
            If no thread can be started; nothing is under way then.
        """
        with self._lock:
            if self.busy:
                raise InputError("another run is under way: wait for it, or stop it first.")
            cancel = Event()
            thread = Thread(target=self._run, args=(work, finished, cancel), daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise WorkbenchError(
                    f"no thread can be started for this ({error}): end other programs, or raise the limit of processes "
                    "and threads (ulimit -u), then try again."
                ) from error
            self._cancel, self._thread = cancel, thread

    def stop(self) -> None:
        """Ask the work to end; it ends by itself soon after."""
        self._cancel.set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until nothing is under way."""
        if (thread := self._thread) is not None:
            thread.join(timeout)

    def _run(self, work: Work, finished: Finished, cancel: Event) -> None:
        kind, value = "failed", None
        try:
            with noted() as notes:
                kind, value = "done", work(self._timed(), cancel)
        except WorkbenchError as error:
            value = str(error)
        except BaseException as error:
            logger.exception("the run failed")
            value = f"This could not be computed ({type(error).__name__}: {error})."
        with self._lock:
            self._thread = None
        if cancel.is_set():
            kind, value = "stopped", None
        finished(kind, value, notes)

    def _timed(self) -> Progress:
        start, told = time.monotonic(), -math.inf

        def progress(done: int, total: int) -> None:
            nonlocal told
            now = time.monotonic()
            if now - told < _OFTEN and 0 < done < total:
                return
            told = now
            self._report(done, total, (now - start) / done * (total - done) if done else None)

        return progress
