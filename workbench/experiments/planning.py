"""Arms and controls: what is run, and what each intervention is compared with."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from workbench.interventions import Each, Given, Intervention, RandomDirection, in_words, read
from workbench.schema import InputError

Edits: TypeAlias = tuple[Intervention, ...]
Plan: TypeAlias = Given | Each | Iterable[Given | Each | Sequence[Given]]
CONTROLS: Final = ("auto", "units", "direction")


@dataclass(frozen=True)
class Arm:
    """One intervention of a plan: one or several edits that act together.

    Attributes
    ----------
    edits
        What it does.
    exhaustive
        Whether it comes from ``each()``, which leaves no other unit to edit.
    """

    edits: Edits
    exhaustive: bool = False

    @property
    def label(self) -> str:
        """How datasets name it."""
        return in_words(self.edits)


@dataclass(frozen=True)
class Network:
    """What there is to edit.

    Attributes
    ----------
    blocks
        Kind of every block that runs, by depth.
    reach
        How many of them, from the first one on, can show in what is recorded when they are edited.
    depth
        All blocks of the model, also those behind the last one that runs.
    heads
        Heads of a block.
    concepts
        Names of the concepts.
    words
        Places of the prompt's own tokens.
    text_length
        Length of the text in tokens.
    """

    blocks: tuple[str, ...]
    reach: int
    depth: int
    heads: int
    concepts: tuple[str, ...]
    words: tuple[int, ...]
    text_length: int

    def units(self, kind: str, edit: Intervention) -> list[Any]:
        """All units of a kind that an edit may be of."""
        layers = range(len(self.blocks) if edit.of_concepts else self.reach)
        if kind == "layer":
            return list(layers)
        if kind == "head":
            return list(itertools.product(layers, range(self.heads)))
        # By name: what is drawn does not depend on the order of the concepts.
        return list(range(self.text_length)) if kind == "token" else sorted(self.concepts)

    def group(self, kind: str, unit: Any) -> str:
        """What a unit may be exchanged with: its like."""
        if kind == "token":
            return "word" if unit in self.words else "padding"
        if kind == "concept":
            return ""
        layer = unit if kind == "layer" else unit[0]
        return self.blocks[layer] if layer < len(self.blocks) else "behind"


def arms_of(plan: Plan, network: Network) -> list[Arm]:
    """The interventions of a plan, in order.

    Raises
    ------
    InputError
        If there is none, one is there twice, or something is no edit.
    """
    plan = _recorded(plan)
    several = plan if isinstance(plan, Iterable) and not isinstance(plan, Intervention | Mapping | str) else [plan]
    arms: list[Arm] = []
    for item in several:
        if isinstance(item, Each):
            depth = len(network.blocks) if item.layers is None else network.depth
            resolved = item.resolve(depth, network.heads, network.concepts)
            arms += [Arm((edit,), exhaustive=True) for edit in resolved]
        else:
            arms.append(Arm(read(item, "the plan")))
    if not arms or not all(arm.edits for arm in arms):
        raise InputError("the plan holds no intervention; expected for example SkipBlock.each() or [SkipBlock(3)].")
    if twice := [label for label, count in Counter(arm.label for arm in arms).items() if count > 1]:
        raise InputError(f"the plan holds {', '.join(twice)} more than once; expected each once.")
    return arms


def _recorded(plan: Any) -> Any:
    """A plan as the record of an experiment holds it, ``attrs["plan"]``, is read; any other stays."""
    try:
        return json.loads(plan) if isinstance(plan, str) and plan.startswith("[") else plan
    except json.JSONDecodeError:
        return plan


def controls_of(
    arms: Sequence[Arm], network: Network, control: str, repeats: int, seed: int, shared: bool = False
) -> list[tuple[str, list[Edits]]]:
    """For each arm the kind of its control and its draws.

    ``units`` edits as many units of the same kind that no arm picks, drawn without replacement; all possible draws
    where there are fewer than asked for. ``direction`` makes a change of the same size at the same place in a random
    direction, which is the same for all pictures, prompts and noise samples if ``shared``. ``auto`` takes units where a
    plan picks some and leaves enough, and a direction otherwise.

    Raises
    ------
    InputError
        If ``units`` is asked for, but an arm picks everything or too much.
    """
    picked: dict[str, set[Any]] = {}
    for edit in (edit for arm in arms for edit in arm.edits):
        if (units := edit.units()) is not None:
            picked.setdefault(units[0], set()).update(_places(units, network))
    found: list[tuple[str, list[Edits]]] = []
    for arm in arms:
        draws = None
        if control == "units" or (control == "auto" and not arm.exhaustive):
            draws = _unit_draws(arm, picked, network, repeats, seed)
        if draws is None and control == "units":
            raise InputError(
                f"control='units' needs as many other units as {arm.label} picks, but the plan leaves too few: pick "
                "fewer, or use control='direction'."
            )
        if draws is None:
            seeds = range(seed, seed + repeats)
            found.append(("direction", [tuple(_direction(edit, one, shared) for edit in arm.edits) for one in seeds]))
        else:
            found.append(("units", draws))
    return found


def _direction(edit: Intervention, seed: int, shared: bool) -> RandomDirection:
    return RandomDirection(edit.of if isinstance(edit, RandomDirection) else edit, seed, shared)


def _places(units: tuple[str, tuple[Any, ...]], network: Network) -> list[Any]:
    kind, chosen = units
    if kind == "concept":
        return [network.concepts[one] if isinstance(one, int) else one for one in chosen]
    return list(chosen)


def _unit_draws(
    arm: Arm, picked: Mapping[str, set[Any]], network: Network, repeats: int, seed: int
) -> list[Edits] | None:
    """Distinct draws of other units, as many of each group as the arm picks; None where there are not enough."""
    needs: list[tuple[Intervention, str, dict[str, int]]] = []
    pools: dict[tuple[str, str], list[Any]] = {}
    wanted: Counter[tuple[str, str]] = Counter()
    for edit in arm.edits:
        units = None if isinstance(edit, RandomDirection) else edit.units()
        if units is None:
            return None
        kind = units[0]
        counts = Counter(network.group(kind, unit) for unit in _places(units, network))
        needs.append((edit, kind, dict(counts)))
        for group, count in counts.items():
            wanted[kind, group] += count
            pools[kind, group] = [
                unit
                for unit in network.units(kind, edit)
                if unit not in picked[kind] and network.group(kind, unit) == group
            ]
    if any(len(pools[key]) < count for key, count in wanted.items()):
        return None
    possible = math.prod(math.comb(len(pools[key]), count) for key, count in wanted.items())
    if possible <= repeats:
        choices = itertools.product(
            *([list(one) for one in itertools.combinations(pools[key], count)] for key, count in wanted.items())
        )
        return [_with(needs, dict(zip(wanted, choice, strict=True))) for choice in choices]
    draws: dict[str, Edits] = {}
    number = seed
    while len(draws) < repeats:
        generator = np.random.default_rng(number)
        number += 1
        chosen = {
            key: [pools[key][i] for i in sorted(generator.permutation(len(pools[key]))[:count])]
            for key, count in wanted.items()
        }
        draws.setdefault(repr(chosen), _with(needs, chosen))
    return list(draws.values())


def _with(
    needs: Sequence[tuple[Intervention, str, dict[str, int]]], chosen: Mapping[tuple[str, str], list[Any]]
) -> Edits:
    """The edits of an arm with drawn units in place of its own."""
    left = {key: list(units) for key, units in chosen.items()}
    edits: list[Intervention] = []
    for edit, kind, counts in needs:
        units = [left[kind, group].pop(0) for group, count in counts.items() for _ in range(count)]
        edits += edit.with_units(kind, units)
    return tuple(edits)
