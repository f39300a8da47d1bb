"""Classifier-free guidance: which of a step's passes, and which items of their batch, are of which branch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.schema import CONDITIONAL, UNCONDITIONAL, InputError

BranchName = Literal["conditional", "unconditional"]


@dataclass(frozen=True)
class Branch:
    """Where one branch of guidance is among the passes of a step and the items of their batch.

    Attributes
    ----------
    name : {"conditional", "unconditional"}
        Which branch.
    items : slice
        Its items of the batch.
    place, passes : int
        Which of how many passes of each step; a pass that the pipeline names is known by its name instead.
    """

    name: BranchName = CONDITIONAL
    items: slice = field(default_factory=lambda: slice(None))
    place: int = 0
    passes: int = 1

    def takes(self, name: str | None, index: int) -> bool:
        """Whether a pass is (also) of this branch.

        Parameters
        ----------
        name : str or None
            What the pipeline calls it with ``cache_context``: ``cond``, ``uncond`` or, for one batch, ``cond_uncond``;
            diffusers' guiders say ``pred_cond`` and ``pred_uncond``.
        index : int
            How many passes came before it.
        """
        if name is None or name == "cond_uncond":
            return index % self.passes == self.place
        if self.name == UNCONDITIONAL:
            return name in ("uncond", "pred_uncond")
        return not ("uncond" in name or name.endswith("skip"))


def alone() -> dict[str, Branch]:
    """Without guidance: every pass and item is conditional."""
    return {CONDITIONAL: Branch()}


def in_passes(first: BranchName = CONDITIONAL) -> dict[str, Branch]:
    """Two passes a step, one for each branch.

    Parameters
    ----------
    first : {"conditional", "unconditional"}
        Which comes first.
    """
    return {branch.name: branch for branch in (Branch(n, place=p, passes=2) for p, n in enumerate(_order(first)))}


def in_batch(first: BranchName = UNCONDITIONAL, count: int = 1) -> dict[str, Branch]:
    """One pass a step, whose batch holds both branches.

    Parameters
    ----------
    first : {"conditional", "unconditional"}
        Which comes first in the batch.
    count : int
        Items of each.
    """
    return {n: Branch(n, slice(p * count, (p + 1) * count)) for p, n in enumerate(_order(first))}


def by_true_guidance(options: Mapping[str, Any]) -> dict[str, Branch]:
    """Of a pipeline that guides in passes of their own, once it has a negative prompt and a strength above 1."""
    return in_passes() if options["negative_prompt"] is not None and options["true_guidance"] > 1 else alone()


def refuse_true_guidance(options: Mapping[str, Any]) -> None:
    """Of a pipeline whose ordinary guidance is classifier-free.

    Raises
    ------
    InputError
        If ``true_guidance`` was given.
    """
    if options["true_guidance"] != 1:
        raise InputError(
            f"true_guidance is {options['true_guidance']}, but this model's own guidance is the classifier-free one: "
            "give guidance= instead, with or without a negative_prompt."
        )


def _order(first: BranchName) -> Iterable[BranchName]:
    return (CONDITIONAL, UNCONDITIONAL) if first == CONDITIONAL else (UNCONDITIONAL, CONDITIONAL)
