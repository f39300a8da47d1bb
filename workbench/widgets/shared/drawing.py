"""Static pictures of views, drawn with Pillow: blocks one below the other, and PNG files that say where they come from.

No text of them is read as anything but text, and no browser is involved.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.analysis.origin import SOFTWARE, as_text
from workbench.widgets.shared.picture_text import broken, cut, font, short

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

LARGEST: Final = 100_000
"""In bytes: a picture that a notebook keeps. In a notebook's file it takes a third more."""
WIDTHS: Final = (960, 800, 660, 540, 440, 360)
"""In pixels, tried one after the other until a picture is small enough."""
_PAPER: Final = "#ffffff"
_INK: Final = "#222222"
_SOFT: Final = "#5a5a5a"
_LINE: Final = "#d8d8d8"
_EDGE: Final = "#a0a0a0"
"""Around swatches: pale colours do not stand out from paper."""
_MARGIN: Final = 12
_GAP: Final = 10
_SIZE: Final = 13
_CAPTION: Final = 20
_NARROWEST: Final = 130
_WIDEST: Final = 300
_TICKS: Final = 4


class Block(Protocol):
    """A part of a picture, as wide as the picture."""

    def height(self, width: int) -> int:
        """Pixels it takes."""
        ...

    def paint(self, paper: Image, top: int, width: int) -> None:
        """Draw it."""
        ...


@dataclass(frozen=True)
class Text:
    """Lines of text, broken where the picture ends."""

    text: str
    size: int = _SIZE
    bold: bool = False
    soft: bool = False
    most: int = 3

    def height(self, width: int) -> int:
        return len(self._lines(width)) * round(self.size * 1.4)

    def paint(self, paper: Image, top: int, width: int) -> None:
        canvas = _pen(paper)
        for index, line in enumerate(self._lines(width)):
            at = (0, top + index * round(self.size * 1.4))
            font(self.size, self.bold).write(canvas, at, line, _SOFT if self.soft else _INK)

    def _lines(self, width: int) -> list[str]:
        return broken(self.text, font(self.size, self.bold), width, self.most)


@dataclass(frozen=True)
class Tile:
    """One panel: its title, a swatch beside it, and what it shows at a size (width, height)."""

    title: str
    show: Callable[[int, int], Image]
    colour: str | None = None
    value: str = ""


@dataclass(frozen=True)
class Tiles:
    """Panels of one shape in rows; ``ratio`` is height over width."""

    tiles: Sequence[Tile]
    ratio: float

    def _side(self, width: int) -> tuple[int, int]:
        most = max(1, (width + _GAP) // (_NARROWEST + _GAP))
        rows = -(-len(self.tiles) // most)
        columns = -(-len(self.tiles) // rows)
        return columns, min(_WIDEST, (width - _GAP * (columns - 1)) // columns)

    def height(self, width: int) -> int:
        columns, side = self._side(width)
        return -(-len(self.tiles) // columns) * (_CAPTION + round(side * self.ratio) + _GAP) - _GAP

    def paint(self, paper: Image, top: int, width: int) -> None:
        canvas = _pen(paper)
        columns, side = self._side(width)
        tall = max(1, round(side * self.ratio))
        plain, small = font(_SIZE - 1), font(_SIZE - 2)
        for index, tile in enumerate(self.tiles):
            x, y = (index % columns) * (side + _GAP), top + (index // columns) * (_CAPTION + tall + _GAP)
            left = 0
            if tile.colour:
                canvas.rectangle((x, y + 3, x + 9, y + 12), tile.colour, _EDGE)
                left = 15
            room = side - left - (small.length(tile.value) + 6 if tile.value else 0)
            plain.write(canvas, (x + left, y), cut(tile.title, plain, room), _INK)
            if tile.value:
                small.write(canvas, (x + side, y), tile.value, _SOFT, right=True)
            paper.paste(tile.show(side, tall), (x, y + _CAPTION))


@dataclass(frozen=True)
class Ramp:
    """A colour scale: its map (colour, rgb), its ends, and what it means."""

    colours: NDArray[np.uint8]
    ends: tuple[float, float]
    meaning: str

    def height(self, width: int) -> int:
        return 44

    def paint(self, paper: Image, top: int, width: int) -> None:
        from PIL import Image

        canvas = _pen(paper)
        small, wide = font(_SIZE - 2), min(256, width)
        bar = Image.fromarray(self.colours[None]).resize((wide, 10))
        paper.paste(bar, (0, top))
        low, high = self.ends
        for at, value, right in ((0, low, False), (wide, high, True)):
            small.write(canvas, (at, top + 12), short(value), _INK, right=right)
        small.write(canvas, (0, top + 27), cut(self.meaning, small, width), _SOFT)


@dataclass(frozen=True)
class Legend:
    """Names with their colours, in a row that is broken where the picture ends."""

    entries: Sequence[tuple[str, str]]
    """Name and colour."""

    def _places(self, width: int) -> list[tuple[int, int]]:
        found, x, y = [], 0, 0
        for name, _ in self.entries:
            wide = 30 + round(font(_SIZE - 2).length(cut(name, font(_SIZE - 2), width - 30)))
            if x and x + wide > width:
                x, y = 0, y + 18
            found.append((x, y))
            x += wide
        return found

    def height(self, width: int) -> int:
        return (self._places(width)[-1][1] + 18) if self.entries else 0

    def paint(self, paper: Image, top: int, width: int) -> None:
        canvas = _pen(paper)
        small = font(_SIZE - 2)
        for (name, colour), (x, y) in zip(self.entries, self._places(width), strict=True):
            canvas.rectangle((x, top + y + 2, x + 9, top + y + 11), colour, _EDGE)
            small.write(canvas, (x + 14, top + y), cut(name, small, width - 30), _INK)


@dataclass(frozen=True)
class Table:
    """Rows of cells below their heads."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def height(self, width: int) -> int:
        return 20 * (len(self.rows) + 1)

    def paint(self, paper: Image, top: int, width: int) -> None:
        canvas = _pen(paper)
        small, bold = font(_SIZE - 1), font(_SIZE - 1, True)
        lines = [list(self.heads), *map(list, self.rows)]
        wanted = [max(bold.length(line[i]) for line in lines) + 16 for i in range(len(self.heads))]
        scale = min(1.0, width / sum(wanted))
        edges = np.cumsum([0, *(each * scale for each in wanted)])
        for index, line in enumerate(lines):
            y = top + 20 * index
            for i, cell in enumerate(line):
                chosen = small if index else bold
                chosen.write(canvas, (edges[i], y), cut(cell, chosen, wanted[i] * scale - 10), _INK)
            canvas.line((0, y + 17, width, y + 17), _LINE)


@dataclass(frozen=True)
class Beside:
    """Blocks in columns of one width."""

    columns: Sequence[Sequence[Block]]

    def _width(self, width: int) -> int:
        return (width - _GAP * 2 * (len(self.columns) - 1)) // len(self.columns)

    def height(self, width: int) -> int:
        return max(stacked(blocks, self._width(width)) for blocks in self.columns)

    def paint(self, paper: Image, top: int, width: int) -> None:
        own = self._width(width)
        for index, blocks in enumerate(self.columns):
            paper.paste(painted(blocks, own, self.height(width)), (index * (own + 2 * _GAP), top))


@dataclass(frozen=True)
class Shown:
    """A picture, at its own size unless it is too wide."""

    image: Image

    def _size(self, width: int) -> tuple[int, int]:
        scale = min(1.0, width / self.image.width)
        return max(1, round(self.image.width * scale)), max(1, round(self.image.height * scale))

    def height(self, width: int) -> int:
        return self._size(width)[1]

    def paint(self, paper: Image, top: int, width: int) -> None:
        paper.paste(self.image.convert("RGB").resize(self._size(width)), (0, top))


def _pen(paper: Image) -> ImageDraw:
    from PIL import ImageDraw

    return ImageDraw.Draw(paper)


def stacked(blocks: Sequence[Block], width: int) -> int:
    """Height of blocks one below the other, with what is left between them."""
    heights = [height for block in blocks if (height := block.height(width))]
    return sum(heights) + _GAP * max(len(heights) - 1, 0)


def painted(blocks: Sequence[Block], width: int, height: int) -> Image:
    """Blocks one below the other, on paper of a size."""
    from PIL import Image

    paper = Image.new("RGB", (width, max(height, 1)), _PAPER)
    top = 0
    for block in blocks:
        if height := block.height(width):
            block.paint(paper, top, width)
            top += height + _GAP
    return paper


def draw(blocks: Sequence[Block], width: int = WIDTHS[0]) -> Image:
    """A picture of a width in pixels, margins included."""
    from PIL import ImageOps

    inner = width - 2 * _MARGIN
    return ImageOps.expand(painted(blocks, inner, stacked(blocks, inner)), _MARGIN, _PAPER)


def png(blocks: Sequence[Block], facts: Mapping[str, Any], most: int | None = LARGEST) -> bytes:
    """Blocks as a PNG file that keeps facts.

    Parameters
    ----------
    blocks
        What is drawn.
    facts
        Kept in the file's text, as JSON, under ``"workbench"``; ``"title"`` also as its title.
    most
        Bytes it may take: with fewer colours or less wide, if need be. None: whatever it takes.

    Returns
    -------
    The file, the first that is small enough, or the smallest.
    """
    smallest = b""
    for width in WIDTHS:
        drawn = draw(blocks, width)
        for few in (False, True):
            found = encoded(drawn, facts, few=few)
            if most is None or len(found) <= most:
                return found
            smallest = min(smallest or found, found, key=len)
    return smallest


def encoded(drawn: Image, facts: Mapping[str, Any], *, few: bool = False) -> bytes:
    """A picture as a PNG file that keeps facts; with ``few`` it has 256 colours."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, text in texts_of(facts).items():
        info.add_itxt(name, text)
    buffer = io.BytesIO()
    (_reduced(drawn) if few else drawn).save(buffer, "PNG", pnginfo=info, optimize=few)
    return buffer.getvalue()


def _reduced(drawn: Image) -> Image:
    """A picture in 256 colours. A colour of few pixels, such as a swatch, weighs more than its share of them."""
    from PIL import Image

    rgb = np.asarray(drawn).reshape(-1, 3)
    packed = (rgb >> 3).astype(np.uint32) @ np.array([1, 32, 1024], np.uint32)
    _, at, counts = np.unique(packed, return_index=True, return_counts=True)
    weighed = rgb[at].repeat(np.ceil(counts**0.5).astype(int), axis=0)
    palette = Image.fromarray(weighed[None]).quantize(256, method=Image.Quantize.MEDIANCUT)
    return drawn.quantize(palette=palette, dither=Image.Dither.NONE)


def gif(frames: Sequence[Sequence[Block]], facts: Mapping[str, Any], milliseconds: int) -> bytes:
    """Pictures that follow one another, again and again, as a GIF file that keeps facts in its comment."""
    drawn = [draw(blocks) for blocks in frames]
    first, *rest = [_reduced(each) for each in drawn]
    buffer = io.BytesIO()
    comment = as_text(facts).encode("ascii")
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0, comment=comment)
    return buffer.getvalue()


def texts_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """The texts of a file that keeps facts, none with a control character: those would end a text of a PNG file."""
    title = "".join(letter if letter.isprintable() else " " for letter in str(facts.get("title", "")))
    return {"Title": title, "Software": SOFTWARE, "workbench": as_text(facts)}


@dataclass(frozen=True)
class Still:
    """A view at one moment: what it shows, in words and in blocks, and the facts behind it."""

    words: str
    blocks: Sequence[Block]
    facts: Mapping[str, Any] = field(default_factory=dict)
