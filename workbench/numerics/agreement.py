"""How alike maps of neighbouring layers are, and how alike they would be by chance: plain arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def neighbours_agree(maps: NDArray[np.float64]) -> float:
    """Mean correlation between the maps of neighbouring layers, over the patches.

    Each concept's mean over the patches is taken away first, so that a concept which is strong everywhere counts for
    nothing.

    Parameters
    ----------
    maps
        (layer, concept, patch).

    Returns
    -------
    -1 to 1; NaN with fewer than two layers. A map that is the same everywhere agrees with none: 0.
    """
    unit = _units(maps)
    return float((unit[1:] * unit[:-1]).sum(axis=1).mean()) if len(maps) > 1 else float("nan")


def shuffled_neighbours_agree(maps: NDArray[np.float64], repeats: int = 99, seed: int = 0) -> NDArray[np.float64]:
    """The same of maps whose patches are shuffled, in each layer otherwise, all concepts of a layer alike.

    Parameters
    ----------
    maps
        (layer, concept, patch).
    repeats
        How many times.
    seed
        Of the shuffling.

    Returns
    -------
    (repeat,)
    """
    rng = np.random.default_rng(seed)
    patches = maps.shape[-1]
    return np.array(
        [neighbours_agree(np.stack([layer[:, rng.permutation(patches)] for layer in maps])) for _ in range(repeats)]
    )


def _units(maps: NDArray[np.float64]) -> NDArray[np.float64]:
    """One vector of length 1 for each layer, or of zeros."""
    away = maps - maps.mean(axis=-1, keepdims=True)
    # What is left of one value after its mean is rounding, and points nowhere.
    away[np.ptp(maps, axis=-1) == 0] = 0
    vectors = away.reshape(len(maps), -1)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units: NDArray[np.float64] = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
    return units
