"""Models are loaded alone, whatever other threads do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_random import flux_pipeline
from workbench.models import alone as module
from workbench.models import loading
from workbench.models.alone import alone, using

PATIENCE = 30
"""Seconds that a thread is waited for before a test fails."""


@pytest.fixture(autouse=True)
def left_as_found() -> Iterator[None]:
    yield
    assert not module._using
    assert not module._asked
    assert not module._loads


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
        loads, loading_now = entered(lambda: alone("a model"), go_on)
        while not module._asked:
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
            with alone("a model"), alone("a part of it"), using():
                pass

    assert all(ended(thread) for thread in [in_thread(load), in_thread(load)])


def test_what_fails_while_waiting_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt), using():
        pass
    with pytest.raises(KeyboardInterrupt), alone("a model"):
        pass


def test_waiting_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0)
    go_on = threading.Event()
    thread, inside = entered(using, go_on)
    assert inside.wait(PATIENCE)
    with caplog.at_level("INFO", "workbench"):
        load = in_thread(lambda: entered(lambda: alone("tiny"), go_on))
        while "loading tiny waits for calls that use a model" not in caplog.text:
            pass
    go_on.set()
    assert ended(thread)
    assert ended(load)
    while module._asked or module._using:
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
