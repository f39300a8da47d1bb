from __future__ import annotations

import pytest

from workbench.evaluation.vocabulary import differences, imagenet_words, notices, voc_words, word
from workbench.schema import InputError


def test_the_table_has_what_the_public_one_has() -> None:
    words = imagenet_words()
    assert len({entry.own for entry in words.values()}) == 445
    assert len({entry.public for entry in words.values()}) == 72
    by_lemma = {entry.own: entry.public for entry in words.values()}
    assert sum(public == "animal" for public in by_lemma.values()) == 51
    assert sum(public == "ferret" for public in by_lemma.values()) == 34
    assert all(offset.isdecimal() and len(offset) == 8 for offset in words)


def test_one_lemma_has_one_public_word() -> None:
    words = {(entry.own, entry.public) for entry in imagenet_words().values()}
    assert len(words) == 445


@pytest.mark.parametrize(
    ("offset", "public", "corrected"),
    [
        ("02389865", "car", "donkey"),  # moke
        ("02455135", "monkey", "armadillo"),  # apar
        ("02137888", "insect", "mongoose"),  # ichneumon
        ("03057541", "coat", "button"),  # coat button
        ("02129165", "cat", "lion"),
        ("01882714", "mouse", "koala"),
        ("01694709", "computer", "lizard"),  # the monitor that is one
        ("03782006", "computer", "computer"),  # and the one that is not
    ],
)
def test_wrong_words_are_corrected(offset: str, public: str, corrected: str) -> None:
    words = imagenet_words()
    assert (word(words, offset, "public"), word(words, offset, "corrected")) == (public, corrected)
    assert (offset in differences(words)) == (public != corrected)


def test_lions_are_lions() -> None:
    assert {entry.corrected for entry in imagenet_words().values() if entry.own.startswith("lion")} == {"lion"}


def test_voc() -> None:
    words = voc_words()
    assert len(words) == 20
    assert list(words)[:2] == ["aeroplane", "bicycle"]
    assert word(words, "tvmonitor", "public") == "monitor"
    assert list(differences(words)) == ["pottedplant"]


def test_notices_are_carried() -> None:
    text = notices("imagenet")
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in text
    assert "ConceptAttention" in text
    assert "ConceptAttention" in notices("voc")


def test_an_unknown_offset_is_named() -> None:
    with pytest.raises(InputError, match="no class '99999999'"):
        word(imagenet_words(), "99999999", "public")
