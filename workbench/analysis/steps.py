"""How far a computation is, and whether it shall go on."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Any, TypeAlias

from workbench.schema import CancelledError, InputError

Progress: TypeAlias = bool | Callable[[int, int], None]
"""True shows a bar; a function is called with the steps done and their number."""


def check_progress(progress: Any, cancel: Any) -> None:
    """Refuse what can be told nothing, or cannot end anything.

    Raises
    ------
    InputError
        Then.
    """
    if not (isinstance(progress, bool) or callable(progress)):
        raise InputError(
            f"progress is {progress!r}; expected True, False, or a function of what is done and of how much there is."
        )
    if cancel is not None and not hasattr(cancel, "is_set"):
        raise InputError(f"cancel is {cancel!r}; expected a threading.Event, or None.")


class Steps:
    """Counts steps.

    Parameters
    ----------
    progress
        Who is told.
    cancel
        Once it is set, the next step raises.

    Attributes
    ----------
    total : int
        All steps that will be counted; to be set before the first one.
    """

    def __init__(self, progress: Progress = False, cancel: Event | None = None) -> None:
        check_progress(progress, cancel)
        self.total = 0
        self._progress, self._cancel = progress, cancel
        self._done = 0
        self._bar: Any = None

    def __call__(self, count: int = 1) -> None:
        """Count some steps.

        Raises
        ------
        CancelledError
            If the event is set.
        """
        if self._cancel is not None and self._cancel.is_set():
            self.close()
            raise CancelledError("it was cancelled, and nothing of it is kept: call it again to begin anew.")
        self._done = min(self._done + count, self.total)
        self._tell(count)

    def finish(self) -> None:
        """What is left is not needed any more."""
        left, self._done = self.total - self._done, self.total
        self._tell(left)
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _tell(self, count: int) -> None:
        if self._progress is True:
            if self._bar is None:
                from tqdm.auto import tqdm

                self._bar = tqdm(total=self.total, desc="sweep")
            self._bar.update(count)
        elif callable(self._progress) and count:
            self._progress(self._done, self.total)
