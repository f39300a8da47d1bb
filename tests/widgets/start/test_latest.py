from __future__ import annotations

import threading

from workbench.widgets.start.latest import Latest


def test_of_questions_that_come_meanwhile_the_last_one_is_next() -> None:
    begun, going, seen = threading.Event(), threading.Event(), []

    def work(question: int) -> None:
        seen.append(question)
        begun.set()
        going.wait(20)

    latest = Latest(work)
    latest.ask(1)
    begun.wait(20)
    for question in (2, 3, 4):
        latest.ask(question)
    going.set()
    latest.join(20)
    assert seen == [1, 4]
    latest.ask(5)
    latest.join(20)
    assert seen == [1, 4, 5]
