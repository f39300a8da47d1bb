"""Whole pipelines of every family but FLUX.1, from their components' configurations: made, captured, stored, edited."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

import workbench as wb
from tests.references import relative_error
from tests.tiny_pipelines.auraflow import auraflow_pipeline
from tests.tiny_pipelines.cogview4 import cogview4_pipeline
from tests.tiny_pipelines.flux2 import flux2_pipeline, klein_pipeline
from tests.tiny_pipelines.flux_like import bria_pipeline, chroma_pipeline, longcat_pipeline, ovis_pipeline
from tests.tiny_pipelines.hunyuan_image import hunyuan_image_pipeline
from tests.tiny_pipelines.lumina2 import lumina2_pipeline
from tests.tiny_pipelines.qwen import qwen_pipeline
from tests.tiny_pipelines.sd3 import sd3_pipeline
from tests.tiny_pipelines.z_image import z_image_pipeline
from workbench.interventions import Amplify, Intervention, MaskText, NullText, RandomDirection, ScaleHeads, SkipBlock
from workbench.models.family import pipeline_adapter_for
from workbench.models.fingerprint import fingerprint
from workbench.models.hooks import by_name
from workbench.recording.opening import open_adapter
from workbench.schema import InputError, validate

PROMPT, CONCEPTS = "a dog on grass", ["dog", "sky"]
GRID = (6, 8)
PATCHES = {"lumina2": 16, "cogview4": 16}
"""Pixels of a side of those that are not 4."""
INFO = {
    "sd3": 20,
    "flux2": 64,
    "klein": 24,
    "qwen": 512,
    "chroma": 20,
    "z-image": 512,
    "hunyuan-image": None,
    "auraflow": 20,
    "lumina2": 48,
    "longcat": None,
    "ovis": 24,
    "bria": 20,
    "cogview4": 64,
}
"""Length of the text (of SD3's T5), shorter than the model's own to save time; None where a call is not told any."""

OWN = {"sd3": 256, "auraflow": 256, "lumina2": 256, "ovis": 256, "bria": 128}
"""Length of the text where nothing is said."""


@dataclass(frozen=True)
class Made:
    """How to make a pipeline, and how to ask it for guidance.

    Attributes
    ----------
    pipeline : callable
        Makes it.
    ours, plain : dict
        Guidance, as `generate` and the pipeline itself take it.
    unguided : dict
        What turns classifier-free guidance off, as `generate` takes it; None where it has none.
    batched : tuple of int
        Items of the prompt and of the negative prompt, where guidance puts both into one batch.
    without : callable
        Gives a pipeline whose guidance is turned off by it, not by a call.
    quick : bool
        Whether everything is tried on it at each run, not only where slow tests run too.
    """

    pipeline: Callable[..., Any]
    ours: dict[str, Any] = field(default_factory=dict)
    plain: dict[str, Any] = field(default_factory=dict)
    unguided: dict[str, Any] | None = None
    batched: tuple[int, int] | None = None
    without: Callable[[Any], Any] = lambda pipe: pipe
    quick: bool = False


CLASSIFIER_FREE: dict[str, Any] = {
    "ours": {"guidance": 5.0, "negative_prompt": "a cat"},
    "plain": {"guidance_scale": 5.0, "negative_prompt": "a cat"},
    "unguided": {"guidance": 1.0},
}
FAMILIES = {
    "sd3": Made(sd3_pipeline, **CLASSIFIER_FREE, batched=(1, 0), quick=True),
    "flux2": Made(flux2_pipeline, {"guidance": 3.0}, {"guidance_scale": 3.0}),
    "klein": Made(klein_pipeline, {"guidance": 3.0}, {"guidance_scale": 3.0}, {"guidance": 1.0}),
    "qwen": Made(
        qwen_pipeline,
        {"true_guidance": 3.0, "negative_prompt": "a cat"},
        {"true_cfg_scale": 3.0, "negative_prompt": "a cat"},
        {},
    ),
    "chroma": Made(chroma_pipeline, **CLASSIFIER_FREE),
    "longcat": Made(
        longcat_pipeline,
        {"guidance": 5.0, "negative_prompt": "a cat"},
        {"guidance_scale": 5.0, "negative_prompt": "a cat", "enable_prompt_rewrite": False},
        {"guidance": 1.0},
    ),
    "ovis": Made(ovis_pipeline, **CLASSIFIER_FREE),
    "bria": Made(bria_pipeline, **CLASSIFIER_FREE, batched=(1, 0)),
    "hunyuan-image": Made(
        hunyuan_image_pipeline,
        {"negative_prompt": "a cat"},
        {"negative_prompt": "a cat"},
        {},
        without=lambda pipe: type(pipe)(**pipe.components | {"guider": None, "ocr_guider": None}),
    ),
    "auraflow": Made(auraflow_pipeline, **CLASSIFIER_FREE, batched=(1, 0)),
    "lumina2": Made(lumina2_pipeline, **CLASSIFIER_FREE),
    "cogview4": Made(cogview4_pipeline, **CLASSIFIER_FREE),
    "z-image": Made(z_image_pipeline, **CLASSIFIER_FREE | {"unguided": {"guidance": 0.0}}, batched=(0, 1)),
}


def params(guided: bool = False) -> list[Any]:
    """Names of the families (those with two branches), marked as slow where they are not quick."""
    return [
        pytest.param(name, marks=() if made.quick else pytest.mark.slow)
        for name, made in FAMILIES.items()
        if made.unguided is not None or not guided
    ]


@cache
def folder_of(name: str, parent: str) -> Path:
    """A saved pipeline, with the length of its text."""
    path = Path(parent) / name
    FAMILIES[name].pipeline().save_pretrained(path)
    if INFO[name] is not None:
        (path / "workbench.json").write_text(json.dumps({"text_length": INFO[name]}))
    return path


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    parent = str(tmp_path_factory.mktemp("models"))
    return lambda name: folder_of(name, parent)


def load(path: Path) -> Any:
    pipe = wb.load_model(path, device="cpu", dtype=torch.float32)
    if INFO[path.name] is None:
        pipe.tokenizer_max_length = 24
    return pipe


@cache
def loaded(path: Path) -> Any:
    return load(path)


@pytest.fixture(params=params())
def name(request: pytest.FixtureRequest) -> str:
    parameter: str = request.param
    return parameter


@pytest.fixture
def pipe(name: str, saved: Callable[[str], Path]) -> Any:
    """A pipeline no test changes."""
    return loaded(saved(name))


@pytest.fixture
def image(name: str) -> Any:
    patch = PATCHES.get(name, 4)
    return np.random.default_rng(0).integers(0, 256, (GRID[0] * patch, GRID[1] * patch, 3), dtype=np.uint8)


def size_of(pipe: Any) -> tuple[int, int]:
    """Height and width of a picture of `GRID` patches."""
    patch = pipeline_adapter_for(pipe).patch
    return GRID[0] * patch, GRID[1] * patch


def generated(pipe: Any, steps: int = 2, **options: Any) -> xr.Dataset:
    defaults: dict[str, Any] = {"model": pipe, "size": size_of(pipe), "store": False, "progress": False}
    return wb.generate(PROMPT, CONCEPTS, steps=steps, **(defaults | options))


def captured(pipe: Any, image: Any, **options: Any) -> xr.Dataset:
    defaults: dict[str, Any] = {"model": pipe, "size": size_of(pipe), "store": False, "progress": False}
    return wb.capture(image, CONCEPTS, **(defaults | options))


def plain(name: str, pipe: Any, steps: int = 2, length: int | None = None) -> Any:
    """The picture of the pipeline alone."""
    result = pipe(
        prompt=PROMPT,
        height=size_of(pipe)[0],
        width=size_of(pipe)[1],
        num_inference_steps=steps,
        generator=torch.Generator("cpu").manual_seed(0),
        **({} if INFO[name] is None else {"max_sequence_length": length or INFO[name]}),
        **FAMILIES[name].plain,
    )
    return np.asarray(result.images[0].convert("RGB"))


@contextmanager
def calls(pipe: Any) -> Iterator[list[dict[str, Any]]]:
    """Arguments of the transformer's passes."""
    seen: list[dict[str, Any]] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(by_name(module, args, kwargs)), with_kwargs=True
    )
    try:
        yield seen
    finally:
        handle.remove()


def item(given: dict[str, Any], index: int) -> dict[str, Any]:
    """One item of a batch; position ids may be those of all items."""
    return {
        name: value[index : index + 1] if isinstance(value, Tensor | list) and len(value) == 2 else value
        for name, value in given.items()
    }


def traced(pipe: Any, given: dict[str, Any], **options: Any) -> dict[str, Tensor]:
    """Scores (layer, head, concept, patch) of one pass of the transformer."""
    adapter = open_adapter(pipe)
    each = [adapter.encode_concept(concept) for concept in CONCEPTS]
    options["own_positions"] = adapter.concept_positions(CONCEPTS)
    options["own_texts"] = [found.text for found in each] if adapter.inner.refines else None
    with torch.no_grad(), wb.trace(pipe.transformer, torch.cat([e.vector for e in each], dim=1), **options) as seen:
        pipe.transformer(**given)
    return {space: values[:, 0] for space, values in seen.scores.items()}


def stored(ds: xr.Dataset, space: str = "output", **where: int) -> Tensor:
    """Scores summed over heads (layer, concept, patch) of one step."""
    values = ds[f"{space}_total"].isel(sample=0, **where).transpose("layer", "concept", "y", "x")
    return torch.from_numpy(values.to_numpy()).flatten(2)


# --- making a picture --------------------------------------------------------------------------------------------
def test_the_picture_is_the_plain_pipelines(name: str, pipe: Any) -> None:
    ds = generated(pipe, **FAMILIES[name].ours)
    np.testing.assert_array_equal(ds["image"][0], plain(name, pipe))
    validate(ds, values=True)
    assert (ds.sizes["y"], ds.sizes["x"]) == GRID
    assert ds.wb.heatmap().dims == ("concept", "y", "x")


@pytest.mark.slow
def test_in_bfloat16_and_what_a_call_leaves_behind_changes_no_key(name: str, image: Any) -> None:
    pipe = FAMILIES[name].pipeline(dtype=torch.bfloat16)
    before = fingerprint(pipe)
    ds = generated(pipe, steps=1, **FAMILIES[name].ours)
    np.testing.assert_array_equal(ds["image"][0], plain(name, pipe, steps=1, length=OWN.get(name, 512)))
    captured(pipe, image)
    assert fingerprint(pipe) == before


@pytest.mark.parametrize("name", params(guided=True), indirect=True)
def test_the_branch_of_guidance_that_was_asked_for_is_recorded(name: str, pipe: Any) -> None:
    with calls(pipe) as seen:
        plain(name, pipe, steps=1)
    batched = FAMILIES[name].batched
    assert len(seen) == (2 if batched is None else 1)
    passes = seen if batched is None else [item(seen[0], place) for place in batched]
    both = generated(pipe, steps=1, branch="both", **FAMILIES[name].ours)
    validate(both, values=True)
    for index, branch in enumerate(("conditional", "unconditional")):
        expected = traced(pipe, passes[index])["output"].sum(dim=1)
        ds = generated(pipe, steps=1, branch=branch, **FAMILIES[name].ours)
        assert relative_error(stored(ds, timestep=0), expected) < 1e-5, branch
        assert relative_error(stored(both.sel(branch=branch), timestep=0), expected) < 1e-5, branch
        other = traced(pipe, passes[1 - index])["output"].sum(dim=1)
        assert relative_error(stored(ds, timestep=0), other) > 1e-3, "the other one is another"


@pytest.mark.slow
@pytest.mark.parametrize("name", params(guided=True), indirect=True)
@pytest.mark.parametrize(
    "edit",
    [
        NullText(1),
        MaskText(1, tokens="dog"),
        SkipBlock(1),
        ScaleHeads(1, 0),
        Amplify(1, factor=2.0),
        RandomDirection(NullText(1)),
    ],
    ids=str,
)
def test_edits_reach_the_conditional_items_as_they_do_without_guidance(
    name: str, pipe: Any, edit: Intervention
) -> None:
    """Latents of the first step are the same with guidance and without it."""
    made = FAMILIES[name]
    assert made.unguided is not None
    alone, guided = (
        generated(model, steps=1, interventions=[edit], **options)
        for model, options in ((made.without(pipe), made.unguided), (pipe, made.ours))
    )
    assert relative_error(stored(guided, timestep=0).nan_to_num(), stored(alone, timestep=0).nan_to_num()) < 1e-4
    untouched = generated(pipe, steps=1, **made.ours)
    assert not np.array_equal(guided["image"], untouched["image"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["flux2"], indirect=True)
def test_guidance_that_a_family_has_not_is_refused(pipe: Any) -> None:
    with pytest.raises(InputError, match="leave it out"):
        generated(pipe, negative_prompt="fog")
    with pytest.raises(InputError, match="no unconditional branch"):
        generated(pipe, branch="unconditional")


# --- a real image ------------------------------------------------------------------------------------------------
def test_a_real_image(name: str, pipe: Any, image: Any) -> None:
    options: dict[str, Any] = {"spaces": ("output", "cross", "prompt"), "text_mass": True, "prompt": PROMPT}
    ds = captured(pipe, image, timesteps=[250, 500], **options)
    validate(ds, values=True)
    adapter = open_adapter(pipe)
    posterior = adapter.encode_image(image)
    noised = adapter.noised(*posterior.draw(0), 250.0)
    inputs = adapter.inputs(noised, 250.0, adapter.encode_prompt(PROMPT), GRID)
    expected = traced(pipe, inputs, spaces=("output", "cross"))
    assert ds.timestep.values.tolist() == [500, 250]
    for space, values in expected.items():
        assert relative_error(stored(ds, space, timestep=1), values.sum(dim=1)) < 1e-5

    positions, words = adapter.prompt_tokens(PROMPT)
    assert ds.position.values.tolist() == positions
    assert ds.token.values.tolist() == words
    assert ds.sizes["text"] == ds.attrs["text_length"] == adapter.length_of(PROMPT)
    assert ds.padding.values.tolist() == adapter.padding(PROMPT)
    assert not ds.padding.isel(text=positions).any()
    share = ds["text_mass"].sum("text")
    assert ((share > 0) & (share < 1)).all()
    assert ds.attrs["default_layers"] == list(adapter.default_layers)


def test_stored_opened_explored_and_edited(
    name: str, pipe: Any, image: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"store": True, "home": home, "prompt": PROMPT}
    first = captured(pipe, image, **options)
    edited = captured(pipe, image, interventions=MaskText(0, tokens="dog"), **options)
    assert not np.array_equal(first["output_total"], edited["output_total"])
    assert "MaskText" in str(edited.attrs["interventions"])
    with monkeypatch.context() as patched:
        patched.setattr(pipe.transformer, "forward", None)
        again = captured(pipe, image, **options)
    assert again.attrs["key"] == first.attrs["key"] != edited.attrs["key"]
    xr.testing.assert_identical(again.load(), first.load())
    validate(wb.open(first.attrs["key"], home=home), values=True)
    assert wb.figures.concept_grid(first) is not None
    assert wb.explore(first) is not None


@pytest.mark.slow
def test_ablated(name: str, pipe: Any, image: Any) -> None:
    options: dict[str, Any] = {"size": size_of(pipe), "store": False, "progress": False, "control": None}
    layers = [layer.index for layer in open_adapter(pipe).layers]
    found = wb.intervene(image, CONCEPTS, SkipBlock.each(), model=pipe, layers=layers, **options)
    assert found.sizes["intervention"] == len(layers)
    moved = found["mean_map_distance"].to_numpy()
    assert (moved[:-1] > 0).all()
    assert np.isnan(moved[-1]), "no recorded block comes after the last one"


def test_offloaded(name: str, pipe: Any, image: Any) -> None:
    """Between two calls of a layer its weights have no data."""
    expected = captured(pipe, image, prompt=PROMPT)
    offloaded = load(Path(pipe.config["_name_or_path"]))
    # That of LongCat asks its autoencoder where text goes.
    for part in ("transformer",) if name == "longcat" else ("transformer", "vae"):
        accelerate.cpu_offload(getattr(offloaded, part), execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in offloaded.transformer.parameters()} == {"meta"}
    ds = captured(offloaded, image, prompt=PROMPT)
    np.testing.assert_allclose(ds["output_total"], expected["output_total"], rtol=1e-5, atol=1e-6)


# --- by name -----------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_loaded_by_name_of_its_class(name: str, pipe: Any, image: Any, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    assert type(pipe) is type(FAMILIES[name].pipeline())
    ds = wb.capture(image, CONCEPTS, model=folder, size=size_of(pipe), store=False, progress=False)
    assert ds.sizes["concept"] == 2

    class Own(type(pipe)):  # type: ignore[misc]
        """A pipeline of the user's own is found by the class it is made from."""

    own = Own(**pipe.components)
    assert type(pipeline_adapter_for(own)) is type(pipeline_adapter_for(pipe))
