from __future__ import annotations

import numpy as np
import pytest

from workbench.numerics.boundaries import boundary_f, edges


def square(top: int, left: int, side: int = 20) -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_same_mask_has_the_same_edges() -> None:
    found = edges(square(10, 10), square(10, 10))
    assert found.precise == found.predicted == found.recalled == found.true > 0
    assert boundary_f(np.array(found)) == 1


def test_edges_within_a_pixel_count_and_others_do_not() -> None:
    near, far = edges(square(10, 11), square(10, 10)), edges(square(40, 40), square(5, 5))
    assert boundary_f(np.array(near)) == 1
    assert boundary_f(np.array(far)) == 0
    assert 0 < boundary_f(np.array(edges(square(10, 15), square(10, 10)))) < 1


def test_no_edges_at_all() -> None:
    empty = np.zeros((64, 64), bool)
    assert boundary_f(np.array(edges(empty, empty))) == 1
    assert boundary_f(np.array(edges(empty, square(5, 5)))) == 0
    assert boundary_f(np.array(edges(square(5, 5), empty))) == 0


def test_void_hides_edges() -> None:
    void = np.ones((64, 64), bool)
    void[:8] = False
    assert edges(square(10, 10), square(30, 30), void).predicted == 0
    half = np.zeros((64, 64), bool)
    half[:, 20:] = True
    shown = edges(square(10, 10), square(10, 10), half)
    assert 0 < shown.predicted < edges(square(10, 10), square(10, 10)).predicted


def test_by_brute_force() -> None:
    rng = np.random.default_rng(0)
    one, other = (rng.random((12, 9)) < 0.4 for _ in range(2))

    def edge(mask: np.ndarray) -> list[tuple[int, int]]:
        return [
            (y, x)
            for y in range(12)
            for x in range(9)
            if (y < 11 and mask[y, x] != mask[y + 1, x]) or (x < 8 and mask[y, x] != mask[y, x + 1])
        ]

    found, left, right = edges(one, other), edge(one), edge(other)

    def near(some: list[tuple[int, int]], others: list[tuple[int, int]]) -> int:
        return sum(any((y - v) ** 2 + (x - u) ** 2 <= 1 for v, u in others) for y, x in some)

    assert found == (near(left, right), len(left), near(right, left), len(right))
    precision, recall = found.precise / found.predicted, found.recalled / found.true
    assert boundary_f(np.array(found)) == pytest.approx(2 * precision * recall / (precision + recall))
