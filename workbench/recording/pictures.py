"""Reading what users call an image, and bringing it to the model's size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from workbench.images import LARGEST_AREA, Decoded, check_area, decode, to_array
from workbench.schema import InputError, warn

Pixels = npt.NDArray[np.uint8]

SMALLEST_SIDE: Final = 8
"""An image with a shorter side, in pixels, is refused: it has less than one patch of any model."""
MOST_STRETCH: Final = 1.1
"""By how much rounding to whole patches may change an aspect ratio before that is told."""


def read_image(image: Any) -> Pixels:
    """Read an image as (pixel_y, pixel_x, channel) RGB bytes.

    Parameters
    ----------
    image
        Path of an image file, file opened in binary mode, PIL image, or array or tensor: (pixel_y, pixel_x), (pixel_y,
        pixel_x, channel) or (channel, pixel_y, pixel_x) with 1, 3 or 4 channels; uint8 in 0..255, uint16, or floats in
        0..1 (clipped where they are a rounding error beyond).

    Returns
    -------
    ndarray (pixel_y, pixel_x, channel) uint8
        A copy, turned as the metadata says. Greyscale, palette, CMYK, 16-bit and transparent images are converted, with
        a :class:`WorkbenchWarning` that says so (transparent pixels over white).

    Raises
    ------
    InputError
        If there is no such file, it is empty, truncated or no image, its values are out of range or NaN, or it is
        smaller than :data:`SMALLEST_SIDE` or larger than :data:`LARGEST_AREA`.
    """
    decoded = decode(image, "the image")
    return _from_array(image) if decoded is None else _from_decoded(decoded)


def resize(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Resize to (height, width) in pixels with Lanczos filtering; nothing is cropped."""
    height, width = size
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def warn_of_stretch(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    """Warn where whole patches cannot keep the aspect ratio of an image, (height, width, …) in pixels."""
    stretch = (size[1] / size[0]) / (shape[1] / shape[0])
    if max(stretch, 1 / stretch) > MOST_STRETCH:
        times, longer = (stretch, "wide") if stretch > 1 else (1 / stretch, "tall")
        warn(
            f"the image of {shape[0]} x {shape[1]} pixels (height x width) is brought to {size[0]} x {size[1]}, whole "
            f"patches of the model, {times:.2g} times as {longer} for its other side: crop it, or "
            "choose the size with size=.",
            stacklevel=3,
        )


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
    check_area(height, width, name)


def _from_decoded(decoded: Decoded) -> Pixels:
    image, name = decoded.image, decoded.name
    _check_size(image.height, image.width, name)
    numbers = decoded.numbers()
    if numbers is not None:
        return _from_numbers(numbers, image, name)
    colours, alpha = decoded.colours()
    if decoded.deep:
        _say(f"{name} has 16-bit colours: brought to 8 bits.")
    if alpha is not None:
        _say(f"{name} is transparent (mode {image.mode!r}): laid over white.")
        ground = Image.new("RGBA", image.size, "white")
        return np.array(Image.alpha_composite(ground, Image.fromarray(np.dstack([colours, alpha]))).convert("RGB"))
    if image.mode != "RGB":
        _say(f"{name} has mode {image.mode!r}: converted to RGB.")
    return colours


def _from_numbers(numbers: npt.NDArray[Any], image: Image.Image, name: str) -> Pixels:
    """Grey values of more than 8 bits."""
    if image.mode == "F":
        limit, least = 1, 0.5 / 255
    else:
        # Whole numbers of 32 bits hold what was put into them: bytes, or 16 bits.
        limit, least = 255 if image.mode == "I" and 0 <= numbers.min() <= numbers.max() <= 255 else 65535, 0.0
    if not np.isfinite(numbers).all() or numbers.min() < -least or numbers.max() > limit + least:
        raise InputError(
            f"{name} has mode {image.mode!r} and values from {numbers.min()} to {numbers.max()}; "
            f"expected 0 to {limit}: convert it to 8-bit RGB first."
        )
    kind = {1: "float", 255: "32-bit (0 to 255)", 65535: "16-bit"}[limit]
    grey = np.round(np.clip(numbers.astype(np.float64) / limit, 0, 1) * 255).astype(np.uint8)
    if (clear := image.info.get("transparency")) is not None:
        _say(f"{name} is transparent (mode {image.mode!r}): laid over white.")
        grey[numbers == clear] = 255
    _say(f"{name} has {kind} grey values: brought to 8-bit RGB.")
    return np.repeat(grey[..., None], 3, axis=2)


def _from_array(image: Any) -> Pixels:
    _check_shape(image)
    tolerance = _rounding_error(image)
    values = to_array(image, "the image", _ACCEPTED)
    if values.dtype.kind not in "uif":
        of = "" if values.dtype == object else f" of {values.dtype}"
        raise InputError(f"the image is a {type(image).__name__}{of}; expected {_ACCEPTED}.")
    shape = values.shape
    if values.ndim == 3 and values.shape[0] in (1, 3, 4) and values.shape[2] not in (1, 3, 4):
        values = np.moveaxis(values, 0, 2)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] not in (1, 3, 4)) or 0 in values.shape:
        raise InputError(f"the image has shape {shape}; expected {_ACCEPTED}.")
    _check_size(values.shape[0], values.shape[1], "the image")
    pixels = _as_bytes(values, tolerance)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels
    grey = Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)
    return _from_decoded(Decoded(grey, "the image", deep=False))


def _check_shape(image: Any) -> None:
    """Refuse an array too large to copy."""
    shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        shape = shape[1:]
    if len(shape) >= 2:
        check_area(shape[0], shape[1], "the image")


def _rounding_error(image: Any) -> float:
    """How far floats may be beyond 0..1 for the rounding of what made them: half a byte, or more in half precision."""
    dtype = str(getattr(image, "dtype", ""))
    return 2**-7 if "bfloat16" in dtype else 0.5 / 255


_ACCEPTED: Final = (
    "a path, a PIL image, or an array or tensor (pixel_y, pixel_x), (pixel_y, pixel_x, channel) or "
    "(channel, pixel_y, pixel_x) with 1, 3 or 4 channels (or a file opened with 'rb')"
)


def _as_bytes(values: npt.NDArray[Any], tolerance: float) -> Pixels:
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise InputError(f"the image holds {count} NaN or infinite values; expected floats in 0..1 or bytes.")
    low, high = float(values.min()), float(values.max())
    limit = 1 if values.dtype.kind == "f" else 65535 if values.dtype == np.uint16 else 255
    beyond = tolerance if limit == 1 else 0
    if low < -beyond or high > limit + beyond:
        raise InputError(
            f"the image holds {values.dtype} values from {low:g} to {high:g}; expected 0 to {limit}: "
            + ("rescale it (bytes: divide by 255), or give uint8." if limit == 1 else "give uint8.")
        )
    if limit == 65535:
        _say("the image has 16-bit values: brought to 8 bits.")
    return np.round(np.clip(values.astype(np.float64) / limit, 0, 1) * 255).astype(np.uint8)


def _say(text: str) -> None:
    warn(text, stacklevel=2)
