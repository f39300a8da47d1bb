"""HunyuanImage: text behind a refiner that pools it, glyphs before it, guidance by guiders, and learnt mean flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.guiders import (
    AdaptiveProjectedMixGuidance,
    AutoGuidance,
    ClassifierFreeGuidance,
    PerturbedAttentionGuidance,
)
from diffusers.hooks import LayerSkipConfig
from torch import Tensor

import workbench as wb
from tests.references import relative_error
from tests.tiny_pipelines.hunyuan_image import (
    hunyuan_image_inputs,
    hunyuan_image_pipeline,
    hunyuan_image_transformer,
)
from workbench.interventions import MaskText
from workbench.models.block_records import ConceptText
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.models.fingerprint import fingerprint
from workbench.recording.edits.resolving import resolve
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError

LENGTH = 24
OPTIONS = {"guidance": None, "negative_prompt": None, "true_guidance": 1.0}


def short(pipe: Any) -> Any:
    """With less text than the 1000 tokens that no call changes."""
    pipe.tokenizer_max_length = LENGTH
    return pipe


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(short(hunyuan_image_pipeline()))


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores


def own(text: Tensor, token: int) -> dict[str, Any]:
    """Options of one concept that is a token of a text."""
    return {"own_texts": [ConceptText(text, (token,))]}


# --- the transformer ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("glyphs", [0, 3])
def test_a_concept_is_refined_in_its_own_text(glyphs: int) -> None:
    """In the text that is the prompt as well it enters the blocks as that token, which stands behind the glyphs."""
    model = hunyuan_image_transformer()
    inputs = hunyuan_image_inputs(model, masked=2, glyphs=glyphs)
    text = inputs["encoder_hidden_states"][:, :5]
    found = scores(model, inputs, text[:, 3:4], layers=[0], **own(text, 3))
    prompt = found["prompt"][0, :, :, glyphs + 3 : glyphs + 4]
    assert relative_error(found["cross"][0], prompt) < 1e-5
    for other in (own(text, 2), own(text[:, :4], 3), own(text[:, 3:4], 0)):
        assert relative_error(scores(model, inputs, text[:, 3:4], layers=[0], **other)["cross"][0], prompt) > 1e-3


def test_each_item_of_a_batch_refines_at_its_own_time() -> None:
    model = hunyuan_image_transformer()
    inputs = hunyuan_image_inputs(model, batch=2, masked=2)
    generator = torch.Generator().manual_seed(5)
    texts = [ConceptText(torch.randn(1, n, 16, generator=generator), (0,)) for n in (2, 3, 2)]
    vectors, spaces = torch.zeros(1, 3, 16), ("output", "cross")
    both = scores(model, inputs, vectors, own_texts=texts, spaces=spaces)
    for item in range(2):
        one = {name: None if value is None else value[item : item + 1] for name, value in inputs.items()}
        alone = scores(model, one, vectors, own_texts=texts, spaces=spaces)
        for space in spaces:
            assert relative_error(both[space][:, item : item + 1], alone[space]) < 1e-5


def test_masked_text_is_as_if_it_was_not_there() -> None:
    model = hunyuan_image_transformer()
    masked = hunyuan_image_inputs(model, masked=3, glyphs=0)
    bare = {name: value for name, value in masked.items() if not name.endswith("_2")}
    bare |= {name: masked[name][:, :4] for name in ("encoder_hidden_states", "encoder_attention_mask")}
    text = bare["encoder_hidden_states"]
    expected, found = (
        scores(model, inputs, text[:, :1], spaces=("output", "cross"), **own(text, 0)) for inputs in (bare, masked)
    )
    for space in expected:
        assert relative_error(found[space], expected[space]) < 1e-5


def test_frames_are_refused() -> None:
    model = hunyuan_image_transformer()
    inputs = hunyuan_image_inputs(model)
    inputs["hidden_states"] = inputs["hidden_states"][:, :, None].repeat(1, 1, 2, 1, 1)
    with pytest.raises(ModelError, match="2 frames"), trace(model, torch.zeros(1, 1, 16), positions=[0]):
        model(**inputs)


# --- text --------------------------------------------------------------------------------------------------------
def test_text_is_dropped_of_its_template_and_padded(adapter: Any) -> None:
    assert adapter.prompt_tokens("a dog on grass") == ([0, 1, 2, 3], ["a", "dog", "on", "grass"])
    assert adapter.text_length == adapter.length_of("a dog on grass") == LENGTH + 128
    padding = adapter.padding("a dog on grass")
    assert padding == [False] * 5 + [True] * (LENGTH + 128 - 5), "the end of the turn is behind it"
    assert adapter.concept_positions(["dog"]) is None
    found = adapter.encode_concept("skyscraper", "last")
    assert (found.count, found.text.tokens) == (2, (1,))
    assert torch.equal(found.text.embeddings, adapter.encode_prompt("skyscraper").embeddings[:, :3])


def test_what_is_quoted_comes_first_byte_by_byte(adapter: Any) -> None:
    prompt = 'a "red dog" on “grass”'
    positions, words = adapter.prompt_tokens(prompt)
    given = 'Text "red dog". Text "grass". '
    glyphs = [(p, w) for p, w in zip(positions, words, strict=True) if p <= len(given)]
    assert [word for _, word in glyphs] == ["red"] * 3 + ["dog"] * 3 + ["grass"] * 5
    tokens = adapter.pipe.tokenizer_2(given).input_ids
    read = "".join(adapter.pipe.tokenizer_2.decode([tokens[position]]) for position, _ in glyphs)
    assert read == "reddoggrass"
    first = len(given) + 1
    assert positions[len(glyphs)] == first, "behind the end of ByT5's text"
    padding = adapter.padding(prompt)
    text = adapter.encode_prompt(prompt)
    assert padding.count(False) == int(text.mask.sum() + text.glyph_mask.sum())
    assert int(text.glyph_mask.sum()) == first
    edit = resolve([MaskText(1, tokens="dog")], 5, 2, ["dog"], len(padding), list(zip(positions, words, strict=True)))[
        0
    ]
    main = positions[len(glyphs) :][words[len(glyphs) :].index("dog")]
    assert edit["tokens"] == (10, 11, 12, main)
    assert adapter.concept_tokens('"dog"') == list(adapter.reader.place('"dog"').positions), "no glyphs of a concept"
    assert adapter.readers(made=True)[1].count("a dog") == 0


def test_glyphs_beyond_their_length_are_cut(adapter: Any) -> None:
    prompt = '"' + "dog " * 50 + '"'
    positions, _ = adapter.prompt_tokens(prompt)
    assert 126 in positions
    assert 127 not in positions, "it ends ByT5's text"
    assert adapter.pipe.tokenizer_2(prompt, truncation=True, max_length=128).input_ids[-1] == 1
    assert min(position for position in positions if position > 127) == 128
    assert adapter.padding(prompt).count(False) == 128 + LENGTH
    reader = adapter.readers(made=True)[1]
    assert reader.count(prompt) > reader.length == 128


def test_a_transformer_without_glyphs() -> None:
    adapter = pipeline_adapter_for(short(hunyuan_image_pipeline(text_embed_2_dim=None)))
    assert adapter.text_length == LENGTH
    assert adapter.prompt_tokens('a "dog"')[0][0] == 0
    assert len(adapter.readers(made=True)) == 1


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_a_real_image_goes_in_as_the_pipeline_would_put_it(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    posterior, vae = adapter.encode_image(image), adapter.pipe.vae
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        gaussian = vae.encode(pixels).latent_dist
    torch.testing.assert_close(posterior.mean, gaussian.mean * 0.75289, rtol=1e-5, atol=1e-6)
    latents, noise = posterior.draw(0)
    noised = adapter.noised(latents, noise, 250.0)
    torch.testing.assert_close(noised, 0.25 * noise + 0.75 * latents)
    inputs = adapter.inputs(noised, 250.0, adapter.encode_prompt("a dog"), (6, 8))
    assert inputs["timestep"].tolist() == [250.0]
    assert inputs["timestep_r"] is None
    assert inputs["guidance"] is None
    assert adapter.inner.grid(inputs) == adapter.grid(24, 32) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [250.0]
    with torch.no_grad():
        decoded = vae.decode(latents / 0.75289, return_dict=False)[0]
    (expected,) = adapter.pipe.image_processor.postprocess(decoded, output_type="pil")
    np.testing.assert_array_equal(adapter.decode(latents), np.asarray(expected))


@pytest.mark.slow
def test_the_schedule_is_the_pipelines(adapter: Any) -> None:
    schedule = adapter.schedule(5, 24, 32)
    adapter.generate("a dog", steps=5, guidance=None, seed=0, size=(24, 32))
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)


def guided(*guiders: Any) -> Any:
    pipe = short(hunyuan_image_pipeline())
    pipe.guider, pipe.ocr_guider = guiders
    return pipeline_adapter_for(pipe)


@pytest.mark.slow
def test_guidance_is_the_guiders() -> None:
    whole, cut = AdaptiveProjectedMixGuidance(), AdaptiveProjectedMixGuidance(stop=0.5)
    off, one = AdaptiveProjectedMixGuidance(enabled=False), ClassifierFreeGuidance(guidance_scale=1.0)
    for guiders in ((whole, None), (whole, ClassifierFreeGuidance())):
        branches = guided(*guiders).guidance(OPTIONS)
        assert branches["conditional"].takes("pred_cond", 0)
        assert branches["unconditional"].takes("pred_uncond", 1)
        assert not branches["conditional"].takes("pred_uncond", 1)
        assert not branches["unconditional"].takes("pred_cond", 0)
    for guiders in ((cut, None), (off, None), (one, None), (None, whole), (whole, off), (None, None)):
        assert set(guided(*guiders).guidance(OPTIONS)) == {"conditional"}
    with pytest.raises(InputError, match="this pipeline has no guider"):
        guided(None, None).guidance(OPTIONS | {"negative_prompt": "fog"})
    with pytest.raises(InputError, match="give guidance= instead"):
        guided(whole, None).guidance(OPTIONS | {"true_guidance": 2.0})


@pytest.mark.parametrize(
    "guider",
    [
        PerturbedAttentionGuidance(perturbed_guidance_layers=[1]),
        AutoGuidance(auto_guidance_config=LayerSkipConfig(indices=[1], fqn="transformer_blocks")),
    ],
    ids=lambda guider: type(guider).__name__,
)
def test_guiders_of_other_kinds_are_refused_before_anything_runs(guider: Any) -> None:
    with pytest.raises(ModelError, match=rf"{type(guider).__name__} runs passes beside those"):
        guided(guider, None).guidance(OPTIONS)


def test_a_guider_that_stops_early_leaves_conditional_passes_to_record() -> None:
    pipe = guided(AdaptiveProjectedMixGuidance(start=0.5), None).pipe
    options: dict[str, Any] = {"model": pipe, "steps": 2, "size": (24, 32), "store": False, "progress": False}
    assert wb.generate("a dog", ["dog"], **options).sizes["timestep"] == 2
    with pytest.raises(InputError, match="no unconditional branch"):
        wb.generate("a dog", ["dog"], branch="unconditional", **options)


@pytest.mark.slow
def test_what_a_guider_does_is_in_the_key_and_what_it_has_done_is_not() -> None:
    adapter = guided(AdaptiveProjectedMixGuidance(), ClassifierFreeGuidance())
    before = fingerprint(adapter.pipe)
    adapter.generate('a "dog"', steps=2, guidance=None, seed=0, size=(24, 32))
    adapter.generate("a dog", steps=2, guidance=None, seed=0, size=(24, 32))
    assert fingerprint(adapter.pipe) == before
    adapter.pipe.guider.guidance_scale = 9.0
    assert fingerprint(adapter.pipe) != before


@pytest.mark.parametrize(
    ("prompt", "guider"), [("a dog", "AdaptiveProjectedMixGuidance"), ('a "dog"', "ClassifierFree")]
)
def test_a_dataset_says_which_guider_it_was(prompt: str, guider: str) -> None:
    pipe = guided(AdaptiveProjectedMixGuidance(), ClassifierFreeGuidance()).pipe
    pipe.guider.guidance_scale = pipe.ocr_guider.guidance_scale = 9.0
    ds = wb.generate(prompt, ["dog"], model=pipe, steps=1, size=(24, 32), store=False, progress=False)
    assert ds.attrs["guider"].startswith(guider)
    assert "guidance_scale=9.0" in ds.attrs["guider"]
    assert "enabled=True" in ds.attrs["guider"]


@pytest.mark.slow
def test_the_distilled_model() -> None:
    pipe = short(hunyuan_image_pipeline(distilled=True))
    adapter = pipeline_adapter_for(pipe)
    assert (adapter.default_steps, adapter.default_guidance) == (8, 3.25)
    ds = wb.generate("a dog", ["dog"], model=pipe, steps=3, size=(24, 32), store=False, progress=False)
    generator = torch.Generator("cpu").manual_seed(0)
    assert ds.attrs["guider"] == ""
    plain = pipe("a dog", num_inference_steps=3, height=24, width=32, generator=generator).images[0]
    np.testing.assert_array_equal(ds["image"][0], np.asarray(plain.convert("RGB")))
    posterior = adapter.encode_image(np.zeros((24, 32, 3), np.uint8))
    inputs = adapter.inputs(adapter.noised(*posterior.draw(0), 250.0), 250.0, adapter.encode_prompt("a dog"), (6, 8))
    assert inputs["guidance"].tolist() == [0.0], "as FLUX.1's"
    assert inputs["timestep_r"].tolist() == inputs["timestep"].tolist() == [250.0], "no step is made"


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (1, 2)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 50, None)
    assert adapter.native == (256, 256)
    assert adapter_for(hunyuan_image_transformer()).embedding_dim == 16
