"""Decoding of image files: upright, every mode, from every kind of source, which stays as it was."""

from __future__ import annotations

import gc
import io
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.tiny_random import flux_pipeline
from workbench.images import Decoded, decode, to_array
from workbench.recording.capturing import capture
from workbench.recording.pictures import read_image
from workbench.schema import InputError, WorkbenchWarning
from workbench.truth import read_truth

Array = npt.NDArray[Any]
ORIENTATION = 0x0112
TURNS = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}
"""How a camera that notes an orientation has stored an upright image (the inverse of what a viewer does)."""


@pytest.fixture
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)


def saved(stored: Array, orientation: int = 1, kind: str = "PNG", **options: Any) -> io.BytesIO:
    """A file of an array with a note of its orientation."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, kind, exif=exif, **options)
    return file


def decoded(source: Any) -> Decoded:
    found = decode(source, "the image")
    assert found is not None
    return found


# --- turned -----------------------------------------------------------------------------------------------------
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    orientation=st.sampled_from(sorted(TURNS)),
    height=st.integers(8, 12),
    width=st.integers(8, 12),
    kind=st.sampled_from(["PNG", "TIFF", "WEBP"]),
    seed=st.integers(0, 99),
)
def test_images_and_masks_are_turned_alike(orientation: int, height: int, width: int, kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = rng.random((height, width)) < 0.5
    stored = TURNS[orientation](image)
    grey = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    np.testing.assert_array_equal(read_image(saved(stored, orientation, kind, **options)), image)
    held = {"dog": saved(TURNS[orientation](grey), orientation, kind, **options)}
    np.testing.assert_array_equal(read_truth(held, ["dog"], (height, width)), mask[None])


@pytest.mark.parametrize("orientation", sorted(TURNS))
def test_every_depth_is_turned(orientation: int) -> None:
    deep = np.arange(120, dtype=np.uint16).reshape(10, 12) * 500
    np.testing.assert_array_equal(decoded(saved(TURNS[orientation](deep), orientation)).numbers(), deep)
    labels = np.arange(120, dtype=np.uint8).reshape(10, 12)
    palette = Image.fromarray(np.ascontiguousarray(TURNS[orientation](labels))).convert("P")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = io.BytesIO()
    palette.save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(decoded(file).indices(), labels)


def test_damaged_metadata_is_warned_about(pixels: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageOps.exif_transpose", lambda image: (_ for _ in ()).throw(KeyError("offset")))
    with pytest.warns(WorkbenchWarning, match="the image has metadata that cannot be read .* taken to be upright"):
        np.testing.assert_array_equal(read_image(saved(pixels)), pixels)


# --- sources that stay as they were -----------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 7, None])
def test_open_files_are_left_as_they_were(pixels: Array, tmp_path: Path, at: int | None) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(saved(pixels).getvalue())
    with path.open("rb") as file, path.open("rb", buffering=0) as raw:
        for opened in (file, raw, io.BytesIO(path.read_bytes())):
            position = opened.seek(0, io.SEEK_END) if at is None else opened.seek(at)
            np.testing.assert_array_equal(read_image(opened), pixels)
            gc.collect()
            assert not opened.closed
            assert opened.tell() == position
            opened.seek(0)
            assert opened.read() == path.read_bytes()


def test_a_stream_that_cannot_be_rewound(pixels: Array) -> None:
    class Pipe(io.RawIOBase):
        rest = saved(pixels).getvalue()

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
            buffer[: len(part)] = part
            return len(part)

    np.testing.assert_array_equal(read_image(Pipe()), pixels)
    np.testing.assert_array_equal(read_image(SimpleNamespace(read=saved(pixels).getvalue)), pixels)


def test_files_that_cannot_be_read(pixels: Array, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("words")
    with (
        (tmp_path / "text.txt").open() as text,
        pytest.raises(InputError, match="of str; expected bytes: open it with"),
    ):
        read_image(text)
    closed = saved(pixels)
    closed.close()
    with pytest.raises(InputError, match=r"is a BytesIO that cannot be read \(.*closed.*\): open it with open"):
        read_image(closed)
    with pytest.raises(InputError, match="the image is an open file of 0 bytes"):
        read_image(io.BytesIO())
    with pytest.raises(InputError, match="the image is not an image that can be read"):
        read_image(io.BytesIO(b"words"))
    with pytest.raises(InputError, match="the mask of 'dog' is not an image"):
        read_truth({"dog": io.BytesIO(b"words")}, ["dog"], (10, 12))


def test_a_pil_image_stays_as_it_was(pixels: Array) -> None:
    image = Image.open(saved(pixels, 6))
    read_image(image)
    assert image.getexif()[ORIENTATION] == 6
    np.testing.assert_array_equal(np.asarray(image), pixels)


def test_what_was_given_is_copied(pixels: Array) -> None:
    for source in (pixels.copy(), torch.from_numpy(pixels.copy()), Image.fromarray(pixels)):
        read = read_image(source)
        if isinstance(source, Image.Image):
            source.paste(0, (0, 0, *source.size))
        else:
            source[:] = 0
        np.testing.assert_array_equal(read, pixels)
        read[:] = 1  # and may be written to
    mask = pixels[..., 0] > 100
    given_mask = mask.copy()
    truth = read_truth({"dog": given_mask}, ["dog"], (10, 12))
    given_mask[:] = False
    np.testing.assert_array_equal(truth[0], mask)


# --- paths ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "address", ["https://example.org/dog.png", "S3://bucket/dog.png", "data:image/png;base64,AAAA"]
)
def test_addresses(address: str) -> None:
    with pytest.raises(InputError, match=r"the image is the address .*: download it first, and give the file's path"):
        read_image(address)
    with pytest.raises(InputError, match=r"the mask of 'dog' .*download it first"):
        read_truth({"dog": address}, ["dog"], (10, 12))


@pytest.mark.parametrize("path", ["x" * 5000, "~nobody-of-that-name/dog.png", "dog\0.png", Path("y" * 5000)])
def test_odd_paths(path: Any) -> None:
    for read in (lambda: read_image(path), lambda: read_truth({"dog": path}, ["dog"], (10, 12))):
        with pytest.raises(
            InputError, match=r"there is no image file|cannot be opened|no user of that|a null ch"
        ) as error:
            read()
        assert len(str(error.value)) < 700


def test_bombs_need_no_state_of_the_process(pixels: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70)
    filters = list(warnings.filters)
    file = saved(pixels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monkeypatch.setattr(warnings, "catch_warnings", lambda: pytest.fail("filters are shared by all threads"))
        with pytest.raises(InputError, match=r"is too large to open .* expected at most 64 million: scale it down"):
            read_image(file)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
        with pytest.raises(InputError, match=r"is too large to open .* expected at most 64 million: scale it down"):
            read_image(file)
        monkeypatch.undo()
    assert warnings.filters == filters


# --- modes ------------------------------------------------------------------------------------------------------
def test_premultiplied_alpha(pixels: Array) -> None:
    grey = Image.fromarray(pixels[..., 0])
    clear = grey.convert("LA")
    clear.putalpha(Image.fromarray(np.where(pixels[..., 1] > 99, 255, 0).astype(np.uint8)))
    with pytest.warns(WorkbenchWarning, match="mode 'La'"):
        read = read_image(clear.convert("La"))
    with pytest.warns(WorkbenchWarning, match="mode 'LA'"):
        np.testing.assert_array_equal(read, read_image(clear))


@pytest.mark.parametrize("mode", sorted(set(Image.MODES) - {"RGB"}))
def test_every_mode_is_converted_and_said(mode: str) -> None:
    with pytest.warns(WorkbenchWarning, match="the image (has|is)"):
        read = read_image(Image.new(mode, (12, 10)))
    assert (read.shape, read.dtype) == ((10, 12, 3), np.uint8)


def test_a_mode_without_a_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(image: Image.Image, mode: str) -> None:
        raise ValueError(f"conversion from {image.mode} to {mode} not supported")

    monkeypatch.setattr(Image.Image, "convert", unknown)  # of a Pillow that cannot yet
    with pytest.raises(InputError, match=r"the image has mode 'LAB' \(conversion.*\): convert it to RGB first"):
        read_image(Image.new("LAB", (12, 10)))


def test_numbers_of_palettes(pixels: Array) -> None:
    palette = Image.fromarray(pixels[..., 0]).convert("P")
    for image in (palette, palette.convert("PA")):
        np.testing.assert_array_equal(decoded(image).indices(), np.asarray(palette))
    assert decoded(palette.convert("RGB")).indices() is None


def test_whole_numbers_of_32_bits(pixels: Array) -> None:
    grey = pixels[..., 0]
    with pytest.warns(WorkbenchWarning, match=r"32-bit \(0 to 255\) grey values"):
        np.testing.assert_array_equal(read_image(Image.fromarray(grey.astype(np.int32)))[..., 0], grey)
    with pytest.warns(WorkbenchWarning, match="16-bit grey values"):
        np.testing.assert_array_equal(read_image(Image.fromarray(grey.astype(np.int32) * 257))[..., 0], grey)


def test_transparency_of_sixteen_bits() -> None:
    values = np.full((10, 12), 257, dtype=np.uint16)
    values[:, 6:] = 4660
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG", transparency=4660)
    with pytest.warns(WorkbenchWarning) as caught:
        read = read_image(file)
    assert "is transparent" in str(caught[0].message)
    assert (read[:, 6:] == 255).all()
    assert (read[:, :6] == 1).all()


def test_moving_images_are_warned_about(pixels: Array) -> None:
    file = io.BytesIO()
    frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    with pytest.warns(WorkbenchWarning, match="the image holds 2 frames, of which frame 1 is read"):
        np.testing.assert_array_equal(read_image(file), pixels)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(over=st.floats(0, 0.0019), dtype=st.sampled_from(["float16", "float32", "float64"]))
def test_rounding_errors_of_floats_are_clipped(over: float, dtype: str) -> None:
    values = np.zeros((10, 12, 3), dtype)
    values[0, 0], values[1, 1] = 1 + over, -over
    read = read_image(values)
    assert (read[0, 0] == 255).all()
    assert not read[1:].any()
    with pytest.warns(WorkbenchWarning, match="float grey"):
        assert read_image(Image.fromarray(values[..., 0].astype(np.float32)))[0, 0, 0] == 255


@settings(max_examples=30, deadline=None, derandomize=True)
@given(over=st.floats(0.003, 300), below=st.booleans())
def test_floats_clearly_outside_are_refused(over: float, below: bool) -> None:
    values = np.zeros((10, 12, 3))
    values[0, 0] = -over if below else 1 + over
    with pytest.raises(InputError, match="expected 0 to 1: rescale it"):
        read_image(values)


def test_rounding_of_half_precision() -> None:
    over = torch.full((3, 10, 12), 1.0, dtype=torch.bfloat16)
    over[0, 0, 0] = 1.0078125  # the next number above 1
    assert (read_image(over) == 255).all()


def test_tensors_without_values() -> None:
    with pytest.raises(InputError, match=r"the image is a Tensor without values that can be read .*; expected a path"):
        read_image(torch.zeros(10, 12, 3, device="meta"))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sampled_from(["uint8", "int64", "float32", "bool"]))
def test_arrays_of_their_own(dtype: str) -> None:
    given_array = np.ones((3, 4), dtype)
    for source in (given_array, torch.from_numpy(given_array), given_array.tolist()):
        array = to_array(source, "it", "an array")
        np.testing.assert_array_equal(array, given_array)
        assert not np.shares_memory(array, given_array)


# --- where users meet them --------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def options() -> dict[str, Any]:
    return {"model": flux_pipeline(), "store": False, "size": (24, 32), "layers": 0, "progress": False}


def test_a_capture_of_a_turned_image_with_turned_masks(options: dict[str, Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image, mask = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8), rng.random((24, 32)) < 0.5
    upright = capture(image, ["dog", "sky"], truth={"dog": mask, "sky": ~mask}, **options)
    for name, stored in {"image": image, "dog": mask * np.uint8(255), "sky": ~mask * np.uint8(255)}.items():
        (tmp_path / f"{name}.png").write_bytes(saved(TURNS[3](stored), 3).getvalue())
    masks: Any = {name: tmp_path / f"{name}.png" for name in ("dog", "sky")}
    turned = capture(tmp_path / "image.png", ["dog", "sky"], truth=masks, **options)
    xr.testing.assert_equal(turned, upright)
    assert turned.wb.score(layers=0)["iou"].equals(upright.wb.score(layers=0)["iou"])


def test_a_dataset_does_not_share_what_was_given(options: dict[str, Any]) -> None:
    image, mask = np.full((24, 32, 3), 200, dtype=np.uint8), np.ones((24, 32), dtype=bool)
    ds = capture(image, ["dog"], truth={"dog": mask}, **options)
    image[:], mask[:] = 0, False
    assert (ds["image"] == 200).all()
    assert ds["truth"].all()
