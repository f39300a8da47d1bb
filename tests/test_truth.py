from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from workbench.schema import InputError, WorkbenchWarning
from workbench.truth import read_truth

SIZE = (4, 6)
DOG = np.zeros(SIZE, dtype=bool)
DOG[1:3, 2:5] = True
SKY = ~DOG
BOTH = np.stack([DOG, SKY])
WORDS = ("dog", "sky")


def test_masks_of_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "dog.png"
    Image.fromarray(DOG).save(file)
    grey = Image.fromarray(DOG.astype(np.uint8) * 255)
    kinds: list[Any] = [
        DOG,
        DOG.tolist(),
        DOG.astype(np.uint8),
        DOG.astype(np.uint8) * 255,
        DOG.astype(float),
        file,
        str(file),
        grey,
        grey.convert("1"),
        grey.convert("RGB"),
        grey.convert("RGBA"),
        xr.DataArray(DOG.T, dims=("pixel_x", "pixel_y")),
    ]
    for kind in kinds:
        assert np.array_equal(read_truth({"sky": SKY, "dog": kind}, WORDS, SIZE), BOTH)


def test_masks_that_are_full_or_empty() -> None:
    full = np.full(SIZE, 255, np.uint8)
    assert read_truth({"dog": full, "sky": full * 0}, WORDS, SIZE).all((1, 2)).tolist() == [True, False]


def test_label_maps(tmp_path: Path) -> None:
    labels = np.where(DOG, 3, 1)
    labels[0, 0] = 2
    expected = BOTH & (labels != 2)
    assert np.array_equal(read_truth(labels, WORDS, SIZE, labels={"dog": 3, "sky": 1}), expected)
    assert np.array_equal(read_truth(labels, WORDS, SIZE, labels={"dog": 3, "sky": [1, 2]}), BOTH)
    file = tmp_path / "labels.png"
    Image.fromarray(labels.astype(np.uint8)).save(file)
    assert np.array_equal(read_truth(file, WORDS, SIZE, labels={"dog": 3, "sky": 1}), expected)
    palette = Image.fromarray(labels.astype(np.uint8), mode=None).convert("P")
    palette.putdata(labels.ravel().tolist())
    assert np.array_equal(read_truth(palette, WORDS, SIZE, labels={"dog": 3, "sky": 1}), expected)


def test_data_arrays_go_by_name() -> None:
    array = xr.DataArray(BOTH[::-1], dims=("concept", "pixel_y", "pixel_x"), coords={"concept": ["sky", "dog"]})
    assert np.array_equal(read_truth(array.transpose("pixel_x", "concept", "pixel_y"), WORDS, SIZE), BOTH)


def test_concepts_without_a_mask_are_nowhere() -> None:
    with pytest.warns(WorkbenchWarning, match="no mask for 'sky'"):
        truth = read_truth({"dog": DOG}, WORDS, SIZE)
    assert np.array_equal(truth[0], DOG)
    assert not truth[1].any()


@pytest.mark.parametrize("factor", [2, 3])
def test_resizing_is_nearest_neighbour(factor: int) -> None:
    large = np.kron(BOTH, np.ones((1, factor, factor), bool))
    masks = dict(zip(WORDS, large, strict=True))
    with pytest.raises(InputError, match=rf"{4 * factor} x {6 * factor} pixels .* is 4 x 6.*resize=True"):
        read_truth(masks, WORDS, SIZE)
    assert np.array_equal(read_truth(masks, WORDS, SIZE, resize=True), BOTH)
    small = dict(zip(WORDS, BOTH, strict=True))
    assert np.array_equal(read_truth(small, WORDS, (4 * factor, 6 * factor), resize=True), large)


@pytest.mark.parametrize(
    ("truth", "labels", "message"),
    [
        ({}, None, "holds no mask; give one for at least one of: dog, sky"),
        ({"cat": DOG}, None, "masks for 'cat', not among the concepts dog, sky"),
        ({"dog": DOG.T}, None, "6 x 4 pixels"),
        ({"dog": DOG[None]}, None, r"shape \(1, 4, 6\)"),
        ({"dog": DOG[:0]}, None, r"shape \(0, 6\)"),
        ({"dog": np.where(DOG, 7, 1)}, None, "2 values; expected bool"),
        ({"dog": np.where(DOG, 0.5, 0)}, None, "2 values; expected bool"),
        ({"dog": np.where(DOG, np.nan, 0)}, None, "2 values; expected bool"),
        ({"dog": np.arange(24).reshape(SIZE)}, None, "24 values; expected bool.*labels="),
        ({"dog": DOG.astype(str)}, None, "expected bool"),
        ({"dog": np.eye(3)[np.where(DOG, 1, 2)]}, None, r"shape \(4, 6, 3\)"),
        ({"dog": "nowhere.png"}, None, "mask of 'dog' cannot be read from 'nowhere.png'"),
        ({"dog": xr.DataArray(DOG)}, None, "expected pixel_y and pixel_x"),
        ({"dog": DOG}, {"dog": 1}, "leave labels out"),
        (DOG, None, r"truth is a ndarray; expected a mapping.*labels="),
        (DOG.astype(int), {"dog": 4}, r"labels\['dog'\] is 4, but the label map holds only 0, 1"),
        (DOG.astype(int), {"dog": "1"}, "expected a whole number"),
        (DOG.astype(int), {}, "holds no mask"),
        (DOG.astype(float), {"dog": 1}, "label map is float64"),
        (xr.DataArray(BOTH, dims=("concept", "y", "x")), None, "expected concept, pixel_y and pixel_x"),
        (xr.DataArray(BOTH, dims=("concept", "pixel_y", "pixel_x")), None, "as a coordinate"),
    ],
)
def test_wrong_truth_is_refused(truth: Any, labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_truth(truth, WORDS, SIZE, labels=labels)


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "broken.png"
    Image.fromarray(np.zeros((50, 50), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(InputError, match="cannot be read"):
        read_truth({"dog": file}, WORDS, SIZE)
