from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from workbench.numerics.confusion import (
    VOID,
    accuracy,
    cells_of,
    confusion,
    counts_in_cells,
    mean_iou,
    overlap,
    stacked,
)
from workbench.numerics.resampling import ratio
from workbench.schema import InputError

steady = settings(deadline=None, derandomize=True)


def counted(truth: list[int], predicted: list[int], classes: int) -> np.ndarray:
    """Counts of pixels that are cells of their own."""
    labels = np.array([truth])
    cells = np.arange(labels.size).reshape(labels.shape)
    return confusion(counts_in_cells(labels, cells, classes, labels.size), np.array(predicted))


def figures(counts: np.ndarray) -> tuple[float, float, float]:
    return (
        float(ratio(*accuracy(counts))),
        float(mean_iou(overlap(counts))),
        float(mean_iou(overlap(stacked(counts)))),
    )


def test_both_readings_of_miou() -> None:
    counts = counted([1, 0, 0, 0], [1, 1, 0, 0], 2)
    both, either = overlap(counts)
    assert (both / either).tolist() == [2 / 3, 1 / 2]
    assert figures(counts) == pytest.approx((0.75, 7 / 12, 0.6))


def test_floors() -> None:
    """All background at 30 % foreground; a coin for each pixel."""
    assert figures(counted([1] * 3 + [0] * 7, [0] * 10, 2)) == pytest.approx((0.7, 0.35, 0.7 / 1.3))
    rng = np.random.default_rng(0)
    truth, coin = (rng.random(100_000) < 0.3).astype(int), rng.integers(0, 2, 100_000)
    assert figures(counted(truth.tolist(), coin.tolist(), 2))[2] == pytest.approx(1 / 3, abs=0.005)


def test_void_of_a_single_class_as_the_public_script_counts_it() -> None:
    counts = counted([1, 0, 0, 0, VOID], [1, 1, 0, 0, 1], 2)
    assert ratio(*accuracy(counts, "stacked")) == pytest.approx(6 / 9)
    assert ratio(*accuracy(counts)) == pytest.approx(3 / 4)
    assert mean_iou(overlap(counts)) == pytest.approx(7 / 12)
    # The script itself, value by value.
    mask, labels = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 0, -1])
    pair, target = np.stack([1 - mask, mask]) + 1, np.stack([1 - labels, labels]) + 1
    assert (((pair == target) & (target > 0)).sum(), (target > 0).sum()) == tuple(accuracy(counts, "stacked"))


def test_a_perfect_mask_beside_void_is_not_perfect_in_public() -> None:
    counts = counted([1] * 47 + [0] * 47 + [VOID] * 6, [1] * 47 + [0] * 53, 2)
    assert ratio(*accuracy(counts, "stacked")) == pytest.approx(0.969, abs=5e-4)
    assert ratio(*accuracy(counts)) == 1


def test_void_of_several_classes_as_the_public_script_counts_it() -> None:
    counts = counted([0, 0, 3, 3, VOID], [0, 3, 3, 3, 3], 4)
    assert ratio(*overlap(counts, "union"))[3] == 0.5
    assert ratio(*overlap(counts))[3] == pytest.approx(2 / 3)


@steady
@given(st.integers(0, 2**32 - 1))
def test_stacked_counts_are_those_of_the_stacked_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 200))
    truth, mask = (rng.random(size) < rng.random() for _ in range(2))
    counts = counted(truth.astype(int).tolist(), mask.astype(int).tolist(), 2)
    pair, target = np.stack([1 - mask.astype(int), mask]), np.stack([1 - truth.astype(int), truth])
    inter = [((pair == c) & (target == c)).sum() for c in (0, 1)]
    union = [(pair == c).sum() + (target == c).sum() - both for c, both in zip((0, 1), inter, strict=True)]
    found = overlap(stacked(counts))
    assert found[0].tolist() == inter
    assert found[1].tolist() == union


def test_stacked_miou_is_a_function_of_accuracy() -> None:
    """What makes the paper's ImageNet rows: found, not built in."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        sums = rng.integers(0, 10_000, 4)
        counts = np.zeros((3, 3), dtype=np.int64)
        counts[:2, :2] = sums.reshape(2, 2)
        right = float(ratio(*accuracy(counts)))
        assert abs(float(mean_iou(overlap(stacked(counts)))) - right / (2 - right)) < 1e-12


def test_only_two_classes_can_be_stacked() -> None:
    with pytest.raises(InputError, match="only two classes can be stacked"):
        stacked(np.zeros((4, 4), dtype=np.int64))
    with pytest.raises(InputError, match="a class for every pixel"):
        stacked(counted([1, 0], [1, VOID], 2))


@pytest.mark.slow
@steady
@given(
    hnp.arrays(np.int64, (3, 60), elements=st.integers(0, 4)),
    hnp.arrays(np.int64, (3, 60), elements=st.integers(0, 4)),
    hnp.arrays(bool, (3, 60)),
)
def test_set_miou_equals_torchmetrics(truth: np.ndarray, predicted: np.ndarray, void: np.ndarray) -> None:
    from torchmetrics.classification import MulticlassJaccardIndex

    if void.all():
        return
    labels = np.where(void, 255, truth)
    metric = MulticlassJaccardIndex(5, average="none", ignore_index=255)
    total = np.zeros((6, 6), dtype=np.int64)
    for one, other in zip(labels, predicted, strict=True):
        metric.update(torch.from_numpy(other), torch.from_numpy(one))
        total += counted(np.where(one == 255, VOID, one).tolist(), other.tolist(), 5)
    both, either = overlap(total)
    there = either > 0
    expected = metric.compute().numpy()[there].mean()
    assert float(mean_iou((both, either))) == pytest.approx(expected, abs=1e-6)


def test_images_are_no_set() -> None:
    one, other = counted([1, 0, 0, 0], [1, 0, 0, 0], 2), counted([1] * 3 + [0], [0] * 3 + [1], 2)
    of_set = mean_iou(overlap(one + other))
    of_images = np.mean([mean_iou(overlap(one)), mean_iou(overlap(other))])
    assert of_set == pytest.approx((3 / 7 + 1 / 5) / 2)
    assert of_images == 0.5


def test_no_class_is_no_class() -> None:
    counts = counted([0, 1, 1], [0, VOID, 1], 2)
    assert ratio(*accuracy(counts)) == pytest.approx(2 / 3)
    assert ratio(*overlap(counts)).tolist() == [1, 0.5]


@pytest.mark.parametrize(("pixels", "cells"), [(224, 64), (224, 16), (7, 3), (3, 7), (128, 16)])
def test_cells_as_torch_and_pillow_take_them(pixels: int, cells: int) -> None:
    from PIL import Image

    values = torch.arange(cells, dtype=torch.float32)[None, None, :, None].expand(1, 1, cells, 1)
    corner = torch.nn.functional.interpolate(values, size=(pixels, 1), mode="nearest").ravel().int().tolist()
    assert cells_of((pixels, 1), (cells, 1), corner=True).ravel().tolist() == corner
    if (pixels, cells) == (224, 64):  # centres lie between two cells, where Pillow goes by its rounding errors
        return
    image = Image.fromarray(np.arange(cells, dtype=np.uint8)[:, None])
    centre = np.asarray(image.resize((1, pixels), Image.Resampling.NEAREST)).ravel().tolist()
    assert cells_of((pixels, 1), (cells, 1)).ravel().tolist() == centre


def test_labels_that_are_no_classes() -> None:
    cells = np.zeros((1, 2), dtype=np.intp)
    with pytest.raises(InputError, match=r"labels lie in 0 \.\. 7"):
        counts_in_cells(np.array([[0, 7]]), cells, 2, 1)
    with pytest.raises(InputError, match="whole numbers of the shape"):
        counts_in_cells(np.array([[0.5, 1.0]]), cells, 2, 1)
