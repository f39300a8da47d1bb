"""torch.compile is off while a context is open, and only then."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

from workbench.recording.eager import eager, is_compiled


class Counting:
    """A compiled function that counts how often its compiled code ran."""

    def __init__(self) -> None:
        self.ran = 0
        self.compiled = 0
        torch._dynamo.reset()
        self.call: Any = torch.compile(lambda x: x + 1, backend=self._backend)

    def _backend(self, graph: Any, _: Any) -> Any:
        self.compiled += 1

        def run(*args: Any) -> Any:
            self.ran += 1
            return graph.forward(*args)

        return run

    def __bool__(self) -> bool:
        """Whether a call now runs compiled code."""
        before = self.ran
        assert self.call(torch.zeros(2)).tolist() == [1, 1]
        return self.ran > before


def test_compiled_code_is_set_aside_and_used_again() -> None:
    compiled = Counting()
    assert compiled
    with eager():
        assert not compiled
    assert compiled
    assert compiled.compiled == 1


def test_contexts_overlap_in_any_order() -> None:
    compiled = Counting()
    first, second = eager(), eager()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert not compiled
    second.__exit__(None, None, None)
    assert compiled


def test_it_holds_in_every_thread_and_after_an_error() -> None:
    compiled = Counting()
    seen: list[bool] = []
    with pytest.raises(KeyboardInterrupt), eager():
        thread = threading.Thread(target=lambda: seen.append(bool(compiled)))
        thread.start()
        thread.join()
        raise KeyboardInterrupt
    assert seen == [False]
    assert compiled


def test_the_users_own_stance_comes_back() -> None:
    compiled = Counting()
    with torch.compiler.set_stance("force_eager"):
        with eager():
            pass
        assert not compiled
    assert compiled


def test_compiled_models_are_told_from_others() -> None:
    def model() -> nn.Sequential:
        return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    assert not is_compiled(model())
    assert is_compiled(torch.compile(model(), backend="eager"))
    in_place, part_in_place, part = model(), model(), model()
    in_place.compile(backend="eager")
    part_in_place[1].compile(backend="eager")
    part[1] = torch.compile(part[1], backend="eager")  # type: ignore[assignment]
    assert is_compiled(in_place)
    assert is_compiled(part_in_place)
    assert is_compiled(part)
