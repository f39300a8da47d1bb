"""The dataset of an experiment, from the outcomes of its runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
import xarray as xr

from workbench.experiments.controls import Control
from workbench.experiments.effects import (
    OF_MAPS,
    SIZES,
    MapEffects,
    Outcome,
    Values,
    p_value,
    picture_effects,
    rank,
    shared_concepts,
)
from workbench.experiments.planning import Arm, Edits
from workbench.experiments.reach import DOWNSTREAM, Recorded
from workbench.numerics.measures import Reference
from workbench.schema import CONCEPT

INTERVENTION: Final = "intervention"
REPEAT: Final = "repeat"
READ_LAYER: Final = "read_layer"


@dataclass
class Experiment:
    """Effects of the arms and their controls, from the outcomes of all runs.

    Attributes
    ----------
    outcomes
        By edits; those of ``()`` are the baseline's.
    recorded
        What the runs hold.
    readout
        Where effects are read.
    concepts
        All of them.
    truth
        What the IoU is with; without it the segmentation of the baseline.
    distance
        The perceptual distance of two pictures, where it is measured.
    level
        Of the p values that were asked for.
    """

    outcomes: dict[Edits, Outcome]
    recorded: Recorded
    readout: tuple[int, ...] | Literal["downstream"]
    concepts: tuple[str, ...]
    truth: Reference | None
    distance: Callable[[Any, Any], float] | None
    level: float | None
    _pictures: dict[Edits, Values] = field(default_factory=dict)

    def result(self, arms: Sequence[Arm], controls: Sequence[Control]) -> xr.Dataset:
        """Everything, along intervention, repeat, read_layer and concept."""
        repeats = max(len(control.repeats) for control in controls)
        rows = [self._row(arm, control, repeats) for arm, control in zip(arms, controls, strict=True)]
        effects = [*OF_MAPS, *self._picture(())]
        found = xr.Dataset(coords=self._coordinates(arms, controls, repeats))
        for name in rows[0]:
            effect = next(one for one in effects if name == one or name in _parts(one))
            inner = OF_MAPS.get(effect, ())
            dims = tuple(dim for part, dim in _ALONG.items() if part in name.removeprefix(effect))
            found[name] = ((INTERVENTION, *dims, *inner), np.stack([row[name] for row in rows]))
        for name in effects if repeats else ():
            self._compare(found, name)
        return _described(found)

    def _row(self, arm: Arm, control: Control, repeats: int) -> Values:
        """Effects of one arm, and those of its control along the first axis."""
        edits = arm.edits
        maps, cells = self._maps(edits, edits), self.recorded.read(edits, self.readout)
        row: Values = maps.over(cells) | self._picture(edits)
        names = list(row)
        row |= {f"{name}_by_layer": values for name, values in maps.by_layer(self.recorded.reached(edits)).items()}
        for part, kind in (("own", "own"), (DOWNSTREAM, DOWNSTREAM)):
            pooled = maps.over(self.recorded.of_kind(edits, kind))
            row |= {f"{name}_{part}": values for name, values in pooled.items()}
        if not repeats:
            return row
        theirs: list[Values] = []
        for drawn in control.repeats:
            both = cells & self.recorded.reached(drawn)
            other = self._maps(drawn, edits, drawn)
            one: Values = other.over(both) | self._picture(drawn)
            layers = other.by_layer(self.recorded.reached(edits) & self.recorded.reached(drawn))
            paired = (
                maps
                if shared_concepts(self.concepts, drawn) == list(self.concepts)
                else self._maps(edits, edits, drawn)
            )
            theirs.append(
                {f"{name}_control": one[name] for name in names}
                | {f"{name}_by_layer_control": layers[name] for name, dims in OF_MAPS.items() if not dims}
                | {f"{name}_paired": value for name, value in paired.over(both).items()}
            )
        nothing = {name: np.full_like(value, np.nan) for name, value in theirs[0].items()} if theirs else None
        if nothing is None:
            one = {name: np.full_like(row[name], np.nan) for name in names}
            nothing = {f"{name}_control": one[name] for name in names}
            nothing |= {
                f"{name}_by_layer_control": row[f"{name}_by_layer"] * np.nan for name, d in OF_MAPS.items() if not d
            }
            nothing |= {f"{name}_paired": one[name] for name in OF_MAPS}
        theirs += [nothing] * (repeats - len(theirs))
        return row | {name: np.stack([values[name] for values in theirs]) for name in theirs[0]}

    def _compare(self, found: xr.Dataset, name: str) -> None:
        """Add the rank among the controls, and the p value where it was asked for."""
        size = SIZES[name]
        controls = found[f"{name}_control"].transpose(..., REPEAT)
        setting = found[f"{name}_paired" if name in OF_MAPS else name]
        own = size(setting.broadcast_like(controls).transpose(*controls.dims).to_numpy())
        drawn = size(controls.to_numpy())
        found[f"{name}_rank"] = (controls.dims[:-1], rank(own, drawn))
        if self.level is not None:
            count = (~(np.isnan(own) | np.isnan(drawn))).sum(-1)
            able = count >= least_repeats(self.level)
            found[f"{name}_p"] = (controls.dims[:-1], np.where(able, p_value(own, drawn), np.nan))

    def _coordinates(self, arms: Sequence[Arm], controls: Sequence[Control], repeats: int) -> dict[str, Any]:
        notes = [self.note(arm, control) for arm, control in zip(arms, controls, strict=True)]
        found: dict[str, Any] = {
            INTERVENTION: [arm.label for arm in arms],
            CONCEPT: list(self.concepts),
            READ_LAYER: list(self.recorded.layers),
            "reach": ((INTERVENTION, READ_LAYER), [self.recorded.kinds(arm.edits) for arm in arms]),
            "readout_reach": (INTERVENTION, [self.recorded.how(arm.edits, self.readout) for arm in arms]),
            "note": (INTERVENTION, notes),
            "control": (INTERVENTION, [control.kind for control in controls]),
            "draws_available": (INTERVENTION, [control.available for control in controls]),
        }
        if repeats:
            labels = [[Arm(one).label for one in control.repeats] for control in controls]
            padded = [one + [""] * (repeats - len(one)) for one in labels]
            found |= {REPEAT: range(repeats), "control_edit": ((INTERVENTION, REPEAT), padded)}
        return found

    def note(self, arm: Arm, control: Control) -> str:
        """What is to be said of one arm: why it has no value, and why no p."""
        notes = [self.recorded.why(arm, self.readout)]
        if self.level is not None and len(control.repeats) < least_repeats(self.level):
            notes.append(
                f"A p of {self.level:g} takes {least_repeats(self.level)} distinct controls, and {arm.label} has "
                f"{len(control.repeats)}: it has none."
            )
        return " ".join(filter(None, notes))

    def _maps(self, edits: Edits, *sides: Edits) -> MapEffects:
        """Effects on the maps of the concepts that no side drops."""
        concepts = shared_concepts(self.concepts, *sides)
        return MapEffects(self.outcomes[()], self.outcomes[edits], concepts, self.truth)

    def _picture(self, edits: Edits) -> Values:
        """Effects on the picture; none for a real one."""
        if not self.outcomes[()].generated:
            return {}
        if edits not in self._pictures:
            self._pictures[edits] = picture_effects(self.outcomes[()], self.outcomes[edits], self.distance)
        return self._pictures[edits]


def least_repeats(level: float) -> int:
    """How many controls it takes for a p value, (k + 1) / (n + 1), that can reach a level."""
    return int(np.ceil(1 / level - 1 - 1e-9))


def edits_of(arms: Sequence[Arm]) -> list[str]:
    """What each arm does, as JSON."""
    return [json.dumps([edit.as_dict() for edit in arm.edits]) for arm in arms]


_ALONG: Final = {"_control": REPEAT, "_paired": REPEAT, "_by_layer": READ_LAYER}
_LABELS: Final = {
    "map_distance": ("mean absolute difference of the maps", "0 to 1"),
    "mean_map_distance": ("mean absolute difference of the maps", "0 to 2 / concepts"),
    "total_variation_distance": ("total variation distance of the shares of concepts at a patch", "0 to 1"),
    "iou_shift": ("shift of the IoU", "-1 to 1"),
    "mean_iou_shift": ("shift of the mean IoU", "-1 to 1"),
}


def _parts(effect: str) -> list[str]:
    return [f"{effect}_{part}" for part in ("control", "paired", "own", DOWNSTREAM, "by_layer", "by_layer_control")]


def _described(found: xr.Dataset) -> xr.Dataset:
    """With what the effects are, and the range they lie in."""
    for name, (text, ends) in _LABELS.items():
        for variable in (name, *_parts(name)):
            if variable in found:
                found[variable].attrs = {"long_name": text, "range": ends}
    return found
