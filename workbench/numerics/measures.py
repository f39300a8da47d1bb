"""Figures of merit of many maps at once, as sums that add up over pictures: plain arrays, no labels.

Every measure takes maps (variant, concept, y, x) and gives a numerator and a denominator, (variant, concept) or
(variant). Its value over several pictures is the sum of the numerators by the sum of the denominators: for IoU that is
intersection and union over the whole set, for the others the mean over pictures. Both are 0 where there is nothing to
measure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workbench.numerics.resampling import mean_over_concepts, ratio
from workbench.schema import warn

Maps: TypeAlias = NDArray[np.float32]
Fraction: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Numerator and denominator."""

SILHOUETTE_PATCHES: Final = 1024
"""A silhouette compares all pairs of patches: of more than this many, so many are drawn (always the same ones)."""


@dataclass(frozen=True)
class Reference:
    """What maps are compared with.

    Attributes
    ----------
    inside
        (concept, y, x): pixels of each patch that show the concept.
    area
        (y, x): pixels of each patch, but for void ones.
    labelled
        Pixels that show any concept.
    """

    inside: NDArray[np.float64]
    area: NDArray[np.float64]
    labelled: float

    @classmethod
    def segmentation(cls, maps: Maps) -> Reference:
        """The segmentation that maps (concept, y, x) make, a patch counting as one pixel."""
        return cls.of_labels(maps.argmax(0), len(maps))

    @classmethod
    def of_labels(cls, labels: NDArray[Any], concepts: int) -> Reference:
        """A segmentation (y, x) into positions of concepts; what is no such position shows none, and still counts."""
        inside = (labels == np.arange(concepts)[:, None, None]).astype(np.float64)
        return cls(inside, np.ones(labels.shape), float(labels.size))


def iou(maps: Maps, reference: Reference) -> Fraction:
    """Intersection and union of each concept's segment with its region in the reference, in pixels."""
    return iou_of_labels(maps.argmax(1), reference)


def iou_of_labels(labels: NDArray[Any], reference: Reference) -> Fraction:
    """The same as :func:`iou`, of segmentations (variant, y, x) into positions of concepts."""
    right, predicted = _overlap(labels, reference)
    return right, predicted + reference.inside.sum((-2, -1)) - right


def accuracy(maps: Maps, reference: Reference) -> Fraction:
    """Labelled pixels given a right concept, and labelled pixels."""
    right, _ = _overlap(maps.argmax(1), reference)
    return right.sum(-1), np.full(len(maps), reference.labelled)


def average_precision(maps: Maps, reference: Reference) -> Fraction:
    """Area under the precision-recall curve of each concept's map over pixels, as scikit-learn defines it."""
    variants, concepts = maps.shape[:2]
    flat = maps.reshape(variants, concepts, -1)
    inside, area = reference.inside.reshape(concepts, -1), reference.area.ravel()
    found, there = np.zeros((variants, concepts)), np.zeros((variants, concepts))
    positions = np.arange(flat.shape[-1])
    for concept in range(concepts):
        positives = inside[concept].sum()
        if not positives:
            continue
        for variant in range(variants):
            order = np.argsort(-flat[variant, concept])
            level, hits = flat[variant, concept, order], inside[concept, order]
            # The strongest patches may be void: no pixel of theirs counts.
            precision = np.cumsum(hits) / np.maximum(np.cumsum(area[order]), 1)
            # Patches of one value are taken together: each counts with the precision at the end of its group.
            last = np.append(level[1:] != level[:-1], True)
            end = np.minimum.accumulate(np.where(last, positions, len(positions))[::-1])[::-1]
            found[variant, concept] = (hits * precision[end]).sum() / positives
        there[:, concept] = 1
    return found, there


def entropy(maps: Maps, reference: Reference | None = None) -> Fraction:
    """Entropy of the shares at each patch, 0 (decided) to 1 (all concepts alike), averaged over patches."""
    concepts = maps.shape[1]
    shares = maps.astype(np.float64)
    shares /= shares.sum(1, keepdims=True)
    bits = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1).mean((-2, -1))
    comparable = float(concepts > 1)
    return bits / np.log(max(concepts, 2)) * comparable, np.full(len(maps), comparable)


def calinski_harabasz(maps: Maps, reference: Reference | None = None) -> Fraction:
    """How far apart the segments lie in the space of shares: dispersion between them over dispersion within."""
    between, overall, segments = _dispersion(maps)
    within, count = np.maximum(overall - between, 0), math.prod(maps.shape[2:])
    known = (segments > 1) & (segments < count)
    tiny = np.finfo(np.float64).eps * count * overall  # what is left of rounding, whatever the scale
    spread = np.where(within > tiny, within, 1)
    value = np.where(within > tiny, between / spread * (count - segments) / np.maximum(segments - 1, 1), 1)
    return np.where(known, value, 0), known.astype(np.float64)


def separability(maps: Maps, reference: Reference | None = None) -> Fraction:
    """Share of the variance of the shares that lies between the segments (eta squared), 0 to 1; 0 without variance."""
    between, overall, _ = _dispersion(maps)
    return np.where(overall > 0, between / np.where(overall > 0, overall, 1), 0), np.ones(len(maps))


def silhouette(maps: Maps, reference: Reference | None = None) -> Fraction:
    """Mean silhouette of the segments in the space of shares, -1 to 1, by scikit-learn."""
    from sklearn.metrics import silhouette_score  # type: ignore[import-untyped]

    points, labels = maps.reshape(*maps.shape[:2], -1).swapaxes(1, 2), _labels(maps)
    count = points.shape[1]
    if count > SILHOUETTE_PATCHES:
        drawn = np.random.default_rng(0).choice(count, SILHOUETTE_PATCHES, replace=False)
        points, labels, count = points[:, drawn], labels[:, drawn], SILHOUETTE_PATCHES
    value, known = np.zeros(len(maps)), np.zeros(len(maps))
    for variant, (point, label) in enumerate(zip(points, labels, strict=True)):
        if 1 < len(np.unique(label)) < count:
            value[variant], known[variant] = silhouette_score(point, label), 1
    return value, known


def total_variation(maps: Maps, reference: Reference | None = None) -> Fraction:
    """Mean difference between neighbouring patches of each concept's map: small is smooth."""
    steps = sum(np.abs(np.diff(maps, axis=axis)).sum((-2, -1), dtype=np.float64) for axis in (-2, -1))
    height, width = maps.shape[-2:]
    pairs = (height - 1) * width + height * (width - 1)
    return np.broadcast_to(steps / max(pairs, 1), maps.shape[:2]), np.full(maps.shape[:2], float(pairs > 0))


def map_distance(one: Maps, other: Maps) -> NDArray[np.float32]:
    """Mean absolute difference of maps (sample, concept, …), (concept); samples that lack a map are left out."""
    differences = np.abs(one - other)
    known, axes = ~np.isnan(differences), (0, *range(2, differences.ndim))
    total = np.where(known, differences, 0).sum(axes)
    return ratio(total, known.sum(axes)).astype(differences.dtype)


def total_variation_distance(one: Maps, other: Maps) -> float:
    """Mean over patches of how far the shares of the concepts moved, 0 (nowhere) to 1 (from one concept to another).

    The total variation distance of two distributions over concepts, half the sum of absolute differences, at each
    patch of maps (sample, concept, y, x). Unlike :func:`map_distance`, which at most is 2 by the number of concepts, it
    does not shrink as concepts are added. Samples that lack a map are left out; NaN of nothing.
    """
    moved = 0.5 * np.abs(one - other).sum(1)
    return float(ratio(np.nansum(moved), (~np.isnan(moved)).sum()))


@dataclass(frozen=True)
class Measure:
    """A figure of merit.

    Attributes
    ----------
    compute
        Maps and a reference to numerator and denominator.
    against
        ``"truth"``, ``"full map"`` (the map of everything chosen), ``"default map"`` (the heat map of a run without
        any choice), or ``""`` where nothing is compared.
    per_concept
        Whether every concept has a value of its own.
    higher_is_better
        For choosing and ranking.
    """

    compute: Callable[..., Fraction]
    against: str = ""
    per_concept: bool = False
    higher_is_better: bool = True

    def __call__(self, maps: Maps, reference: Reference | None = None) -> Fraction:
        """Compute; where a variant's map is NaN there is nothing to measure."""
        known = np.isfinite(maps).all((1, 2, 3))
        shape = maps.shape[:2] if self.per_concept else maps.shape[:1]
        above, below = np.zeros(shape), np.zeros(shape)
        if known.any():
            above[known], below[known] = self.compute(maps if known.all() else maps[known], reference)
        return above, below

    def value(self, above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
        """One figure for each variant: the mean over concepts where they have values of their own; NaN of nothing."""
        values = ratio(above, below)
        return mean_over_concepts(values) if self.per_concept else values


MEASURES: Final[Mapping[str, Measure]] = {
    "iou": Measure(iou, "truth", per_concept=True),
    "accuracy": Measure(accuracy, "truth"),
    "ap": Measure(average_precision, "truth", per_concept=True),
    "full_map_iou": Measure(iou, "full map", per_concept=True),
    "entropy": Measure(entropy, higher_is_better=False),
    "calinski_harabasz": Measure(calinski_harabasz),
    "silhouette": Measure(silhouette),
    "total_variation": Measure(total_variation, per_concept=True, higher_is_better=False),
}
"""By the name that sweeps and rankings take."""

OVERVIEW: Final[Mapping[str, Measure]] = {
    "patch_agreement": Measure(accuracy, "default map"),
    "entropy": MEASURES["entropy"],
    "separability": Measure(separability),
    "iou": MEASURES["iou"],
    "ap": MEASURES["ap"],
}
"""By the name that the explorer's overview of layers and timesteps takes."""

FORMER_MEASURES: Final = {"agreement": "full_map_iou"}
FORMER_OVERVIEW: Final = {"agreement": "patch_agreement"}
"""What names of the release before are called now: one word stood for two figures."""


def renamed(what: str, name: Any, former: Mapping[str, str], stacklevel: int = 2) -> Any:
    """The name that is valid now; warns where it had another one in the release before.

    Parameters
    ----------
    what
        The argument that it was given to.
    name
        A name, or what was given in place of one, which is returned as it is.
    former
        Names of now by the former ones: :data:`FORMER_MEASURES` or :data:`FORMER_OVERVIEW`.
    stacklevel
        As in :func:`warnings.warn`.
    """
    if not isinstance(name, str) or name not in former:
        return name
    now = former[name]
    warn(
        f"{what}={name!r} is called {now!r} now, in results too; the former name will be refused by the next release.",
        stacklevel=stacklevel + 1,
    )
    return now


def _dispersion(maps: Maps) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(variant) each: squared distances between segments, those of all patches, and how many segments there are.

    Patches are points with one coordinate per concept, grouped by their strongest concept.
    """
    points = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    points -= points.mean(-1, keepdims=True)
    labels = _labels(maps)
    between, segments = np.zeros(len(maps)), np.zeros(len(maps))
    for concept in range(maps.shape[1]):
        members = (labels == concept).astype(np.float64)
        size = members.sum(-1)
        total = np.einsum("vcp,vp->vc", points, members)
        between += (total**2).sum(-1) / np.maximum(size, 1)
        segments += size > 0
    return between, (points**2).sum((1, 2)), segments


def _labels(maps: Maps) -> NDArray[Any]:
    """(variant, patch): the strongest concept."""
    return np.asarray(maps.argmax(1).reshape(len(maps), -1))


def _overlap(labels: NDArray[Any], reference: Reference) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(variant, concept) each: pixels of the concept's segment that show it, and all pixels of the segment."""
    labels = labels.reshape(len(labels), -1)
    counts = [
        (labels == concept).astype(np.float64) @ np.stack([inside.ravel(), reference.area.ravel()], -1)
        for concept, inside in enumerate(reference.inside)
    ]
    right, predicted = np.stack(counts, 1).transpose(2, 0, 1)
    return right, predicted
