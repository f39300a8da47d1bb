"""Text of other people's files, such as names of images, where it is shown."""

from __future__ import annotations

from typing import Final

MOST: Final = 300
"""Letters of a name or message in a list; files and the page have all of it."""


def one_line(text: str) -> str:
    """Text in one line; what moves a terminal's cursor, colours it or turns its direction becomes a mark."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def shortened(text: str, most: int = MOST) -> str:
    """Text of no more letters than a list has room for."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
