"""Accuracy and IoU from counts of pixels, and every reading of "mIoU" that is in use: plain arrays.

Counts are whole numbers (..., truth, predicted) with one class more than there are: the last truth is void, the last
prediction is no class at all. They add up over images, so that what is summed first is a choice of the caller.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workbench.numerics.resampling import mean_over_concepts, ratio
from workbench.schema import InputError

Counts: TypeAlias = NDArray[np.int64]
"""(..., truth, predicted): pixels; void is the last truth, no class the last prediction."""
Overlap: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Intersection and union, (..., class)."""
VOID: Final = -1
"""The label of void pixels."""
AccuracyRule = Literal["excluded", "stacked"]
UnionRule = Literal["excluded", "union"]


def cells_of(shape: tuple[int, int], grid: tuple[int, int], corner: bool = False) -> NDArray[np.intp]:
    """Which cell of a map stands for each pixel, by nearest neighbour.

    Parameters
    ----------
    shape
        Height and width in pixels.
    grid
        Height and width of the map, in cells.
    corner
        Take the cell that holds a pixel's corner, as torch's ``interpolate(mode="nearest")`` does, and not the one that
        holds its centre. The two differ where the sides are no multiples.

    Returns
    -------
    (pixel_y, pixel_x) positions in the flattened map.
    """
    offset = 0.0 if corner else 0.5
    rows, columns = (
        np.minimum(((np.arange(pixels) + offset) * cells / pixels).astype(np.intp), cells - 1)
        for pixels, cells in zip(shape, grid, strict=True)
    )
    return rows[:, None] * grid[1] + columns


def counts_in_cells(labels: NDArray[Any], cells: NDArray[np.intp], classes: int, count: int) -> Counts:
    """Pixels of each class in each cell.

    Parameters
    ----------
    labels
        (pixel_y, pixel_x) whole numbers: positions of classes, or :data:`VOID`.
    cells
        (pixel_y, pixel_x) positions of cells, as :func:`cells_of` gives them.
    classes, count
        Number of classes and of cells.

    Returns
    -------
    (class, cell) int64, with void pixels last.

    Raises
    ------
    InputError
        If a label is no class.
    """
    values = np.asarray(labels)
    if values.shape != cells.shape or values.dtype.kind not in "iu":
        raise InputError(
            f"labels are {values.dtype} {values.shape}; expected whole numbers of the shape {cells.shape}."
        )
    wide = values.astype(np.int64)
    if wide.size and not VOID <= wide.min() <= wide.max() < classes:
        raise InputError(f"labels lie in {wide.min()} .. {wide.max()}; expected {VOID} (void) to {classes - 1}.")
    wide = np.where(wide == VOID, classes, wide)
    found = np.bincount((wide * count + cells).ravel(), minlength=(classes + 1) * count)
    return found.reshape(classes + 1, count).astype(np.int64)


def confusion(counts: Counts, predicted: NDArray[Any]) -> Counts:
    """Counts (truth, predicted) of a segmentation by cells.

    Parameters
    ----------
    counts
        (class, cell), as :func:`counts_in_cells` gives them.
    predicted
        (cell) positions of classes; :data:`VOID` for no class.
    """
    classes = len(counts) - 1
    columns = np.where(predicted == VOID, classes, predicted)
    found = np.zeros((classes + 1, classes + 1), dtype=np.int64)
    np.add.at(found.T, columns.ravel(), counts.reshape(classes + 1, -1).T)
    return found


def accuracy(counts: Counts, void: AccuracyRule = "excluded") -> Overlap:
    """Pixels given the right class, and pixels that count.

    Parameters
    ----------
    counts
        (..., truth, predicted).
    void
        ``"excluded"``, or ``"stacked"``: the public script for single classes of PascalVOC compares the pair (1 - mask,
        mask) with (1 - label, label), where a void label of -1 becomes 2. That half counts as labelled, and is never
        right: 2 correct / (2 labelled + void).
    """
    labelled = counts[..., :-1, :].sum((-2, -1))
    right = np.trace(counts[..., :-1, :-1], axis1=-2, axis2=-1)
    if void == "excluded":
        return right, labelled
    return 2 * right, 2 * labelled + counts[..., -1, :].sum(-1)


def overlap(counts: Counts, void: UnionRule = "excluded") -> Overlap:
    """Intersection and union of each class.

    Parameters
    ----------
    counts
        (..., truth, predicted).
    void
        ``"excluded"``, or ``"union"``: void pixels that were given a class are in its union, as the public script for
        several classes of PascalVOC has it.
    """
    inner = counts[..., :-1, :-1]
    both = np.diagonal(inner, axis1=-2, axis2=-1)
    predicted = (counts[..., :-1, :-1] if void == "excluded" else counts[..., :, :-1]).sum(-2)
    return both, counts[..., :-1, :].sum(-1) + predicted - both


def stacked(counts: Counts) -> Counts:
    """Counts of the stacked prediction (1 - mask, mask) against the stacked truth (1 - label, label).

    The public script for ImageNet-Segmentation compares these two pairs value by value, without an argmax: each pixel
    is there twice, once as it is and once with both classes exchanged. Void pixels are left out.

    Parameters
    ----------
    counts
        (..., 3, 3): background and foreground, and what is neither.

    Returns
    -------
    (..., 3, 3)

    Raises
    ------
    InputError
        If there are other classes than two, or a pixel was given no class.
    """
    if counts.shape[-2:] != (3, 3) or counts[..., :, -1].any():
        raise InputError(
            f"counts are {counts.shape}; expected those of background and foreground, with a class for every pixel: "
            "only two classes can be stacked."
        )
    inner = counts[..., :-1, :-1]
    found = np.zeros_like(counts)
    found[..., :-1, :-1] = inner + inner[..., ::-1, ::-1]
    return found


def mean_iou(overlaps: Overlap) -> NDArray[np.float64]:
    """Mean IoU over the classes that are predicted or true anywhere; NaN of nothing."""
    return mean_over_concepts(ratio(*overlaps))
