from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workbench.numerics.masks import (
    iou,
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


@pytest.mark.slow
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
    assert {word for word, value in found.items() if not math.isnan(value)} == {
        word for word, value in expected.items() if not math.isnan(value)
    }


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


def test_wrong_arrays_are_refused() -> None:
    yes = np.ones((2, 2), bool)
    with pytest.raises(InputError, match="two boolean arrays of one shape"):
        overlap(yes, yes[:1])
    with pytest.raises(InputError, match="two boolean arrays of one shape"):
        iou([({"dog": yes.astype(int)}, {"dog": yes})])
