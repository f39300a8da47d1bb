from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workbench.numerics.masks import (
    average_precision,
    iou,
    mean_iou,
    overlap,
    pixel_accuracy,
)
from workbench.schema import InputError

WORDS = ("dog", "grass", "sky")
masks = hnp.arrays(bool, (3, 4, 5))
steady = settings(deadline=None, derandomize=True)


def label_maps(lowest: int) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.int64, (4, 5), elements=st.integers(lowest, 2))


def loop(scenes: list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]) -> dict[str, float]:
    """IoU counted pixel by pixel."""
    result = {}
    for word in WORDS:
        both = either = 0
        for predicted, truth in scenes:
            for row in range(4):
                for column in range(5):
                    one = bool(predicted[word][row, column]) if word in predicted else False
                    other = bool(truth[word][row, column]) if word in truth else False
                    both += one and other
                    either += one or other
        result[word] = both / either if either else math.nan
    return result


@steady
@given(st.lists(st.tuples(masks, masks, st.sets(st.sampled_from(WORDS)), st.sets(st.sampled_from(WORDS))), max_size=3))
def test_iou_sums_over_scenes(drawn: Any) -> None:
    scenes = [
        (
            {word: mask for word, mask in zip(WORDS, predicted, strict=True) if word in some},
            {word: mask for word, mask in zip(WORDS, truth, strict=True) if word in others},
        )
        for predicted, truth, some, others in drawn
    ]
    expected = loop(scenes)
    found = iou(scenes)
    assert all(math.isclose(value, expected[word]) or math.isnan(value) for word, value in found.items())
    known = [value for value in expected.values() if not math.isnan(value)]
    assert {word for word, value in found.items() if not math.isnan(value)} == {
        word for word, value in expected.items() if not math.isnan(value)
    }
    mean = mean_iou(scenes)
    assert math.isclose(mean, sum(known) / len(known)) if known else math.isnan(mean)


def test_iou_is_no_mean_of_scenes() -> None:
    small, large = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    small[0, 0] = True
    assert iou([({"dog": small}, {"dog": small}), ({"dog": small}, {"dog": large})]) == {"dog": 2 / 17}


def test_overlap_keeps_leading_dimensions() -> None:
    one = np.ones((2, 3, 4, 5), bool)
    other = one.copy()
    other[0, 0, 0, 0] = False
    both, either = overlap(one, other)
    assert both.tolist() == [[19, 20, 20], [20, 20, 20]]
    assert (either == 20).all()


@steady
@given(
    hnp.arrays(np.int64, (4, 5), elements=st.integers(0, 2)), hnp.arrays(np.int64, (4, 5), elements=st.integers(-1, 2))
)
def test_accuracy_counts_labelled_pixels(predicted: np.ndarray, truth: np.ndarray) -> None:
    words = np.arange(3)[:, None, None]
    labelled = [(p, t) for p, t in zip(predicted.flat, truth.flat, strict=True) if t >= 0]
    found = pixel_accuracy(predicted == words, truth == words)
    if labelled:
        assert found == sum(p == t for p, t in labelled) / len(labelled)
    else:
        assert math.isnan(found)


@steady
@given(hnp.arrays(bool, 12), hnp.arrays(np.float64, 12, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
def test_average_precision_by_its_definition(truth: np.ndarray, values: np.ndarray) -> None:
    found = average_precision(truth, values)
    if not truth.any():
        assert math.isnan(found)
        return
    area = before = 0.0
    for threshold in sorted(set(values), reverse=True):
        taken = values >= threshold
        recall = (truth & taken).sum() / truth.sum()
        area += (recall - before) * (truth & taken).sum() / taken.sum()
        before = recall
    assert math.isclose(found, area, rel_tol=1e-12)


def test_wrong_arrays_are_refused() -> None:
    yes = np.ones((2, 2), bool)
    with pytest.raises(InputError, match="two boolean arrays of one shape"):
        overlap(yes, yes[:1])
    with pytest.raises(InputError, match="two boolean arrays of one shape"):
        iou([({"dog": yes.astype(int)}, {"dog": yes})])
    with pytest.raises(InputError, match="bool and finite numbers"):
        average_precision(yes, np.full((2, 2), np.nan))
    with pytest.raises(InputError, match="bool and finite numbers"):
        average_precision(yes.astype(int), np.ones((2, 2)))


def test_average_precision_leaves_void_pixels_out() -> None:
    rng = np.random.default_rng(5)
    truth, values, void = rng.random((6, 7)) > 0.6, rng.random((6, 7)), rng.random((6, 7)) > 0.7
    values[void] += 3
    assert average_precision(truth, values, void) == pytest.approx(average_precision(truth[~void], values[~void]))
    assert average_precision(truth, values, void) != pytest.approx(average_precision(truth & ~void, values))
