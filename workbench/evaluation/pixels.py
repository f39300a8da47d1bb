"""Image and label files of data sets, decoded; a damaged one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.images import decode
from workbench.schema import InputError


def read_image(source: Any, what: str = "the image") -> NDArray[np.uint8]:
    """An image file or PIL image as (pixel_y, pixel_x, channel) in RGB.

    Raises
    ------
    InputError
        If it is missing, truncated or no image.
    """
    decoded = decode(source, what)
    if decoded is None:
        raise InputError(f"{what} is a {type(source).__name__}; expected a file or a PIL image.")
    return decoded.colours()[0]


def read_labels(source: Any, what: str = "the label map") -> NDArray[Any]:
    """Whole numbers (pixel_y, pixel_x) of a label map: a palette's numbers, or grey values.

    Raises
    ------
    InputError
        If it is missing, damaged, or has colours instead of numbers.
    """
    if isinstance(source, Path) and not source.is_file():
        raise InputError(f"there is no label map at {source}.")
    decoded = decode(source, what)
    if decoded is None:
        raise InputError(f"{what} is a {type(source).__name__}; expected a file or a PIL image.")
    for values in (decoded.indices(), decoded.numbers()):
        if values is not None:
            return values
    if decoded.image.mode == "1":
        return np.array(decoded.image).astype(np.uint8)
    colours, _ = decoded.colours()
    if (colours != colours[..., :1]).any():
        raise InputError(
            f"{decoded.name} has colours; expected numbers of classes, in a palette or in grey. Turn colours into "
            "numbers first."
        )
    return colours[..., 0]
