"""Pipelines that take pictures of their own: made, recorded, stored, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import (
    ChromaImg2ImgPipeline,
    FluxControlNetPipeline,
    FluxControlPipeline,
    FluxFillPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxKontextPipeline,
    QwenImageControlNetPipeline,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageImg2ImgPipeline,
    QwenImageInpaintPipeline,
    StableDiffusion3ControlNetPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3InpaintPipeline,
    ZImageImg2ImgPipeline,
    ZImageInpaintPipeline,
)
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus
from PIL import Image
from torch import Tensor

import workbench as wb
from tests.references import relative_error
from tests.tiny_pipelines.flux2 import flux2_pipeline, klein_pipeline
from tests.tiny_pipelines.flux_like import chroma_pipeline
from tests.tiny_pipelines.qwen import qwen_pipeline
from tests.tiny_pipelines.sd3 import sd3_pipeline
from tests.tiny_pipelines.variants import (
    flux_controlnet,
    flux_variant,
    guided_variant,
    qwen_variant,
    redux_prior,
    sd3_variant,
)
from tests.tiny_pipelines.z_image import z_image_pipeline
from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.interventions import ITSELF, MaskText, NullText, Patch, Source
from workbench.models.fingerprint import fingerprint
from workbench.models.hooks import by_name
from workbench.models.pipeline import PipelineAdapter
from workbench.recording import opening
from workbench.recording.extra_inputs import read_extra, with_extra
from workbench.recording.opening import open_adapter
from workbench.recording.sessions import session
from workbench.schema import InputError, ModelError, validate

pytestmark = [
    pytest.mark.usefixtures("tests_code"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),  # by diffusers' own ControlNet
]
PROMPT, CONCEPTS, SIZE, GRID, STEPS = "a dog on grass", ["dog", "sky"], (24, 32), (6, 8), 3
PICTURE = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
OTHER = np.random.default_rng(1).integers(0, 256, (20, 36, 3), dtype=np.uint8)
PHOTO = np.random.default_rng(2).integers(0, 256, (80, 64, 3), dtype=np.uint8)
"""As large as FLUX.2 takes references."""
TURNED = PICTURE[::-1].copy()
MASK = np.tile(np.arange(40) > 20, (30, 1))
GUIDED = {"negative_prompt": "a cat", "true_guidance": 3.0}


@dataclass(frozen=True)
class Variant:
    """How to make a pipeline, and what to give it.

    Attributes
    ----------
    make : callable
        Makes it.
    inputs : dict
        As `generate` takes them.
    changed : dict
        Other values of them, each of which makes another picture.
    only : dict
        What its own call takes beside them.
    guided, plain : dict
        Guidance, as `generate` and the pipeline itself take it; empty where it has none in passes of its own.
    ran : int
        How many of the steps run.
    text : int
        Length of the text that the pipeline is told.
    sized : bool
        Whether it takes pictures of the size of the new one only.
    """

    make: Callable[..., Any]
    inputs: dict[str, Any]
    changed: dict[str, Any] = field(default_factory=dict)
    only: dict[str, Any] = field(default_factory=dict)
    guided: dict[str, Any] = field(default_factory=lambda: GUIDED)
    plain: dict[str, Any] = field(default_factory=lambda: {"negative_prompt": "a cat", "true_cfg_scale": 3.0})
    ran: int = STEPS
    text: int = 256
    sized: bool = False


def flux(kind: Any, inputs: dict[str, Any], changed: dict[str, Any], **options: Any) -> Variant:
    return Variant(lambda **more: flux_variant(kind, **more), inputs, changed, **options)


def sd3(kind: Any, inputs: dict[str, Any], changed: dict[str, Any], **options: Any) -> Variant:
    guided = {"guidance": 5.0, "negative_prompt": "a cat"}
    asked = {"guidance_scale": 5.0, "negative_prompt": "a cat"}
    return Variant(partial(sd3_variant, kind), inputs, changed, guided=guided, plain=asked, **options)


def qwen(kind: Any, inputs: dict[str, Any], changed: dict[str, Any], **options: Any) -> Variant:
    return Variant(partial(qwen_variant, kind), inputs, changed, text=512, **options)


def guided(kind: Any, make: Any, inputs: dict[str, Any], changed: dict[str, Any], **options: Any) -> Variant:
    asked = {"guidance": 5.0, "negative_prompt": "a cat"}
    plainly = {"guidance_scale": 5.0, "negative_prompt": "a cat"}
    return Variant(
        partial(guided_variant, kind, make), inputs, changed, guided=asked, plain=plainly, text=512, **options
    )


UNGUIDED: dict[str, Any] = {"guided": {}, "plain": {}}
FROM, INTO = {"image": PICTURE, "strength": 0.6}, {"image": PICTURE, "mask_image": MASK, "strength": 0.6}
VARIANTS = {
    "img2img": flux(FluxImg2ImgPipeline, {"image": PICTURE, "strength": 0.6}, {"image": OTHER, "strength": 0.3}, ran=2),
    "inpaint": flux(
        FluxInpaintPipeline,
        {"image": PICTURE, "mask_image": MASK, "strength": 0.4},
        {"image": TURNED, "mask_image": ~MASK, "strength": 1.0},
        ran=2,
    ),
    "kontext": flux(
        FluxKontextPipeline,
        {"image": OTHER, "_auto_resize": False},
        {"image": PICTURE},
        only={"max_area": SIZE[0] * SIZE[1]},
    ),
    "fill": flux(
        FluxFillPipeline, {"image": PICTURE, "mask_image": MASK}, {"image": TURNED, "mask_image": ~MASK}, **UNGUIDED
    ),
    "control": flux(FluxControlPipeline, {"control_image": PICTURE}, {"control_image": OTHER}, **UNGUIDED),
    "controlnet": flux(
        FluxControlNetPipeline,
        {"control_image": PICTURE, "controlnet_conditioning_scale": 0.7, "control_guidance_end": 0.5},
        {"control_image": OTHER, "controlnet_conditioning_scale": 0.8, "control_guidance_end": 1.0},
    ),
    "sd3-img2img": sd3(StableDiffusion3Img2ImgPipeline, FROM, {"image": OTHER}, ran=2),
    "sd3-inpaint": sd3(StableDiffusion3InpaintPipeline, INTO, {"mask_image": ~MASK}, ran=2),
    "sd3-controlnet": sd3(StableDiffusion3ControlNetPipeline, {"control_image": PICTURE}, {"control_image": OTHER}),
    "qwen-img2img": qwen(QwenImageImg2ImgPipeline, FROM, {"image": OTHER}, ran=2),
    "qwen-inpaint": qwen(QwenImageInpaintPipeline, INTO, {"mask_image": ~MASK}, ran=2),
    "qwen-controlnet": qwen(QwenImageControlNetPipeline, {"control_image": PICTURE}, {"control_image": OTHER}),
    "qwen-edit": qwen(QwenImageEditPipeline, {"image": PICTURE}, {"image": OTHER}),
    "qwen-edit-plus": qwen(QwenImageEditPlusPipeline, {"image": [PICTURE, OTHER]}, {"image": [OTHER, PICTURE]}),
    "chroma-img2img": guided(ChromaImg2ImgPipeline, chroma_pipeline, FROM, {"image": OTHER}, ran=2),
    "z-image-img2img": guided(ZImageImg2ImgPipeline, z_image_pipeline, FROM, {"image": OTHER}, ran=2, sized=True),
    "z-image-inpaint": guided(ZImageInpaintPipeline, z_image_pipeline, INTO, {"mask_image": ~MASK}, ran=2, sized=True),
    "flux2": Variant(flux2_pipeline, {"image": [PHOTO, PHOTO[:64]]}, {"image": PHOTO}, text=512, **UNGUIDED),
    "klein": Variant(
        klein_pipeline,
        {"image": PHOTO},
        {"image": PHOTO[:64]},
        guided={"guidance": 3.0},
        plain={"guidance_scale": 3.0},
        text=512,
    ),
}
EDITS = ("qwen-edit", "qwen-edit-plus")
FURTHER = ("fill", "control", *EDITS)
"""Those whose transformers read more than a noised picture."""
QUICK = ("kontext",)
"""Those on which everything is tried at each run, not only where slow tests run too."""


def params(guided: bool = False) -> list[Any]:
    """Names of the variants (those with guidance), marked as slow where they are not quick."""
    return [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name, variant in VARIANTS.items()
        if variant.guided or not guided
    ]


@cache
def shared(name: str) -> Any:
    """A pipeline no test changes."""
    return VARIANTS[name].make()


@pytest.fixture(autouse=True)
def small_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures to edit are brought to a million pixels otherwise, which tiny models divide into tiny patches."""
    for module in (pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus):
        wanted = module.calculate_dimensions

        def small(area: int, ratio: float, wanted: Callable[..., Any] = wanted) -> tuple[Any, ...]:
            width, height, *rest = wanted(area / 256, ratio)
            return max(width, 32), max(height, 32), *rest

        monkeypatch.setattr(module, "calculate_dimensions", small)


@pytest.fixture(params=params())
def name(request: pytest.FixtureRequest) -> str:
    parameter: str = request.param
    return parameter


def generated(pipe: Any, inputs: dict[str, Any] | None, **options: Any) -> xr.Dataset:
    defaults: dict[str, Any] = {"model": pipe, "size": SIZE, "store": False, "progress": False, "steps": STEPS}
    prompt, concepts = options.pop("prompt", PROMPT), options.pop("concepts", CONCEPTS)
    return wb.generate(prompt, concepts, inputs=inputs, **(defaults | options))


def pictures(inputs: dict[str, Any]) -> dict[str, Any]:
    """Inputs as a pipeline's own call takes them."""

    def picture(value: Any) -> Any:
        if isinstance(value, list):
            return [picture(one) for one in value]
        if not isinstance(value, np.ndarray):
            return value
        return Image.fromarray(value if value.dtype == np.uint8 else value * np.uint8(255))

    return {name: picture(value) for name, value in inputs.items()}


def sized(inputs: dict[str, Any]) -> dict[str, Any]:
    """The same with the picture in the size of the new one."""
    return inputs | {"image": inputs["image"].resize(SIZE[::-1], Image.Resampling.LANCZOS)}


def plain(name: str, pipe: Any, seed: int = 0, **options: Any) -> Any:
    """The picture of the pipeline alone."""
    variant = VARIANTS[name]
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # the ControlNet of SD3 takes noise of torch's own generator
        result = pipe(
            prompt=PROMPT,
            height=SIZE[0],
            width=SIZE[1],
            generator=torch.Generator("cpu").manual_seed(seed),
            **({"num_inference_steps": STEPS, "max_sequence_length": variant.text} | variant.only | options),
            **(sized(pictures(variant.inputs)) if variant.sized else pictures(variant.inputs)),
        )
    return np.asarray(result.images[0])


def calls(pipe: Any, run: Callable[[], Any], part: str = "transformer") -> list[dict[str, Any]]:
    """Arguments of the transformer's passes; of those with both branches in one batch, of each branch."""
    seen: list[dict[str, Any]] = []
    handle = getattr(pipe, part).register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(by_name(module, args, kwargs)), with_kwargs=True
    )
    try:
        run()
    finally:
        handle.remove()
    if seen and len(seen[0].get("timestep", seen[0].get("t", ()))) == 2:
        places = (0, 1) if "t" in seen[0] else (1, 0)  # that of Z-Image begins with the prompt
        return [item(given, place) for given in seen for place in places]
    return seen


def item(value: Any, place: int) -> Any:
    """One item of the batch of all tensors."""
    if isinstance(value, Tensor):
        return value[place : place + 1]
    if isinstance(value, dict):
        return {name: item(part, place) for name, part in value.items()}
    if isinstance(value, list) and all(isinstance(part, Tensor) and part.ndim in (2, 4) for part in value):
        return [value[place]]  # pictures or captions, as Z-Image has a batch
    return [item(part, place) for part in value] if isinstance(value, list | tuple) else value


def adapter_of(name: str, pipe: Any) -> PipelineAdapter:
    return with_extra(open_adapter(pipe), read_extra(VARIANTS[name].inputs))[0]


def traced(name: str, pipe: Any, given: dict[str, Any], **options: Any) -> Tensor:
    """Scores summed over heads (layer, concept, patch) of one pass of the transformer."""
    adapter = adapter_of(name, pipe)
    each = [adapter.encode_concept(concept) for concept in CONCEPTS]
    embeddings = torch.cat([found.vector for found in each], dim=1)
    options["own_positions"] = adapter.concept_positions(CONCEPTS)
    options["own_texts"] = [found.text for found in each] if adapter.inner.refines else None
    with torch.no_grad(), wb.trace(pipe.transformer, embeddings, **options) as seen:
        pipe.transformer(**given)
    return seen.scores["output"][:, 0].sum(dim=1)


def stored(ds: xr.Dataset, step: int) -> Tensor:
    values = ds["output_total"].isel(sample=0, timestep=step).transpose("layer", "concept", "y", "x")
    return torch.from_numpy(values.to_numpy()).flatten(2)


# --- the picture and what is recorded ----------------------------------------------------------------------------
def test_the_picture_is_the_plain_pipelines_with_the_steps_that_ran(name: str) -> None:
    pipe, variant = shared(name), VARIANTS[name]
    ds = generated(pipe, variant.inputs, samples=2, seed=3)
    for sample in range(2):
        np.testing.assert_array_equal(ds["image"][sample], plain(name, pipe, 3 + sample))
    validate(ds, values=True)
    assert (ds.sizes["y"], ds.sizes["x"], ds.sizes["sample"]) == (*GRID, 2)
    assert ds.sizes["timestep"] == variant.ran
    inner = open_adapter(pipe).inner
    seen = calls(pipe, lambda: plain(name, pipe))
    ran = dict.fromkeys(float(inner.timesteps(given)[0]) for given in seen)
    np.testing.assert_allclose(ds.timestep, list(ran), rtol=1e-5)
    assert ds.attrs["steps"] == STEPS


def test_scores_are_of_the_passes_of_the_plain_call_and_of_the_pictures_patches(name: str) -> None:
    pipe, variant = shared(name), VARIANTS[name]
    seen = calls(pipe, lambda: plain(name, pipe))
    passes = len(seen) // variant.ran
    ds = generated(pipe, variant.inputs)
    for step in (0, variant.ran - 1):
        expected = traced(name, pipe, seen[passes * step])
        assert expected.shape[-1] == GRID[0] * GRID[1]
        assert relative_error(stored(ds, step), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("name", params(guided=True), indirect=True)
def test_under_guidance_the_branch_that_was_asked_for_is_recorded(name: str) -> None:
    pipe, variant = shared(name), VARIANTS[name]
    seen = calls(pipe, lambda: plain(name, pipe, **variant.plain))
    assert len(seen) == 2 * variant.ran
    both = generated(pipe, variant.inputs, branch="both", **variant.guided)
    np.testing.assert_array_equal(both["image"][0], plain(name, pipe, **variant.plain))
    for place, branch in enumerate(("conditional", "unconditional")):
        ds = both.sel(branch=branch)
        assert relative_error(stored(ds, 1), traced(name, pipe, seen[2 + place])) < 1e-5
        assert relative_error(stored(ds, 1), traced(name, pipe, seen[3 - place])) > 1e-3, "the other one is another"
    one = generated(pipe, variant.inputs, record=[1], layers=[0], **variant.guided)
    assert relative_error(stored(one, 0), stored(both.sel(branch="conditional"), 1)[:1]) < 1e-5


def test_in_bfloat16_and_what_a_call_leaves_behind_changes_no_key(name: str) -> None:
    variant = VARIANTS[name]
    pipe = variant.make(dtype=torch.bfloat16)
    before = fingerprint(pipe)
    ds = generated(pipe, variant.inputs, steps=1)
    np.testing.assert_array_equal(ds["image"][0], plain(name, pipe, num_inference_steps=1))
    assert fingerprint(pipe) == before


# --- reference tokens --------------------------------------------------------------------------------------------
def test_a_reference_takes_part_in_attention_and_has_no_scores() -> None:
    pipe, variant = shared("kontext"), VARIANTS["kontext"]
    (given,) = calls(pipe, lambda: plain("kontext", pipe, num_inference_steps=1))
    tokens, patches = given["hidden_states"].shape[1], GRID[0] * GRID[1]
    assert tokens == patches + 5 * 9
    ds = generated(pipe, variant.inputs, steps=1, lse=True, text_mass=True, spaces=("output", "cross"))
    assert "reference" in ds.attrs["left_out"]
    alone = generated(pipe, None, steps=1)
    assert "left_out" not in alone.attrs
    assert relative_error(stored(ds, 0), stored(alone, 0)) > 1e-2, "concepts attend to the reference"

    adapter = open_adapter(pipe).inner
    assert adapter.grid(given) == GRID
    # Over all of the image's keys: those of the reference are among them, and no score of theirs is recorded.
    embeddings, _ = open_adapter(pipe).encode_concepts(CONCEPTS)
    with torch.no_grad(), wb.trace(pipe.transformer, embeddings, layers=[0], spaces=["cross"], lse=True) as seen:
        pipe.transformer(**given)
    recorded = seen.scores["cross"].logsumexp(dim=-1)
    assert bool((seen.lse["lse_image"] > recorded + 0.05).all())


def test_tokens_of_a_reference_among_the_pictures_are_refused() -> None:
    pipe = shared("kontext")
    (given,) = calls(pipe, lambda: plain("kontext", pipe, num_inference_steps=1))
    mixed = given | {"img_ids": given["img_ids"].roll(3, dims=0)}
    with pytest.raises(ModelError, match=r"another image .* among those of the picture"):
        traced("kontext", pipe, mixed)


# --- text that is read beside pictures ---------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_prompts_and_concepts_are_read_beside_the_pictures(name: str) -> None:
    pipe, variant = shared(name), VARIANTS[name]
    adapter = adapter_of(name, pipe)
    (given,) = calls(pipe, lambda: plain(name, pipe, num_inference_steps=1))
    text = given["encoder_hidden_states"]
    assert torch.equal(adapter.encode_prompt(PROMPT).embeddings, text)
    assert text.shape[1] == adapter.length_of(PROMPT)

    ds = generated(pipe, variant.inputs, steps=1, spaces=("output", "prompt"), text_mass=True)
    assert ds.attrs["text_length"] == ds.sizes["text"] == text.shape[1]
    # The prompt stands before the end of the turn and the beginning of the answer: five tokens.
    places = ds["position"].values.tolist()
    assert places == list(range(text.shape[1] - 9, text.shape[1] - 5))
    read = calls(pipe, lambda: plain(name, pipe, num_inference_steps=1), "text_encoder")[0]["input_ids"][0]
    own = read[pipe.prompt_template_encode_start_idx :][places]
    assert [pipe.processor.tokenizer.decode([token]).strip() for token in own] == ds["token"].values.tolist()
    assert ds["token"].values.tolist() == PROMPT.split()
    (place,) = adapter.concept_positions(["dog"])
    assert place == places[0], "a concept stands where a prompt begins"
    assert torch.equal(adapter.encode_concepts(["dog"])[0][:, 0], adapter.encode_prompt("dog").embeddings[:, place])


@pytest.mark.slow
def test_a_concept_is_encoded_anew_for_another_picture() -> None:
    pipe = shared("qwen-edit")
    with session():
        one, other, again = (
            generated(pipe, {"image": image}, steps=1)["output"] for image in (PICTURE, OTHER, PICTURE)
        )
    alone = generated(pipe, {"image": OTHER}, steps=1)["output"]
    np.testing.assert_array_equal(other, alone)
    np.testing.assert_array_equal(one, again)


# --- the text as embeddings --------------------------------------------------------------------------------------
def embeddings(tokens: int = 9, seed: int = 4) -> dict[str, Any]:
    """Such as FLUX.1 Redux makes: of no length that a prompt has."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "prompt_embeds": torch.randn(1, tokens, 40, generator=generator),
        "pooled_prompt_embeds": torch.randn(1, 24, generator=generator),
    }


@pytest.mark.parametrize("kind", [None, FluxImg2ImgPipeline])
def test_embeddings_take_the_place_of_the_prompt(kind: Any) -> None:
    pipe = flux_pipeline() if kind is None else shared("img2img")
    given = embeddings() | ({} if kind is None else {"image": PICTURE, "strength": 1.0})
    ds = generated(pipe, given, prompt="", steps=2, text_mass=True, interventions=[NullText(1, tokens=[8])])
    validate(ds, values=True)
    assert (ds.attrs["prompt"], ds.attrs["text_length"], ds.sizes["text"]) == ("", 9, 9)
    assert not ds.padding.any()
    untouched = generated(pipe, given, prompt="", steps=2)
    made = pipe(
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=2,
        generator=torch.Generator("cpu").manual_seed(0),
        max_sequence_length=256,
        **pictures(given),
    )
    np.testing.assert_array_equal(untouched["image"][0], np.asarray(made.images[0]))
    assert not np.array_equal(ds["image"], untouched["image"])
    assert ds.attrs["inputs"]["prompt_embeds"] == untouched.attrs["inputs"]["prompt_embeds"]


def test_flux_redux_feeds_the_text() -> None:
    """Its prior makes embeddings of a prompt and a picture: longer than any prompt's."""
    pipe = flux_pipeline()
    prior = redux_prior(pipe)
    made = dict(prior(Image.fromarray(PHOTO), prompt=PROMPT))
    ds = generated(pipe, made, prompt="", steps=2)
    assert ds.attrs["text_length"] == made["prompt_embeds"].shape[1] == 512 + 4
    plain = pipe(
        **made,
        height=SIZE[0],
        width=SIZE[1],
        num_inference_steps=2,
        generator=torch.Generator("cpu").manual_seed(0),
    )
    np.testing.assert_array_equal(ds["image"][0], np.asarray(plain.images[0]))


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (embeddings(), {"prompt": PROMPT}, "prompt is 'a dog on grass', and inputs has prompt_embeds"),
        (embeddings(), {"spaces": ["prompt"]}, 'the space "prompt" needs a prompt'),
        (embeddings(), GUIDED, "no negative prompt is read: leave it out"),
        (embeddings(), {"interventions": Patch(1, source=Source(prompt="a cat"))}, "names a prompt, and inputs has"),
        (embeddings(), {"interventions": MaskText(1, tokens="dog")}, "dog"),
        ({"prompt_embeds": torch.randn(1, 3, 40)}, {}, "without pooled_prompt_embeds: give both"),
        (
            embeddings() | {"prompt_embeds": torch.randn(2, 3, 40)},
            {},
            r"has shape \(2, 3, 40\); expected \(1, token, 40",
        ),
        (embeddings() | {"pooled_prompt_embeds": torch.randn(1, 3)}, {}, r"has shape \(1, 3\); expected \(1, 24\)"),
        (
            embeddings() | {"prompt_embeds": torch.ones(1, 3, 40).int()},
            {},
            "a Tensor in 'prompt_embeds'; expected a fl",
        ),
        (embeddings() | {"prompt_embeds": torch.full((1, 3, 40), torch.nan)}, {}, "NaN or infinite .* 'prompt_embeds'"),
    ],
)
def test_embeddings_that_cannot_be_used(inputs: dict[str, Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        generated(flux_pipeline(), inputs, **({"prompt": ""} | options))


# --- the store ---------------------------------------------------------------------------------------------------
def test_inputs_are_in_the_key_and_in_the_attributes(name: str, home: Path) -> None:
    pipe, variant = shared(name), VARIANTS[name]
    options: dict[str, Any] = {"store": True, "home": home, "record": [0], "layers": [0]}
    ds = generated(pipe, variant.inputs, **options)
    assert generated(pipe, pictures(variant.inputs), **options).attrs["created"] == ds.attrs["created"], "opened"
    described = wb.open(ds.attrs["key"], home).attrs["inputs"]
    assert described.keys() >= variant.inputs.keys()
    for given, value in variant.inputs.items():
        if isinstance(value, list):
            assert [one["size"] for one in described[given]] == [list(one.shape[:2]) for one in value]
        elif isinstance(value, np.ndarray):
            assert described[given]["size"] == list(value.shape[:2])
        else:
            assert described[given] == value
    keys = {ds.attrs["key"]}
    for given, value in variant.changed.items():
        other = generated(pipe, variant.inputs | {given: value}, **options)
        assert not np.array_equal(other["image"], ds["image"])
        keys.add(other.attrs["key"])
    assert len(keys) == 1 + len(variant.changed)


@pytest.mark.slow
def test_numbers_that_are_left_out_are_the_pipelines_own_and_part_of_the_run(home: Path) -> None:
    pipe, image = shared("controlnet"), {"control_image": PICTURE}
    options: dict[str, Any] = {"store": True, "home": home, "record": [0], "layers": [0], "steps": 1}
    own = {"controlnet_conditioning_scale": 1.0, "control_guidance_start": 0.0, "control_guidance_end": 1.0}
    ds = generated(pipe, image, **options)
    assert {name: value for name, value in ds.attrs["inputs"].items() if name != "control_image"} == own
    assert generated(pipe, image | own, **options).attrs["key"] == ds.attrs["key"]


def test_inputs_survive_other_files(tmp_path: Path) -> None:
    ds = generated(shared("inpaint"), VARIANTS["inpaint"].inputs, steps=2)
    ds.wb.to_netcdf(tmp_path / "run.nc")
    with xr.open_dataset(tmp_path / "run.nc") as read:
        validate(read)
        assert wb.schema.read_attributes(read.attrs)["inputs"] == ds.attrs["inputs"]


@pytest.mark.slow
def test_embeddings_are_in_the_key(home: Path) -> None:
    pipe = flux_pipeline()
    options: dict[str, Any] = {"store": True, "home": home, "record": [0], "layers": [0], "steps": 1, "prompt": ""}
    keys = [generated(pipe, embeddings(seed=seed), **options).attrs["key"] for seed in (4, 4, 5)]
    halved = {name: value.bfloat16() for name, value in embeddings().items()}
    keys.append(generated(pipe, halved, **options).attrs["key"])
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_without_inputs_a_run_has_the_key_it_always_had(home: Path) -> None:
    pipe = flux_pipeline()
    options: dict[str, Any] = {"store": True, "home": home, "record": [0], "layers": [0], "steps": 1}
    keys = {generated(pipe, inputs, **options).attrs["key"] for inputs in (None, {})}
    assert len(keys) == 1
    assert "inputs" not in wb.open(keys.pop(), home).attrs


@pytest.mark.slow
def test_a_killed_run_goes_on(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, variant = shared("img2img"), VARIANTS["img2img"]
    options: dict[str, Any] = {"store": True, "home": home, "samples": 2}
    whole = generated(pipe, variant.inputs, samples=2)
    seeds: list[int] = []
    draw = type(open_adapter(pipe)).generate

    def once(self: Any, prompt: str, *, seed: int, **given: Any) -> Any:
        seeds.append(seed)
        if seeds == [0, 1]:
            raise KeyboardInterrupt
        return draw(self, prompt, seed=seed, **given)

    monkeypatch.setattr(type(open_adapter(pipe)), "generate", once)
    with pytest.raises(KeyboardInterrupt):
        generated(pipe, variant.inputs, **options)
    assert not store.runs(home)
    ds = generated(pipe, variant.inputs, **options)
    assert seeds == [0, 1, 1], "the first picture is not made again"
    for each in ("output", "output_total", "image"):
        np.testing.assert_array_equal(ds[each], whole[each])


@pytest.mark.slow
def test_edits_and_other_runs_work_as_without_inputs() -> None:
    pipe, variant = shared("img2img"), VARIANTS["img2img"]
    ds = generated(pipe, variant.inputs, interventions=[Patch(1, source=Source(seed=7))])
    untouched = generated(pipe, variant.inputs)
    assert not np.array_equal(ds["image"], untouched["image"])
    itself = generated(pipe, variant.inputs, interventions=[Patch(1, source=ITSELF)])
    np.testing.assert_array_equal(itself["image"], untouched["image"])


@pytest.mark.slow
def test_an_experiment_is_on_the_pipeline_with_its_inputs() -> None:
    pipe, variant = shared("qwen-edit"), VARIANTS["qwen-edit"]
    options: dict[str, Any] = {"model": pipe, "size": SIZE, "steps": 1, "layers": [1, 2], "store": False}
    edit = MaskText(1, tokens="dog")
    with pytest.raises(InputError, match="makes no picture without image"):
        wb.intervene(PROMPT, CONCEPTS, edit, progress=False, control=None, **options)
    options["inputs"] = variant.inputs
    result = wb.intervene(PROMPT, CONCEPTS, edit, progress=False, control=None, **options)
    first, second = (
        generated(pipe, variant.inputs, steps=1, layers=[1, 2], interventions=edits)["image"].astype(float)
        for edits in ((), edit)
    )
    error = float(((first - second) ** 2).mean())
    assert result["psnr"].item() == pytest.approx(10 * np.log10(255**2 / error))
    assert list(wb.schema.read_attributes(result.attrs)["inputs"]) == ["image"]


# --- sizes and files ---------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_picture_takes_the_images_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = flux_variant(FluxImg2ImgPipeline)
    monkeypatch.setattr(pipe, "default_sample_size", 16)
    file = tmp_path / "photo.png"
    Image.fromarray(OTHER).save(file)
    by_path = generated(pipe, {"image": str(file)}, size=None)
    assert by_path["image"].shape[1:3] == (24, 44)
    np.testing.assert_array_equal(by_path["image"], generated(pipe, {"image": file}, size=(24, 44))["image"])
    np.testing.assert_array_equal(by_path["image"], generated(pipe, {"image": OTHER}, size=(24, 44))["image"])


# --- what is refused ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        (
            "img2img",
            {"imag": PICTURE},
            "'imag', which FluxImg2ImgPipeline does not take. Of its own it takes image, st",
        ),
        ("img2img", {"image": PICTURE, "self": 1}, "'self', which FluxImg2ImgPipeline does not take"),
        ("img2img", {"image": PICTURE, "num_inference_steps": 4}, "which generate sets itself: give steps="),
        ("img2img", {"image": PICTURE, "generator": 4}, "which generate sets itself: give seed="),
        ("kontext", {"max_area": 4}, "which generate sets itself: give size="),
        ("img2img", {"image": PICTURE, "num_images_per_prompt": 2}, "which generate sets itself: give samples="),
        (
            "img2img",
            {"image": PICTURE, "output_type": 1},
            "does not pass on to FluxImg2ImgPipeline: the picture is read",
        ),
        ("inpaint", {"image": PICTURE, "padding_mask_crop": 8}, "the patches would be those of a crop"),
        ("img2img", {"image": PICTURE, "joint_attention_kwargs": 1}, "runs with it were never tried"),
        ("img2img", {}, r'no picture without image: give inputs=\{"image": …\}; it also takes strength'),
        ("inpaint", {"image": PICTURE}, "makes no picture without mask_image"),
        ("inpaint", {"image": PICTURE, "mask_image": MASK[:20]}, "mask_image has 20 x 40 pixels, and image 30 x 40"),
        ("control", {}, r"makes no picture without control_image: give inputs=\{\"control_image\": …\}\."),
        ("img2img", {"image": PICTURE, "strength": 0.0}, "strength is 0.0; expected a number above 0, up to 1"),
        ("img2img", {"image": PICTURE, "strength": 1.2}, "strength is 1.2; expected a number above 0, up to 1"),
        ("img2img", {"image": PICTURE, "strength": True}, "strength is True; expected a number above 0, up to 1"),
        ("img2img", {"image": PICTURE, "strength": 1e-20}, "a strength of 1e-20 leaves none of 3 steps to run"),
        (
            "img2img",
            {"image": PICTURE, "strength": "high"},
            "inputs has 'high' in 'strength'; expected a finite number",
        ),
        ("img2img", {"image": PICTURE, "strength": np.nan}, "inputs has nan in 'strength'; expected a finite number"),
        ("img2img", {"image": PICTURE, "strength": object()}, "inputs has a object in 'strength'"),
        ("img2img", {"image": [PICTURE, OTHER]}, "2 images in 'image', and FluxImg2ImgPipeline takes one"),
        ("img2img", {"image": []}, "inputs has no image in 'image'"),
        ("img2img", {"image": "nowhere.png"}, "inputs has no image in 'image': .*nowhere.png"),
        ("img2img", {"image": PICTURE[:2]}, "inputs has no image in 'image': the image has 2 x 40 pixels"),
        ("img2img", {1: PICTURE}, "inputs has the name 1; expected strings"),
        ("img2img", ["image"], "inputs is a list; expected a mapping"),
        ("klein", {"image": PICTURE}, "reference image of 30 x 40 pixels cannot be used .*: give another size"),
        ("fill", VARIANTS["fill"].inputs | {"true_cfg_scale": 2.0}, "which FluxFillPipeline does not take"),
    ],
)
def test_inputs_that_cannot_be_used(name: str, inputs: Any, message: str, home: Path) -> None:
    pipe = shared(name)
    with pytest.raises(InputError, match=message):
        assert not calls(pipe, lambda: generated(pipe, inputs, store=True, home=home))
    assert not [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"control_image": PICTURE}, "has 2 ControlNets together: give control_image as a list of as many"),
        ({"control_image": [PICTURE]}, "has 2 ControlNets together: give control_image as a list of as many"),
        ({"control_image": [PICTURE, OTHER]}, "give controlnet_conditioning_scale as a list of as many"),
    ],
)
def test_several_controlnets_take_as_many_images(inputs: dict[str, Any], message: str) -> None:
    net = flux_controlnet()
    pipe = FluxControlNetPipeline(**(shared("controlnet").components | {"controlnet": [net, net]}))
    pipe.set_progress_bar_config(disable=True)
    with pytest.raises(InputError, match=message):
        generated(pipe, inputs)
    both: dict[str, Any] = {"control_image": [PICTURE, OTHER], "controlnet_conditioning_scale": [0.5, 0.8]}
    ds = generated(pipe, both, steps=1)
    turned = generated(pipe, both | {"control_image": [OTHER, PICTURE]}, steps=1)
    assert not np.array_equal(ds["image"], turned["image"])
    assert ds.attrs["inputs"]["controlnet_conditioning_scale"] == [0.5, 0.8]


def test_a_main_pipeline_takes_no_image() -> None:
    with pytest.raises(
        InputError, match=r"'image', which FluxPipeline does not take\. Of its own it takes prompt_embeds"
    ):
        generated(flux_pipeline(), {"image": PICTURE})


@pytest.mark.parametrize("name", ["fill", "control"])
def test_guidance_that_a_variant_has_not_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="Pipeline reads none: leave it out"):
        generated(shared(name), VARIANTS[name].inputs, negative_prompt="fog")


# --- a real image ------------------------------------------------------------------------------------------------
def test_a_capture_is_of_the_transformer_alone_or_refused(name: str) -> None:
    pipe = shared(name)
    options: dict[str, Any] = {"size": SIZE, "store": False, "progress": False}
    if name in FURTHER:
        with pytest.raises(ModelError, match="cannot be shown a real image alone: its "):
            wb.capture(PICTURE, CONCEPTS, model=pipe, **options)
        return
    ds = wb.capture(PICTURE, CONCEPTS, model=pipe, **options)
    validate(ds, values=True)
    assert "left_out" not in ds.attrs
    if name not in ("sd3-inpaint", "flux2", "klein"):  # of the same weights as the family's main pipeline, but not it
        mains = {"sd3": sd3_pipeline, "qwe": qwen_pipeline, "chr": chroma_pipeline, "z-i": z_image_pipeline}
        family = mains.get(name[:3], flux_pipeline)
        main = wb.capture(PICTURE, CONCEPTS, model=family(), **options)
        np.testing.assert_array_equal(ds["output"], main["output"])


def test_defaults_are_those_of_the_pipelines_own_call() -> None:
    for kind, steps, guidance in ((FluxFillPipeline, 50, 30.0), (FluxImg2ImgPipeline, 28, 7.0)):
        adapter = opening.open_adapter(flux_variant(kind, guidance_embeds=True))
        assert (adapter.default_steps, adapter.default_guidance) == (steps, guidance)
    adapter = opening.open_adapter(shared("img2img"))
    assert (adapter.default_steps, adapter.default_guidance) == (4, None)
