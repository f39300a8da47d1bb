"""Maths on score arrays: per-head inner products, softmax and the reductions that make a heat map.

Every function takes NumPy arrays and torch tensors alike and returns the kind it was given; neither torch nor
diffusers is imported here. Axes are integers: labelled data calls these functions through ``xarray.apply_ufunc``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from workbench.schema import InputError

Array = TypeVar("Array")
"""A NumPy array or a torch tensor."""

CENTRES: Final = (None, "patch")
"""What scores are measured from: as they are, or each concept's mean over the patches."""
REDUCTIONS: Final = ("softmax_mean", "mean_softmax", "mean")
"""How scores become a heat map: the paper's softmax first, one public helper's mean first, or no softmax."""


def _namespace(values: Any) -> Any:
    """Return the library an array belongs to (the module is loaded already, or the array could not exist)."""
    return sys.modules[type(values).__module__.partition(".")[0]]


def _at_least_float32(values: Any) -> Any:
    """Widen 16-bit floats, whose softmax and mean would lose three digits."""
    xp = _namespace(values)
    return xp.asarray(values, dtype=xp.float32) if values.dtype.itemsize < 4 else values


def head_scores(concept: Array, image: Array) -> Array:
    """Inner products of concept and image vectors, head by head (Helbling et al. 2025, output space).

    They are additive: summed over heads they equal the inner product of the full-width vectors.

    Parameters
    ----------
    concept : array (..., head, concept, dim)
        Vectors of the concepts (or of prompt tokens).
    image : array (..., head, patch, dim)
        Vectors of the image patches.

    Returns
    -------
    array (..., head, concept, patch)
    """
    return concept @ image.swapaxes(-1, -2)  # type: ignore[attr-defined, no-any-return]


def softmax(values: Array, axis: int) -> Array:
    """Softmax along one axis, stable for any finite scores.

    Parameters
    ----------
    values : array
        Scores; 16-bit floats are computed and returned as float32.
    axis : int
        The axis the result sums to one along.

    Returns
    -------
    array
        Same shape; NaN wherever any of the values along the axis is NaN.
    """
    xp = _namespace(values)
    wide = _at_least_float32(values)
    powers = xp.exp(wide - xp.amax(wide, axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)  # type: ignore[no-any-return]


def centred(values: Array, axes: Sequence[int]) -> Array:
    """Scores less their mean over the patches, so that a softmax over concepts does not depend on the values' origin.

    A vector ``m`` that is added to all values of a block, and taken back by the bias behind its attention, leaves the
    network as it is and adds ``<m, o_c>`` to every patch of a concept's output scores, and to each patch something
    that is the same for all concepts: the first goes with the mean, the second a softmax does not see.

    Parameters
    ----------
    values : array
        Scores; 16-bit floats are computed and returned as float32.
    axes : sequence of int
        The axes of the patches.
    """
    wide = _at_least_float32(values)
    return wide - wide.mean(tuple(axes), keepdims=True)  # type: ignore[no-any-return]


def reduce_maps(values: Array, *, concept_axis: int, mean_axes: Sequence[int], reduce: str = "softmax_mean") -> Array:
    """Reduce whole-head scores to heat maps.

    ``softmax_mean`` is the paper's (eq. 11): softmax over the concepts at each patch, for every sample, timestep and
    layer on its own, then the mean. ``mean_softmax`` averages the scores first and takes the softmax last, as one
    helper of the public code does. ``mean`` takes no softmax.

    Parameters
    ----------
    values : array (..., concept, ...)
        Scores already summed over the chosen heads.
    concept_axis : int
        Axis of the concepts.
    mean_axes : sequence of int
        Axes averaged away (samples, timesteps, layers); may be empty.
    reduce : {"softmax_mean", "mean_softmax", "mean"}
        The order of the two operations.

    Returns
    -------
    array
        ``values`` without ``mean_axes``. NaN is propagated, never skipped.

    Raises
    ------
    InputError
        If ``reduce`` is none of the three, or the concept axis is among ``mean_axes``.
    """
    if reduce not in REDUCTIONS:
        raise InputError(f"reduce is {reduce!r}; expected one of {', '.join(REDUCTIONS)}.")
    rank = len(values.shape)  # type: ignore[attr-defined]
    concept = concept_axis % rank
    means = tuple(axis % rank for axis in mean_axes)
    if concept in means:
        raise InputError(
            f"axis {concept_axis} holds the concepts and cannot be averaged away: take it out of mean_axes."
        )

    maps = _at_least_float32(values)
    if reduce == "softmax_mean":
        maps = softmax(maps, concept)
    if means:
        maps = maps.mean(axis=means)
    if reduce == "mean_softmax":
        maps = softmax(maps, concept - sum(axis < concept for axis in means))
    return maps  # type: ignore[no-any-return]


def linear_normalised(vectors: Array, concept_axis: int) -> Array:
    """Concept vectors scaled linearly across concepts, channel by channel, as some scripts of the public code have it.

    ``(c - min) / sum(c - min)``, with minimum and sum over the concepts. It acts on each channel alone, so inner
    products with it are still sums over heads; but it cannot be had from inner products.

    Parameters
    ----------
    vectors : array
        Vectors of the concepts; 16-bit floats are computed and returned as float32.
    concept_axis : int
        Axis of the concepts.

    Returns
    -------
    array
        Same shape: in every channel the least is 0 and the sum 1; all 0 where concepts do not differ.
    """
    xp = _namespace(vectors)
    wide = _at_least_float32(vectors)
    above = wide - xp.amin(wide, axis=concept_axis, keepdims=True)
    total = above.sum(axis=concept_axis, keepdims=True)
    return above / xp.where(total == 0, xp.ones_like(total), total)  # type: ignore[no-any-return]
