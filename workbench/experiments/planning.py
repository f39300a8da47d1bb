"""Arms: the interventions of a plan, and the network that they are of."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from workbench.interventions import Each, Given, Intervention, in_words, read
from workbench.schema import InputError

Edits: TypeAlias = tuple[Intervention, ...]
Plan: TypeAlias = Given | Each | Iterable[Given | Each | Sequence[Given]]


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
    depth: int
    heads: int
    concepts: tuple[str, ...]
    words: tuple[int, ...]
    text_length: int


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
