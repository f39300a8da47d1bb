from __future__ import annotations

import threading
from queue import Queue
from typing import Any

import pytest

from workbench.schema import InputError, WorkbenchError, WorkbenchWarning, warn
from workbench.widgets.shared.worker import Worker


class Seen:
    """A worker, and what it told."""

    def __init__(self) -> None:
        self.progress: list[tuple[int, int, float | None]] = []
        self.ends: Queue[tuple[str, Any]] = Queue()
        self.notes: list[str] = []
        self.worker = Worker(lambda *told: self.progress.append(told))

    def run(self, work: Any) -> None:
        self.worker.start(work, self.finished)

    def finished(self, kind: str, value: Any, notes: list[str]) -> None:
        self.notes = notes
        self.ends.put((kind, value))

    def end(self) -> tuple[str, Any]:
        return self.ends.get(timeout=10)


def test_work_runs_in_a_thread_and_tells_its_progress() -> None:
    seen = Seen()
    where = []

    def work(progress: Any, _cancel: Any) -> int:
        where.append(threading.current_thread())
        for done in range(4):
            progress(done, 3)
        return 7

    seen.run(work)
    assert seen.end() == ("done", 7)
    assert where != [threading.main_thread()]
    assert seen.progress[0] == (0, 3, None)
    assert seen.progress[-1] == (3, 3, 0.0)


def test_stopping_sets_the_event_and_a_new_run_begins_afresh() -> None:
    seen = Seen()
    begun = threading.Event()

    def work(_progress: Any, cancel: Any) -> None:
        begun.set()
        assert cancel.wait(10)
        raise InputError("it was cancelled.")

    seen.run(work)
    assert begun.wait(10)
    assert seen.worker.busy
    with pytest.raises(InputError, match="under way"):
        seen.run(work)
    seen.worker.stop()
    assert seen.end() == ("stopped", None)
    assert not seen.worker.busy
    seen.run(lambda _progress, cancel: cancel.is_set())
    assert seen.end() == ("done", False)


def test_errors_are_sentences() -> None:
    seen = Seen()

    def refused(*_: Any) -> None:
        raise InputError("that is wrong.")

    seen.run(refused)
    assert seen.end() == ("failed", "that is wrong.")
    seen.run(lambda *_: [][1])
    kind, value = seen.end()
    assert kind == "failed"
    assert value == "This could not be computed (IndexError: list index out of range)."


def test_a_thread_that_cannot_start_leaves_the_worker_free(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(WorkbenchError, match=r"no thread can be started for this \(can't start new thread\)"):
            seen.run(lambda *_: 7)
    assert not seen.worker.busy
    seen.worker.join()
    seen.run(lambda *_: 7)
    assert seen.end() == ("done", 7)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError])
def test_whatever_ends_the_work_leaves_the_worker_free(kind: type[BaseException]) -> None:
    seen = Seen()

    def ends(*_: Any) -> None:
        raise kind("enough")

    seen.run(ends)
    assert seen.end() == ("failed", f"This could not be computed ({kind.__name__}: enough).")
    assert not seen.worker.busy


def test_warnings_of_the_work_are_kept_and_those_of_other_threads_are_given() -> None:
    seen = Seen()
    begun, going = threading.Event(), threading.Event()

    def work(*_: Any) -> int:
        warn("this is odd.")
        warn("this is odd.")
        begun.set()
        assert going.wait(10)
        warn("this too.")
        return 7

    seen.run(work)
    assert begun.wait(10)
    with pytest.warns(WorkbenchWarning, match="in the main thread"):
        warn("this is in the main thread.")
    going.set()
    assert seen.end() == ("done", 7)
    assert seen.notes == ["this is odd.", "this too."]
