"""What an edit did: to the maps, where it can reach and everybody is read alike, and to the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.adding_truth import with_truth
from workbench.analysis.evaluation import truth_by_patch
from workbench.analysis.heatmaps import heatmap
from workbench.experiments.picture_effects import Bytes
from workbench.experiments.planning import Edits
from workbench.experiments.reach import Cells
from workbench.interventions import DropConcept, RandomDirection
from workbench.numerics.image_similarity import psnr, ssim
from workbench.numerics.measures import Reference, iou, map_distance, total_variation_distance
from workbench.numerics.resampling import mean_over_concepts, ratio

Values: TypeAlias = dict[str, NDArray[np.float64]]
"""Effects by name: (concept,) for those of single maps, () otherwise."""
Floats: TypeAlias = NDArray[np.float64]
Maps: TypeAlias = NDArray[np.float32]

OF_CONCEPT: Final = ("map_distance", "iou_shift")
"""Effects that each concept has; their means over concepts are called ``mean_…``."""
OF_MAPS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(OF_CONCEPT, (schema.CONCEPT,)),
    **{f"mean_{name}": () for name in OF_CONCEPT},
    "total_variation_distance": (),
}
"""Every effect on maps, and its dimensions."""
SIZES: Final[Mapping[str, Callable[[Floats], Floats]]] = {
    "map_distance": lambda value: value,
    "mean_map_distance": lambda value: value,
    "total_variation_distance": lambda value: value,
    "iou_shift": np.abs,
    "mean_iou_shift": np.abs,
    "psnr": np.negative,
    "ssim": np.negative,
    "perceptual": lambda value: value,
}
"""How large an effect is, for ranking: a lower PSNR is a larger one."""


@dataclass
class Outcome:
    """What is kept of one run.

    Parameters
    ----------
    ds
        Its dataset, in memory.
    space
        The space of its maps.
    """

    ds: xr.Dataset
    space: str
    _shares: dict[tuple[str, ...], Maps] = field(default_factory=dict)

    @classmethod
    def of(cls, run: xr.Dataset, space: str) -> Outcome:
        """The sums over heads and the picture of a run, read from disk."""
        return cls(run[[schema.total(space), schema.IMAGE]].load(), space)

    @property
    def generated(self) -> bool:
        """Whether each sample is a picture of its own."""
        return bool(self.ds.attrs["kind"] == "generate")

    def shares(self, concepts: Sequence[str], keep: bool = False) -> Maps:
        """Softmax over some concepts (sample, timestep, layer, concept, y, x), remembered if it is needed again.

        Frames of a video lie below one another.
        """
        key = tuple(concepts)
        if key in self._shares:
            return self._shares[key]
        chosen = self.ds.sel({schema.CONCEPT: list(concepts)})
        layers = self.ds[schema.LAYER].to_numpy().tolist()
        found = heatmap(chosen, space=self.space, layers=layers, keep=schema.PIECE_DIMS)
        plane = schema.spatial(found.dims)
        values = found.transpose(*schema.PIECE_DIMS, schema.CONCEPT, *plane).to_numpy()
        values = values.reshape(*values.shape[:4], -1, values.shape[-1])
        if keep:
            self._shares[key] = values
        return values

    @property
    def plane(self) -> tuple[int, int]:
        """Rows and columns of its maps; frames of a video lie below one another."""
        total = self.ds[schema.total(self.space)]
        *rows, columns = (total.sizes[dim] for dim in schema.spatial(total.dims))
        return math.prod(rows), columns

    def pooled(self, shares: Maps, cells: Cells) -> Maps:
        """Heat maps (sample, concept, y, x) of some timesteps and layers; samples of one picture are averaged too."""
        maps = shares[:, cells].mean(axis=1)
        return np.asarray(maps if self.generated else maps.mean(axis=0, keepdims=True))

    def pictures(self) -> list[Bytes]:
        """The pictures (pixel_y, pixel_x, channel), one for each sample."""
        return list(self.ds[schema.IMAGE].transpose(schema.SAMPLE, ...).to_numpy())


def shared_concepts(names: Sequence[str], *edits: Edits) -> list[str]:
    """The concepts that none of some edits drops."""
    plain = [edit.of if isinstance(edit, RandomDirection) else edit for one in edits for edit in one]
    dropped = {concept for edit in plain if isinstance(edit, DropConcept) for concept in edit["concepts"] or ()}
    return [name for place, name in enumerate(names) if name not in dropped and place not in dropped]


class MapEffects:
    """Effects on the heat maps of one run, against those of another.

    Parameters
    ----------
    baseline, edited
        The runs.
    concepts
        Those that are compared, and that the softmax is over; the others are NaN.
    truth
        What the IoU is with, patch by patch, for all concepts; without it the segmentation of the baseline.
    """

    def __init__(self, baseline: Outcome, edited: Outcome, concepts: Sequence[str], truth: Reference | None) -> None:
        self._names = baseline.ds[schema.CONCEPT].to_numpy().tolist()
        self._places = [self._names.index(name) for name in concepts]
        self._baseline = baseline
        # A softmax over the last concept that is left says nothing.
        self._comparable = len(concepts) >= min(2, len(self._names))
        self._truth = truth
        if self._comparable:
            self._before, self._after = baseline.shares(concepts, keep=True), edited.shares(concepts)

    def over(self, cells: Cells) -> Values:
        """All effects on the maps that are averaged over some timesteps and layers; NaN over none."""
        found = {name: np.full(len(self._names) if dims else (), np.nan) for name, dims in OF_MAPS.items()}
        if not self._comparable or not cells.any():
            return found
        before, after = (self._baseline.pooled(shares, cells) for shares in (self._before, self._after))
        found["map_distance"][self._places] = map_distance(after, before)
        found["iou_shift"][self._places] = self._iou_shift(before, after)
        found["total_variation_distance"] = np.array(total_variation_distance(after, before))
        return found | {f"mean_{name}": np.array(mean_over_concepts(found[name])) for name in OF_CONCEPT}

    def by_layer(self, cells: Cells) -> Values:
        """The same for each layer, (layer, ...)."""
        layers = np.eye(cells.shape[1], dtype=bool)
        each = [self.over(cells & layer) for layer in layers]
        return {name: np.stack([values[name] for values in each]) for name in OF_MAPS}

    def _iou_shift(self, before: Maps, after: Maps) -> Floats:
        """(concept,): intersections and unions are summed over samples; NaN for a concept that is nowhere."""
        if self._truth is None:
            parts = [iou(new[None], Reference.segmentation(old)) for old, new in zip(before, after, strict=True)]
            above, below = (np.concatenate(part) for part in zip(*parts, strict=True))
            return ratio(above.sum(0), below.sum(0)) - 1
        truth = Reference(self._truth.inside[self._places], self._truth.area, self._truth.labelled)
        old, new = (ratio(*(part.sum(0) for part in iou(maps, truth))) for maps in (before, after))
        return new - old


def picture_effects(baseline: Outcome, edited: Outcome, perceptual: Callable[[Bytes, Bytes], float] | None) -> Values:
    """PSNR, SSIM and, where there is one, the perceptual distance of generated pictures, each a mean over samples.

    PSNR is infinite where every picture is unchanged. Beside others that are not, one that is unchanged counts as if
    one of its values were off by one, so that the mean still tells of the others.
    """
    measures: dict[str, Callable[[Bytes, Bytes], float]] = {"psnr": psnr, "ssim": ssim}
    if perceptual is not None:
        measures["perceptual"] = perceptual
    pairs = list(zip(baseline.pictures(), edited.pictures(), strict=True))
    each = {name: np.array([measure(*pair) for pair in pairs]) for name, measure in measures.items()}
    if np.isfinite(each["psnr"]).any():
        most = 10 * np.log10(255**2 * pairs[0][0].size)
        each["psnr"] = np.minimum(each["psnr"], most)
    return {name: np.array(values.mean()) for name, values in each.items()}


def rank(effect: Floats, controls: Floats) -> Floats:
    """Share of the controls with a smaller effect; one of the same size counts half.

    Parameters
    ----------
    effect, controls
        (..., repeat): sizes; the effect in a repeat's own setting.

    Returns
    -------
    (...) in 0 .. 1; NaN where there is no control to compare with.
    """
    known = ~(np.isnan(effect) | np.isnan(controls))
    share = np.where(known, (controls < effect) + 0.5 * (controls == effect), 0.0).sum(-1)
    return ratio(share, known.sum(-1))


def p_value(effect: Floats, controls: Floats) -> Floats:
    """How often a control has at least the effect of an edit, (k + 1) / (n + 1), the edit counted among them.

    Parameters
    ----------
    effect, controls
        (..., repeat): sizes; the effect in a repeat's own setting.

    Returns
    -------
    (...) in 0 .. 1; NaN where there is no control to compare with. Nothing is corrected for the number of edits.
    """
    known = ~(np.isnan(effect) | np.isnan(controls))
    beyond, count = (known & (controls >= effect)).sum(-1), known.sum(-1)
    return np.where(count > 0, (beyond + 1) / (count + 1), np.nan)


def truth_of(baseline: Outcome, truth: Any) -> Reference | None:
    """The masks to compare with, patch by patch, those that are given, without void pixels; None without any."""
    if truth is None:
        return None
    known = with_truth(baseline.ds, truth)
    grid = baseline.ds[schema.total(baseline.space)].isel(
        dict.fromkeys((*schema.PIECE_DIMS, schema.CONCEPT), 0), drop=True
    )
    places = grid.copy(data=np.arange(grid.size).reshape(grid.shape))
    return truth_by_patch(known, places, baseline.ds[schema.CONCEPT].to_numpy().tolist())
