"""Measuring every variant of a choice on every picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.adding_truth import masks_of, void_of
from workbench.analysis.heatmaps import to_pixels
from workbench.analysis.selection import Labels
from workbench.analysis.steps import Steps
from workbench.analysis.sweep_variants import Choice, Scores
from workbench.numerics.measures import MEASURES, Fraction, Measure, Reference
from workbench.schema import InputError

Values = dict[str, Fraction]
"""By measure: numerator and denominator, (observation, \\*swept) with ``concept`` last where it has one. Those of the
full map, over everything chosen, have no swept dimensions and go by the measure's name and :data:`FULL`."""

FULL: Final = "_full"
_PART: Final = 32
"""Variants that are measured at once."""


@dataclass(frozen=True)
class Observation:
    """One picture, or one noise sample of it.

    Attributes
    ----------
    scores
        Where its scores are.
    samples
        Positions of its samples among the chosen ones.
    concepts
        Positions of the concepts that are compared.
    names
        Their names.
    truth
        Masks of these concepts, patch by patch; None without truth.
    """

    scores: Scores
    samples: tuple[int, ...]
    concepts: tuple[int, ...]
    names: tuple[str, ...]
    truth: Reference | None

    def reference(self, measure: Measure, full: NDArray[np.float32]) -> Reference:
        """What a measure compares this observation's maps with."""
        return self.truth if measure.against == "truth" and self.truth else Reference.segmentation(full)


def observe(
    datasets: Sequence[xr.Dataset], choice: Choice, concepts: Labels, *, truth: bool, steps: Steps | None = None
) -> tuple[list[Observation], str]:
    """The observations of some datasets, and what one of them is: a ``"sample"`` or an ``"image"``.

    Each sample is one when there is one dataset, or when samples are pictures of their own; otherwise each dataset is
    one, and the maps of its samples are averaged. Nothing is read. Every piece that will be read is a step.
    """
    step = steps or Steps()
    observations: list[Observation] = []
    for ds in datasets:
        scores = Scores(ds, choice, step)
        own = pictures(ds) > 1
        if own and schema.SAMPLE in choice.over and choice.how != "only":
            raise InputError(
                f"how={choice.how!r} averages the maps of different pictures: this run generated one for each sample. "
                "Sweep them with how='only'."
            )
        positions = selection.concept_positions(ds[schema.total(choice.spaces[0])], concepts)
        names = tuple(scores.concepts[position] for position in positions)
        masks = truth_by_patch(ds, scores.grid, names) if truth else None
        samples = range(len(scores.labels[schema.SAMPLE]))
        apart = schema.SAMPLE not in choice.over and (len(datasets) == 1 or own)
        groups = [(sample,) for sample in samples] if apart else [tuple(samples)]
        observations += [Observation(scores, group, tuple(positions), names, masks) for group in groups]
    _check_alike(observations, choice)
    images = len(datasets) > 1 or schema.SAMPLE in choice.over or pictures(datasets[0]) > 1
    return observations, "image" if images else "sample"


def pictures(ds: xr.Dataset) -> int:
    """Number of different pictures in a dataset."""
    return ds[schema.IMAGE].sizes.get(schema.SAMPLE, 1) if schema.IMAGE in ds else 1


def words(observations: Sequence[Observation]) -> list[str]:
    """The concepts of all observations, in the order of first appearance."""
    return list(dict.fromkeys(name for one in observations for name in one.names))


def evaluate(observations: Sequence[Observation], metrics: Sequence[str], steps: Steps | None = None) -> Values:
    """Measure every variant on every observation; every measure of a variant is a step."""
    step = steps or Steps()
    if steps is not None:
        scores = observations[0].scores
        variants = math.prod(len(scores.variant_labels(dim)) for dim in scores.choice.over)
        steps.total = sum(one.scores.count(one.samples) for one in observations)
        steps.total += len(observations) * variants * len(metrics)
    found: dict[str, list[Fraction]] = {name + end: [] for name in metrics for end in ("", FULL)}
    names = words(observations)
    for one in observations:
        if "total_variation" in metrics and one.scores.grid.ndim > 2:
            raise InputError(
                "total_variation compares neighbours in one picture, and this run has several frames: choose one, "
                f"ds.isel({schema.FRAME}=[0])."
            )
        maps, full = one.scores.maps(one.samples)
        swept = maps.shape[:-3]
        maps, full = maps.reshape(-1, *maps.shape[-3:])[:, list(one.concepts)], full[list(one.concepts)]
        for name in metrics:
            above, below = _in_parts(one, MEASURES[name], maps, full, names, step)
            found[name].append((above.reshape(*swept, *above.shape[1:]), below.reshape(*swept, *below.shape[1:])))
            above, below = measured(one, MEASURES[name], full[None], full, names)
            found[name + FULL].append((above[0], below[0]))
    return {name: _stacked(fractions) for name, fractions in found.items()}


def measured(
    one: Observation, measure: Measure, maps: NDArray[np.float32], full: NDArray[np.float32], names: Sequence[str]
) -> Fraction:
    """One measure of maps (variant, concept, y, x), with concepts as in ``names``; 0 / 0 for those it lacks."""
    fraction = measure(maps, one.reference(measure, full))
    if not measure.per_concept:
        return fraction
    places = [names.index(name) for name in one.names]
    above, below = (np.zeros((len(maps), len(names))) for _ in range(2))
    above[:, places], below[:, places] = fraction
    return above, below


def _in_parts(
    one: Observation,
    measure: Measure,
    maps: NDArray[np.float32],
    full: NDArray[np.float32],
    names: Sequence[str],
    step: Steps,
) -> Fraction:
    """The same as :func:`measured`, some variants at a time."""
    found = []
    for start in range(0, len(maps), _PART):
        part = maps[start : start + _PART]
        found.append(measured(one, measure, part, full, names))
        step(len(part))
    above, below = zip(*found, strict=True)
    return np.concatenate(above), np.concatenate(below)


def merit(measure: Measure, fraction: Fraction) -> NDArray[np.float64]:
    """One figure for each variant over all observations, better when higher; NaN where there is nothing."""
    values = measure.value(*(part.sum(0) for part in fraction))
    return values if measure.higher_is_better else -values


def pick(
    observations: Sequence[Observation], metrics: Sequence[str], most: int, steps: Steps | None = None
) -> tuple[list[int], Values]:
    """Best-first selection by the first measure.

    Starting from nothing, the member is added with which the maps of all chosen so far are best; the first one wins a
    draw. What was captured nowhere is not chosen. Returns flat positions of the members and the values of every
    measure, with the rank as the swept dimension.
    """
    choice = observations[0].scores.choice
    names, leading = words(observations), MEASURES[metrics[0]]
    by_head = schema.HEAD in choice.over
    count = math.prod(len(observations[0].scores.labels[dim]) for dim in choice.over)
    members = list(range(count))
    if not by_head:
        captured = sum(one.scores.captured(one.samples).ravel() for one in observations)
        members = np.flatnonzero(captured).tolist()
    step, ranks = steps or Steps(), min(most, len(members))
    if steps is not None:
        readings = 1 + (ranks if by_head else 1)
        steps.total = readings * sum(one.scores.count(one.samples) for one in observations)
        steps.total += len(observations) * sum(len(members) - rank for rank in range(ranks))
    growing = [(_by_head if by_head else _by_cell)(one) for one in observations]
    fulls = [one.scores.maps(one.samples)[1][list(one.concepts)] for one in observations]
    chosen: list[int] = []
    ranked: dict[str, list[Fraction]] = {name: [] for name in metrics}
    while len(chosen) < ranks:
        rest = [member for member in members if member not in chosen]
        maps = [
            candidates(chosen, rest)[:, list(one.concepts)]
            for one, candidates in zip(observations, growing, strict=True)
        ]
        found = _stacked(
            [
                _in_parts(one, leading, tried, full, names, step)
                for one, tried, full in zip(observations, maps, fulls, strict=True)
            ]
        )
        values = merit(leading, found)
        if np.isnan(values).all():
            break
        best = int(np.nanargmax(values))
        chosen.append(rest[best])
        for name in metrics:
            parts = [
                measured(one, MEASURES[name], tried[[best]], full, names)
                for one, tried, full in zip(observations, maps, fulls, strict=True)
            ]
            ranked[name].append(_stacked(parts))
    if not chosen:
        raise InputError(
            f"there is nothing to choose by: {metrics[0]!r} has no value for any choice, for example because no pixel "
            "is labelled. Choose another metric."
        )
    joined = {
        name: (np.concatenate([above for above, _ in found], 1), np.concatenate([below for _, below in found], 1))
        for name, found in ranked.items()
    }
    for name in metrics:
        parts = [
            measured(one, MEASURES[name], full[None], full, names)
            for one, full in zip(observations, fulls, strict=True)
        ]
        joined[name + FULL] = _stacked([(above[0], below[0]) for above, below in parts])
    return chosen, joined


Candidates = Callable[[list[int], list[int]], NDArray[np.float32]]
"""Maps (candidate, concept, y, x) of the chosen members and each further one."""


def _by_cell(one: Observation) -> Candidates:
    cells, counts = one.scores.cells(one.samples, heads=False)
    swept = len(one.scores.choice.cell_dims)
    cells, counts = cells.reshape(-1, *cells.shape[swept:]), counts.ravel()

    def candidates(chosen: list[int], rest: list[int]) -> NDArray[np.float32]:
        return one.scores.finish(cells[chosen].sum(0) + cells[rest], counts[chosen].sum() + counts[rest])

    return candidates


def _by_head(one: Observation) -> Candidates:
    """Heads come together before the softmax: every step reads the scores again and keeps none of them."""

    def candidates(chosen: list[int], rest: list[int]) -> NDArray[np.float32]:
        sums, count = np.zeros(()), 0
        for _, scores in one.scores.pieces(one.samples):
            wide = scores.astype(np.float32)
            sums = sums + one.scores.softmaxed(wide[chosen].sum(0) + wide[rest])
            count += 1
        return one.scores.finish(sums, np.asarray(count))

    return candidates


def truth_by_patch(ds: xr.Dataset, grid: xr.DataArray, names: Sequence[str]) -> Reference:
    """The masks of a dataset, patch by patch, without void pixels.

    Parameters
    ----------
    ds
        With a truth.
    grid
        Numbers of the patches (y, x), counted row by row.
    names
        The concepts.

    Raises
    ------
    InputError
        If it holds several pictures.
    """
    whole = masks_of(ds)
    if pictures(ds) > 1:
        raise InputError(
            f"this dataset holds {pictures(ds)} different pictures and one set of masks; choose one picture first: "
            "ds.isel(sample=[0])."
        )
    # A pixel belongs to the patch that stands for it in a map brought to pixels.
    patches = to_pixels(grid, ds, "nearest")
    plane = schema.spatial(patches.dims)
    masks = whole.sel({dim: patches[dim] for dim in whole.dims if dim in plane}).sel({schema.CONCEPT: list(names)})
    # The masks of a video are those of each of its frames.
    shown = xr.broadcast(masks, patches)[0].transpose(schema.CONCEPT, *plane).to_numpy()
    at = patches.transpose(*plane).to_numpy()

    def count(where: NDArray[np.bool_]) -> NDArray[np.float64]:
        numbers = np.bincount(at[where], minlength=grid.size)
        return numbers.reshape(-1, grid.shape[-1]).astype(np.float64)

    known = np.ones(at.shape, dtype=bool)
    if (void := void_of(ds)) is not None:
        void = void.sel({dim: patches[dim] for dim in void.dims})
        known = ~xr.broadcast(void, patches)[0].transpose(*plane).to_numpy()
        shown = shown & known
    inside = np.stack([count(mask) for mask in shown])
    return Reference(inside, count(known), float(shown.any(0).sum()))


def _check_alike(observations: Sequence[Observation], choice: Choice) -> None:
    """Refuse datasets whose swept values differ."""
    for dim in choice.over:
        labels = observations[0].scores.labels[dim]
        for one in observations:
            if one.scores.labels[dim] != labels:
                raise InputError(
                    f"the datasets differ in {dim}: {one.scores.labels[dim]} and {labels}; expected the same in all. "
                    f"Choose those they share with {dim}s=, or capture alike."
                )


def _stacked(fractions: Sequence[Fraction]) -> Fraction:
    return np.stack([above for above, _ in fractions]), np.stack([below for _, below in fractions])
