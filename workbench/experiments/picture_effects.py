"""How far two pictures are apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workbench.schema import InputError, ModelError, warn

Bytes: TypeAlias = NDArray[np.uint8]

_SIGMA: Final = 1.5
_RADIUS: Final = 5
_K1, _K2 = 0.01, 0.03


def psnr(one: Bytes, other: Bytes) -> float:
    """Peak signal-to-noise ratio of two pictures (pixel_y, pixel_x, channel), in dB; infinite for equal ones."""
    left, right = _alike(one, other)
    error = float(np.square(left - right).mean())
    return float(10 * np.log10(255**2 / error)) if error else float("inf")


def ssim(one: Bytes, other: Bytes) -> float:
    """Structural similarity of two pictures (pixel_y, pixel_x, channel), 1 for equal ones.

    Wang et al. 2004: a Gaussian window of 11 x 11 pixels and standard deviation 1.5, K1 = 0.01, K2 = 0.03, population
    covariances; the mean over the windows that lie inside the picture, and over its channels.

    Raises
    ------
    InputError
        If the pictures differ in shape or are smaller than a window.
    """
    left, right = _alike(one, other)
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


def perceptual(wanted: bool | None) -> Callable[[Bytes, Bytes], float] | None:
    """The perceptual distance LPIPS (Zhang et al. 2018, AlexNet), or None without it.

    Parameters
    ----------
    wanted
        None takes it where the library and its weights are there.

    Raises
    ------
    ModelError
        If it is wanted but cannot be had.
    """
    if wanted is False:
        return None
    try:
        import lpips
    except ImportError as error:
        if wanted:
            raise ModelError('perceptual=True needs LPIPS: pip install "concept-workbench[perceptual]".') from error
        return None
    except Exception as error:  # of torchvision, which breaks in its own ways beside another build of torch
        message = f"LPIPS is installed but cannot be imported ({error}): install the torchvision that fits this torch"
        _without(f"{message}, or pass perceptual=False.", wanted, error)
        return None
    import torch

    try:
        network: Any = lpips.LPIPS(net="alex", verbose=False)
    except OSError as error:  # the weights of AlexNet are fetched when they are first needed
        message = f"the weights of LPIPS cannot be had ({error}): connect once, or pass perceptual=False."
        _without(message, wanted, error)
        return None

    def distance(one: Bytes, other: Bytes) -> float:
        pair = [torch.from_numpy(p / 127.5 - 1).permute(2, 0, 1)[None].float() for p in _alike(one, other)]
        with torch.no_grad():
            return float(network(*pair))

    return distance


def _without(message: str, wanted: bool | None, error: Exception) -> None:
    if wanted:
        raise ModelError(message) from error
    warn(message, stacklevel=4)


def _alike(one: Bytes, other: Bytes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
