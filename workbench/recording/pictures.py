"""Reading what users call an image, and bringing it to the model's size."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from workbench.schema import InputError, warn
from workbench.schema.paths import expanded

Pixels = npt.NDArray[np.uint8]

SMALLEST_SIDE: Final = 8
"""An image with a shorter side, in pixels, is refused: it has less than one patch of any model."""
LARGEST_AREA: Final = 64_000_000
"""An image with more pixels is refused: scale it down first, the model sees far fewer."""


def read_image(image: Any) -> Pixels:
    """Read an image as (pixel_y, pixel_x, channel) RGB bytes.

    Parameters
    ----------
    image
        Path of an image file, PIL image, or array or tensor: (pixel_y, pixel_x), (pixel_y, pixel_x, channel) or
        (channel, pixel_y, pixel_x) with 1, 3 or 4 channels; uint8 in 0..255, uint16, or floats in 0..1.

    Returns
    -------
    ndarray (pixel_y, pixel_x, channel) uint8
        Greyscale, palette, CMYK, 16-bit and transparent images are converted, with a :class:`WorkbenchWarning` that
        says so (transparent pixels over white).

    Raises
    ------
    InputError
        If there is no such file, it is empty, truncated or no image, its values are out of range or NaN, or it is
        smaller than :data:`SMALLEST_SIDE` or larger than :data:`LARGEST_AREA`.
    """
    if isinstance(image, str | os.PathLike):
        return _from_file(expanded(image, "the image"))
    if isinstance(image, Image.Image):
        return _from_pil(image, "the image")
    return _from_array(image)


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize to (height, width) in pixels with Lanczos filtering; nothing is cropped."""
    height, width = size
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def image_hash(pixels: Pixels) -> str:
    """SHA-256 of shape and bytes, 20 hexadecimal characters."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return digest.hexdigest()[:20]


def check_size(size: Sequence[int] | None) -> tuple[int, int] | None:
    """Check an explicit size: (height, width), two positive whole numbers, at most :data:`LARGEST_AREA` pixels.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if size is None:
        return None
    whole = (int, np.integer)
    if isinstance(size, str) or not isinstance(size, Sequence) or len(size) != 2:
        raise InputError(f"size is {size!r}; expected (height, width) in pixels, or None for the model's own size.")
    if not all(isinstance(side, whole) and not isinstance(side, bool) and side > 0 for side in size):
        raise InputError(f"size is {tuple(size)}; expected two positive whole numbers of pixels: (height, width).")
    if size[0] * size[1] > LARGEST_AREA:
        raise InputError(
            f"size is {tuple(size)}; expected at most {LARGEST_AREA // 1_000_000} million pixels: give a smaller one."
        )
    return int(size[0]), int(size[1])


def _check_size(height: int, width: int, name: str) -> None:
    if min(height, width) < SMALLEST_SIDE:
        raise InputError(
            f"{name} has {height} x {width} pixels; expected at least {SMALLEST_SIDE} a side: give a larger picture."
        )
    if height * width > LARGEST_AREA:
        raise InputError(
            f"{name} has {height} x {width} pixels; expected at most {LARGEST_AREA // 1_000_000} million: "
            "scale it down first, the model sees about one million at most."
        )


def _from_file(path: Path) -> Pixels:
    if not path.is_file():
        raise InputError(f"there is no image file at {path}: check the path (the working folder is {Path.cwd()}).")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes); expected an image file such as PNG or JPEG.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                return _from_pil(file, str(path))
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(f"{path} is not an image that can be read; expected a file such as PNG or JPEG.") from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} is too large to open ({error}); expected at most {LARGEST_AREA // 1_000_000} million pixels: "
            "scale it down first."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be opened ({error}): check that it is whole and may be read.") from error


def _from_pil(image: Image.Image, name: str) -> Pixels:
    _check_size(image.height, image.width, name)
    # Pillow brings colours of 16 bits to 8 on its own; only the decoder's arguments, gone after loading, tell.
    deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    try:
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{name} cannot be read to its end ({error}): the file may be truncated.") from error
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or upright.mode in ("I", "F"):
        values = np.asarray(upright)
        limit = 1 if upright.mode == "F" else 65535
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > limit:
            raise InputError(
                f"{name} has mode {upright.mode!r} and values from {values.min()} to {values.max()}; "
                f"expected 0 to {limit}: convert it to 8-bit RGB first."
            )
        _say(f"{name} has {'float' if limit == 1 else '16-bit'} grey values: brought to 8-bit RGB.")
        return _grey(np.round(values.astype(np.float64) / limit * 255).astype(np.uint8))
    if deep:
        _say(f"{name} has 16-bit colours: brought to 8 bits.")
    if upright.has_transparency_data:
        _say(f"{name} is transparent (mode {upright.mode!r}): laid over white.")
        layer = upright.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return np.asarray(Image.alpha_composite(ground, layer).convert("RGB"))
    if upright.mode != "RGB":
        _say(f"{name} has mode {upright.mode!r}: converted to RGB.")
    try:
        return np.asarray(upright.convert("RGB"))
    except ValueError as error:
        raise InputError(f"{name} has mode {upright.mode!r} ({error}): convert it to RGB first.") from error


def _from_array(image: Any) -> Pixels:
    if hasattr(image, "detach"):
        tensor = image.detach().cpu()
        image = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
    try:
        values = np.asarray(image)
    except (TypeError, ValueError) as error:
        raise InputError(f"the image is a {type(image).__name__}; expected {_ACCEPTED}.") from error
    if values.dtype.kind not in "uif":
        raise InputError(f"the image is a {type(image).__name__} of {values.dtype}; expected {_ACCEPTED}.")
    if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)) or 0 in values.shape:
        raise InputError(f"the image has shape {np.shape(image)}; expected {_ACCEPTED}.")
    _check_size(values.shape[0], values.shape[1], "the image")
    pixels = _as_bytes(values)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    return _from_pil(Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels), "the image")


_ACCEPTED: Final = (
    "a path, a PIL image, or an array or tensor (pixel_y, pixel_x), (pixel_y, pixel_x, channel) or "
    "(channel, pixel_y, pixel_x) with 1, 3 or 4 channels"
)


def _as_bytes(values: npt.NDArray[Any]) -> Pixels:
    if values.dtype == np.uint8:
        return values
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise InputError(f"the image holds {count} NaN or infinite values; expected floats in 0..1 or bytes.")
    low, high = float(values.min()), float(values.max())
    limit = 1 if values.dtype.kind == "f" else 65535 if values.dtype == np.uint16 else 255
    if low < 0 or high > limit:
        raise InputError(
            f"the image holds {values.dtype} values from {low:g} to {high:g}; expected 0 to {limit}: "
            + ("rescale it (bytes: divide by 255), or give uint8." if limit == 1 else "give uint8.")
        )
    if limit == 65535:
        _say("the image has 16-bit values: brought to 8 bits.")
    return np.round(values.astype(np.float64) * (255 / limit)).astype(np.uint8)


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2)


def _say(text: str) -> None:
    warn(text, stacklevel=2)
