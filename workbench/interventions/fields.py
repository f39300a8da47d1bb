"""The fields that descriptions share: what may be given for them, and their checks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Final, Literal, TypeAlias, get_args

from workbench.schema import ATTEND_MODES, InputError

Numbers: TypeAlias = int | Iterable[int] | slice | None
Tokens: TypeAlias = int | str | Iterable[int | str] | slice | None
Range: TypeAlias = tuple[float, float] | slice | None
Stream = Literal["image", "text"]
Streams: TypeAlias = Stream | Iterable[Stream]
STREAMS: Final[tuple[Stream, ...]] = ("image", "text")
HeadStream = Literal["image", "text", "concepts"]
HeadStreams: TypeAlias = HeadStream | Iterable[HeadStream]
HEAD_STREAMS: Final[tuple[HeadStream, ...]] = get_args(HeadStream)
Limit = Literal["layers", "heads", "tokens", "timesteps", "streams", "concepts"]
LIMITS: Final[tuple[Limit, ...]] = get_args(Limit)
"""What edits can be limited to; one without such a limit acts on all there are."""
MOST: Final = 100_000
"""A layer, head or token beyond this is refused at once."""


@dataclass(frozen=True)
class Source:
    """A run whose activations are put into another: that other run itself, but for what is given here.

    Parameters
    ----------
    prompt : str, optional
        Its prompt.
    seed : int, optional
        Seed of its noise, for every sample.
    image : str, optional
        Path of its picture, for ``capture``.
    """

    prompt: str | None = None
    seed: int | None = None
    image: str | None = None

    def __post_init__(self) -> None:
        for name, value, kind in (("prompt", self.prompt, str), ("image", self.image, str), ("seed", self.seed, int)):
            if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
                raise InputError(f"{name} of a source is {value!r}; expected {kind.__name__} or None.")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise InputError(f"seed of a source is {self.seed}; expected a whole number from 0 to 2**63 - 1.")


ITSELF: Final = Source()
"""The run itself, without any edit."""
Reference: TypeAlias = Source | str | os.PathLike[str]
"""Another run, or the path of its image."""


def _whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and 0 <= int(value) < MOST


def _real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(name: str, given: Any) -> tuple[Any, ...] | None:
    return None if given is None else tuple(sorted(_several(name, given, _whole, "whole numbers from 0")))


def _tokens(name: str, given: Any) -> tuple[Any, ...] | None:
    if given is None:
        return None
    expected = "places from 0, or words of the prompt"
    chosen = _several(name, given, lambda one: _whole(one) or (isinstance(one, str) and bool(one.strip())), expected, 0)
    return tuple(sorted(chosen, key=lambda one: (isinstance(one, str), one)))


def _concepts(name: str, given: Any) -> tuple[Any, ...]:
    expected = "one or more concepts, by name or position"
    return _several(name, given, lambda one: _whole(one) or (isinstance(one, str) and bool(one.strip())), expected)


def _several(name: str, given: Any, fits: Any, expected: str, least: int = 1) -> tuple[Any, ...]:
    if isinstance(given, slice):
        low, high = given.start, given.stop
        if given.step not in (None, 1) or not (_whole(low) and _whole(high)):
            raise InputError(f"{name} is {given}; expected both ends of a slice, such as slice(3, 5).")
        given = range(min(low, high), max(low, high) + 1)
    one = isinstance(given, str) or not isinstance(given, Iterable)
    values = [given] if one else list(given)
    if len(values) < least or not all(fits(value) for value in values) or len(set(values)) < len(values):
        raise InputError(f"{name} is {given!r}; expected {expected}, each once.")
    return tuple(value if isinstance(value, str) else int(value) for value in values)


def _range(name: str, given: Any) -> tuple[float, float] | None:
    if given is None:
        return None
    ends = (given.start, given.stop) if isinstance(given, slice) else given
    if isinstance(ends, str) or not isinstance(ends, Sequence) or len(ends) != 2:
        raise InputError(f"{name} is {given!r}; expected a range (low, high) in 1000 x sigma, such as (400, 600).")
    if not all(_real(end) and 0 <= end <= 1000 for end in ends):
        raise InputError(f"{name} is {given!r}; expected a range within 0 to 1000 (1000 x sigma).")
    return float(min(ends)), float(max(ends))


def _streams(name: str, given: Any, known: Sequence[str] = STREAMS) -> tuple[str, ...]:
    chosen = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Iterable) else ()
    if not chosen or not set(chosen) <= set(known):
        raise InputError(f"{name} is {given!r}; expected one or several of {', '.join(known)}.")
    return tuple(stream for stream in known if stream in chosen)


def head_streams(name: str, given: Any) -> tuple[str, ...]:
    """As streams of other edits, with the concepts' own among them."""
    return _streams(name, given, HEAD_STREAMS)


def _factor(name: str, given: Any) -> float:
    if not _real(given):
        raise InputError(f"{name} is {given!r}; expected a number; 1 changes nothing.")
    return float(given)


def _width(name: str, given: Any) -> float:
    if not _real(given) or given < 0:
        raise InputError(f"{name} is {given!r}; expected patches, 0 or more; 0 changes nothing.")
    return float(given)


def _mode(name: str, given: Any) -> str:
    if given not in ATTEND_MODES:
        raise InputError(f"{name} is {given!r}; expected one of {', '.join(ATTEND_MODES)}.")
    return str(given)


def _source(name: str, given: Any) -> Source:
    if not isinstance(given, Source):
        raise InputError(f"{name} is {given!r}; expected a Source, such as Source(prompt='a dog').")
    return given


def reference_runs(name: str, given: Any) -> tuple[Source, ...]:
    """Other runs as sources: those given, and those of images given by their paths."""
    alone = isinstance(given, Source | str | os.PathLike) or not isinstance(given, Iterable)
    several = (given,) if alone else tuple(given)
    if not several:
        raise InputError(f"{name} is empty; expected one or more sources; Source() is the run itself.")
    paths = [Source(image=os.fspath(one)) if isinstance(one, str | os.PathLike) else one for one in several]
    return tuple(_source(name, one) for one in paths)


CHECKS: Final[Mapping[str, Any]] = {
    "layers": _numbers,
    "heads": _numbers,
    "tokens": _tokens,
    "timesteps": _range,
    "streams": _streams,
    "factor": _factor,
    "width": _width,
    "mode": _mode,
    "concepts": _concepts,
    "source": _source,
    "reference": reference_runs,
}
"""What checks and unifies a field, by its name, where an edit has no check of its own."""
