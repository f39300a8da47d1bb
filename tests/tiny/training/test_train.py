"""The whole training in small: what it leaves must be a pipeline that can be captured from."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.tiny.scenes import NOUNS, render
from workbench.tiny.training import autoencoder, gauge, train


@pytest.mark.filterwarnings("ignore:Mismatch dtype", "ignore:.*drawn scenes only")
@pytest.mark.slow
def test_every_stage_leaves_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (autoencoder, train):
        monkeypatch.setattr(module, "held_out_psnr", lambda *_: torch.tensor([33.0, 30.0]))
    stages = (
        train.Stage(size=64, most=1, steps=1, rows=2, scenes=4, levels=((0.5, 1.0), (0.5, 1.0)), length=12),
        train.Stage(size=80, most=2, steps=1, rows=2, scenes=4, levels=((0.5, 1.0), (0.5, 1.0)), length=16),
    )
    monkeypatch.setattr(train, "settle", partial(gauge.settle, batches=1, rows=4))
    recipe = train.Recipe(vae_steps=1, vae_scenes=2, stages=stages, hardened_from=1)
    train.run(recipe, tmp_path, "cpu", compiled=False, until=1)
    assert not (tmp_path / "tiny-flux").exists(), "ended after the first stage"
    shutil.rmtree(tmp_path / "step-1")  # as if it had been interrupted in front of writing it
    train.run(recipe, tmp_path, "cpu", compiled=False)
    told = [json.loads((tmp_path / name / "workbench.json").read_text()) for name in ("step-1", "tiny-flux")]
    assert [one["step"] for one in told] == [1, 2]
    assert [one["size"] for one in told] == [[64, 64], [80, 80]]
    assert told[1]["sides"] == [64, 80]
    assert told[1]["vocabulary"] == list(NOUNS)
    for config in (tmp_path / "tiny-flux").rglob("*.json"):
        assert str(tmp_path) not in config.read_text(), "a pipeline names no folder of the machine that made it"
    assert (told[1]["vae_psnr"], told[1]["familiar_psnr"]) == (31.5, 29)
    names = ("step-1", "unsettled", "tiny-flux")
    first, unsettled, last = (wb.load_model(str(tmp_path / name)).transformer for name in names)
    for before, after in ((first, unsettled), (unsettled, last)):
        assert any((a != b).any() for a, b in zip(before.parameters(), after.parameters(), strict=True))
    scene = render(0, 80)
    ds = wb.capture(scene.image, scene.words, model=str(tmp_path / "tiny-flux"), store=False, progress=False)
    assert dict(ds.sizes)["y"] == dict(ds.sizes)["x"] == 10
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


def test_projections_are_trained_with_muon_and_nothing_else_is() -> None:
    student, _ = train.new_student("cpu")
    muon, adam = ({id(each) for each in one.param_groups[0]["params"]} for one in train.optimisers(student, 1e-3))
    assert not muon & adam
    assert len(muon | adam) == len(list(student.parameters()))
    names = {name for name, parameter in student.named_parameters() if id(parameter) in muon}
    assert {"t5.encoder.block.1.layer.0.SelfAttention.q.weight", "clip.encoder.layers.0.mlp.fc1.weight"} <= names
    assert "denoiser.single_transformer_blocks.1.proj_out.weight" in names
    assert not [name for name in names if "norm" in name or "embed" in name or "bias" in name]


def test_the_rate_warms_up_and_falls_where_a_stage_asks_for_it(tmp_path: Path) -> None:
    levels = ((0.5, 1.0), (0.5, 1.0))
    stages = tuple(
        train.Stage(64, 1, steps, rows=2, scenes=4, levels=levels, length=12, decay=decay)
        for steps, decay in ((300, 0), (500, 100), (400, 200))
    )
    recipe = train.Recipe(stages=stages)
    trainer = train.Trainer(recipe, tmp_path, "cpu", compiled=False)
    rates = []
    for trainer.step in range(recipe.steps + 1):
        rates.append(trainer.rate())
    assert max(rates) == recipe.rate
    assert rates[0] == rates[800] == pytest.approx(recipe.rate / 200)
    assert rates[200] == rates[300] == rates[700] == rates[1000] == recipe.rate
    assert rates[750] == rates[1100] == pytest.approx(recipe.rate / 2)
    assert rates[1199] == pytest.approx(recipe.rate / 200)
    assert rates[1200] == 0
