from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.font_manager import findfont, get_font
from PIL import Image, ImageDraw

from tests.synthetic import dataset
from workbench.figures import font_fallback as of_figures
from workbench.widgets.explore.explorer import Explorer
from workbench.widgets.shared import picture_text
from workbench.widgets.shared.picture_text import broken, font

NOWHERE = "\U0002fa1d"
"""A letter that few fonts have, and none of matplotlib's."""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A letter that the usual font lacks and the only fallback has."""
    monkeypatch.setattr(of_figures, "fallbacks", lambda: {"STIXGeneral": findfont("STIXGeneral")})
    for module, name in ((picture_text, "_font_of"), (of_figures, "_known")):
        monkeypatch.setattr(module, name, getattr(module, name).__wrapped__)
    usual, other = get_font(findfont("DejaVu Sans")), get_font(findfont("STIXGeneral"))
    return next(chr(code) for code in sorted(other.get_charmap()) if not usual.get_char_index(code) and code > 0x2000)


def _drawn(text: str) -> np.ndarray:
    paper = Image.new("L", (120, 24), "white")
    font(14).write(ImageDraw.Draw(paper), (2, 2), text, "#000000")
    return np.asarray(paper)


def test_letters_come_from_the_first_font_that_has_them(elsewhere: str) -> None:
    assert (_drawn(elsewhere) != _drawn(NOWHERE)).any()
    mixed = f"dog {elsewhere} dog"
    assert font(14).length(mixed) == sum(map(font(14).length, ("dog ", elsewhere, " dog")))
    assert (_drawn("dog")[:, :30] == _drawn(mixed)[:, :30]).all()


def test_lines_are_broken_to_a_width() -> None:
    lines = broken("word " * 50, font(12), 100, 3)
    assert len(lines) == 3
    assert max(map(font(12).length, lines)) <= 100
    assert lines[-1].endswith("…")


def test_a_picture_says_which_letters_it_could_not_write(elsewhere: str) -> None:
    plain, unknown = (Explorer(dataset(concepts=(name, "grass", "sky"))) for name in (elsewhere, NOWHERE))
    sizes = [Image.open(io.BytesIO(view._png())).height for view in (plain, unknown)]
    assert sizes[1] > sizes[0]
    assert f"no font on this machine has {NOWHERE}" in picture_text.lacking(unknown.description)
    assert picture_text.lacking(plain.description) == ""
