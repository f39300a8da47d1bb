"""Silence while libraries are imported ends with the last thread that asked for it."""

from __future__ import annotations

import logging
from contextlib import ExitStack

from workbench.models.quiet import quiet


def test_two_threads_that_leave_in_the_order_of_entering() -> None:
    before = logging.root.manager.disable
    one, other = ExitStack(), ExitStack()
    one.enter_context(quiet())
    other.enter_context(quiet())
    one.close()
    assert logging.root.manager.disable == logging.WARNING
    other.close()
    assert logging.root.manager.disable == before


def test_what_was_disabled_stays_so() -> None:
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with quiet():
            assert logging.root.manager.disable == logging.ERROR
        assert logging.root.manager.disable == logging.ERROR
    finally:
        logging.disable(before)
