from __future__ import annotations

from threading import Event
from typing import Any

import pytest

from workbench.analysis.steps import Steps
from workbench.schema import CancelledError, InputError


def test_steps_are_told_and_what_is_not_needed_is_done() -> None:
    told: list[Any] = []
    steps = Steps(lambda *at: told.append(at))
    steps.total = 5
    steps()
    steps(2)
    steps.finish()
    assert told == [(1, 5), (3, 5), (5, 5)]


def test_the_bar_is_shown_when_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps(True)
    steps.total = 4
    steps(3)
    steps.finish()
    assert "4/4" in capsys.readouterr().err


def test_a_cancelled_step_raises() -> None:
    cancel = Event()
    steps = Steps(cancel=cancel)
    steps.total = 2
    steps()
    cancel.set()
    with pytest.raises(CancelledError, match="call it again"):
        steps()


@pytest.mark.parametrize("options", [{"progress": 3}, {"cancel": True}])
def test_what_cannot_be_told_is_refused(options: Any) -> None:
    with pytest.raises(InputError, match="expected"):
        Steps(**options)
