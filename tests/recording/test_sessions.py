from __future__ import annotations

from threading import Event

import pytest

from workbench.recording.sessions import check_cancelled, once, session
from workbench.schema import CancelledError


def test_equal_things_are_made_once_inside_a_session() -> None:
    pipe, other, made = object(), object(), []

    def make() -> int:
        made.append(1)
        return len(made)

    with session():
        assert [once(pipe, "a", make), once(pipe, "a", make), once(pipe, "b", make), once(other, "a", make)] == [
            1,
            1,
            2,
            3,
        ]
    assert once(pipe, "a", make) == 4
    with session():
        assert once(pipe, "a", make) == 5


def test_a_session_ends_when_it_is_cancelled() -> None:
    cancel = Event()
    check_cancelled()
    with session(cancel):
        check_cancelled()
        cancel.set()
        with pytest.raises(CancelledError):
            check_cancelled()
    check_cancelled()
