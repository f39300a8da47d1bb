"""The pictures of the start panel: those that a user brings, and the drawn scenes that come with the package."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workbench.schema import InputError

LARGEST_FILE: Final = 100_000_000
"""Bytes of a file that a user brings."""
_THUMBNAIL: Final = 96
_PREVIEW: Final = 480


@dataclass(frozen=True)
class Picture:
    """An image to be captured.

    Attributes
    ----------
    name
        What it is called on screen.
    pixels
        (pixel_y, pixel_x, channel) RGB bytes.
    path
        Where it is on this machine, if it has a place there.
    labels
        The path of its label map.
    values
        The values of its words in that map.
    """

    name: str
    pixels: NDArray[np.uint8]
    path: str = ""
    labels: str = ""
    values: Mapping[str, int] = field(default_factory=dict)

    def truth(self, concepts: tuple[str, ...]) -> dict[str, int]:
        """The values of these concepts in its label map; none where it does not show all of them."""
        return {word: self.values[word] for word in concepts} if set(concepts) <= set(self.values) else {}

    def preview(self) -> bytes:
        """A JPEG for the panel."""
        return _jpeg(self.pixels, _PREVIEW)


@dataclass(frozen=True)
class Example:
    """A drawn scene that comes with the package.

    Attributes
    ----------
    name, caption, words
        As ``scenes.json`` says.
    folder
        Where its files are.
    """

    name: str
    caption: str
    words: tuple[str, ...]
    folder: Path

    @property
    def path(self) -> Path:
        """The image."""
        return self.folder / f"{self.name}.png"

    def open(self) -> Picture:
        """Read it."""
        values = {word: value for value, word in enumerate(self.words)}
        labels = self.folder / f"{self.name}-labels.png"
        return Picture(self.name, _pixels(self.path), str(self.path), str(labels), values)

    def thumbnail(self) -> bytes:
        """A small JPEG of it."""
        return _jpeg(_pixels(self.path), _THUMBNAIL)


@cache
def examples() -> tuple[Example, ...]:
    """The scenes inside the installed package, or in ``data/`` of a checkout; none where neither has any."""
    package = Path(str(resources.files("workbench")))
    for folder in (package / "data" / "scenes", package.parent / "data" / "scenes"):
        if (folder / "scenes.json").is_file():
            told = json.loads((folder / "scenes.json").read_text("utf-8"))
            return tuple(Example(one["name"], one["caption"], tuple(one["words"]), folder) for one in told)
    return ()


def example(name: Any) -> Example:
    """The scene of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    for one in examples():
        if one.name == name:
            return one
    raise InputError(f"there is no example {name!r}; there are {', '.join(one.name for one in examples())}.")


class Upload:
    """A file that arrives from the browser in parts: one message may not be very long."""

    def __init__(self) -> None:
        self._number: Any = None
        self._parts: list[bytes] = []

    def take(self, message: Mapping[str, Any], buffers: Any) -> io.BytesIO | None:
        """Take a part; the file when it was the last one.

        Raises
        ------
        InputError
            If parts are lacking, or the file is larger than :data:`LARGEST_FILE`.
        """
        parts = message.get("parts", 1)
        if message.get("part") == 0:
            self._number, self._parts = message.get("number"), []
        expected = (self._number, len(self._parts))
        if (message.get("number"), message.get("part")) != expected or not isinstance(parts, int) or not buffers:
            raise InputError("the picture arrived in pieces that do not fit: give it again.")
        self._parts.append(bytes(buffers[0]))
        if sum(map(len, self._parts)) > LARGEST_FILE:
            self._parts = []
            raise InputError(f"the file has more than {LARGEST_FILE // 1_000_000} MB: give a smaller picture.")
        if len(self._parts) < parts:
            return None
        whole, self._parts, self._number = io.BytesIO(b"".join(self._parts)), [], None
        whole.name = str(message.get("name") or "the picture")
        return whole


def _pixels(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _jpeg(pixels: NDArray[np.uint8], longest: int) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((longest, longest))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()
