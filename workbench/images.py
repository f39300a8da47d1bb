"""Images and masks as users give them, decoded the same way for both: upright, with colours and alpha, as a copy.

Files, open files and PIL images come out as :class:`Decoded`; arrays and tensors as arrays of their own. What the
caller gave stays as it was: not closed, not moved, and never shared.
"""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from workbench.schema import InputError, warn
from workbench.schema.paths import expanded

LARGEST_AREA: Final = 64_000_000
"""An image with more pixels is refused: scale it down first, the model sees far fewer."""

IMAGE_SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""What the names of the files end in that are taken from a folder of images."""

_ADDRESS: Final = re.compile(r"(?i)(?:[a-z][a-z0-9+.-]+://|data:)")
_FRAMED: Final = ("GIF", "PNG", "TIFF", "WEBP")
"""Formats whose further frames are images of their own; phones put a small copy beside a photograph (MPO)."""


@dataclass(frozen=True)
class Decoded:
    """An image file or PIL image, decoded and turned as its metadata says.

    Attributes
    ----------
    image : PIL.Image.Image
        A copy, upright, in the mode it was given in.
    name : str
        What messages call it.
    deep : bool
        Whether the decoder brought colours of 16 bits to 8.
    """

    image: Image.Image
    name: str
    deep: bool

    def numbers(self) -> npt.NDArray[Any] | None:
        """Values (pixel_y, pixel_x) of more than 8 bits (modes I, I;16 and F); None for every other mode."""
        if self.image.mode in ("I", "F") or self.image.mode.startswith("I;16"):
            return np.array(self.image)
        return None

    def indices(self) -> npt.NDArray[np.uint8] | None:
        """Numbers (pixel_y, pixel_x) of a palette's colours; None for an image without a palette."""
        if self.image.mode == "PA":
            return np.array(self.image)[..., 0]
        return np.array(self.image) if self.image.mode == "P" else None

    def colours(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
        """Colours (pixel_y, pixel_x, channel) in RGB, and alpha (pixel_y, pixel_x); None where all is opaque.

        Raises
        ------
        InputError
            If the mode has no conversion to RGB.
        """
        image = self.image
        try:
            if image.mode == "La":  # premultiplied, which converts to nothing but this
                image = image.convert("LA")
            if image.has_transparency_data:
                values = np.array(image.convert("RGBA"))
                return values[..., :3], values[..., 3]
            return np.array(image.convert("RGB")), None
        except ValueError as error:
            raise InputError(f"{self.name} has mode {image.mode!r} ({error}): convert it to RGB first.") from error


def decode(source: Any, what: str) -> Decoded | None:
    """Decode an image file, an open file or a PIL image.

    Parameters
    ----------
    source
        Path, file object opened in binary mode, or PIL image. A file is read from its start and left at the position
        it had.
    what
        What messages call it where it has no path, such as ``"the image"``.

    Returns
    -------
    Decoded or None
        None for anything else, such as an array.

    Raises
    ------
    InputError
        If there is no such file, it is an address, empty, truncated, no image or larger than :data:`LARGEST_AREA`.
    """
    if isinstance(source, Image.Image):
        return _upright(source, what)
    if isinstance(source, str | os.PathLike):
        return _from_path(os.fsdecode(source), what)
    if callable(getattr(source, "read", None)):
        return _opened(io.BytesIO(_content(source, what)), what)
    return None


def to_array(source: Any, what: str, accepted: str) -> npt.NDArray[Any]:
    """Copy an array, a nested list or a tensor on any device into an array.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if hasattr(source, "detach") and hasattr(source, "cpu"):
        try:
            tensor = source.detach().cpu()
            source = tensor.float().numpy() if "bfloat16" in str(tensor.dtype) else tensor.numpy()
        except Exception as error:  # of tensors without values (meta), sparse and quantised ones
            raise InputError(
                f"{what} is a {type(source).__name__} without values that can be read ({error}); expected {accepted}."
            ) from error
    try:
        return np.array(source)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} is a {type(source).__name__}; expected {accepted}.") from error


def check_area(height: int, width: int, name: str) -> None:
    """Refuse an image with too many pixels, before they are decoded or copied.

    Raises
    ------
    InputError
        If there are more than :data:`LARGEST_AREA`.
    """
    if height * width > LARGEST_AREA:
        raise InputError(f"{name} has {height} x {width} pixels; {_SCALE_DOWN}, the model sees about one million.")


_SCALE_DOWN: Final = f"expected at most {LARGEST_AREA // 1_000_000} million: scale it down first"


def _from_path(given: str, what: str) -> Decoded:
    if _ADDRESS.match(given):
        raise InputError(
            f"{what} is the address {shown(given)}; expected an image that is here: download it first, and give the "
            "file's path."
        )
    path = expanded(given, what)
    name = shown(str(path))
    try:
        if given and path.is_dir():
            raise InputError(
                f"{what}, {name}, is a folder; expected one image file: give the path of a file in it, or pass the "
                "folder to workbench.capture_many."
            )
        if not path.is_file():
            raise InputError(f"there is no image file at {name}: check the path (the working folder is {Path.cwd()}).")
        if path.stat().st_size == 0:
            raise InputError(f"{name} is empty (0 bytes); expected an image file such as PNG or JPEG.")
        return _opened(path, name)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{name} cannot be opened ({reason}): check that it is whole and may be read.") from error


def _content(file: Any, what: str) -> bytes:
    """All bytes of an open file, from its start, with its position put back."""
    try:
        position = file.tell() if hasattr(file, "seekable") and file.seekable() else None
        if position is not None:
            file.seek(0)
        try:
            content = file.read()
        finally:
            if position is not None:
                file.seek(position)
    except (AttributeError, OSError, ValueError) as error:
        raise InputError(
            f"{what} is a {type(file).__name__} that cannot be read ({error}): open it with open(path, 'rb')."
        ) from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise InputError(
            f"{what} is a {type(file).__name__} of {type(content).__name__}; expected bytes: open it with "
            "open(path, 'rb')."
        )
    if not content:
        raise InputError(f"{what} is an open file of 0 bytes; expected an image such as PNG or JPEG.")
    return bytes(content)


def _opened(file: Path | io.BytesIO, name: str) -> Decoded:
    try:
        with Image.open(file) as image:
            return _upright(image, name)
    except UnidentifiedImageError as error:
        raise InputError(f"{name} is not an image that can be read; expected a file such as PNG or JPEG.") from error
    # Pillow's limits are the process's to set: a warning of them is an error where warnings are.
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} is too large to open ({error}); {_SCALE_DOWN}.") from error
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{name} cannot be opened ({error}): check that it is whole and may be read.") from error


def _upright(image: Image.Image, name: str) -> Decoded:
    check_area(image.height, image.width, name)
    # Pillow brings colours of 16 bits to 8 on its own; only the decoder's arguments, gone after loading, tell.
    deep = any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.format in _FRAMED and getattr(image, "is_animated", False):
        frames: int = getattr(image, "n_frames", 1)
        warn(f"{name} holds {frames} frames, of which frame {image.tell() + 1} is read.", stacklevel=4)
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{name} cannot be read to its end ({error}): the file may be truncated.") from error
    try:
        upright = ImageOps.exif_transpose(image)
    except Exception as error:  # damaged metadata breaks in many ways, and the pixels are whole
        warn(f"{name} has metadata that cannot be read ({error}): taken to be upright.", stacklevel=4)
        upright = image.copy()
    return Decoded(upright, name, deep)


def shown(text: str) -> str:
    """Text of any length for a message."""
    return text if len(text) <= 120 else f"{text[:80]}…{text[-30:]}"
