from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from workbench.experiments import picture_effects
from workbench.schema import InputError, ModelError, WorkbenchWarning

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
    assert picture_effects.ssim(ONE, OTHER) == pytest.approx(reference_ssim(ONE, OTHER), abs=1e-9)
    assert picture_effects.ssim(ONE, 255 - ONE) == pytest.approx(reference_ssim(ONE, 255 - ONE), abs=1e-9)
    assert picture_effects.ssim(ONE, ONE) == 1


def test_psnr_of_a_known_error() -> None:
    shifted = np.where(ONE < 128, ONE + 10, ONE - 10).astype(np.uint8)
    assert picture_effects.psnr(ONE, shifted) == pytest.approx(20 * np.log10(255 / 10))
    assert picture_effects.psnr(ONE, ONE) == float("inf")


def test_pictures_have_to_be_alike_and_large_enough() -> None:
    with pytest.raises(InputError, match="shapes"):
        picture_effects.psnr(ONE, OTHER[:-1])
    with pytest.raises(InputError, match="no window of 11"):
        picture_effects.ssim(ONE[:10], OTHER[:10])


def test_without_lpips_there_is_no_perceptual_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert picture_effects.perceptual(None) is None
    assert picture_effects.perceptual(False) is None
    with pytest.raises(ModelError, match=r"concept-workbench\[perceptual\]"):
        picture_effects.perceptual(True)


def test_lpips_gets_pictures_from_minus_one_to_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def network(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        assert one.shape == (1, 3, 20, 24)
        assert -1 <= float(one.min()) < -0.9 < 0.9 < float(one.max()) <= 1
        return (one - other).abs().mean().reshape(1, 1, 1, 1)

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=lambda net, verbose: network))
    distance = picture_effects.perceptual(None)
    assert distance is not None
    assert distance(ONE, OTHER) == pytest.approx(np.abs(ONE.astype(float) - OTHER).mean() / 127.5, rel=1e-5)


def test_weights_that_cannot_be_had_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(net: str, verbose: bool) -> None:
        raise OSError("no route")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=offline))
    with pytest.warns(WorkbenchWarning, match="no route"):
        assert picture_effects.perceptual(None) is None
    with pytest.raises(ModelError, match="no route"):
        picture_effects.perceptual(True)


def test_an_lpips_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As beside a torchvision that was built for another torch."""
    (tmp_path / "lpips.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")')
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(WorkbenchWarning, match="nms does not exist"):
        assert picture_effects.perceptual(None) is None
    with pytest.raises(ModelError, match="the torchvision that fits this torch"):
        picture_effects.perceptual(True)
