from __future__ import annotations

from threading import Event
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import FluxPipeline

import workbench as wb
from tests.tiny_random import flux_pipeline
from workbench.models.flux import FluxPipelineAdapter
from workbench.recording import runner
from workbench.recording.runner import Runner
from workbench.schema import CancelledError, InputError, ModelError, noted
from workbench.tiny.scenes import SPLITS, render

IMAGE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
OPTIONS: dict[str, Any] = {"size": (24, 32), "timesteps": [300, 600], "samples": 2}


class Watched:
    """What a run said of itself."""

    def __init__(self, cancel_at: int = -1) -> None:
        self.stages: list[str] = []
        self.seen: list[tuple[int, int]] = []
        self.so_far: list[xr.Dataset] = []
        self.cancel = Event()
        self._cancel_at = cancel_at

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def passed(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        if done == self._cancel_at:
            self.cancel.set()

    def grown(self, ds: xr.Dataset) -> None:
        self.so_far.append(ds.load())


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return flux_pipeline()


@pytest.fixture
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at a run behind every pass."""
    monkeypatch.setattr(runner, "_OFTEN", 0.0)
    monkeypatch.setattr(runner, "_SHARE", float("inf"))


def _run(runs: Runner, model: Any, words: list[str], watched: Watched | None = None, **options: Any) -> xr.Dataset:
    watched = watched or Watched()
    given = {**OPTIONS, **options}
    return runs.run(IMAGE, words, model, given, prompted=False, watcher=watched, cancel=watched.cancel)


def _check_alike(found: xr.Dataset, expected: xr.Dataset) -> None:
    told = ("created", "threads")
    for ds in (found, expected):
        ds.attrs = {name: value for name, value in ds.attrs.items() if name not in told}
    xr.testing.assert_identical(found.load(), expected.load())


@pytest.mark.slow
def test_a_run_is_that_of_capture_and_is_found_again(pipe: FluxPipeline, tmp_path: Any) -> None:
    runs, watched = Runner(), Watched()
    found = _run(runs, pipe, ["dog", "sky"], watched)
    assert watched.seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert watched.stages[-1] == "Running…"
    again = Watched()
    assert _run(runs, pipe, ["dog", "sky"], again).attrs["key"] == found.attrs["key"]
    assert again.seen == []
    plain = wb.capture(IMAGE, ["dog", "sky"], model=pipe, home=tmp_path, progress=False, **OPTIONS)
    _check_alike(found, plain)


@pytest.mark.slow
def test_what_was_encoded_is_not_encoded_again(
    pipe: FluxPipeline, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    words, image = FluxPipelineAdapter.encode_concept, FluxPipelineAdapter.encode_image
    monkeypatch.setattr(
        FluxPipelineAdapter,
        "encode_concept",
        lambda self, given, pool: (seen.append(given), words(self, given, pool))[1],
    )
    monkeypatch.setattr(
        FluxPipelineAdapter, "encode_image", lambda self, pixels: (seen.append("image"), image(self, pixels))[1]
    )
    runs = Runner()
    _run(runs, pipe, ["dog", "sky"])
    assert seen == ["dog", "sky", "image"]
    seen.clear()
    found = _run(runs, pipe, ["sky", "grass", "dog"])
    assert seen == ["grass"]
    _check_alike(
        found, wb.capture(IMAGE, ["sky", "grass", "dog"], model=pipe, home=tmp_path, progress=False, **OPTIONS)
    )
    seen.clear()
    other = flux_pipeline()
    _run(runs, other, ["dog", "sky", "cat"])
    assert seen == ["dog", "sky", "cat", "image"], "another pipeline, alike or not"
    seen.clear()
    with torch.no_grad():
        next(other.text_encoder_2.parameters()).mul_(1.5)
    changed = _run(runs, other, ["dog", "sky"])
    assert seen == ["dog", "sky", "image"], "a pipeline that was changed"
    _check_alike(changed, wb.capture(IMAGE, ["dog", "sky"], model=other, home=tmp_path, progress=False, **OPTIONS))


@pytest.mark.slow
def test_a_stopped_run_goes_on_where_it_was(pipe: FluxPipeline) -> None:
    runs, watched = Runner(), Watched(cancel_at=3)
    with pytest.raises(CancelledError):
        _run(runs, pipe, ["cat", "sky"], watched)
    again = Watched()
    _run(runs, pipe, ["cat", "sky"], again)
    assert again.seen == [(1, 1)]


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("stored", [True, False])
def test_what_a_growing_run_shows_is_part_of_it(pipe: FluxPipeline, stored: bool) -> None:
    watched = Watched()
    found = _run(Runner(), pipe, ["dog", "tree"], watched, samples=3, store=stored)
    assert watched.so_far
    for growing in watched.so_far:
        assert set(growing.data_vars) == {"image", "output_total", "cross_total"}
        samples, timesteps = growing.sample.to_numpy(), growing.timestep.to_numpy()
        assert len(samples) == 1 or len(timesteps) == 2
        part = found.sel(sample=samples, timestep=timesteps)
        for name in growing.data_vars:
            np.testing.assert_array_equal(growing[name], part[name])
        assert growing.wb.heatmap().equals(part.wb.heatmap())
    assert len({tuple(growing.sizes.items()) for growing in watched.so_far}) > 1


@pytest.mark.usefixtures("looking")
def test_a_growing_picture_shows_maps_of_its_steps_and_pictures_once_they_are_there(pipe: FluxPipeline) -> None:
    watched = Watched()
    found = Runner().run(
        "a dog on grass",
        ["dog", "sky"],
        pipe,
        {"size": (24, 32), "steps": 3, "samples": 2},
        prompted=True,
        watcher=watched,
        cancel=watched.cancel,
    )
    assert watched.seen == [(done, 6) for done in range(1, 7)]
    assert found.attrs["kind"] == "generate"
    for growing in watched.so_far:
        part = found.sel(sample=growing.sample, timestep=growing.timestep)
        for name in growing.data_vars:
            np.testing.assert_array_equal(growing[name], part[name])
    assert not wb.explore(watched.so_far[0]).error


def test_too_much_is_not_looked_at(pipe: FluxPipeline) -> None:
    from workbench.store.memory import in_memory

    template = xr.Dataset(coords={"sample": [0], "timestep": [500.0, 300.0], "layer": [0], "concept": ["dog"]})
    with in_memory(template, {"x": (("sample", "timestep", "layer", "concept"), "float32")}) as run:
        assert run.so_far() is None, "nothing is there"
        run.write({"sample": 0, "timestep": 0, "layer": 0}, {"x": [1.0]})
        assert run.so_far(largest=3) is None
        (found,) = (run.so_far(largest=4),)
        assert found is not None
        assert found.x.to_numpy().tolist() == [[[[1.0]]]]
        run.write({"sample": 0, "timestep": 1, "layer": 0}, {"x": [2.0]})


def test_words_are_looked_at(pipe: FluxPipeline) -> None:
    runs = Runner()
    found = runs.remarks(pipe, ["dog", "skyscraper", "犬", "hot dog", "hot  dog"], "a 犬", made=False)
    assert [(one.word, one.refused) for one in found[:3]] == [("skyscraper", False), ("犬", False), ("hot dog", False)]
    assert found[0].text.startswith("'skyscraper' has 2 tokens (sky, scraper), of which only the first")
    assert "T5 has no token for '犬'" in found[1].text
    assert [one.text[:20] for one in found if not one.word] == ["T5 reads the concept", "T5 has no token for "]
    assert runs.remarks(pipe, ["skyscraper"], "", made=False, pool="mean") == []
    assert runs.facts(pipe)["blocks"] == [3, 2]
    assert runs.at_hand(pipe)


def test_a_closed_vocabulary_is_said_of_each_word() -> None:
    runs = Runner()
    found = runs.remarks("tiny-flux", ["zebra", "sun"], "a red dog", made=True)
    assert [(one.word, one.text, one.refused) for one in found if one.refused] == [
        ("zebra", "tiny-flux does not know 'zebra'.", True),
        ("", "tiny-flux does not know 'dog'.", True),
    ]
    assert "sun" in runs.facts("tiny-flux")["words"]
    assert not runs.at_hand("me/mine")
    assert runs.remarks("me/mine", ["zebra"], "", made=False) == []
    with pytest.raises(ModelError, match="unknown model 'nowhere'"):
        runs.facts("nowhere")


@pytest.mark.slow
def test_a_run_says_how_its_model_was_named_and_bad_options_come_before_loading(
    pipe: FluxPipeline, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.save_pretrained(tmp_path / "mine")
    loaded: list[str] = []
    load = runner.load_model
    monkeypatch.setattr(runner, "load_model", lambda name: (loaded.append(name), load(name, dtype=torch.float32))[1])
    runs, folder = Runner(), str(tmp_path / "mine")
    with pytest.raises(InputError, match="layers is"):
        _run(runs, folder, ["dog", "sky"], layers=[99])
    assert loaded == []
    first = _run(runs, folder, ["dog", "sky"])
    second = _run(runs, folder, ["dog", "cat"])
    assert loaded == [folder], "a model that is named again is loaded"
    for ds in (first, second):
        assert (ds.attrs["model"], ds.attrs["model_from"]) == ("mine", "folder")
    assert runs.at_hand(folder)
    runs.close()
    assert not runs.at_hand(folder)


@pytest.mark.slow
def test_a_photograph_is_warned_of_at_every_run_of_the_bundled_model() -> None:
    runs = Runner()
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    options = {"layers": [0], "timesteps": 500.0}
    for words in (["sun", "sky"], ["moon", "sky"]):
        watched = Watched()
        with noted() as notes:
            runs.run(noise, words, "tiny-flux", options, prompted=False, watcher=watched, cancel=watched.cancel)
        assert [note[:40] for note in notes] == ["the model knows drawn scenes only, and t"]
    scene = render(SPLITS["gallery"][8])
    watched = Watched()
    with noted() as notes:
        runs.run(scene.image, scene.words, "tiny-flux", options, prompted=False, watcher=watched, cancel=watched.cancel)
    assert notes == []


def test_a_word_without_a_token_is_refused_before_it_is_run(
    pipe: FluxPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FluxPipelineAdapter, "concept_tokens", lambda self, word: [] if word == "dog" else [0])
    first, second = Runner().remarks(pipe, ["dog", "skyscraper", "犬"], "", made=False)
    assert (first.word, first.refused) == ("dog", True)
    assert "'dog'" in first.text
    assert (second.word, second.refused) == ("犬", False), "its other tokens are none of its own"


def test_what_all_words_together_are_refused_for_is_a_remark(
    pipe: FluxPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **options: Any) -> list[str]:
        raise InputError("the prompt cannot be read.")

    monkeypatch.setattr("workbench.recording.runner.text_remarks", refuse)
    first, last = Runner().remarks(pipe, ["skyscraper"], "a dog", made=True)
    assert (first.word, first.refused) == ("skyscraper", False)
    assert (last.word, last.text, last.refused) == ("", "the prompt cannot be read.", True)
