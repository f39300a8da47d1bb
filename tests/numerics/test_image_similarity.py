from __future__ import annotations

import numpy as np
import pytest

from workbench.numerics import image_similarity
from workbench.schema import InputError

RNG = np.random.default_rng(0)
ONE = RNG.integers(0, 255, (20, 24, 3), dtype=np.uint8)
OTHER = np.clip(ONE + RNG.normal(0, 20, ONE.shape), 0, 255).astype(np.uint8)


def reference_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, window by window."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        for row in range(one.shape[0] - 10):
            for column in range(one.shape[1] - 10):
                left, right = (
                    picture[row : row + 11, column : column + 11, channel].astype(float) for picture in (one, other)
                )
                mean_left, mean_right = (window * left).sum(), (window * right).sum()
                deviation_left, deviation_right = left - mean_left, right - mean_right
                variances = (window * deviation_left**2).sum() + (window * deviation_right**2).sum()
                covariance = (window * deviation_left * deviation_right).sum()
                above = (2 * mean_left * mean_right + c1) * (2 * covariance + c2)
                values.append(above / ((mean_left**2 + mean_right**2 + c1) * (variances + c2)))
    return float(np.mean(values))


def test_ssim_equals_the_definition() -> None:
    assert image_similarity.ssim(ONE, OTHER) == pytest.approx(reference_ssim(ONE, OTHER), abs=1e-9)
    assert image_similarity.ssim(ONE, 255 - ONE) == pytest.approx(reference_ssim(ONE, 255 - ONE), abs=1e-9)
    assert image_similarity.ssim(ONE, ONE) == 1


def test_psnr_of_a_known_error() -> None:
    shifted = np.where(ONE < 128, ONE + 10, ONE - 10).astype(np.uint8)
    assert image_similarity.psnr(ONE, shifted) == pytest.approx(20 * np.log10(255 / 10))
    assert image_similarity.psnr(ONE, ONE) == float("inf")


def test_pictures_have_to_be_alike_and_large_enough() -> None:
    with pytest.raises(InputError, match="shapes"):
        image_similarity.psnr(ONE, OTHER[:-1])
    with pytest.raises(InputError, match="no window of 11"):
        image_similarity.ssim(ONE[:10], OTHER[:10])
