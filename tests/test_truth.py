from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

from workbench.schema import InputError, WorkbenchWarning
from workbench.truth import read_regions, read_truth

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


def test_masks_in_alpha(tmp_path: Path) -> None:
    alpha = DOG.astype(np.uint8) * 255
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    colours = {
        "black": np.zeros((*SIZE, 3), np.uint8),
        "white": np.full((*SIZE, 3), 255, np.uint8),
        "a photograph": noise,
        "the mask itself": np.repeat(alpha[..., None], 3, axis=2),
    }
    for name, colour in colours.items():
        image = Image.fromarray(np.dstack([colour, alpha]))
        image.save(tmp_path / "alpha.png")
        for mask in (image, tmp_path / "alpha.png", np.dstack([colour, alpha])):
            assert np.array_equal(read_truth({"sky": SKY, "dog": mask}, WORDS, SIZE), BOTH), name
    grey = Image.fromarray(colours["black"][..., 0]).convert("LA")
    grey.putalpha(Image.fromarray(alpha))
    assert np.array_equal(read_truth({"sky": SKY, "dog": grey}, WORDS, SIZE), BOTH)


def test_alpha_that_says_nothing() -> None:
    grey = np.repeat(DOG[..., None] * np.uint8(255), 3, axis=2)
    opaque = np.dstack([grey, np.full(SIZE, 255, np.uint8)])
    assert np.array_equal(read_truth({"sky": SKY, "dog": opaque}, WORDS, SIZE), BOTH)
    nothing = Image.new("RGBA", SIZE[::-1], (0, 0, 0, 0))
    assert not read_truth({"sky": SKY, "dog": nothing}, WORDS, SIZE)[0].any()


@pytest.mark.parametrize(
    ("colours", "alpha", "message"),
    [
        (DOG, DOG.T.reshape(SIZE), "two masks, one in its colours and another in its alpha"),
        (DOG, np.zeros(SIZE, bool), "transparent everywhere, over colours that differ"),
        (np.zeros(SIZE), np.arange(24).reshape(SIZE) * 10, "24 values; expected bool.*Threshold it"),
    ],
)
def test_alpha_that_cannot_be_a_mask(colours: Any, alpha: Any, message: str) -> None:
    scale = 255 if colours.dtype == bool else 1
    planes = [np.asarray(colours * scale, np.uint8)] * 3 + [
        np.asarray(alpha * (255 if alpha.max() <= 1 else 1), np.uint8)
    ]
    with pytest.raises(InputError, match=message):
        read_truth({"dog": np.dstack(planes), "sky": SKY}, WORDS, SIZE)
    with pytest.raises(InputError, match=message):
        read_truth({"dog": Image.fromarray(np.dstack(planes)), "sky": SKY}, WORDS, SIZE)


def test_palettes_count_by_colour_and_with_labels_by_number(tmp_path: Path) -> None:
    image = Image.fromarray(np.where(DOG, 7, 3).astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0] * 7 + [255, 255, 255] + [0, 0, 0] * 248)
    image.putdata(np.where(DOG, 7, 3).ravel().tolist())
    image.save(tmp_path / "mask.png")
    for mask in (image, tmp_path / "mask.png"):
        assert np.array_equal(read_truth({"sky": SKY, "dog": mask}, WORDS, SIZE), BOTH)
        assert np.array_equal(read_truth(mask, WORDS, SIZE, labels={"dog": 7, "sky": 3}), BOTH)
    image.putpalette([0, 0, 0] * 3 + [128, 0, 0] + [0, 0, 0] * 3 + [0, 128, 0] + [0, 0, 0] * 248)
    with pytest.raises(InputError, match=r"mask of 'dog' has shape .*one value per pixel"):
        read_truth({"sky": SKY, "dog": image}, WORDS, SIZE)
    inverted = np.where(DOG, 0, 1).astype(np.uint8)  # number 0 is white, number 1 is black
    swapped = Image.fromarray(inverted).convert("P")
    swapped.putpalette([255, 255, 255, 0, 0, 0] + [0, 0, 0] * 254)
    swapped.putdata(inverted.ravel().tolist())
    assert np.array_equal(read_truth({"sky": SKY, "dog": swapped}, WORDS, SIZE), BOTH)


def test_masks_of_other_depths() -> None:
    sixteen = Image.fromarray(DOG.astype(np.uint16) * 65535)
    kinds: list[Any] = [sixteen, np.asarray(sixteen), DOG.astype(np.float32) * (1 - 1e-6), torch.from_numpy(DOG)]
    kinds += [torch.from_numpy(DOG).float().requires_grad_(), torch.from_numpy(DOG).bfloat16()]
    for kind in kinds:
        assert np.array_equal(read_truth({"sky": SKY, "dog": kind}, WORDS, SIZE), BOTH)


def test_label_maps_that_lose_their_numbers(tmp_path: Path) -> None:
    clear = np.dstack([np.ones((*SIZE, 3), np.uint8), DOG.astype(np.uint8) * 255])
    for given in (clear, Image.fromarray(clear)):
        with pytest.raises(InputError, match="the label map is transparent in places"):
            read_truth(given, WORDS, SIZE, labels={"dog": 1})
    from tests.recording.test_pictures import png

    rows = b"".join(b"\0" + bytes([1, 2] * 3 * SIZE[1]) for _ in range(SIZE[0]))
    (tmp_path / "deep.png").write_bytes(png(SIZE[1], SIZE[0], 16, 2, rows))
    with pytest.raises(InputError, match="the label map has colours of 16 bits, of which 8 are read"):
        read_truth(tmp_path / "deep.png", WORDS, SIZE, labels={"dog": 1})


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


LABELS = np.array([[0, 1, 255], [1, 2, 255]])


def test_void_values_of_a_label_map() -> None:
    words, size = ["dog", "sky"], (2, 3)
    found = read_regions(LABELS, words, size, labels={"dog": 1, "sky": [0, 2]}, ignore=255)
    assert found.void is not None
    np.testing.assert_array_equal(found.void, LABELS == 255)
    np.testing.assert_array_equal(found.masks, [LABELS == 1, np.isin(LABELS, (0, 2))])
    assert read_regions(LABELS, words, size, labels={"dog": 1, "sky": 0}, ignore=[7]).void is None, "need not occur"
    twice = read_regions(LABELS, words, (4, 6), labels={"dog": 1, "sky": 0}, ignore=(2, 255), resize=True)
    np.testing.assert_array_equal(twice.void, np.isin(LABELS, (2, 255)).repeat(2, 0).repeat(2, 1))


def test_a_usual_void_value_is_not_passed_over_in_silence() -> None:
    with pytest.warns(UserWarning, match="holds 255, which often marks void pixels.* pass ignore=255"):
        read_truth(LABELS, ["dog", "sky"], (2, 3), labels={"dog": 1, "sky": 0})


@pytest.mark.parametrize(
    ("truth", "options", "message"),
    [
        (LABELS, {"labels": {"dog": 1, "sky": 0}, "ignore": 1}, "1 is in ignore and in labels"),
        (LABELS, {"labels": {"dog": 1, "sky": 0}, "ignore": 0.5}, "ignore is 0.5; expected a whole number"),
        ({"dog": LABELS == 1, "sky": LABELS == 0}, {"ignore": 255}, "ignore is 255, a value of a label map, but"),
        ({"dog": LABELS == 1, "sky": LABELS == 0}, {"ignore": "void"}, "truth holds 'dog', 'sky'"),
        ({"dog": LABELS == 1, "sky": LABELS == 0}, {"ignore": "sky"}, "'sky', which is one of the concepts"),
        ({"dog": LABELS == 1, "sky": LABELS == 0, "v": LABELS >= 0}, {"ignore": "v"}, "every pixel is void"),
    ],
)
def test_void_pixels_that_cannot_be(truth: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_truth(truth, ["dog", "sky"], (2, 3), **options)
