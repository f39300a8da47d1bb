"""The whole training in small: what it leaves must be a pipeline that can be captured from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.tiny import autoencoder, train
from workbench.tiny.scenes import NOUNS, draw


@pytest.mark.filterwarnings("ignore:Mismatch dtype", "ignore:.*drawn scenes only")
def test_every_stage_leaves_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (autoencoder, train):
        monkeypatch.setattr(module, "held_out_psnr", lambda *_: torch.tensor([33.0, 30.0]))
    stages = (
        train.Stage(size=48, most=1, steps=1, rows=2, scenes=4, level=0.5, length=12),
        train.Stage(size=64, most=2, steps=1, rows=2, scenes=4, level=0.5, length=16, kept=0.5),
    )
    recipe = train.Recipe(vae_steps=1, vae_scenes=2, stages=stages, decay=1, hardened_from=1)
    train.run(recipe, tmp_path, "cpu", compiled=False, until=1)
    assert not (tmp_path / "tiny-flux").exists(), "ended after the first stage"
    train.run(recipe, tmp_path, "cpu", compiled=False)
    told = [json.loads((tmp_path / name / "workbench.json").read_text()) for name in ("step-1", "step-2", "tiny-flux")]
    assert [one["step"] for one in told] == [1, 2, 2]
    assert [one["size"] for one in told] == [[48, 48], [64, 64], [64, 64]]
    assert told[2]["sides"] == [48, 64]
    assert told[2]["vocabulary"] == list(NOUNS)
    assert (told[2]["vae_psnr"], told[2]["familiar_psnr"]) == (31.5, 29)
    first, last = (wb.load_model(str(tmp_path / f"step-{step}")).transformer for step in (1, 2))
    assert any((a != b).any() for a, b in zip(first.parameters(), last.parameters(), strict=True))
    scene = draw(0, 64)
    ds = wb.capture(scene.image, scene.words, model=str(tmp_path / "tiny-flux"), store=False, progress=False)
    assert dict(ds.sizes)["y"] == dict(ds.sizes)["x"] == 8
    assert np.isfinite(ds.output_total).all()


def test_a_control_has_no_word_losses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[train.Recipe, int | None]] = []
    monkeypatch.setattr(train, "run", lambda recipe, *_, until, **__: seen.append((recipe, until)))
    for options in ([], ["--control", "--stages", "1", "--seed", "3"]):
        monkeypatch.setattr("sys.argv", ["train", "--folder", str(tmp_path), "--eager", *options])
        train.main()
    (plain, whole), (control, until) = seen
    assert plain == train.Recipe()
    assert whole is None
    assert (control.presence, control.colour, control.seed, until) == (0, 0, 3, 1)
    assert control.stages == plain.stages


def test_the_rate_warms_up_and_falls_at_the_end(tmp_path: Path) -> None:
    recipe = train.Recipe()
    trainer = train.Trainer(recipe, tmp_path, "cpu", compiled=False)
    rates = []
    for trainer.step in range(recipe.steps + 1):
        rates.append(trainer.rate())
    assert max(rates) == recipe.rate
    assert rates[0] == pytest.approx(recipe.rate / 200)
    assert rates[recipe.steps - recipe.decay // 2] == pytest.approx(recipe.rate / 2)
    assert rates[-1] == 0
