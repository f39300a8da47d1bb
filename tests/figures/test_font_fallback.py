from __future__ import annotations

import io
import warnings

import pytest
from matplotlib.font_manager import findfont, get_font

from tests.synthetic import dataset
from workbench.figures import concept_grid, font_fallback
from workbench.schema import WorkbenchWarning

NOWHERE = "\U0002fa1d"
"""A letter that few fonts have, and none of matplotlib's."""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> str:
    """A letter that the usual font lacks and a fallback has."""
    monkeypatch.setattr(font_fallback, "FALLBACKS", ("None Such", "STIXGeneral"))
    for name in ("fallbacks", "_known"):
        monkeypatch.setattr(font_fallback, name, getattr(font_fallback, name).__wrapped__)
    usual, other = get_font(findfont("DejaVu Sans")), get_font(findfont("STIXGeneral"))
    return next(chr(code) for code in sorted(other.get_charmap()) if not usual.get_char_index(code) and code > 0x2000)


def _drawn(name: str) -> bytes:
    concept_grid(dataset(concepts=(name, "grass", "sky"))).savefig(buffer := io.BytesIO(), format="raw", dpi=50)
    return buffer.getvalue()


def test_letters_of_other_fonts_are_drawn_without_a_warning(elsewhere: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = _drawn(elsewhere)
    assert font_fallback.lacking(f"a {elsewhere}") == ""
    with pytest.warns(WorkbenchWarning):
        assert _drawn(NOWHERE) != found


def test_letters_of_no_font_are_named_once(elsewhere: str) -> None:
    with pytest.warns(
        WorkbenchWarning, match=rf"no font on this machine has {NOWHERE} \(U\+2FA1D\): .* Noto Sans CJK"
    ) as told:
        _drawn(f"{NOWHERE} {NOWHERE}")
    assert len(told) == 1


def test_names_in_other_common_alphabets_need_no_other_font() -> None:
    assert font_fallback.lacking("chien, café, σ − 1, кот, σκύλος") == ""
