"""The perceptual distance of two images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from workbench.numerics.image_similarity import alike
from workbench.schema import ModelError, warn

Bytes: TypeAlias = NDArray[np.uint8]


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
        pair = [torch.from_numpy(p / 127.5 - 1).permute(2, 0, 1)[None].float() for p in alike(one, other)]
        with torch.no_grad():
            return float(network(*pair))

    return distance


def _without(message: str, wanted: bool | None, error: Exception) -> None:
    if wanted:
        raise ModelError(message) from error
    warn(message, stacklevel=4)
