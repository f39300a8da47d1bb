"""How alike two images are: plain arrays."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from workbench.schema import InputError

_SIGMA: Final = 1.5
_RADIUS: Final = 5
_K1, _K2 = 0.01, 0.03


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of two images (pixel_y, pixel_x, channel) in bytes, in dB; infinite for equal ones.

    Raises
    ------
    InputError
        If the images differ in shape.
    """
    left, right = alike(one, other)
    error = float(np.square(left - right).mean())
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Structural similarity of two pictures (pixel_y, pixel_x, channel), 1 for equal ones.

    Wang et al. 2004: a Gaussian window of 11 x 11 pixels and standard deviation 1.5, K1 = 0.01, K2 = 0.03, population
    covariances; the mean over the windows that lie inside the picture, and over its channels.

    Raises
    ------
    InputError
        If the pictures differ in shape or are smaller than a window.
    """
    left, right = alike(one, other)
    if min(left.shape[:2]) < 2 * _RADIUS + 1:
        raise InputError(f"pictures of {left.shape[:2]} pixels have no window of {2 * _RADIUS + 1}: use larger ones.")
    mean_left, mean_right = _window(left), _window(right)
    variance_left = _window(left**2) - mean_left**2
    variance_right = _window(right**2) - mean_right**2
    covariance = _window(left * right) - mean_left * mean_right
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    similarity = ((2 * mean_left * mean_right + c1) * (2 * covariance + c2)) / (
        (mean_left**2 + mean_right**2 + c1) * (variance_left + variance_right + c2)
    )
    return float(similarity.mean())


def alike(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two images (pixel_y, pixel_x, channel) as float64.

    Raises
    ------
    InputError
        If they differ in shape.
    """
    if one.shape != other.shape or one.ndim != 3:
        raise InputError(f"pictures of shapes {one.shape} and {other.shape}; expected (pixel_y, pixel_x, channel).")
    return one.astype(np.float64), other.astype(np.float64)


def _window(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weighted mean over each window that lies inside the picture."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    weights /= weights.sum()
    for axis in (0, 1):
        length = values.shape[axis] - 2 * _RADIUS
        parts = (
            weight * values.take(range(start, start + length), axis)
            for start, weight in zip(range(len(offsets)), weights, strict=True)
        )
        values = np.sum(list(parts), axis=0)
    return values
