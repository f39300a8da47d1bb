"""Interventions and a model: what is outside of it is refused before anything runs, words become positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, Literal

from workbench.interventions import BlurAttention, Intervention, MaskText, RandomDirection, SkipBlock
from workbench.schema import LAYER, SAMPLE, TIMESTEP, InputError, warn


def resolve(
    interventions: Sequence[Intervention],
    depth: int,
    heads: int,
    concepts: Sequence[Any],
    text_length: int | None = None,
    words: Sequence[tuple[int, str]] = (),
) -> tuple[Intervention, ...]:
    """The interventions with tokens and concepts as positions.

    Parameters
    ----------
    interventions
        As the user gave them.
    depth, heads
        Blocks and heads of the model.
    concepts
        Names of the concepts, or their positions where they have no names.
    text_length
        Length of the text in tokens, where it is known.
    words
        Position and string of the prompt's own tokens.

    Raises
    ------
    InputError
        If a layer, head, token or concept is not there, or two blurs meet.
    """
    resolved = tuple(_resolved(edit, depth, heads, concepts, text_length, words) for edit in interventions)
    blurs = [edit for edit in resolved if isinstance(edit, BlurAttention)]
    for one, other in combinations(blurs, 2):
        shared = any(one.acts_in(layer) and other.acts_in(layer) for layer in range(depth))
        if shared and _meet(one["heads"], other["heads"]) and _overlap(one["timesteps"], other["timesteps"]):
            raise InputError(f"{one} and {other} blur the same heads: expected one blur of a head at a time.")
    return resolved


def _resolved(
    edit: Intervention,
    depth: int,
    heads: int,
    concepts: Sequence[Any],
    text_length: int | None,
    words: Sequence[tuple[int, str]],
) -> Intervention:
    if isinstance(edit, RandomDirection):
        return replace(edit, of=_resolved(edit.of, depth, heads, concepts, text_length, words))
    limits: tuple[tuple[Literal["layers", "heads"], int], ...] = (("layers", depth), ("heads", heads))
    for name, count in limits:
        if beyond := [number for number in edit[name] or () if number >= count]:
            raise InputError(f"{name} of {edit} holds {beyond}; this model has {name} 0 to {count - 1}.")
    if edit["tokens"] is not None:
        edit = edit._but(tokens=_positions(edit, text_length, words))
    if edit["concepts"] is not None:
        known = {name: place for place, name in enumerate(concepts)} | {place: place for place in range(len(concepts))}
        if unknown := [concept for concept in edit["concepts"] if concept not in known]:
            raise InputError(f"{edit} drops {unknown}; the concepts are {', '.join(map(str, concepts))}.")
        edit = edit._but(concepts=tuple(dict.fromkeys(known[concept] for concept in edit["concepts"])))
    return edit


def _positions(edit: Intervention, text_length: int | None, words: Sequence[tuple[int, str]]) -> tuple[int, ...]:
    found: set[int] = set()
    for token in edit["tokens"] or ():
        places = [place for place, text in words if text == token] if isinstance(token, str) else [token]
        if not places:
            own = ", ".join(repr(text) for _, text in words) or "no token of its own"
            raise InputError(f"tokens of {edit} holds {token!r}; the prompt has {own}: give one of those, or places.")
        found.update(places)
    if text_length is not None and (beyond := sorted(place for place in found if place >= text_length)):
        raise InputError(f"tokens of {edit} holds {beyond}; the text has places 0 to {text_length - 1}.")
    return tuple(sorted(found))


def refuse_mass(interventions: Iterable[Intervention], text_mass: bool) -> None:
    """Refuse to record the model's own attention to text where an intervention puts another in its place.

    Raises
    ------
    InputError
        If one does and it is asked for.
    """
    plain = (edit.of if isinstance(edit, RandomDirection) else edit for edit in interventions)
    replaced = [str(edit) for edit in plain if isinstance(edit, MaskText | BlurAttention)]
    if text_mass and replaced:
        raise InputError(
            f"text_mass is the model's own attention to text, which {', '.join(replaced)} replaces: leave one of them "
            "out."
        )


def missing_pieces(
    interventions: Iterable[Intervention], samples: int, timesteps: Sequence[float], layers: Sequence[int]
) -> list[dict[str, float]]:
    """The pieces of a run that do not exist because their blocks are skipped, by coordinate value."""
    skips = [edit for edit in interventions if isinstance(edit, SkipBlock)]
    return [
        {SAMPLE: sample, TIMESTEP: timestep, LAYER: layer}
        for sample in range(samples)
        for timestep in timesteps
        for layer in layers
        if any(edit.acts_in(layer) and edit.acts_at(timestep) for edit in skips)
    ]


def warn_of_idle(
    interventions: Iterable[Intervention], timesteps: Sequence[float], last: int | None, stacklevel: int
) -> None:
    """Warn of interventions that change nothing: at no timestep that is run, or behind the last recorded block.

    Parameters
    ----------
    interventions
        All of them.
    timesteps
        1000 x sigma of every pass.
    last
        The last block that is run; None when all are.
    stacklevel
        As in :func:`warnings.warn`.
    """
    for edit in interventions:
        if not any(edit.acts_at(timestep) for timestep in timesteps):
            ran = ", ".join(f"{timestep:g}" for timestep in timesteps)
            warn(f"{edit} changes nothing: the passes are at {ran}.", stacklevel=stacklevel)
        elif last is not None and (layers := edit["layers"]) is not None and min(layers) > last:
            warn(
                f"{edit} changes nothing: the pass ends after layer {last}, the last that is recorded.",
                stacklevel=stacklevel,
            )


def _meet(one: Sequence[int] | None, other: Sequence[int] | None) -> bool:
    return one is None or other is None or bool(set(one) & set(other))


def _overlap(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])
