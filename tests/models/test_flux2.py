"""FLUX.2: the public code's own numbers, the pipelines' own text and latents, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2 import format_input
from torch import Tensor
from transformers import ProcessorMixin

from tests.references import golden, relative_error
from tests.tiny_pipelines.flux2 import flux2_inputs, flux2_pipeline, flux2_transformer, klein_pipeline
from workbench.models.family import pipeline_adapter_for
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError

LENGTH = 64


@pytest.fixture(scope="module")
def reference() -> tuple[dict[str, Tensor], Flux2Transformer2DModel, dict[str, Tensor]]:
    """The public code's tensors, the model they are of, and its inputs."""
    tensors, config = golden("flux2")
    model = Flux2Transformer2DModel(**config).eval()
    model.load_state_dict({name[2:]: tensor.float() for name, tensor in tensors.items() if name.startswith("w.")})
    names = {"hidden_states": "img", "encoder_hidden_states": "txt"}
    names |= {name: name for name in ("timestep", "guidance", "img_ids", "txt_ids")}
    return tensors, model, {name: tensors[f"in.{key}"] for name, key in names.items()}


@pytest.fixture(scope="module", params=["dev", "klein"])
def adapter(request: pytest.FixtureRequest) -> Any:
    pipe = {"dev": flux2_pipeline, "klein": klein_pipeline}[request.param]()
    return pipeline_adapter_for(pipe, {"text_length": LENGTH})


# --- the transformer ---------------------------------------------------------------------------------------------
def test_scores_and_vectors_are_the_public_codes(reference: Any) -> None:
    tensors, model, inputs = reference
    with torch.no_grad(), trace(model, tensors["in.concepts"], spaces=("output", "cross"), vectors=True) as seen:
        output = model(**inputs).sample
    assert relative_error(output, tensors["ref.model_output"]) < 1e-5
    assert relative_error(seen.scores["output"].sum(dim=2), tensors["ref.concept_scores"]) < 1e-5
    for name in ("concept", "image"):
        vectors = seen.vectors[f"{name}_output"].transpose(2, 3).flatten(3)
        assert relative_error(vectors, tensors[f"ref.{name}_output_vectors"]) < 1e-5, name
    # Its cross scores are of keys before the rotary embedding, which no space here is of; its queries are ours.
    assert tensors["in.concept_ids"].tolist() == [[0, 0, 0, 510]] * 4


@pytest.mark.parametrize("position", [0, 509])
def test_the_position_of_a_concept_counts(reference: Any, position: int) -> None:
    tensors, model, inputs = reference
    with torch.no_grad(), trace(model, tensors["in.concepts"], own_positions=[position] * 4) as seen:
        model(**inputs)
    assert relative_error(seen.scores["output"].sum(dim=2), tensors["ref.concept_scores"]) > 1e-3


def test_positions_of_the_model_are_those_of_its_rotary_embedding() -> None:
    model = flux2_transformer()
    inputs = flux2_inputs(model)
    prompt = inputs["encoder_hidden_states"]
    for places in (range(7), [6, 5, 4, 3, 2, 1, 0]):
        with torch.no_grad(), trace(model, prompt, spaces=("cross", "prompt"), positions=places) as seen:
            model(**inputs)
        right = list(places) == list(range(7))
        assert (relative_error(seen.scores["cross"], seen.scores["prompt"]) < 1e-5) is right


@pytest.mark.parametrize("mode", ["extract", "cached"])
def test_a_cache_of_reference_keys_is_refused(mode: str) -> None:
    """Concepts would attend to fewer keys than the image does, and no pass would be missing."""
    model = flux2_transformer()
    inputs = flux2_inputs(model)
    with pytest.raises(ModelError, match=f"kv_cache_mode is '{mode}'"), torch.no_grad():  # noqa: SIM117
        with trace(model, inputs["encoder_hidden_states"]):
            model(**inputs, kv_cache_mode=mode)
    with torch.no_grad(), trace(model, inputs["encoder_hidden_states"]) as seen:
        model(**inputs)
    assert seen.passes == 1, "and nothing is left of the refused one"


# --- text --------------------------------------------------------------------------------------------------------
def test_a_concept_of_dev_stands_where_the_public_code_puts_it() -> None:
    """It is the last token of a prompt padded on the left, behind which is the end of the user's turn."""
    adapter = pipeline_adapter_for(flux2_pipeline())
    assert adapter.text_length == 512
    assert adapter.concept_positions(["dog", "grass"]) == (510, 510)
    tokens = adapter.pipe.tokenizer.apply_chat_template(
        format_input(["dog"], adapter.pipe.system_message),
        tokenize=True,
        return_dict=True,
        padding="max_length",
        truncation=True,
        max_length=512,
    )["input_ids"][0]
    assert adapter.pipe.tokenizer.convert_ids_to_tokens(tokens[510:]) == ["dog", "[/INST]"]
    # Of several tokens the public code takes the last one.
    assert adapter.concept_positions(["skyscraper"], "last") == (510,)
    assert adapter.concept_positions(["skyscraper"], "first") == (509,)


def test_a_concept_of_klein_stands_behind_the_start_of_the_turn() -> None:
    adapter = pipeline_adapter_for(klein_pipeline())
    assert adapter.concept_positions(["dog", "skyscraper"]) == (3, 3)
    assert adapter.concept_positions(["skyscraper"], "last") == (4,)


def test_a_processor_around_the_tokenizer() -> None:
    """As dev's own, which reads images too."""

    class Processor(ProcessorMixin):
        def __init__(self, tokenizer: Any) -> None:
            self.tokenizer = tokenizer
            self.chat_template = tokenizer.chat_template

        def __call__(self, text: Any, **options: Any) -> Any:
            return self.tokenizer(text, **options)

    pipe = flux2_pipeline()
    plain = pipeline_adapter_for(pipe, {"text_length": LENGTH})
    expected = plain.reader.place("a dog"), plain.encode_prompt("a dog").embeddings
    pipe.tokenizer = Processor(pipe.tokenizer)
    adapter = pipeline_adapter_for(pipe, {"text_length": LENGTH})
    assert adapter.reader.place("a dog") == expected[0]
    assert torch.equal(adapter.encode_prompt("a dog").embeddings, expected[1])


# --- latents and schedule ----------------------------------------------------------------------------------------
def test_a_real_image_goes_in_as_the_pipelines_reference_does(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    posterior = adapter.encode_image(image)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    with torch.no_grad():
        latents, ids = adapter.pipe.prepare_image_latents([pixels], 1, None, torch.device("cpu"), torch.float32)
    tokens = adapter.noised(posterior.mean, torch.zeros_like(posterior.mean), 0.0)
    torch.testing.assert_close(tokens, latents, rtol=1e-5, atol=1e-6)
    assert posterior.mean.shape == (1, 16, 6, 8)
    first, second = posterior.draw(0), posterior.draw(1)
    assert torch.equal(first[0], second[0]), "nothing of the image is drawn"
    assert not torch.equal(first[1], second[1])

    inputs = adapter.inputs(tokens, 250.0, adapter.encode_prompt("a dog"), (6, 8))
    assert torch.equal(inputs["img_ids"][0, :, 1:], ids[0, :, 1:]), "but for the axis that numbers references"
    assert not inputs["img_ids"][..., 0].any()
    assert inputs["txt_ids"][0, :, 3].tolist() == list(range(LENGTH))
    assert adapter.inner.grid(inputs) == (6, 8)
    assert adapter.inner.timesteps(inputs).tolist() == [250.0]
    assert inputs["guidance"] is None or inputs["guidance"].tolist() == [0.0], "as in the public code"


def test_decoding_undoes_normalising_and_patching(adapter: Any) -> None:
    latents = torch.randn(1, 16, 6, 8, generator=torch.Generator().manual_seed(0))
    pipe, vae = adapter.pipe, adapter.pipe.vae
    mean, std = vae.bn.running_mean.view(1, -1, 1, 1), (vae.bn.running_var + vae.config.batch_norm_eps).sqrt()
    with torch.no_grad():
        whole = vae.decode(pipe._unpatchify_latents(latents * std.view(1, -1, 1, 1) + mean), return_dict=False)[0]
    (expected,) = pipe.image_processor.postprocess(whole, output_type="pil")
    np.testing.assert_array_equal(adapter.decode(latents), np.asarray(expected))


def test_the_schedule_is_the_pipelines(adapter: Any) -> None:
    schedule = adapter.schedule(5, 24, 32)
    adapter.generate("a dog", steps=5, guidance=1.0, seed=0, size=(24, 32))
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)


def test_guidance_of_dev_is_learnt_and_klein_runs_two_passes() -> None:
    options = {"negative_prompt": None, "true_guidance": 1.0}
    dev, klein, distilled = map(
        pipeline_adapter_for, (flux2_pipeline(), klein_pipeline(), klein_pipeline(distilled=True))
    )
    assert (dev.default_steps, dev.default_guidance) == (50, 4.0)
    assert set(dev.guidance(options | {"guidance": 4.0})) == {"conditional"}
    with pytest.raises(InputError, match="reads none: leave it out"):
        dev.guidance(options | {"guidance": 4.0, "negative_prompt": "fog"})
    assert (klein.default_steps, klein.default_guidance) == (50, 4.0)
    branches = klein.guidance(options | {"guidance": 4.0})
    assert branches["conditional"].takes("cond", 0)
    assert not branches["conditional"].takes("uncond", 1)
    assert set(klein.guidance(options | {"guidance": 1.0})) == {"conditional"}
    with pytest.raises(InputError, match="give guidance= instead"):
        klein.guidance(options | {"guidance": 1.0, "true_guidance": 2.0})
    assert (distilled.default_steps, distilled.default_guidance) == (4, None)
    with pytest.raises(InputError, match="distilled and reads none"):
        distilled.guidance(options | {"guidance": None, "negative_prompt": "fog"})


def test_a_negative_prompt_of_klein_is_the_one_it_is_given() -> None:
    adapter = pipeline_adapter_for(klein_pipeline(), {"text_length": LENGTH})

    def picture(negative_prompt: str | None) -> Any:
        return adapter.generate("a dog", steps=1, guidance=4.0, seed=0, size=(24, 32), negative_prompt=negative_prompt)

    np.testing.assert_array_equal(picture(None), picture("")), "the pipeline reads an empty one"
    assert (picture("a cat on grass") != picture(None)).any()


@pytest.mark.parametrize(("blocks", "expected"), [(8, (5, 6, 7)), (5, (3, 4)), (2, (1,))])
def test_what_a_heat_map_is_made_of(blocks: int, expected: tuple[int, ...]) -> None:
    pipe = flux2_pipeline(num_layers=blocks, num_single_layers=1)
    assert pipeline_adapter_for(pipe).default_layers == expected
    assert pipeline_adapter_for(pipe, {"default_layers": [0]}).default_layers == (0,)
