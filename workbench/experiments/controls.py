"""What each intervention of a plan is compared with: named kinds of controls, each for what it is.

========== ======================================================== ================================================
kind       what is done                                             where there is none
========== ======================================================== ================================================
direction  a random change of the same L2 norm at the same place:   nowhere
           a perturbation of equal size, which removes nothing
matched    the same, along directions that have the covariance of   edits of the concepts alone: too few tokens for
           the activations there                                    a covariance
resample   what the same heads or blocks put out for other images   what goes into attention (NullText, Amplify),
           is put in place: as usual a signal, of something else    and edits of the concepts
units      the same edit of as many other units of the same layers: whole blocks, layers whose heads are all picked,
           heads, or words or padding of the prompt, or concepts    and edits of everything
========== ======================================================== ================================================
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from workbench.experiments.planning import Arm, Edits, Network
from workbench.interventions import (
    BlurAttention,
    Intervention,
    MaskText,
    MeanHeads,
    Patch,
    RandomDirection,
    ScaleHeads,
    SkipBlock,
    Source,
)
from workbench.interventions.fields import STREAMS
from workbench.schema import InputError

CONTROLS: Final = ("auto", "direction", "matched", "resample", "units")
LEAST_UNITS: Final = 2
"""So many distinct choices of other units there must be for ``auto`` to take them."""


@dataclass(frozen=True)
class Control:
    """What one intervention is compared with.

    Attributes
    ----------
    kind
        One of :data:`CONTROLS` but ``auto``, or ``none``.
    repeats
        Its repeats, each a set of edits.
    available
        How many distinct ones there are; ``inf`` for those that are sampled.
    """

    kind: str = "none"
    repeats: tuple[Edits, ...] = ()
    available: float = 0.0


_Group: TypeAlias = tuple[str, str]
"""A kind of units, and those among them that may be exchanged for one another."""


def controls_of(
    arms: Sequence[Arm],
    network: Network,
    control: str,
    repeats: int,
    seed: int,
    shared: bool = False,
    references: Sequence[Source] = (),
) -> list[Control]:
    """The control of each arm.

    ``auto`` takes units where a plan picks some and leaves at least :data:`LEAST_UNITS` distinct choices of as many
    others, and a direction otherwise, always for members of ``each()``.

    Parameters
    ----------
    arms
        With tokens and concepts as positions.
    network
        What there is to edit.
    control
        One of :data:`CONTROLS`.
    repeats
        Of each control; all there are where there are fewer.
    seed
        Of the first one.
    shared
        Whether random directions are the same for all images, prompts and noise samples.
    references
        Runs of other images, for ``resample``.

    Raises
    ------
    InputError
        If there is no control of this kind for an arm; says which kinds there are.
    """
    picked: dict[str, set[Any]] = {}
    for edit in (edit for arm in arms for edit in arm.edits):
        if (units := edit.units()) is not None:
            picked.setdefault(units[0], set()).update(_places(units, network))
    found = []
    for arm in arms:
        made: Control | None
        if control == "auto":
            others = None if arm.exhaustive else _other_units(arm, picked, network, repeats, seed)
            enough = others is not None and others.available >= LEAST_UNITS
            made = others if enough else _directions(arm, repeats, seed, shared)
        else:
            made = _made(control, arm, picked, network, repeats, seed, shared, references)
        if made is None:
            able = [
                kind
                for kind in CONTROLS[1:]
                if _made(kind, arm, picked, network, 1, seed, shared, references or (Source(),)) is not None
            ]
            raise InputError(f"control is {control!r}, but {_LACKS[control].format(arm.label)} Expected {_or(able)}.")
        found.append(made)
    return found


_LACKS: Final = {
    "matched": "{} changes concept tokens alone, of which there are too few for a covariance.",
    "resample": "{} changes nothing that heads or blocks put out, which is what another image could give.",
    "units": "the layers of {} hold no other units to exchange: as many heads, words or concepts that no edit picks.",
}


def _made(
    kind: str,
    arm: Arm,
    picked: Mapping[str, set[Any]],
    network: Network,
    repeats: int,
    seed: int,
    shared: bool,
    references: Sequence[Source],
) -> Control | None:
    if kind == "units":
        return _other_units(arm, picked, network, repeats, seed)
    if kind == "resample":
        return _resampled(arm, network, references, repeats, seed)
    if kind == "matched" and any(edit.of_concepts for edit in arm.edits):
        return None
    return _directions(arm, repeats, seed, shared, matched=kind == "matched")


def _directions(arm: Arm, repeats: int, seed: int, shared: bool, matched: bool = False) -> Control:
    made = [
        tuple(RandomDirection(_plain(edit), one, shared, matched) for edit in arm.edits)
        for one in range(seed, seed + repeats)
    ]
    return Control("matched" if matched else "direction", tuple(made), math.inf)


def _resampled(arm: Arm, network: Network, references: Sequence[Source], repeats: int, seed: int) -> Control | None:
    """The activations of other images in place of what an arm changes; None where none fit."""
    made = [tuple(_other_image(_plain(edit), source, network) for edit in arm.edits) for source in references]
    if any(edit is None for edits in made for edit in edits):
        return None
    order = np.random.default_rng(seed).permutation(len(made))[:repeats]
    return Control("resample", tuple(made[place] for place in sorted(order)), float(len(made)))


def _other_image(edit: Intervention, source: Source, network: Network) -> Intervention | None:
    layers = range(network.depth) if edit["layers"] is None else edit["layers"]
    heads = range(network.heads) if edit["heads"] is None else edit["heads"]
    streams = edit["streams"] or STREAMS
    if "concepts" in streams:
        return None
    passed = tuple(stream for stream in STREAMS if stream in streams)
    if isinstance(edit, SkipBlock) or (isinstance(edit, Patch) and edit.heads is None):
        return Patch(layers, None, source, passed, edit["timesteps"])
    if isinstance(edit, MaskText | BlurAttention):
        return Patch(layers, heads, source, "image", edit["timesteps"])
    if isinstance(edit, ScaleHeads | MeanHeads | Patch):
        return Patch(layers, heads, source, passed, edit["timesteps"])
    return None


def _plain(edit: Intervention) -> Intervention:
    return edit.of if isinstance(edit, RandomDirection) else edit


def _places(units: tuple[str, tuple[Any, ...]], network: Network) -> list[Any]:
    kind, chosen = units
    if kind == "concept":
        return [network.concepts[one] if isinstance(one, int) else one for one in chosen]
    return list(chosen)


def _group(kind: str, unit: Any, network: Network) -> _Group:
    """What a unit may be exchanged with: heads of the same layer, words for words, padding for padding."""
    if kind == "head":
        return kind, f"layer {unit[0]}"
    if kind == "token":
        return kind, "word" if unit in network.words else "padding"
    return kind, ""


def _like(kind: str, unit: Any, network: Network) -> list[Any]:
    """All units that one may be exchanged with, and itself."""
    if kind == "head":
        return [(unit[0], head) for head in range(network.heads)]
    if kind == "concept":
        # By name: what is chosen does not depend on the order of the concepts.
        return sorted(network.concepts)
    every = range(network.text_length)
    return [one for one in every if _group(kind, one, network) == _group(kind, unit, network)]


def _other_units(arm: Arm, picked: Mapping[str, set[Any]], network: Network, repeats: int, seed: int) -> Control | None:
    """Distinct choices of other units, as many of each group as the arm picks; None where there are not enough."""
    needs: list[tuple[Intervention, str, dict[_Group, int]]] = []
    pools: dict[_Group, list[Any]] = {}
    wanted: Counter[_Group] = Counter()
    for edit in arm.edits:
        units = None if isinstance(edit, RandomDirection) else edit.units()
        if units is None or units[0] == "layer":
            return None
        kind, places = units[0], _places(units, network)
        counts = Counter(_group(kind, unit, network) for unit in places)
        needs.append((edit, kind, dict(counts)))
        wanted.update(counts)
        for unit in places:
            left = [one for one in _like(kind, unit, network) if one not in picked[kind]]
            pools.setdefault(_group(kind, unit, network), left)
    if any(len(pools[group]) < count for group, count in wanted.items()):
        return None
    possible = math.prod(math.comb(len(pools[group]), count) for group, count in wanted.items())
    if possible <= repeats:
        choices: Iterable[tuple[list[Any], ...]] = itertools.product(
            *([list(one) for one in itertools.combinations(pools[group], count)] for group, count in wanted.items())
        )
        made = [_with(needs, dict(zip(wanted, choice, strict=True))) for choice in choices]
        return Control("units", tuple(made), float(possible))
    distinct: dict[str, Edits] = {}
    number = seed
    while len(distinct) < repeats:
        generator = np.random.default_rng(number)
        number += 1
        chosen = {
            group: [pools[group][i] for i in sorted(generator.permutation(len(pools[group]))[:count])]
            for group, count in wanted.items()
        }
        distinct.setdefault(repr(chosen), _with(needs, chosen))
    return Control("units", tuple(distinct.values()), float(possible))


def _with(needs: Sequence[tuple[Intervention, str, dict[_Group, int]]], chosen: Mapping[_Group, list[Any]]) -> Edits:
    """The edits of an arm with other units in place of its own."""
    left = {group: list(units) for group, units in chosen.items()}
    edits: list[Intervention] = []
    for edit, kind, counts in needs:
        units = [left[group].pop(0) for group, count in counts.items() for _ in range(count)]
        edits += edit.with_units(kind, units)
    return tuple(edits)


def _or(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
