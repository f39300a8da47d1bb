"""Letters that the usual font lacks: from fonts of this machine, or named in a sentence where none has them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font
from matplotlib.text import Text

from workbench.schema import warn

FALLBACKS: Final = (
    *("Noto Sans CJK JP", "Noto Sans CJK SC", "Noto Sans CJK KR", "Noto Sans JP", "Noto Sans SC", "Noto Sans KR"),
    *("Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback", "IPAexGothic", "IPAGothic"),
    *("NanumGothic", "Arial Unicode MS", "PingFang SC", "Hiragino Sans", "Hiragino Sans GB", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "SimHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "Nirmala UI", "Leelawadee UI"),
    *("Noto Sans Devanagari", "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai"),
)
"""Families that are looked for, in this order, behind the one that is set."""
_MOST: Final = 8
"""Letters that are named."""


@functools.cache
def fallbacks() -> dict[str, str]:
    """The files of those of :data:`FALLBACKS` that are installed, by family."""
    installed = {entry.name: entry.fname for entry in reversed(fontManager.ttflist)}
    return {name: installed[name] for name in FALLBACKS if name in installed}


def families() -> list[str]:
    """The families that text is set in: those of matplotlib's settings, and behind them what has other letters."""
    return [*mpl.rcParams["font.family"], *fallbacks()]


def lacking(text: str) -> str:
    """The letters of a text that no font here has, each once."""
    own = tuple(mpl.rcParams["font.family"])
    return "".join(letter for letter in dict.fromkeys(text) if letter.isprintable() and not _known(letter, own))


def sentence(letters: str) -> str:
    """What is to be said of letters without a font; empty for none."""
    if not letters:
        return ""
    named = ", ".join(f"{letter} (U+{ord(letter):04X})" for letter in letters[:_MOST])
    return (
        f"no font on this machine has {named}{'…' * (len(letters) > _MOST)}: such letters are drawn as boxes. Install "
        "a font that has them, such as Noto Sans CJK."
    )


@functools.cache
def _known(letter: str, own: tuple[str, ...]) -> bool:
    usual = [fontManager.findfont(FontProperties(family=[family], size=10)) for family in own]
    return any(has(path, letter) for path in (*usual, *fallbacks().values()))


def has(path: str, letter: str) -> bool:
    """Whether a font's file has a letter."""
    return bool(get_font(path).get_char_index(ord(letter)))


@contextmanager
def quiet() -> Iterator[None]:
    """Without matplotlib's warning for each letter and each time it is measured."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


def tell(figure: Figure) -> None:
    """Warn once of the letters of a figure that no font here has."""
    texts: Iterable[Text] = figure.findobj(Text)
    if said := sentence(lacking("".join(text.get_text() for text in texts))):
        warn(said)
