from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from tests.evaluation.fixtures import Arrays
from workbench.evaluation.examples import Task, measure, read
from workbench.evaluation.methods import labelled
from workbench.evaluation.protocols import Protocol
from workbench.numerics.confusion import accuracy, mean_iou, overlap, stacked
from workbench.numerics.resampling import ratio
from workbench.schema import InputError

CASE = {"a": np.array([[1, 0], [0, 0]])}
VALUES = np.array([[0.9, 0.6], [0.2, 0.0]])
RULES = Protocol(backgrounds=("sky",), layers=None)


def counted(values: np.ndarray, rules: Protocol = RULES, labels: Any = None) -> Any:
    task = read(Arrays({"a": CASE["a"] if labels is None else labels}), "a", rules)
    maps = labelled(np.stack([values, 1 - values]), ["dog", "sky"])
    return measure(task, maps, rules)


def test_a_single_class_by_the_mean() -> None:
    found = counted(VALUES)
    assert ratio(*accuracy(found.counts)) == 0.75
    assert float(mean_iou(overlap(found.counts))) == pytest.approx(0.5833, abs=5e-5)
    assert float(mean_iou(overlap(stacked(found.counts)))) == pytest.approx(0.6)
    assert (found.ap, found.ap_stacked) == (1, pytest.approx(0.95))
    assert counted(40 * VALUES, RULES.changed(ap_scaling="none")).ap_stacked == pytest.approx(0.6429, abs=5e-5)
    assert found.preview.tolist() == [[255, 170], [57, 0]]


def test_a_constant_map_has_no_inside() -> None:
    for value in (0.1, 1 / 3, 1e6 + 1 / 7):
        found = counted(np.full((2, 2), value))
        assert found.counts[:, 1].sum() == 0
        assert found.ap == 0.25
        assert np.isnan(found.ap_stacked)


def test_void_is_left_out() -> None:
    labels = np.array([[1, 0, -1], [0, 0, -1]])
    values = np.array([[0.9, 0.6, 5.0], [0.2, 0.0, 5.0]])
    found = counted(values, RULES.changed(mask="argmax"), labels)
    assert found.counts[:2].sum() == 4
    assert found.counts[2].tolist() == [0, 2, 0]
    assert found.ap == 1


def test_argmax_takes_the_first_of_equals() -> None:
    rules = RULES.changed(mask="argmax")
    for targets, inside in (("first", 4), ("last", 0)):
        ordered = rules.changed(targets=targets)
        task = read(Arrays(CASE), "a", ordered)
        found = measure(task, labelled(np.full((2, 2, 2), 0.5), task.concepts), ordered)
        assert found.counts[:, 1].sum() == inside


def several(rules: Protocol) -> Task:
    labels = {"a": np.array([[0, 1], [2, -1]])}
    data = Arrays(labels, task="multi", classes=("background", "dog", "cat"), background=0)
    return read(data, "a", rules)


def test_several_classes() -> None:
    rules = Protocol(task="multi", mask="argmax", backgrounds=("sky", "grass"), caption="a {}")
    task = several(rules)
    assert task.concepts == ("dog", "cat", "sky", "grass")
    assert task.meaning == (1, 2, 0, 0)
    assert task.example.caption == "a dog,a cat"
    right = labelled(
        np.array([[[0, 1], [0, 0]], [[0, 0], [1, 0]], [[0.5, 0], [0, 0]], [[0.6, 0], [0, 0.1]]]), task.concepts
    )
    found = measure(task, right, rules)
    assert np.diagonal(found.counts)[:3].tolist() == [1, 1, 1]
    assert found.counts[3].tolist() == [1, 0, 0, 0]
    assert found.ap == 1


def test_background_words_of_data_without_background_are_no_class() -> None:
    data = Arrays({"a": np.array([[0, 1]])}, task="multi", classes=("dog", "cat"), background=None)
    rules = Protocol(task="multi", mask="argmax", backgrounds=("sky",))
    task = read(data, "a", rules)
    assert task.meaning == (0, 1, -1)
    found = measure(task, labelled(np.array([[[0, 0]], [[0, 1]], [[1, 0]]]), task.concepts), rules)
    assert found.counts.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_two_classes_without_background_are_one_foreground_in_public() -> None:
    pair = np.full((50, 50), 1)
    pair[:, 25:] = 2
    data = Arrays({"a": pair}, classes=("background", "dog", "cat"))
    rules = Protocol(label_size=10, discovery="resized", mask="argmax", targets="last", backgrounds=("sky",))
    task = read(data, "a", rules)
    assert task.concepts == ("sky", "dog", "cat")
    assert task.meaning == (0, 1, 1)
    assert (task.labels == 1).all()


def test_an_object_that_vanishes_is_looked_for_or_not() -> None:
    labels = np.zeros((448, 448))
    labels[100:300, 100:300] = 1
    labels[0, 0] = 2
    data = Arrays({"a": labels}, task="multi", classes=("background", "dog", "cat"))
    full = Protocol(task="multi", mask="argmax", label_size=64)
    assert read(data, "a", full).example.targets == ("dog", "cat")
    assert read(data, "a", full.changed(discovery="resized")).example.targets == ("dog",)


def test_where_the_mean_is_taken() -> None:
    """Cells of different sizes: five columns of pixels on two of cells."""
    labels = np.array([[1, 1, 0, 0, 0]])
    values = np.array([[0.4, 0.0, 0.5]])
    inside = {}
    for at in ("grid", "pixels"):
        rules = RULES.changed(mask_at=at)
        task = read(Arrays({"a": labels}), "a", rules)
        inside[at] = measure(task, labelled(np.stack([values, values]), ["dog", "sky"]), rules).counts[:, 1].sum()
    assert inside["grid"] != 0
    weights = np.bincount([0, 0, 1, 2, 2], minlength=3)
    mean = float(np.average(values[0], weights=weights))
    assert inside["pixels"] == weights[values[0] > mean].sum()


def test_blur_as_torchvision_has_it() -> None:
    from workbench.evaluation.examples import _blurred

    values = np.random.default_rng(0).random((3, 7, 9))
    line = torch.exp(-0.5 * torch.tensor([-1.0, 0, 1]).double() ** 2)
    kernel = torch.outer(line / line.sum(), line / line.sum())
    padded = torch.nn.functional.pad(torch.from_numpy(values)[:, None], [1, 1, 1, 1], mode="reflect")
    expected = torch.nn.functional.conv2d(padded, kernel[None, None])[:, 0].numpy()
    assert np.abs(_blurred(values, 1.0) - expected).max() < 1e-12


@pytest.mark.parametrize(
    ("maps", "says"),
    [
        (np.zeros((2, 2)), "expected a DataArray along concept, y and x"),
        (xr.DataArray(np.zeros((2, 2, 2)), dims=("concept", "y", "x")), "along concept, y and x"),
        (labelled(np.zeros((1, 2, 2)), ["dog"]), "maps of dog; expected dog, sky"),
        (labelled(np.full((2, 2, 2), np.nan), ["dog", "sky"]), "not finite"),
        (labelled(np.zeros((2, 0, 2)), ["dog", "sky"]), "not finite"),
    ],
)
def test_maps_that_are_none(maps: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        measure(read(Arrays(CASE), "a", RULES), maps, RULES)


def test_maps_may_come_in_another_order() -> None:
    other = labelled(np.stack([1 - VALUES, VALUES]), ["sky", "dog"]).transpose("x", "concept", "y")
    assert (measure(read(Arrays(CASE), "a", RULES), other, RULES).counts == counted(VALUES).counts).all()


def test_empty_and_mismatched_examples_are_refused() -> None:
    with pytest.raises(InputError, match="shows no class"):
        read(Arrays({"a": np.zeros((2, 2))}), "a", RULES)

    class Odd(Arrays):
        def image(self, name: str) -> np.ndarray:
            return np.zeros((3, 2, 3), np.uint8)

    with pytest.raises(InputError, match=r"an image of 3 x 2 pixels .* labels of 2 x 2"):
        read(Odd(CASE), "a", RULES)
