"""Z-Image: learned padding, captions in a refiner of their own, reversed time, and guidance with the prompt first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import workbench as wb
from tests.references import relative_error
from tests.tiny_pipelines.z_image import z_image_inputs, z_image_pipeline, z_image_transformer
from workbench.models.block_records import ConceptText
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.models.guidance import in_batch
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError, WorkbenchWarning


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(z_image_pipeline())


def scores(model: Any, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> dict[str, Tensor]:
    """Scores of all layers."""
    options = {"spaces": ("output", "cross", "prompt")} | options
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen.scores


def own(text: Tensor, *tokens: int) -> dict[str, Any]:
    """Options of one concept that is some tokens of a text."""
    return {"own_texts": [ConceptText(text, tokens)], "own_positions": [tokens[-1]]}


# --- the transformer ---------------------------------------------------------------------------------------------
def test_a_concept_is_refined_in_its_own_text() -> None:
    """In the text that is the prompt as well it enters the blocks as that token; alone, or elsewhere, as another."""
    model = z_image_transformer()
    inputs = z_image_inputs(model)
    text = inputs["cap_feats"][0][None]
    prompt = scores(model, inputs, text[:, :1], layers=[0], **own(text, 4))["prompt"][0]
    found = scores(model, inputs, text[:, 4:5], layers=[0], **own(text, 4))
    assert relative_error(found["cross"][0], prompt[:, :, 4:5]) < 1e-5
    others: list[dict[str, Any]] = [
        own(text, 3),
        own(text, 4) | {"own_positions": [3]},
        own(text[:, :5], 4),
    ]
    for other in others:
        assert (
            relative_error(scores(model, inputs, text[:, 4:5], layers=[0], **other)["cross"][0], prompt[:, :, 4:5])
            > 1e-3
        )


def test_a_lone_concept_warns_and_stands_where_the_template_puts_it() -> None:
    model = z_image_transformer()
    inputs = z_image_inputs(model)
    concept = inputs["cap_feats"][0][None, :1]
    with pytest.warns(WorkbenchWarning, match="each is a text of one token: give own_texts"):
        lone = scores(model, inputs, concept)
    given = scores(model, inputs, concept, own_texts=[ConceptText(concept, (0,), 3)], own_positions=[3])
    assert all(torch.equal(lone[space], given[space]) for space in lone)


def test_concepts_of_texts_of_several_lengths() -> None:
    """Each is what it is alone."""
    model = z_image_transformer()
    inputs = z_image_inputs(model)
    generator = torch.Generator().manual_seed(5)
    texts = [
        ConceptText(torch.randn(1, n, 16, generator=generator), places)
        for n, places in ((9, (3,)), (40, (3, 4)), (9, (5,)))
    ]
    vectors, places = torch.zeros(1, 3, 16), [3, 4, 5]
    options: dict[str, Any] = {"attend": "image", "spaces": ("output", "cross")}
    together = scores(model, inputs, vectors, own_texts=texts, own_positions=places, **options)
    for place, text in enumerate(texts):
        alone = scores(
            model, inputs, vectors[:, :1], own_texts=[text], own_positions=places[place : place + 1], **options
        )
        for space in alone:
            assert relative_error(together[space][:, :, :, place : place + 1], alone[space]) < 1e-5


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "has 0 texts; expected one for each of the 1 concepts"),
        ([ConceptText(torch.zeros(1, 3, 8), (0,))], "a text in own_texts"),
        ([ConceptText(torch.zeros(1, 3, 16), (3,))], r"of 3 tokens takes the tokens \[3\]"),
        ([ConceptText(torch.zeros(1, 3, 16), ())], "expected one or more"),
    ],
)
def test_texts_that_fit_no_concept_are_refused(texts: list[ConceptText], message: str) -> None:
    with pytest.raises(InputError, match=message):
        trace(z_image_transformer(), torch.zeros(1, 1, 16), own_texts=texts)


def test_padding_is_attended_but_not_scored() -> None:
    model = z_image_transformer()
    inputs = z_image_inputs(model)
    text = inputs["cap_feats"][0][None]
    options: dict[str, Any] = {"text_mass": True, "spaces": ("output",), **own(text, 3)}
    with torch.no_grad(), trace(model, text[:, 3:4], **options) as seen:
        model(**inputs)
    assert seen.scores["output"].shape[-1] == 24
    assert seen.mass["text_mass"].shape[-1] == 32
    assert (seen.mass["text_mass"] > 0).all(), "of the caption and of its padding"
    with torch.no_grad():
        model.x_pad_token += 1
    assert relative_error(scores(model, inputs, text[:, 3:4], **own(text, 3))["output"], seen.scores["output"]) > 1e-3


def test_a_batch_of_captions_of_several_lengths() -> None:
    """The shorter one is padded once more, with tokens that are masked."""
    model = z_image_transformer()
    inputs = z_image_inputs(model, batch=2, text=(7, 40))
    text = inputs["cap_feats"][0][None]
    for item, branch in enumerate(in_batch("conditional").values()):
        one = {name: value[item : item + 1] for name, value in inputs.items()}
        options: dict[str, Any] = {"text_mass": True, **own(text, 3)}
        with torch.no_grad(), trace(model, text[:, 3:4], branches=[branch], **options) as seen:
            model(**inputs)
        with torch.no_grad(), trace(model, text[:, 3:4], **options) as alone:
            model(**one)
        assert relative_error(seen.scores["output"], alone.scores["output"]) < 1e-5
        length = alone.mass["text_mass"].shape[-1]
        assert relative_error(seen.mass["text_mass"][..., :length], alone.mass["text_mass"]) < 1e-5
        assert not seen.mass["text_mass"][..., length:].any()


def test_time_is_reversed() -> None:
    model = z_image_transformer()
    torch.testing.assert_close(adapter_for(model).timesteps({"t": torch.tensor([0.25, 1.0])}).tolist(), [750.0, 0.0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: {"x": [[image] for image in given["x"]]}, "lists of several images"),
        (
            lambda given: {"controlnet_block_samples": {0: torch.zeros(1)}},
            "controlnet_block_samples changes the caption",
        ),
        (lambda given: {"x": [given["x"][0], given["x"][1][..., :4]]}, "latents of several shapes"),
        (lambda given: {"x": [image.repeat(1, 2, 1, 1) for image in given["x"]]}, "2 frames"),
    ],
    ids=["omni", "controlnet", "sizes", "frames"],
)
def test_calls_that_were_never_tried_are_refused(change: Any, message: str) -> None:
    model = z_image_transformer()
    inputs = z_image_inputs(model, batch=2)
    text = inputs["cap_feats"][0][None]
    with pytest.raises(ModelError, match=message), torch.no_grad(), trace(model, text[:, 3:4], **own(text, 3)):
        model(**inputs | change(inputs))


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_text_stands_behind_the_template_and_is_padded(adapter: Any) -> None:
    assert adapter.prompt_tokens("a dog on grass") == ([3, 4, 5, 6], ["a", "dog", "on", "grass"])
    assert adapter.concept_positions(["dog", "skyscraper"]) == (3, 3)
    assert adapter.concept_positions(["skyscraper"], "last") == (4,)
    embeddings = adapter.encode_prompt("a dog on grass").embeddings
    padding = adapter.padding("a dog on grass")
    assert adapter.length_of("a dog on grass") == len(padding) == 32
    assert padding.index(True) == embeddings.shape[1]
    assert adapter.length_of("dog " * 40) == 64


def test_concepts_that_begin_alike_are_no_less_apart(adapter: Any) -> None:
    """Before the refiner their first tokens are equal; behind it they are not, and nobody is told that they are."""
    words = ["boat", "brick"]
    first, other = (adapter.encode_concept(word) for word in words)
    assert torch.equal(first.vector, other.vector)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    options: dict[str, Any] = {"model": adapter.pipe, "size": (24, 32), "store": False, "progress": False}
    with pytest.warns(WorkbenchWarning) as told:
        ds = wb.capture(image, words, **options)
    assert not any("the same embedding" in str(each.message) for each in told)
    boat, brick = (ds["output_total"].sel(concept=word) for word in words)
    assert not np.allclose(boat, brick, rtol=1e-3)


@pytest.mark.parametrize(("pool", "used"), [("first", (3,)), ("last", (4,)), ("mean", (3, 4))])
def test_a_concept_is_encoded_with_its_whole_text(adapter: Any, pool: str, used: tuple[int, ...]) -> None:
    found = adapter.encode_concept("skyscraper", pool)
    assert found.count == 2
    assert found.text.tokens == used
    assert torch.equal(found.text.embeddings, adapter.encode_prompt("skyscraper").embeddings)
    torch.testing.assert_close(found.vector, found.text.embeddings[:, list(used)].mean(dim=1, keepdim=True))


def test_a_real_image_goes_in_as_the_pipeline_would_put_it(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    posterior, vae = adapter.encode_image(image), adapter.pipe.vae
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = vae.encode(pixels).latent_dist.mean
    torch.testing.assert_close(posterior.mean, (mean - 0.1159) * 0.3611, rtol=1e-5, atol=1e-6)
    latents, noise = posterior.draw(0)
    noised = adapter.noised(latents, noise, 250.0)
    torch.testing.assert_close(noised, 0.25 * noise + 0.75 * latents)
    text = adapter.encode_prompt("a dog")
    inputs = adapter.inputs(noised.repeat(2, 1, 1, 1), 250.0, text, (6, 8))
    assert [tuple(part.shape) for part in inputs["x"]] == [(4, 1, 12, 16)] * 2
    assert inputs["t"].tolist() == [0.75, 0.75]
    assert torch.equal(inputs["cap_feats"][1], text.embeddings[0])
    assert adapter.inner.grid(inputs) == adapter.grid(24, 32) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [250.0, 250.0]


def test_the_schedule_is_the_pipelines_and_so_are_the_timesteps_it_runs(adapter: Any) -> None:
    schedule = adapter.schedule(5, 24, 32)
    seen: list[float] = []
    handle = adapter.pipe.transformer.register_forward_pre_hook(
        lambda module, args: seen.append(adapter.inner.timesteps({"t": args[1]})[0].item())
    )
    adapter.generate("a dog", steps=5, guidance=0.0, seed=0, size=(24, 32))
    handle.remove()
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)
    np.testing.assert_allclose(schedule.timesteps, seen, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("prompt", "negative"), [("a dog", "cat " * 40), ("dog " * 40, "cat")])
@pytest.mark.parametrize("branch", ["conditional", "unconditional"])
def test_texts_of_one_batch_are_as_long_as_the_longer(adapter: Any, prompt: str, negative: str, branch: str) -> None:
    ds = wb.generate(
        prompt,
        ["dog"],
        model=adapter.pipe,
        steps=1,
        size=(24, 32),
        negative_prompt=negative,
        branch=branch,
        text_mass=True,
        store=False,
        progress=False,
    )
    assert ds.sizes["text"] == ds.attrs["text_length"] == 64
    read = prompt if branch == "conditional" else negative
    own = adapter.padding(read)
    assert ds.padding.values.tolist() == own + [True] * (64 - len(own))
    mass = ds["text_mass"].to_numpy()
    assert (mass[..., : len(own)] > 0).all()
    assert not mass[..., len(own) :].any()


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (2, 3, 4)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 50, 5.0)
    assert adapter.native == (1024, 1024)
