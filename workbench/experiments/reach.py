"""Where edits can show: which layers and timesteps of a run they reach, and where an experiment reads their effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workbench.experiments.planning import Arm, Edits
from workbench.interventions import SkipBlock, layers_in_words
from workbench.schema import InputError

DOWNSTREAM: Final = "downstream"
Readout: TypeAlias = int | Iterable[int] | slice | Literal["downstream"] | None
Cells: TypeAlias = NDArray[np.bool_]
"""(timestep, layer): which scores of a run are read."""


@dataclass(frozen=True)
class Recorded:
    """What the runs of an experiment hold.

    Attributes
    ----------
    timesteps
        1000 x sigma, in the order of the passes.
    layers
        Depths of the recorded layers.
    space
        The space that is read.
    generated
        Whether passes follow one another, each with the latents that the one before it made.
    """

    timesteps: tuple[float, ...]
    layers: tuple[int, ...]
    space: str
    generated: bool

    def reached(self, edits: Edits) -> Cells:
        """Which scores some edits can change, and leave to be read.

        Within a pass an edit acts from its own layer on, or strictly behind it
        (:meth:`workbench.interventions.Intervention.reaches`). In a generated run it acts on every layer of the passes
        after that, through the latents. What a block that is skipped would have given is not there to be read.
        """
        found = np.zeros((len(self.timesteps), len(self.layers)), dtype=bool)
        for edit in edits:
            acting = np.array([edit.acts_at(timestep) for timestep in self.timesteps])
            found |= np.outer(acting, [edit.reaches(layer, self.space) for layer in self.layers])
            if self.generated and not edit.of_concepts:
                found |= np.append(False, np.logical_or.accumulate(acting)[:-1])[:, None]
        left: Cells = found & ~self.skipped(edits)
        return left

    def skipped(self, edits: Edits) -> Cells:
        """Which scores are not there because their blocks are skipped."""
        found = np.zeros((len(self.timesteps), len(self.layers)), dtype=bool)
        for edit in edits:
            if isinstance(edit, SkipBlock):
                acting = [edit.acts_at(timestep) for timestep in self.timesteps]
                found |= np.outer(acting, [edit.acts_in(layer) for layer in self.layers])
        return found

    def kinds(self, edits: Edits) -> list[str]:
        """How some edits reach each layer.

        ``"own"``: they act inside it. ``"downstream"``: they act before it in the same pass. ``"later"``: only through
        the latents of later passes. ``"skipped"`` and ``"unreachable"``: there is nothing to read.
        """
        cells, skipped = self.reached(edits), self.skipped(edits)
        acting = [edit for edit in edits if any(edit.acts_at(timestep) for timestep in self.timesteps)]
        found = []
        for place, layer in enumerate(self.layers):
            if not cells[:, place].any():
                found.append("skipped" if skipped[:, place].any() else "unreachable")
            elif any(edit.acts_in(layer) and edit.lag(self.space) == 0 for edit in acting):
                found.append("own")
            else:
                found.append(DOWNSTREAM if any(edit.reaches(layer, self.space) for edit in acting) else "later")
        return found

    def read(self, edits: Edits, readout: Sequence[int] | Literal["downstream"]) -> Cells:
        """Which scores the read-out of some edits takes; none where part of a fixed read-out is out of their reach."""
        if readout == DOWNSTREAM:
            return self.of_kind(edits, DOWNSTREAM)
        cells, wanted = self.reached(edits), np.isin(self.layers, list(readout))
        # Every layer at the same timesteps, so that none weighs more than another.
        return np.outer(cells[:, wanted].all(axis=1), wanted)

    def of_kind(self, edits: Edits, kind: str) -> Cells:
        """Which scores lie in layers that some edits reach in one way."""
        cells: Cells = self.reached(edits) & np.array([found == kind for found in self.kinds(edits)])
        return cells

    def how(self, edits: Edits, readout: Sequence[int] | Literal["downstream"]) -> str:
        """How the read-out of some edits reaches them, as :meth:`kinds` names it; several are joined by ``" + "``."""
        kinds = self.kinds(edits)
        if readout == DOWNSTREAM:
            return DOWNSTREAM if DOWNSTREAM in kinds else "unreachable"
        found = {kind for kind, layer in zip(kinds, self.layers, strict=True) if layer in readout}
        missing = found & {"skipped", "unreachable"}
        return " + ".join(sorted(missing or found)) if self.read(edits, readout).any() or missing else "unreachable"

    def why(self, arm: Arm, readout: Sequence[int] | Literal["downstream"]) -> str:
        """Why the read-out of an intervention has no value, as a sentence; nothing where it has one."""
        if self.read(arm.edits, readout).any():
            return ""
        if readout == DOWNSTREAM:
            return f"{arm.label} has no effect to read: no recorded layer lies behind it."
        kinds = dict(zip(self.layers, self.kinds(arm.edits), strict=True))
        parts = [
            f"{does} {layers_in_words([layer for layer in readout if kinds[layer] == kind])}"
            for kind, does in (("unreachable", "cannot reach"), ("skipped", "leaves out"))
            if any(kinds[layer] == kind for layer in readout)
        ]
        reason = " and ".join(parts) or "reaches its layers at different timesteps"
        return f"{arm.label} {reason}, and the read-out is {layers_in_words(readout)}: it has no effect to read there."


def read_out(
    given: Readout, arms: Sequence[Arm], recorded: Sequence[int], default_layers: Sequence[int]
) -> tuple[int, ...] | Literal["downstream"]:
    """The layers where all interventions of a plan are read.

    Parameters
    ----------
    given
        What the caller chose; None for the model's default layers that lie downstream of every unit of the plan, or
        the last recorded layer where there is none.
    arms
        The plan.
    recorded, default_layers
        Depths.

    Raises
    ------
    InputError
        If a layer is chosen that is not recorded.
    """
    if given is None:
        edits = [edit for arm in arms for edit in arm.edits]
        everywhere = any(edit["layers"] is None for edit in edits)
        last = max(recorded) if everywhere else max(max(edit["layers"] or ()) for edit in edits)
        return tuple(layer for layer in recorded if layer > last and layer in default_layers) or (max(recorded),)
    if isinstance(given, str):
        if given != DOWNSTREAM:
            raise InputError(f"readout is {given!r}; expected layers, or 'downstream' for all behind each edit.")
        return DOWNSTREAM
    if isinstance(given, slice):
        ends = [given.start, given.stop]
        if given.step not in (None, 1) or not all(_whole(end) for end in ends):
            raise InputError(f"readout is {given}; expected both ends of a slice, such as slice(9, 18).")
        chosen = [layer for layer in recorded if min(ends) <= layer <= max(ends)]
    else:
        chosen = list(given) if isinstance(given, Iterable) else [given]
    if not chosen or not all(_whole(layer) for layer in chosen) or not set(chosen) <= set(recorded):
        raise InputError(
            f"readout is {given!r}; expected some of the recorded layers, {', '.join(map(str, recorded))}."
        )
    return tuple(sorted({int(layer) for layer in chosen}))


def _whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
