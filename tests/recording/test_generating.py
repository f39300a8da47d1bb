"""Generation: the plain pipeline's picture, the recorded steps, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FluxPipeline,
    UniPCMultistepScheduler,
)

from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.recording import opening
from workbench.recording.generating import generate
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError, TraceError, validate
from workbench.store.residuals import FINEST

PROMPT = "a dog on grass"
pytestmark = pytest.mark.usefixtures("tests_code")

CONCEPTS = ["dog", "grass", "sky"]
SIZE = (24, 32)


@pytest.fixture(scope="module")
def shared() -> FluxPipeline:
    """A pipeline no test changes."""
    return flux_pipeline()


@pytest.fixture(scope="module")
def distilled() -> FluxPipeline:
    """A guidance-distilled pipeline no test changes."""
    return flux_pipeline(guidance_embeds=True)


@pytest.fixture
def make(shared: FluxPipeline, home: Path) -> Callable[..., xr.Dataset]:
    """Generate a picture; every argument may be replaced."""

    def call(prompt: Any = PROMPT, concepts: Any = CONCEPTS, **options: Any) -> xr.Dataset:
        defaults = {"model": shared, "steps": 3, "size": SIZE, "home": home, "progress": False}
        return generate(prompt, concepts, **(defaults | options))

    return call


def plain(pipe: FluxPipeline, seed: int = 0, steps: int = 3, **options: Any) -> npt.NDArray[np.uint8]:
    """The picture of the pipeline alone."""
    options = {"height": SIZE[0], "width": SIZE[1], "num_inference_steps": steps, "max_sequence_length": 256} | options
    generator = torch.Generator("cpu").manual_seed(seed)
    return np.asarray(pipe(PROMPT, generator=generator, **options).images[0])


def hooks(pipe: FluxPipeline) -> int:
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    modules = [module for part in parts for module in part.modules()]
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


# --- the picture ------------------------------------------------------------------------------------------------
def test_picture_is_the_plain_pipelines(make: Callable[..., xr.Dataset], shared: FluxPipeline) -> None:
    ds = make(seed=5)
    np.testing.assert_array_equal(ds["image"][0], plain(shared, 5))
    validate(ds, values=True)


@pytest.mark.slow
def test_picture_with_true_guidance(make: Callable[..., xr.Dataset], shared: FluxPipeline) -> None:
    ds = make(negative_prompt="a red house", true_guidance=4)
    guided = plain(shared, negative_prompt="a red house", true_cfg_scale=4.0)
    np.testing.assert_array_equal(ds["image"][0], guided)
    without = make()
    assert not np.array_equal(without["image"][0], guided)
    validate(ds, values=True)
    assert (ds.attrs["negative_prompt"], ds.attrs["true_guidance"]) == ("a red house", 4.0)
    # Both start from the same noise and prompt: the first step's conditional pass is the same, the next is not.
    np.testing.assert_array_equal(ds["output"][:, 0], without["output"][:, 0])
    assert not np.array_equal(ds["output"][:, 1], without["output"][:, 1])


@pytest.mark.slow
def test_picture_of_a_guidance_distilled_model(make: Callable[..., xr.Dataset], distilled: FluxPipeline) -> None:
    ds = make(model=distilled, guidance=7)
    np.testing.assert_array_equal(ds["image"][0], plain(distilled, guidance_scale=7.0, max_sequence_length=512))
    assert (ds.attrs["guidance"], ds.attrs["text_length"]) == (7.0, 512)
    default = make(model=distilled)
    np.testing.assert_array_equal(default["image"][0], plain(distilled, guidance_scale=3.5, max_sequence_length=512))
    assert default.attrs["guidance"] == 3.5
    assert default.attrs["key"] == make(model=distilled, guidance=3.5).attrs["key"]


@pytest.mark.slow
def test_default_steps(make: Callable[..., xr.Dataset], distilled: FluxPipeline) -> None:
    assert make(steps=None).sizes["timestep"] == 4
    assert make(model=distilled, steps=None, record=[0]).attrs["steps"] == 28


def test_native_size(make: Callable[..., xr.Dataset], shared: FluxPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "default_sample_size", 20)
    ds = make(size=None, steps=1)
    assert ds["image"].shape == (1, 40, 40, 3)
    np.testing.assert_array_equal(ds["image"][0], plain(shared, height=None, width=None, steps=1))


# --- the scores -------------------------------------------------------------------------------------------------
def test_scores_equal_a_trace_of_the_plain_call(make: Callable[..., xr.Dataset], shared: FluxPipeline) -> None:
    ds = make(layers=[1, 4], spaces=["output", "cross", "prompt"], seed=2)
    with torch.no_grad():
        ids = [shared.tokenizer_2(word, padding="max_length", max_length=256).input_ids for word in CONCEPTS]
        concepts = torch.cat([shared.text_encoder_2(torch.tensor([row]))[0][:, :1] for row in ids], dim=1)
    steps: dict[str, list[torch.Tensor]] = {"output": [], "cross": [], "prompt": []}
    with trace(shared.transformer, concepts, [1, 4], tuple(steps), tokens=range(4)) as seen:

        def keep(*_: Any) -> dict[str, Any]:
            for space, values in steps.items():
                values.append(seen.scores[space])
            return {}

        plain(shared, 2, callback_on_step_end=keep)
    assert ds["token"].values.tolist() == PROMPT.split()
    for space, values in steps.items():
        expected = torch.stack(values)[:, :, 0].unflatten(-1, (6, 8)).numpy()
        np.testing.assert_allclose(ds[space][0], expected, rtol=0, atol=FINEST / 2, err_msg=space)
        np.testing.assert_allclose(ds[f"{space}_total"][0], expected.sum(2), rtol=1e-5, atol=1e-5, err_msg=space)


@pytest.mark.slow
def test_timesteps_are_the_schedulers(make: Callable[..., xr.Dataset], shared: FluxPipeline) -> None:
    plain(shared, steps=5)
    scheduled = shared.scheduler.timesteps.tolist()
    ds = make(steps=5, record=[4, 0, 3])
    np.testing.assert_allclose(ds["timestep"], [scheduled[i] for i in (0, 3, 4)], rtol=1e-6)
    np.testing.assert_allclose(ds["timestep"], [1000, 400, 200], rtol=1e-6)
    np.testing.assert_allclose(ds["sigma"], shared.scheduler.sigmas[[0, 3, 4]], rtol=1e-6)
    assert ds["step"].values.tolist() == [0, 3, 4]
    assert ds.attrs["steps"] == 5
    whole = make(steps=5)
    np.testing.assert_array_equal(whole["output"][:, [0, 3, 4]], ds["output"])
    np.testing.assert_array_equal(whole["image"], ds["image"])
    validate(ds, values=True)


@pytest.mark.slow
def test_shifted_schedule(make: Callable[..., xr.Dataset], home: Path) -> None:
    pipe = flux_pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    ds = make(model=pipe)
    np.testing.assert_array_equal(ds["image"][0], plain(pipe))
    np.testing.assert_allclose(ds["timestep"], pipe.scheduler.timesteps, rtol=1e-6)
    assert ds["timestep"][1] > 667, "shifted to more noise"


@pytest.mark.slow
def test_samples(make: Callable[..., xr.Dataset], shared: FluxPipeline) -> None:
    ds = make(samples=3, seed=10)
    validate(ds, values=True)
    assert ds["image"].dims == ("sample", "pixel_y", "pixel_x", "channel")
    assert ds["seed"].values.tolist() == ds.attrs["seeds"] == [10, 11, 12]
    assert ds["prompt"].values.tolist() == [PROMPT] * 3
    for sample in range(3):
        np.testing.assert_array_equal(ds["image"][sample], plain(shared, 10 + sample))
    np.testing.assert_array_equal(make(seed=12)["output"][0], ds["output"][2])
    assert not np.array_equal(ds["output"][0], ds["output"][1])


# --- stored and not ---------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_stored_and_in_memory(make: Callable[..., xr.Dataset], home: Path) -> None:
    unstored = make(store=False, samples=2)
    assert not home.exists()
    validate(unstored, values=True)
    stored = make(samples=2)
    ignored = ("created", "key")
    assert {k: v for k, v in stored.attrs.items() if k not in ignored} == {
        k: v for k, v in unstored.attrs.items() if k not in ignored
    }
    xr.testing.assert_equal(stored.load(), unstored)
    assert [(run.key, run.kind, run.prompt) for run in store.runs(home)] == [(stored.attrs["key"], "generate", PROMPT)]
    xr.testing.assert_identical(store.open(stored.attrs["key"], home).load(), stored)


def test_second_call_opens(
    make: Callable[..., xr.Dataset], shared: FluxPipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make()
    ran: list[object] = []
    parts = (shared.transformer, shared.text_encoder, shared.text_encoder_2, shared.vae.decoder)
    handles = [part.register_forward_pre_hook(lambda *given: ran.append(given)) for part in parts]
    second = make(progress=True)
    for handle in handles:
        handle.remove()
    assert ran == []
    assert f"run {first.attrs['key']} is stored already: opened" in "".join(capsys.readouterr())
    xr.testing.assert_identical(second.load(), first.load())


def test_every_argument_is_part_of_the_key(
    make: Callable[..., xr.Dataset], distilled: FluxPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if every run were stored already.
    monkeypatch.setattr(opening, "opened", lambda key, *_: xr.Dataset(attrs={"key": key}))
    variants: list[dict[str, Any]] = [
        {},
        {"prompt": "a cat"},
        {"concepts": ["dog"]},
        {"steps": 2},
        {"record": [0, 1]},
        {"negative_prompt": "a cat"},
        {"negative_prompt": "a cat", "true_guidance": 2},
        {"layers": 0},
        {"spaces": "output"},
        {"samples": 2},
        {"seed": 1},
        {"size": (32, 24)},
        {"attend": "none"},
        {"pool": "mean"},
        {"model": distilled},
        {"model": distilled, "guidance": 1},
    ]
    keys = [make(**variant).attrs["key"] for variant in variants]
    assert len(set(keys)) == len(variants)
    assert make(record=range(3), layers=[0, 1, 2]).attrs["key"] == keys[0]


def test_interrupted_run_resumes(make: Callable[..., xr.Dataset], shared: FluxPipeline, home: Path) -> None:
    passes: list[object] = []

    def interrupt(*given: object) -> None:
        passes.append(given)
        if len(passes) == 5:
            raise KeyboardInterrupt

    handle = shared.transformer.register_forward_pre_hook(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            make(samples=3)
        assert store.runs(home) == []
        resumed = make(samples=3)
    finally:
        handle.remove()
    assert hooks(shared) == 0
    assert len(passes) == 5 + 2 * 3, "the first picture, of three steps, was finished and is not made again"
    validate(resumed, values=True)
    assert [run.key for run in store.runs(home)] == [resumed.attrs["key"]]
    xr.testing.assert_equal(resumed.load(), make(samples=3, store=False))


# --- schedulers that make other steps ---------------------------------------------------------------------------
class Fickle(FlowMatchEulerDiscreteScheduler):
    """Makes another schedule each time it is asked."""

    asked = 0

    def set_timesteps(self, *args: Any, sigmas: Any = None, **kwargs: Any) -> None:
        type(self).asked += 1
        super().set_timesteps(*args, sigmas=[sigma / type(self).asked for sigma in sigmas], **kwargs)


def test_another_schedule_than_announced(make: Callable[..., xr.Dataset], home: Path) -> None:
    pipe = flux_pipeline()
    pipe.scheduler = Fickle()
    for stored in (True, False):
        Fickle.asked = 0
        with pytest.raises(
            TraceError, match=r"made 3 passes at sigmas \[0\.5.*announced .*\[?\(?1\.0.*use a FlowMatch"
        ):
            make(model=pipe, store=stored)
    assert hooks(pipe) == 0
    assert store.runs(home) == []


def test_several_passes_a_step(make: Callable[..., xr.Dataset], home: Path) -> None:
    class Twice(FluxPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            super().__call__(*args, **kwargs)
            return super().__call__(*args, **kwargs)

    pipe = Twice(**flux_pipeline().components)
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(TraceError, match="made 6 passes"):
        make(model=pipe)
    assert store.runs(home) == []


def test_scheduler_without_sigmas(make: Callable[..., xr.Dataset], home: Path) -> None:
    pipe = flux_pipeline()
    pipe.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ModelError, match=r"FlowMatchHeunDiscreteScheduler cannot run a schedule of 3 steps .*; use a"):
        make(model=pipe)
    assert files(home) == []


def test_a_scheduler_with_noise_of_its_own(make: Callable[..., xr.Dataset], home: Path) -> None:
    pipe = flux_pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    with pytest.raises(ModelError, match="adds noise of its own at each step"):
        make(model=pipe)
    assert files(home) == []


def test_another_solver_makes_the_same_image_twice(make: Callable[..., xr.Dataset]) -> None:
    pipe = flux_pipeline()
    pipe.scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    one, other = (make(model=pipe, store=False, layers=0) for _ in range(2))
    xr.testing.assert_equal(one, other)
    np.testing.assert_array_equal(one["image"][0], plain(pipe))


# --- refused, before anything runs ------------------------------------------------------------------------------
@pytest.fixture
def untouched(shared: FluxPipeline, home: Path) -> Iterator[None]:
    """Nothing ran and no file was written during the test."""
    ran: list[object] = []
    parts = (shared.transformer, shared.text_encoder, shared.text_encoder_2, shared.vae.encoder, shared.vae.decoder)
    handles = [part.register_forward_pre_hook(lambda *given: ran.append(given)) for part in parts]
    yield
    for handle in handles:
        handle.remove()
    assert ran == []
    assert files(home) == []


ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"prompt": " "}, "prompt is blank; expected what to draw"),
    ({"prompt": ["a dog"]}, "prompt is a list; expected a string"),
    ({"concepts": "dog"}, "concepts is the single string 'dog'; expected a list"),
    ({"concepts": ["dog", "dog"]}, "holds 'dog' more than once"),
    ({"steps": 0}, "steps is 0; expected a whole number from 1 to 1000"),
    ({"steps": 2.5}, "steps is 2.5; expected a whole number"),
    ({"record": [3]}, "a step in record is 3; expected a whole number from 0 to 2"),
    ({"record": [-1]}, "a step in record is -1; expected a whole number from 0 to 2"),
    ({"record": [0.0]}, "a step in record is 0.0; expected a whole number"),
    ({"record": [1, 1]}, r"record is \[1, 1\]; expected one or more step indices from 0 to 2, each once"),
    ({"record": []}, r"record is \[\]; expected one or more step indices"),
    ({"record": "1"}, "a step in record is '1'; expected a whole number"),
    ({"guidance": 3.5}, "guidance is 3.5, but FluxPipeline takes no guidance scale: leave it out"),
    ({"true_guidance": 3}, "true_guidance is 3 without a negative_prompt: give one"),
    ({"true_guidance": -1, "negative_prompt": ""}, "true_guidance is -1; expected a number, 0 or above"),
    ({"negative_prompt": 3}, "negative_prompt is a int; expected a string"),
    ({"layers": [9]}, r"layers is \[9\]; expected whole numbers from 0 to 4"),
    ({"samples": 0}, "samples is 0; expected a whole number from 1"),
    ({"seed": -1}, "seed is -1; expected a whole number from 0"),
    ({"size": (24, 30)}, "size 24 x 30 is no multiple of the model's patch of 4 pixels"),
    ({"size": (-4, 4)}, r"size is \(-4, 4\); expected two positive"),
    ({"spaces": "attention"}, r"spaces is \('attention',\); expected one or more of output"),
    ({"attend": "all"}, "attend is 'all'; expected one of both"),
    ({"pool": "middle"}, "pool is 'middle'; expected one of first, last, mean"),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("wrong", "message"), ARGUMENTS, ids=[str(wrong)[:50] for wrong, _ in ARGUMENTS])
def test_refused_arguments(make: Callable[..., xr.Dataset], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**wrong)


def test_single_step_is_recorded(make: Callable[..., xr.Dataset]) -> None:
    assert make(record=1)["step"].values.tolist() == [1]


def test_guidance_that_is_no_number(make: Callable[..., xr.Dataset], distilled: FluxPipeline, home: Path) -> None:
    with pytest.raises(InputError, match="guidance is nan; expected a number, 0 or above"):
        make(model=distilled, guidance=float("nan"))
    assert files(home) == []
