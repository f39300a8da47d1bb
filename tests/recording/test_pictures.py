"""Every kind of image a user may hand over: read alike, converted with a warning, or refused."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from PIL import Image

from workbench.recording.pictures import check_size, image_hash, read_image, resize, warn_of_stretch
from workbench.schema import InputError, WorkbenchWarning

Array = npt.NDArray[Any]


@pytest.fixture
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)


def png(width: int, height: int, depth: int, colour: int, rows: bytes = b"") -> bytes:
    """A PNG by hand; without rows it ends after its header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# --- accepted as they are ---------------------------------------------------------------------------------------
def test_the_same_picture_in_every_form(pixels: Array, tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    Image.fromarray(pixels).save(file)
    tensor = torch.from_numpy(pixels)
    forms: dict[str, Any] = {
        "path": file,
        "string": str(file),
        "PIL": Image.fromarray(pixels),
        "array": pixels,
        "list": pixels.tolist(),
        "int64": pixels.astype(np.int64),
        "float64": pixels / 255,
        "float16": (pixels / 255).astype(np.float16),
        "channel first": np.moveaxis(pixels, 2, 0),
        "not contiguous": np.asfortranarray(pixels),
        "tensor": tensor,
        "tensor, channel first": tensor.permute(2, 0, 1),
        "tensor with a graph": (tensor / 255).requires_grad_(),
        "DataArray": xr.DataArray(pixels, dims=("pixel_y", "pixel_x", "channel")),
    }
    with Image.open(file) as lazy:
        np.testing.assert_array_equal(read_image(lazy), pixels)
    for name, form in forms.items():
        read = read_image(form)
        assert read.dtype == np.uint8, name
        np.testing.assert_array_equal(read, pixels, err_msg=name)


def test_bfloat16_tensor(pixels: Array) -> None:
    rounded = (torch.from_numpy(pixels) / 255).bfloat16()
    read = read_image(rounded.permute(2, 0, 1))
    np.testing.assert_array_equal(read, (rounded.float() * 255).round().byte().numpy())


def test_home_folder_in_a_path(pixels: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    np.testing.assert_array_equal(read_image("~/picture.png"), pixels)


def test_rotation_of_a_camera_is_applied(tmp_path: Path) -> None:
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8] = 255
    stored = Image.fromarray(np.rot90(upright).copy())  # the camera was held sideways
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "photo.jpg", exif=exif, quality=95)
    read = read_image(tmp_path / "photo.jpg")
    assert read.shape == (16, 24, 3)
    assert read[:7].min() > 200
    assert read[9:].max() < 55


# --- converted, with a warning ----------------------------------------------------------------------------------
def test_modes_that_are_converted(pixels: Array, tmp_path: Path) -> None:
    picture = Image.fromarray(pixels)
    for mode, suffix in {"L": "png", "1": "png", "P": "png", "CMYK": "jpg", "YCbCr": "jpg", "HSV": None}.items():
        converted = picture.convert(mode)
        if suffix and mode != "YCbCr":  # a JPEG of YCbCr is read as RGB
            converted.save(tmp_path / f"{mode}.{suffix}")
            with pytest.warns(WorkbenchWarning, match=rf"{mode}\.{suffix} has mode '{mode}': converted to RGB"):
                read = read_image(tmp_path / f"{mode}.{suffix}")
            assert read.shape == (10, 12, 3)
        with pytest.warns(WorkbenchWarning, match=f"the image has mode '{mode}': converted to RGB"):
            read = read_image(converted)
        np.testing.assert_array_equal(read, np.asarray(converted.convert("RGB")))


def test_transparent_pixels_lie_over_white(pixels: Array, tmp_path: Path) -> None:
    alpha = np.zeros((10, 12), dtype=np.uint8)
    alpha[:, 6:] = 255
    rgba = np.dstack([pixels, alpha])
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    for form in (tmp_path / "alpha.png", Image.fromarray(rgba), rgba, np.moveaxis(rgba, 2, 0)):
        with pytest.warns(WorkbenchWarning, match=r"is transparent \(mode 'RGBA'\): laid over white"):
            read = read_image(form)
        assert (read[:, :6] == 255).all()
        np.testing.assert_array_equal(read[:, 6:], pixels[:, 6:])


@pytest.mark.parametrize("mode", ["P", "RGB", "LA"])
def test_other_kinds_of_transparency(pixels: Array, tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(np.zeros((10, 12, 3), dtype=np.uint8)).convert(mode)
    options: dict[str, Any] = {"P": {"transparency": 0}, "RGB": {"transparency": (0, 0, 0)}, "LA": {}}[mode]
    if mode == "LA":
        picture.putalpha(0)
    picture.save(tmp_path / "clear.png", **options)
    with pytest.warns(WorkbenchWarning, match=rf"clear.png is transparent \(mode '{mode}'\)"):
        assert (read_image(tmp_path / "clear.png") == 255).all()


def test_sixteen_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 120).round().astype(np.uint16).reshape(10, 12)
    expected = np.repeat(np.round(values / 257)[..., None], 3, axis=2)
    Image.fromarray(values).save(tmp_path / "deep.png")
    for form in (tmp_path / "deep.png", Image.fromarray(values), Image.fromarray(values.astype(np.int32))):
        with pytest.warns(WorkbenchWarning, match="16-bit grey values: brought to 8-bit RGB"):
            np.testing.assert_array_equal(read_image(form), expected)
    with pytest.warns(WorkbenchWarning) as caught:
        np.testing.assert_array_equal(read_image(values), expected)
    assert "the image has 16-bit values: brought to 8 bits." in [str(warning.message) for warning in caught]


def test_sixteen_bit_colours(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes([200, 1, 100, 2, 50, 3] * 12) for _ in range(10))
    (tmp_path / "deep.png").write_bytes(png(12, 10, 16, 2, rows))
    with pytest.warns(WorkbenchWarning, match=r"deep.png has 16-bit colours: brought to 8 bits"):
        read = read_image(tmp_path / "deep.png")
    assert (read == (200, 100, 50)).all()


def test_float_picture() -> None:
    grey = np.linspace(0, 1, 120, dtype=np.float32).reshape(10, 12)
    with pytest.warns(WorkbenchWarning, match="float grey values: brought to 8-bit RGB"):
        read = read_image(Image.fromarray(grey))
    np.testing.assert_array_equal(read[..., 1], np.round(grey * 255))
    with pytest.raises(InputError, match=r"mode 'F' and values from 0.0 to 2.0; expected 0 to 1: convert it"):
        read_image(Image.fromarray(grey * 2))
    with pytest.raises(InputError, match="mode 'I' and values from -5 to -5; expected 0 to 65535"):
        read_image(Image.fromarray(np.full((10, 12), -5, dtype=np.int32)))


def test_grey_arrays(pixels: Array) -> None:
    grey = pixels[..., 0]
    for form in (grey, grey[..., None], grey[None], grey.astype(np.int64), torch.from_numpy(grey)[None]):
        with pytest.warns(WorkbenchWarning, match="the image has mode 'L': converted to RGB"):
            np.testing.assert_array_equal(read_image(form), np.dstack([grey] * 3))


# --- refused ----------------------------------------------------------------------------------------------------
def refused(image: Any, *parts: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as error:
            read_image(image)
    for part in parts:
        assert part in str(error.value)


def test_files_that_are_no_image(tmp_path: Path) -> None:
    refused(tmp_path / "absent.png", f"there is no image file at {tmp_path / 'absent.png'}", str(Path.cwd()))
    refused(tmp_path, f"the image, {tmp_path}, is a folder; expected one image file", "workbench.capture_many")
    refused("", "there is no image file at .")
    (tmp_path / "empty.png").write_bytes(b"")
    refused(tmp_path / "empty.png", "empty.png is empty (0 bytes); expected an image file")
    (tmp_path / "notes.png").write_text("not a picture")
    refused(tmp_path / "notes.png", "notes.png is not an image that can be read; expected a file such as PNG or JPEG")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "bmp"])
def test_truncated_files(suffix: str, tmp_path: Path) -> None:
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).convert("P" if suffix == "gif" else "RGB").save(whole, pillow_format(suffix))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    refused(path, f"cut.{suffix}", "cannot be")
    if suffix != "tif":  # whose directory lies at the end: it cannot even be opened
        with Image.open(path) as lazy:
            refused(lazy, "the image cannot be read to its end", "may be truncated")


def pillow_format(suffix: str) -> str:
    return {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper())


def test_sizes_that_are_refused(tmp_path: Path) -> None:
    expected = "expected at least 8 a side"
    refused(np.zeros((1, 1, 3), dtype=np.uint8), "the image has 1 x 1 pixels", expected)
    refused(np.zeros((1, 1), dtype=np.uint8), "the image has 1 x 1 pixels", expected)
    refused(np.zeros((1, 20, 1), dtype=np.uint8), "the image has 1 x 20 pixels", expected)
    refused(Image.new("RGB", (100, 7)), "the image has 7 x 100 pixels", expected)
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    refused(tmp_path / "dot.png", "dot.png has 1 x 1 pixels", expected)


def test_enormous_pictures_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    for side in (9_000, 12_000, 50_000):  # Pillow is silent, warns, and refuses
        path = tmp_path / f"{side}.png"
        path.write_bytes(png(side, side, 8, 2))
        refused(path, str(path), "million", "scale it down first")
    with Image.open(tmp_path / "9000.png") as lazy:
        refused(lazy, "the image has 9000 x 9000 pixels; expected at most 64 million")
    refused(np.broadcast_to(np.float32(0.5), (50_000, 50_000, 3)), "the image has 50000 x 50000 pixels")


def test_values_that_are_refused(pixels: Array) -> None:
    scaled = pixels / 255
    scaled[0, 0] = np.nan
    refused(scaled, "holds 3 NaN or infinite values; expected floats in 0..1 or bytes")
    scaled[0, 0] = np.inf
    refused(torch.from_numpy(scaled), "holds 3 NaN or infinite values")
    refused(pixels.astype(np.float32) + 1, "float32 values from", "expected 0 to 1", "divide by 255")
    refused(pixels / 255 - 1, "float64 values from", "expected 0 to 1")
    refused(pixels.astype(np.int32) * 2, "int32 values from", "expected 0 to 255: give uint8")
    refused(pixels.astype(np.int32) - 255, "expected 0 to 255: give uint8")


@pytest.mark.parametrize(
    ("shape", "named"),
    [((12,), "(12,)"), ((1, 10, 12, 3), "(1, 10, 12, 3)"), ((10, 12, 2), "(10, 12, 2)"), ((0, 12, 3), "(0, 12, 3)")],
)
def test_shapes_that_are_refused(shape: tuple[int, ...], named: str) -> None:
    refused(np.zeros(shape, np.uint8), f"the image has shape {named}; expected a path, a PIL image, or an array")


@pytest.mark.parametrize("image", [None, b"bytes", {"image": 1}, [[1, 2], [3]], object(), 1j, np.zeros((9, 9), bool)])
def test_things_that_are_no_image(image: Any) -> None:
    refused(image, f"the image is a {type(image).__name__}", "expected a path, a PIL image, or an array or tensor")


# --- sizes ------------------------------------------------------------------------------------------------------
def test_explicit_size() -> None:
    assert check_size(None) is None
    assert check_size((24, 32)) == (24, 32)
    assert check_size([np.int64(24), 32]) == (24, 32)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (512, r"size is 512; expected \(height, width\) in pixels"),
        ("ab", r"size is 'ab'; expected \(height, width\)"),
        ((24,), r"size is \(24,\); expected \(height, width\)"),
        ((24, 32, 3), r"size is \(24, 32, 3\); expected \(height, width\)"),
        ((24, -32), r"size is \(24, -32\); expected two positive whole numbers"),
        ((0, 32), r"size is \(0, 32\); expected two positive whole numbers"),
        ((24.0, 32), r"size is \(24.0, 32\); expected two positive whole numbers"),
        ((True, 32), "expected two positive whole numbers"),
        ((10**6, 10**6), r"size is \(1000000, 1000000\); expected at most 64 million pixels"),
    ],
)
def test_refused_sizes(size: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_size(size)


def test_resizing(pixels: Array) -> None:
    assert resize(pixels, (10, 12)) is pixels
    assert resize(pixels, (20, 8)).shape == (20, 8, 3)
    flat = np.full((10, 12, 3), (10, 200, 77), dtype=np.uint8)
    assert (resize(flat, (31, 17)) == (10, 200, 77)).all()


@pytest.mark.parametrize(("shape", "size"), [((20, 1000), (8, 1288)), ((1000, 20), (1288, 8))])
def test_an_aspect_ratio_that_patches_cannot_keep_is_told(shape: tuple[int, int], size: tuple[int, int]) -> None:
    longer = "wide" if shape[1] > shape[0] else "tall"
    message = rf"{shape[0]} x {shape[1]} .* is brought to {size[0]} x {size[1]}, .*, [\d.]+ times as {longer} for"
    with pytest.warns(WorkbenchWarning, match=message):
        warn_of_stretch((*shape, 3), size)
    warn_of_stretch((30, 40, 3), (96, 128))


def test_hash_depends_on_shape_and_values(pixels: Array) -> None:
    changed = pixels.copy()
    changed[-1, -1, -1] ^= 1
    hashes = {image_hash(picture) for picture in (pixels, pixels.reshape(12, 10, 3), changed)}
    assert len(hashes) == 3
    assert image_hash(np.asfortranarray(pixels)) == image_hash(pixels)
