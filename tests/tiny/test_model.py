"""The bundled model: what it must be, and that its maps mean something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

import workbench as wb
from workbench.models.loading import bundled, bundled_folder
from workbench.numerics.scores import softmax
from workbench.schema import InputError, WorkbenchWarning
from workbench.tiny import demo
from workbench.tiny.scenes import BACKGROUNDS, NOUNS, SPLITS, render
from workbench.tiny.training import evaluate
from workbench.tiny.training.caption_checks import generated

FOLDER = bundled_folder("tiny-flux")
INFO: dict[str, Any] = json.loads((FOLDER / "workbench.json").read_text())


def test_it_is_small_and_whole() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 25e6
    for part in ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"):
        assert (FOLDER / part).is_dir()


def test_plain_diffusers_loads_and_runs_it() -> None:
    pipe = FluxPipeline.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    (picture,) = pipe(
        "a red heart on grass",
        height=INFO["size"][0],
        width=INFO["size"][1],
        num_inference_steps=4,
        max_sequence_length=INFO["text_length"],
        generator=torch.Generator("cpu").manual_seed(0),
    ).images
    assert picture.size == tuple(INFO["size"]) == (128, 128)
    weights = {tensor.dtype for tensor in FluxPipeline.from_pretrained(FOLDER).transformer.parameters()}
    assert weights == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(("absent", "lead"), [(0, 0.09), (evaluate.DISTRACTORS, 0.15)])
def test_its_maps_find_the_words(absent: int, lead: float) -> None:
    """A tenth of the test split; the model card has the figures of the whole."""
    pipe, time = bundled("tiny-flux"), INFO["timestep"]
    captured = evaluate.capture_scenes(pipe, "test", 50, absent=absent, timesteps=[time])
    found = {space: evaluate.segmented(captured, space, [0], INFO["default_layers"]) for space in evaluate.SPACES}
    around = evaluate.baselines(captured)
    output = found.pop("output")
    assert around["chance"].words < 0.25 < 0.8 < output.words < around["oracle"].words
    assert output.objects > 0.7
    for other in found.values():
        assert output.interval[0] > other.interval[1]
        assert output.words > other.words + lead
        assert output.objects > other.objects + 0.15


def test_the_default_heat_map_is_the_one_that_is_scored() -> None:
    scene = render(SPLITS["test"][3])
    ds = wb.capture(scene.image, scene.words, store=False, progress=False, truth=scene.truth)
    assert ds.timestep.item() == INFO["timestep"]
    (*_, captured) = evaluate.capture_scenes(bundled("tiny-flux"), "test", 4, timesteps=[INFO["timestep"]])
    maps = softmax(captured.maps["output"][0, INFO["default_layers"]], axis=1).mean(0)
    np.testing.assert_allclose(ds.wb.heatmap().transpose("concept", "y", "x"), maps, atol=1e-4)
    alone = evaluate.segmented([captured], "output", [0], INFO["default_layers"])
    score = ds.wb.score()
    assert score.iou.to_series().to_dict() == pytest.approx(alone.per_word, abs=1e-6)


def test_an_unknown_word_lists_the_vocabulary() -> None:
    scene = render(0)
    with pytest.raises(InputError, match=r"does not know 'dog'\. Its words: sun, moon") as caught:
        wb.capture(scene.image, ["sun", "dog"])
    assert all(word in str(caught.value) for word in NOUNS)
    assert "FLUX.1-schnell" in str(caught.value)


def test_a_photograph_is_warned_about_and_a_scene_is_not(recwarn: pytest.WarningsRecorder) -> None:
    scene = render(SPLITS["test"][0])
    wb.capture(scene.image, scene.words, store=False, progress=False)
    assert not [warning for warning in recwarn if issubclass(warning.category, WorkbenchWarning)]
    rng = np.random.default_rng(0)
    noisy = np.clip(rng.normal(0.5, 0.25, (120, 160, 3)), 0, 1)
    with pytest.warns(WorkbenchWarning, match=r"drawn scenes only.*FLUX\.1-schnell"):
        wb.capture(noisy, ["sky", "grass"], store=False, progress=False)


@pytest.mark.slow
def test_generate_draws_what_was_asked() -> None:
    ground = BACKGROUNDS[1]
    ds = wb.generate(f"a red heart on {ground}", ["heart", ground], seed=1, store=False, progress=False)
    ds.wb.validate()
    red, green, blue = np.moveaxis(ds.image.to_numpy()[0].astype(float), -1, 0)
    assert 0.02 < ((red > 150) & (green < 110) & (blue < 130)).mean() < 0.5, "a red object, and more than that"
    assert ((green > red) & (green > blue)).mean() > 0.3, "grass"


@pytest.mark.slow
def test_pictures_show_the_objects_they_were_asked_for() -> None:
    """A caption of one object on one ground leaves nothing open, so its picture is the drawn one up to the outline."""
    scenes = [scene for scene in map(render, SPLITS["test"][:60]) if len(scene.words) == 2]
    pictures = generated(bundled("tiny-flux"), [scene.caption for scene in scenes])
    agreeing = []
    for scene, picture in zip(scenes, pictures, strict=True):
        rows, columns = (np.flatnonzero(scene.mask(scene.words[0]).any(axis)) for axis in (1, 0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        apart = np.abs(picture[box].astype(int) - scene.image[box].astype(int)).max(-1)
        agreeing.append(np.mean(apart < 80))
    assert np.median(agreeing) > 0.95


def test_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "demo.png"
    monkeypatch.setattr(sys, "argv", ["demo", "--output", str(picture)])
    demo.main()
    _check_demo(capsys.readouterr().out, picture)


@pytest.mark.slow
def test_the_demo_as_a_command(tmp_path: Path) -> None:
    picture = tmp_path / "demo.png"
    ran = subprocess.run(
        [sys.executable, "-m", "workbench.tiny.demo", "--output", str(picture)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        cwd=tmp_path,
    )
    _check_demo(ran.stdout, picture)


def _check_demo(printed: str, picture: Path) -> None:
    assert "Dataset:" in printed
    assert "mean IoU" in printed
    assert "MB on disk" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_misuse_is_warned_about() -> None:
    scene = render(SPLITS["test"][0])
    with pytest.warns(WorkbenchWarning, match=r"512 x 512 pixels are outside .* Leave size out for its own 128 x 128"):
        wb.capture(
            scene.image, scene.words[:2], size=(512, 512), layers=[0], spaces=("output",), store=False, progress=False
        )
    prompt = " and ".join(["a red heart on grass"] * 5)
    with pytest.warns(WorkbenchWarning) as said:
        wb.generate(prompt, ["heart"], steps=1, store=False, progress=False)
    told = " ".join(str(warning.message) for warning in said)
    assert "the prompt has 30 tokens, and T5 reads 28" in told
    assert "the prompt has 31 tokens, and CLIP reads 28" in told
