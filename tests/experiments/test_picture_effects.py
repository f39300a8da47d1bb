from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from workbench.experiments import picture_effects
from workbench.schema import ModelError, WorkbenchWarning

RNG = np.random.default_rng(0)
ONE = RNG.integers(0, 255, (20, 24, 3), dtype=np.uint8)
OTHER = np.clip(ONE + RNG.normal(0, 20, ONE.shape), 0, 255).astype(np.uint8)


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
