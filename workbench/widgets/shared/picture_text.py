"""Text in static pictures: its font, and beside it those of this machine that have other letters."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont


@dataclass(frozen=True)
class Font:
    """The font of all pictures, which comes with matplotlib, at a size.

    Attributes
    ----------
    size
        In pixels.
    bold
        Whether it is bold; letters from other fonts are not.
    """

    size: int
    bold: bool

    def length(self, text: str) -> float:
        """Pixels that a line takes."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def write(self, canvas: ImageDraw, at: tuple[float, float], text: str, colour: str, *, right: bool = False) -> None:
        """Write a line from its upper left corner, or up to its upper right one."""
        x, y = at
        x -= self.length(text) if right else 0
        base = y + self._own.getmetrics()[0]
        for font, run in self._runs(text):
            canvas.text((x, base), run, colour, font, anchor="ls")
            x += font.getlength(run)

    @property
    def _own(self) -> FreeTypeFont:
        return _loaded(_usual(self.bold), self.size)

    def _runs(self, text: str) -> Iterator[tuple[FreeTypeFont, str]]:
        """Parts of a text, each in one font."""
        if text.isascii():
            yield self._own, text
            return
        for path, letters in itertools.groupby(text, lambda letter: _font_of(letter, self.bold)):
            yield _loaded(path, self.size), "".join(letters)


@functools.cache
def font(size: int, bold: bool = False) -> Font:
    """The font at a size."""
    return Font(size, bold)


def lacking(text: str) -> str:
    """What is to be said of letters of a text that no font here has; empty where there are none."""
    if text.isascii():
        return ""
    from workbench.figures import font_fallback

    return font_fallback.sentence(font_fallback.lacking(text))


def cut(text: str, of: Font, width: float) -> str:
    """A text in one line that is no longer than a width."""
    text = " ".join(text.split())
    if of.length(text) <= width:
        return text
    while text and of.length(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def broken(text: str, of: Font, width: float, most: int) -> list[str]:
    """A text in lines of a width, at most so many; the rest becomes "…"."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and of.length(joined) <= width:
            lines[-1] = joined
        elif len(lines) == most:
            lines[-1] = cut(f"{lines[-1]} {word}…", of, width)
            break
        else:
            lines.append(word)
    return [cut(line, of, width) for line in lines]


def short(value: float) -> str:
    """A number with three digits, and a true minus sign."""
    return f"{value:.3g}".replace("-", "−")


@functools.cache
def _usual(bold: bool) -> str:
    import matplotlib as mpl

    return str(Path(mpl.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf")


@functools.cache
def _font_of(letter: str, bold: bool) -> str:
    """The file of the first font that has a letter; the usual one where none has."""
    from workbench.figures import font_fallback

    paths = [_usual(bold), *font_fallback.fallbacks().values()]
    return next((path for path in paths if font_fallback.has(path, letter)), paths[0])


@functools.cache
def _loaded(path: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)
