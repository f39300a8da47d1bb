"""Words for the classes of data sets, as data: what the public code uses, and a corrected list beside it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final, Literal, NamedTuple

from workbench.schema import InputError

Vocabulary = Literal["own", "public", "corrected"]
VOCABULARIES: Final = ("own", "public", "corrected")
"""The data set's own names, the public code's words, and a corrected list."""


class Entry(NamedTuple):
    """Words for one class.

    Attributes
    ----------
    own
        The data set's name of it; of a WordNet synset its first lemma.
    public
        The word of the public code.
    corrected
        The same, unless that word names something else.
    """

    own: str
    public: str
    corrected: str


@cache
def imagenet_words() -> dict[str, Entry]:
    """Words of ImageNet-Segmentation's categories by WordNet offset, such as ``"02084071"``."""
    return {offset: Entry(*words) for offset, *words in _rows("imagenet.tsv")}


@cache
def voc_words() -> dict[str, Entry]:
    """Words of PascalVOC's classes by name, in the order of their numbers, from 1."""
    return {name: Entry(name, *words) for name, *words in _rows("voc.tsv")}


def differences(words: dict[str, Entry]) -> dict[str, Entry]:
    """The classes for which the corrected word is another one than the public code's."""
    return {key: entry for key, entry in words.items() if entry.public != entry.corrected}


def notices(name: Literal["imagenet", "voc"]) -> str:
    """Where a vocabulary comes from, with the notices of its sources."""
    lines = _text(f"{name}.tsv").splitlines()
    return "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines if line.startswith("#"))


def word(words: dict[str, Entry], key: str, vocabulary: Vocabulary) -> str:
    """The word for a class.

    Raises
    ------
    InputError
        If the vocabulary has no such class.
    """
    if key not in words:
        raise InputError(
            f"the vocabulary has no class {key!r}; it has {len(words)}, such as {', '.join(list(words)[:3])}. Check "
            "that the archive is the one that is meant."
        )
    return str(getattr(words[key], vocabulary))


def _rows(name: str) -> list[list[str]]:
    lines = [line for line in _text(name).splitlines() if line and not line.startswith("#")]
    return [line.split("\t") for line in lines[1:]]


def _text(name: str) -> str:
    return files(__package__).joinpath("vocabularies", name).read_text("utf-8")
