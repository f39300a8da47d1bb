from __future__ import annotations

from workbench.evaluation.published import ROWS, row


def test_the_papers_imagenet_rows_are_a_function_of_accuracy_but_for_one() -> None:
    exceptions = []
    for one in ROWS:
        right = one.accuracy / 100
        close = abs(100 * right / (2 - right) - one.miou) <= 0.02
        if one.data == "imagenet" and not close:
            exceptions.append((one.title, one.miou, round(100 * right / (2 - right), 2)))
        assert close == (one.kind == "stacked"), one
    assert exceptions == [("ConceptAttention, SD3.5 Turbo", 67.47, 69.38)]


def test_rows_are_found() -> None:
    found = row("table3", "imagenet", "output, softmax")
    assert found is not None
    assert (found.accuracy, found.miou, found.ap) == (83.07, 71.04, 90.45)
    assert row("table3", "imagenet", "output") is None
    assert len({(one.table, one.data, one.title) for one in ROWS}) == len(ROWS)
