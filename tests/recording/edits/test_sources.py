"""Interventions in whole runs: keys, attributes, missing pieces, other runs that they take from."""

from __future__ import annotations

import warnings
from itertools import combinations
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import xarray as xr
from PIL import Image

import workbench
from tests.tiny_random import flux_pipeline
from workbench.interventions import (
    AttendMode,
    DropConcept,
    Intervention,
    MaskText,
    MeanHeads,
    NullText,
    Patch,
    RandomDirection,
    ScaleHeads,
    SkipBlock,
    Source,
    read,
)
from workbench.models.family import adapter_for
from workbench.recording.edits import editing as editing_module
from workbench.recording.edits.editing import Editing
from workbench.schema import InputError, WorkbenchWarning

PICTURE = np.random.default_rng(0).integers(0, 255, (16, 24, 3), dtype=np.uint8)
OTHER = np.random.default_rng(1).integers(0, 255, (32, 48, 3), dtype=np.uint8)
WORDS = ["dog", "sky", "grass"]
PIPE = flux_pipeline()


def capture(*edits: Any, picture: Any = PICTURE, **options: Any) -> xr.Dataset:
    options = {
        "model": PIPE,
        "prompt": "a dog",
        "timesteps": [700, 300],
        "layers": range(5),
        "size": (16, 24),
        "progress": False,
        "store": False,
    } | options
    return workbench.capture(picture, WORDS, interventions=edits, **options)


def generate(*edits: Any, prompt: str = "a dog", **options: Any) -> xr.Dataset:
    options = {
        "model": PIPE,
        "steps": 3,
        "size": (16, 24),
        "layers": range(5),
        "progress": False,
        "store": False,
    } | options
    return workbench.generate(prompt, WORDS, interventions=edits, **options)


def same(one: xr.Dataset, other: xr.Dataset) -> bool:
    return one.drop_attrs().identical(other.drop_attrs())


def test_a_run_without_interventions_keeps_its_key(home: Path) -> None:
    plain, empty = (
        capture(store=True, home=home),
        workbench.capture(
            PICTURE,
            WORDS,
            model=PIPE,
            prompt="a dog",
            timesteps=[700, 300],
            layers=range(5),
            size=(16, 24),
            home=home,
            progress=False,
        ),
    )
    assert plain.attrs["key"] == empty.attrs["key"]
    assert "interventions" not in plain.attrs


def test_interventions_are_part_of_the_key_and_of_the_record(home: Path) -> None:
    runs = [capture(*edits, store=True, home=home) for edits in ((), (SkipBlock(1),), (SkipBlock(2),))]
    assert len({ds.attrs["key"] for ds in runs}) == 3
    again = capture(*runs[1].attrs["interventions"], store=True, home=home)
    assert again.attrs["key"] == runs[1].attrs["key"]
    assert len(workbench.runs(home)) == 3
    for ds in runs:
        ds.wb.validate(values=True)


@pytest.mark.slow
@pytest.mark.parametrize("make", [capture, generate])
def test_skipped_blocks_are_missing(make: Any, home: Path) -> None:
    ds = make(SkipBlock([1, 4], timesteps=(500, 1000)), samples=2, store=True, home=home)
    late = [float(t) for t in ds["timestep"] if t >= 500]
    expected = [
        {"sample": sample, "timestep": timestep, "layer": layer}
        for sample in (0, 1)
        for timestep in late
        for layer in (1, 4)
    ]
    assert ds.attrs["missing"] == expected
    assert len(late) >= 1
    ds.wb.validate(values=True)
    assert ds["output_total"].sel(layer=1).isnull().all(["concept", "y", "x"]).sum() == 2 * len(late)


@pytest.mark.slow
def test_what_changes_nothing_gives_the_same_run() -> None:
    plain = capture()
    assert same(capture(ScaleHeads(range(5), factor=1), MaskText(tokens=()), AttendMode("both")), plain)
    assert same(capture(Patch([0, 2]), Patch(4, heads=[0, 1])), plain)
    assert same(generate(Patch([0, 2]), Patch(4, heads=[1])), generate())


@pytest.mark.slow
def test_a_range_that_meets_no_step_warns_and_changes_nothing() -> None:
    with pytest.warns(WorkbenchWarning, match=r"SkipBlock\(1, timesteps=\[400, 600\]\) changes nothing: .* 700, 300"):
        edited = capture(SkipBlock(1, timesteps=(400, 600)))
    assert same(edited, capture())
    assert edited.attrs["missing"] == []
    with pytest.warns(WorkbenchWarning, match="changes nothing"):
        edited = generate(ScaleHeads(1, timesteps=(0, 1)))
    assert same(edited, generate())


@pytest.mark.slow
def test_a_block_behind_the_last_recorded_one_warns() -> None:
    with pytest.warns(WorkbenchWarning, match="ends after layer 2"):
        edited = capture(ScaleHeads([3, 4]), layers=[1, 2])
    assert same(edited, capture(layers=[1, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate(ScaleHeads([3, 4]), layers=[1, 2])


@pytest.mark.slow
def test_ranges_hold_the_steps_of_a_schedule_at_their_ends() -> None:
    ends = generate()["timestep"].values
    for end in ends:
        ds = generate(SkipBlock(1, timesteps=(float(round(end, 3)),) * 2))
        assert [piece["timestep"] for piece in ds.attrs["missing"]] == [end]


@pytest.mark.slow
def test_steps_that_are_not_recorded_are_edited_too() -> None:
    first = tuple(generate()["timestep"].values[:1].repeat(2))
    edited = generate(SkipBlock(1, timesteps=first), record=[2])
    assert edited.attrs["missing"] == []
    assert not np.array_equal(edited["image"], generate(record=[2])["image"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (SkipBlock(5), "layers 0 to 4"),
        (ScaleHeads(0, heads=2), "heads 0 to 1"),
        (MaskText(tokens=256), "places 0 to 255"),
        (MaskText(tokens="cat"), "the prompt has 'a', 'dog'"),
        (DropConcept("cat"), "the concepts are dog, sky, grass"),
        (RandomDirection(SkipBlock(7)), "layers 0 to 4"),
        (SkipBlock(range(5)), "is skipped"),
        (MeanHeads(1, reference=Source(image="nowhere.png")), "no image file"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    edit: Intervention, message: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIPE.transformer, "forward", lambda *args, **kwargs: pytest.fail("the model ran"))
    with pytest.raises(InputError, match=message):
        capture(edit, store=True, home=home)
    assert workbench.runs(home) == []


def test_generate_takes_nothing_from_pictures() -> None:
    with pytest.raises(InputError, match="generate makes its own"):
        generate(Patch(1, source=Source(image="dog.png")))


def test_words_are_places_of_the_prompt() -> None:
    assert same(capture(NullText(tokens="dog")), capture(NullText(tokens=1)))
    assert same(capture(DropConcept("sky")), capture(DropConcept(1)))


def test_patching_every_block_gives_the_other_run(tmp_path: Path) -> None:
    """From the first block on, text and image are those of the source."""
    path = tmp_path / "other.png"
    Image.fromarray(OTHER).save(path)
    source = Source(prompt="a cat", seed=5, image=str(path))
    # Alone, the concepts' stream knows nothing of other patches in the first block.
    options: dict[str, Any] = {"attend": "none", "spaces": ["output"]}
    patched = capture(Patch(range(5), source=source), **options)
    expected = capture(picture=OTHER, prompt="a cat", seed=5, **options)
    later = {"layer": slice(1, None)}
    np.testing.assert_array_equal(patched["output"].isel(later), expected["output"].isel(later))
    assert not np.array_equal(patched["output"].isel(layer=0), expected["output"].isel(layer=0))


@pytest.mark.slow
def test_a_whole_generation_is_patched_step_by_step() -> None:
    """From the second block on, the first step is that of the source; what is drawn then starts from other noise."""
    # Concepts attend to nothing, but are modulated with the timestep alone, so they are the same in all runs.
    options: dict[str, Any] = {"attend": "none", "spaces": ["output"]}
    patched = generate(Patch(range(5), source=Source(seed=9)), seed=4, samples=2, **options)["output"]
    own, other = (generate(seed=seed, **options)["output"].isel(sample=0) for seed in (4, 9))
    first = {"timestep": 0, "layer": slice(1, None)}
    for sample in (0, 1):
        np.testing.assert_array_equal(patched.isel(first | {"sample": sample}), other.isel(first))
    assert not np.array_equal(patched.isel(first | {"sample": 0}), own.isel(first))
    assert not np.array_equal(patched.isel(sample=0, layer=0), other.isel(layer=0))


@pytest.mark.slow
def test_mean_heads_take_the_mean_of_each_pass() -> None:
    ds = capture(MeanHeads(1, heads=0), samples=2)
    one = ds["output"].sel(layer=1, head=0)
    assert float(one.std(["y", "x"]).max()) < 1e-2 * float(abs(one).max())
    others = capture(MeanHeads(1, heads=0, reference=[Source(seed=7), Source(seed=8)]))
    assert not np.array_equal(others["output"].sel(layer=2), capture(MeanHeads(1, heads=0))["output"].sel(layer=2))


@pytest.mark.slow
def test_an_interrupted_run_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = (SkipBlock(1, timesteps=(500, 1000)), MeanHeads(2, heads=1))
    expected = capture(*edits)
    from workbench.recording.traced_passes import Trace

    run, calls = Trace.run, []

    def once(self: Trace, **inputs: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        run(self, **inputs)

    monkeypatch.setattr(Trace, "run", once)
    with pytest.raises(KeyboardInterrupt):
        capture(*edits, store=True, home=home)
    monkeypatch.undo()
    assert same(capture(*edits, store=True, home=home).load(), expected)


@pytest.mark.slow
def test_unconditional_passes_keep_their_prompt() -> None:
    options: dict[str, Any] = {"negative_prompt": "", "true_guidance": 2.0}
    plain, skipped = generate(**options), generate(SkipBlock(1), **options)
    assert not np.array_equal(plain["image"], skipped["image"])
    ds = generate(MeanHeads(1, 0), NullText(2, tokens="dog"), **options)
    ds.wb.validate(values=True)


def drawn(run: tuple[Any, ...], *, shared: bool = False) -> torch.Tensor:
    edit = RandomDirection(ScaleHeads(0, 0), 3, shared)
    editing = Editing(adapter_for(PIPE.transformer), (edit,))
    editing.run, editing._now = run, [edit]
    heads = torch.ones(1, 2, 6, 8)
    return editing._one(edit, (0, "heads", "image"), lambda *_: heads * 0, heads) - heads


def test_random_directions_differ_per_picture_prompt_and_noise() -> None:
    runs = [("a", "dog", 0), ("b", "dog", 0), ("a", "cat", 0), ("a", "dog", 1)]
    found = [drawn(run).flatten() for run in runs]
    assert torch.equal(drawn(runs[0]).flatten(), found[0])
    for one, other in combinations(found, 2):
        assert abs(torch.nn.functional.cosine_similarity(one, other, dim=0)) < 0.4
    shared = [drawn(run, shared=True) for run in runs]
    assert all(torch.equal(one, shared[0]) for one in shared)


@pytest.mark.slow
def test_a_run_draws_its_own_random_directions() -> None:
    plain = {"samples": 2}
    same = RandomDirection(SkipBlock(1), 5, shared=True)
    own = RandomDirection(SkipBlock(1), 5)
    first = capture(own, **plain)
    again = capture(own, **plain)
    np.testing.assert_array_equal(first["output_total"], again["output_total"])
    np.testing.assert_array_equal(
        first["output_total"].isel(sample=1), capture(own, seed=1)["output_total"].isel(sample=0)
    )
    assert not np.array_equal(first["output_total"], capture(same, **plain)["output_total"], equal_nan=True)
    seen: list[Any] = []
    with mock.patch.object(editing_module, "random_direction", lambda a, b, seed, *_: seen.append(seed) or a):
        capture(own, **plain, timesteps=500)
        capture(own, picture=OTHER, timesteps=500)
        capture(own, prompt="a cat", timesteps=500)
        generate(own, steps=1)
        generate(own, steps=1, seed=1)
        assert len(set(seen)) == len(seen), "no seed twice in six runs"
        seen.clear()
        capture(same, **plain, timesteps=500)
        assert len(set(seen)) == len(seen) / 2


@pytest.mark.slow
def test_random_directions_of_concepts_go_by_their_names() -> None:
    for edit in (DropConcept("dog"), AttendMode("image", layers=1), SkipBlock(1)):
        control = RandomDirection(edit, 2)
        options: Any = {"model": PIPE, "layers": range(5), "size": (16, 24), "progress": False, "store": False}
        one, other = (
            workbench.capture(PICTURE, words, interventions=control, **options)["output_total"]
            for words in (WORDS, WORDS[::-1])
        )
        np.testing.assert_allclose(one.sel(concept=WORDS), other.sel(concept=WORDS), rtol=1e-3, atol=1e-4)


def test_stored_random_directions_of_early_versions_are_other_runs() -> None:
    made = RandomDirection(SkipBlock(1), 5).as_dict()
    assert made == {"edit": "RandomDirection", "of": SkipBlock(1).as_dict(), "seed": 5, "shared": False}
    early = {name: value for name, value in made.items() if name != "shared"}
    assert read(early) == (RandomDirection(SkipBlock(1), 5, shared=True),)
    assert read(made) == (RandomDirection(SkipBlock(1), 5),)
