"""Models are loaded alone, whatever other threads do."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from tests.tiny_random import flux_pipeline
from workbench.models import exclusive_loading as module
from workbench.models import loading
from workbench.models.exclusive_loading import loading_alone, using
from workbench.recording import turns
from workbench.recording.sessions import session
from workbench.recording.turns import turn
from workbench.schema import CancelledError

PATIENCE = 30
"""Seconds that a thread is waited for before a test fails."""


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    yield
    assert not module._using
    assert not module._waiting
    assert not module._loading


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def ended(thread: threading.Thread) -> bool:
    thread.join(PATIENCE)
    return not thread.is_alive()


def entered(around: Callable[[], Any], until: threading.Event) -> tuple[threading.Thread, threading.Event]:
    """A thread that stays inside a context until it is told, and whether it is inside."""
    inside = threading.Event()

    def stay() -> None:
        with around():
            inside.set()
            until.wait(PATIENCE)

    return in_thread(stay), inside


def test_a_load_waits_for_those_who_use_a_model_and_they_for_it() -> None:
    go_on = threading.Event()
    with using():
        loads, loading_now = entered(lambda: loading_alone("a model"), go_on)
        while not module._waiting:
            pass
        user, used = entered(using, go_on)
        assert not loading_now.wait(0.2)
        assert not used.is_set()  # the load came first
        with using():  # inside what the load waits for
            pass
    assert loading_now.wait(PATIENCE)
    assert not used.is_set()
    go_on.set()
    assert ended(loads)
    assert ended(user)
    assert used.is_set()


def test_several_use_models_at_once() -> None:
    go_on = threading.Event()
    threads = [entered(using, go_on) for _ in range(3)]
    assert all(inside.wait(PATIENCE) for _, inside in threads)
    go_on.set()
    assert all(ended(thread) for thread, _ in threads)


def test_two_that_load_inside_their_own_use_do_not_wait_for_each_other() -> None:
    both = threading.Barrier(2)

    def load() -> None:
        with using():
            both.wait(PATIENCE)
            with loading_alone("a model"), loading_alone("a part of it"), using():
                pass

    assert all(ended(thread) for thread in [in_thread(load), in_thread(load)])


def test_what_fails_while_waiting_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt), using():
        pass
    with pytest.raises(KeyboardInterrupt), loading_alone("a model"):
        pass


def test_waiting_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0)
    go_on = threading.Event()
    thread, inside = entered(using, go_on)
    assert inside.wait(PATIENCE)
    with caplog.at_level("INFO", "workbench"):
        load = in_thread(lambda: entered(lambda: loading_alone("tiny"), go_on))
        while "loading tiny waits for calls that use a model" not in caplog.text:
            pass
    go_on.set()
    assert ended(thread)
    assert ended(load)
    while module._waiting or module._using:
        pass


def test_threads_that_load_at_once(tmp_path: Path) -> None:
    flux_pipeline().save_pretrained(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: loading.load_model(tmp_path, dtype=torch.float32), range(4)))
    first = loaded[0].transformer.state_dict()
    for pipe in loaded[1:]:
        for name, tensor in pipe.transformer.state_dict().items():
            assert torch.equal(tensor, first[name]), name


def test_the_bundled_model_is_loaded_once_by_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(loading, "_bundled", {})
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: made.append(object()) or made[-1])
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(loading.bundled, ["tiny-flux"] * 8))
    assert len(made) == 1
    assert all(each is made[0] for each in given)


def test_a_turn_that_is_waited_for_does_not_keep_its_owner_from_loading() -> None:
    one, other = (SimpleNamespace(components={"model": nn.Linear(1, 1)}) for _ in range(2))
    both = threading.Barrier(2)

    def waits() -> None:
        with turn(one, "the first"):
            both.wait(PATIENCE)
            with turn(other, "a call inside it"):
                pass

    def loads() -> None:
        with turn(other, "the second"):
            both.wait(PATIENCE)
            while len(turns._queue) < 3:
                pass
            with loading_alone("a model"):
                pass

    assert all(ended(thread) for thread in [in_thread(waits), in_thread(loads)])


def test_a_use_inside_a_load_does_not_wait_for_the_next_load() -> None:
    go_on = threading.Event()
    with loading_alone("a model"):
        second, inside = entered(lambda: loading_alone("another"), go_on)
        while len(module._waiting) < 2:
            pass
        with using():
            assert not inside.is_set()
    assert inside.wait(PATIENCE)
    go_on.set()
    assert ended(second)


def test_waiting_ends_when_the_session_is_cancelled() -> None:
    go_on, cancel = threading.Event(), threading.Event()
    thread, inside = entered(lambda: loading_alone("a model"), go_on)
    assert inside.wait(PATIENCE)
    cancel.set()
    pipe = SimpleNamespace(components={"model": nn.Linear(1, 1)})
    with pytest.raises(CancelledError), session(cancel), turn(pipe, "a capture"):
        pass
    with pytest.raises(CancelledError), session(cancel), loading_alone("another"):
        pass
    go_on.set()
    assert ended(thread)


def test_who_is_interrupted_while_waiting_does_not_compute_beside_a_load(monkeypatch: pytest.MonkeyPatch) -> None:
    uses, asked, loading_now, go_on = (threading.Event() for _ in range(4))

    def interrupted() -> None:
        if threading.current_thread() is first and loading_now.is_set():
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "while_waiting", [interrupted])
    beside: list[bool] = []

    def wait_to_load() -> None:
        with using():
            uses.set()
            asked.wait(PATIENCE)
            try:
                with loading_alone("one"):
                    pass
            except KeyboardInterrupt:
                beside.append(bool(module._loading))

    def load() -> None:
        with loading_alone("another"):
            loading_now.set()
            go_on.wait(PATIENCE)

    first = threading.Thread(target=wait_to_load, daemon=True)
    first.start()
    assert uses.wait(PATIENCE)
    second = in_thread(load)
    while not module._waiting:
        pass
    asked.set()
    assert loading_now.wait(PATIENCE)
    go_on.set()
    assert ended(second)
    assert ended(first)
    assert beside == [False]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_threads_that_it_lacks() -> None:
    go_on = threading.Event()
    thread, inside = entered(using, go_on)
    assert inside.wait(PATIENCE)
    child = os.fork()
    if child == 0:
        os._exit(int(bool(module._using)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    assert ended(thread)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_forked_inside_a_call_loads_after_it() -> None:
    with using():
        child = os.fork()
    if child == 0:
        os._exit(int(bool(module._using)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    with loading_alone("a model"):
        child = os.fork()
    if child == 0:
        os._exit(int(bool(module._loading or module._waiting)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
