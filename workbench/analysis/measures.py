"""Figures of merit of many maps at once, as sums that add up over pictures: plain arrays, no labels.

Every measure takes maps (variant, concept, y, x) and gives a numerator and a denominator, (variant, concept) or
(variant). Its value over several pictures is the sum of the numerators by the sum of the denominators: for IoU that is
intersection and union over the whole set, for the others the mean over pictures. Both are 0 where there is nothing to
measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

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
        inside = (maps.argmax(0) == np.arange(len(maps))[:, None, None]).astype(np.float64)
        return cls(inside, np.ones(maps.shape[1:]), float(maps[0].size))


def iou(maps: Maps, reference: Reference) -> Fraction:
    """Intersection and union of each concept's segment with its region in the reference, in pixels."""
    right, predicted = _overlap(maps, reference)
    return right, predicted + reference.inside.sum((-2, -1)) - right


def accuracy(maps: Maps, reference: Reference) -> Fraction:
    """Labelled pixels given a right concept, and labelled pixels."""
    right, _ = _overlap(maps, reference)
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


def entropy(maps: Maps, reference: Reference) -> Fraction:
    """Entropy of the shares at each patch, 0 (decided) to 1 (all concepts alike), averaged over patches."""
    concepts = maps.shape[1]
    shares = maps.astype(np.float64)
    shares /= shares.sum(1, keepdims=True)
    bits = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(1).mean((-2, -1))
    comparable = float(concepts > 1)
    return bits / np.log(max(concepts, 2)) * comparable, np.full(len(maps), comparable)


def calinski_harabasz(maps: Maps, reference: Reference) -> Fraction:
    """How far apart the segments lie in the space of shares: dispersion between them over dispersion within."""
    points = maps.reshape(*maps.shape[:2], -1).astype(np.float64)
    points -= points.mean(-1, keepdims=True)
    labels, count = _labels(maps), points.shape[-1]
    between, segments = np.zeros(len(maps)), np.zeros(len(maps))
    for concept in range(maps.shape[1]):
        members = (labels == concept).astype(np.float64)
        size = members.sum(-1)
        total = np.einsum("vcp,vp->vc", points, members)
        between += (total**2).sum(-1) / np.maximum(size, 1)
        segments += size > 0
    within = np.maximum((points**2).sum((1, 2)) - between, 0)
    known = (segments > 1) & (segments < count)
    tiny = np.finfo(np.float64).eps * count
    spread = np.where(within > tiny, within, 1)
    value = np.where(within > tiny, between / spread * (count - segments) / np.maximum(segments - 1, 1), 1)
    return np.where(known, value, 0), known.astype(np.float64)


def silhouette(maps: Maps, reference: Reference) -> Fraction:
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


def total_variation(maps: Maps, reference: Reference) -> Fraction:
    """Mean difference between neighbouring patches of each concept's map: small is smooth."""
    steps = sum(np.abs(np.diff(maps, axis=axis)).sum((-2, -1), dtype=np.float64) for axis in (-2, -1))
    height, width = maps.shape[-2:]
    pairs = (height - 1) * width + height * (width - 1)
    return np.broadcast_to(steps / max(pairs, 1), maps.shape[:2]), np.full(maps.shape[:2], float(pairs > 0))


@dataclass(frozen=True)
class Measure:
    """A figure of merit.

    Attributes
    ----------
    compute
        Maps and a reference to numerator and denominator.
    against
        ``"truth"``, ``"full map"`` (the map of everything chosen), or ``""`` where nothing is compared.
    per_concept
        Whether every concept has a value of its own.
    higher_is_better
        For choosing and ranking.
    """

    compute: Callable[[Maps, Reference], Fraction]
    against: str = ""
    per_concept: bool = False
    higher_is_better: bool = True

    def __call__(self, maps: Maps, reference: Reference) -> Fraction:
        """Compute; where a variant's map is NaN there is nothing to measure."""
        known = np.isfinite(maps).all((1, 2, 3))
        shape = maps.shape[:2] if self.per_concept else maps.shape[:1]
        above, below = np.zeros(shape), np.zeros(shape)
        if known.any():
            above[known], below[known] = self.compute(maps if known.all() else maps[known], reference)
        return above, below


MEASURES: Final[Mapping[str, Measure]] = {
    "iou": Measure(iou, "truth", per_concept=True),
    "accuracy": Measure(accuracy, "truth"),
    "ap": Measure(average_precision, "truth", per_concept=True),
    "agreement": Measure(iou, "full map", per_concept=True),
    "entropy": Measure(entropy, higher_is_better=False),
    "calinski_harabasz": Measure(calinski_harabasz),
    "silhouette": Measure(silhouette),
    "total_variation": Measure(total_variation, per_concept=True, higher_is_better=False),
}
"""By the name that sweeps and rankings take."""


def _labels(maps: Maps) -> NDArray[Any]:
    """(variant, patch): the strongest concept."""
    return np.asarray(maps.argmax(1).reshape(len(maps), -1))


def _overlap(maps: Maps, reference: Reference) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(variant, concept) each: pixels of the concept's segment that show it, and all pixels of the segment."""
    labels = _labels(maps)
    counts = [
        (labels == concept).astype(np.float64) @ np.stack([inside.ravel(), reference.area.ravel()], -1)
        for concept, inside in enumerate(reference.inside)
    ]
    right, predicted = np.stack(counts, 1).transpose(2, 0, 1)
    return right, predicted
