"""What real calls of a pipeline bring along: adapters' and controls' inputs, batches, sizes, dtypes, guidance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    FluxControlNetModel,
    FluxControlNetPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
)
from diffusers.models.embeddings import ImageProjection, MultiIPAdapterImageProjection
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor, FluxIPAdapterAttnProcessor
from torch import Tensor

import workbench
from tests.tiny_random import FLUX_CONFIG, concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from tests.traced import LAYERS, follows_the_text, plain_output, record, recorded_inputs, same, snapshot
from workbench.recording.block_reading import Record
from workbench.recording.tracing import trace

SMALL: dict[str, Any] = {
    "height": 16,
    "width": 16,
    "num_inference_steps": 2,
    "max_sequence_length": 12,
    "output_type": "pt",
}


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return flux_pipeline()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def traced_call(pipe: Any, *args: Any, **options: Any) -> tuple[Tensor, list[Record]]:
    """What a pipeline makes with every piece recorded."""
    pieces: list[Record] = []
    with trace(pipe.transformer, concept_embeddings(), layers=LAYERS, on_record=pieces.append):
        made = pipe(*args, **(SMALL | options)).images
    return made, pieces


def outputs(pieces: list[Record]) -> dict[str, Tensor]:
    """Scores (step x layer, batch, head, concept, patch)."""
    return {"output": torch.stack([piece.scores["output"] for piece in pieces])}


# --- inputs that change what blocks compute -----------------------------------------------------------------------


def with_ip_adapter(scale: float) -> FluxTransformer2DModel:
    model = flux_transformer()
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model.set_attn_processor(
            {
                name: FluxAttnProcessor()
                if name.startswith("single")
                else FluxIPAdapterAttnProcessor(64, 64, num_tokens=(4,), scale=scale)
                for name in model.attn_processors
            }
        )
        model.encoder_hid_proj = MultiIPAdapterImageProjection([ImageProjection(12, 64, num_image_text_embeds=4)])
    return model


def test_ip_adapter() -> None:
    inputs = flux_inputs(flux_transformer())
    embeds = torch.randn(1, 1, 12, generator=seeded(4))

    def with_picture() -> dict[str, Any]:
        # The model takes the embeddings out of the dictionary it is given.
        return inputs | {"joint_attention_kwargs": {"ip_adapter_image_embeds": [embeds]}}

    model = with_ip_adapter(1.0)
    output = plain_output(model, with_picture())
    scores, traced = record(model, with_picture())
    assert torch.equal(traced, output)
    assert not torch.equal(output, plain_output(flux_transformer(), inputs))
    assert follows_the_text(model, with_picture())
    unscaled, plain = record(with_ip_adapter(0.0), with_picture())[0], record(flux_transformer(), inputs)[0]
    assert same(unscaled, plain)
    assert torch.equal(scores["output"][0], plain["output"][0]), "it is added after the first block's attention"
    assert not same(scores, plain, 1e-2)


def test_ip_adapter_in_its_pipeline(pipe: FluxPipeline) -> None:
    other = FluxPipeline(**(pipe.components | {"transformer": with_ip_adapter(1.0)}))
    other.set_progress_bar_config(disable=True)
    embeds = torch.randn(1, 1, 12, generator=seeded(4))
    # Without an image encoder the pipeline cannot make the negative embeddings itself.
    options: dict[str, Any] = {
        "ip_adapter_image_embeds": [embeds],
        "negative_ip_adapter_image_embeds": [torch.zeros_like(embeds)],
    }
    plain = other("a dog", generator=seeded(), **SMALL, **options).images
    made, pieces = traced_call(other, "a dog", generator=seeded(), **options)
    assert torch.equal(made, plain)
    assert not torch.equal(made, pipe("a dog", generator=seeded(), **SMALL).images)
    assert [(piece.step, piece.layer) for piece in pieces] == [(step, layer) for step in range(2) for layer in LAYERS]


@pytest.mark.parametrize("repeat", [False, True])
def test_controlnet_residuals(repeat: bool) -> None:
    model = flux_transformer()
    inputs = flux_inputs(model)
    plain = record(model, inputs)[0]

    def controlled(strength: float) -> dict[str, Any]:
        residuals = strength * torch.randn(4, 1, 24, 64, generator=seeded(5))
        return inputs | {
            "controlnet_block_samples": list(residuals[:2]),
            "controlnet_single_block_samples": list(residuals[2:]),
            "controlnet_blocks_repeat": repeat,
        }

    output = plain_output(model, controlled(1.0))
    scores, traced = record(model, controlled(1.0))
    assert torch.equal(traced, output)
    assert follows_the_text(model, controlled(1.0))
    assert same(record(model, controlled(0.0))[0], plain)
    assert not same(scores, plain, 1e-2)


# --- other pipelines ------------------------------------------------------------------------------------------------


def controlnet() -> FluxControlNetModel:
    names = set(FLUX_CONFIG) - {"num_layers", "num_single_layers"}
    with torch.random.fork_rng():
        torch.manual_seed(6)
        net = FluxControlNetModel(**{name: FLUX_CONFIG[name] for name in names}, num_layers=1, num_single_layers=1)
        for linear in [*net.controlnet_blocks, *net.controlnet_single_blocks, net.controlnet_x_embedder]:
            torch.nn.init.normal_(linear.weight)
    return net.eval()


@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")  # by diffusers' own ControlNet
@pytest.mark.parametrize("kind", [FluxControlNetPipeline, FluxImg2ImgPipeline, FluxInpaintPipeline])
def test_trace_works_inside_other_pipelines(kind: Any, pipe: FluxPipeline) -> None:
    picture = torch.rand(1, 3, 16, 16, generator=seeded(7))
    more: dict[str, Any] = {"controlnet": controlnet()} if kind is FluxControlNetPipeline else {}
    other = kind(**pipe.components, **more)
    other.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {
        FluxControlNetPipeline: {"control_image": picture},
        FluxImg2ImgPipeline: {"image": picture, "strength": 1.0},
        FluxInpaintPipeline: {"image": picture, "mask_image": picture[:, :1].round(), "strength": 1.0},
    }[kind]
    plain = other("a dog", generator=seeded(), **(SMALL | options)).images
    with recorded_inputs(other.transformer) as inputs:
        made, pieces = traced_call(other, "a dog", generator=seeded(), **options)
    assert torch.equal(made, plain)
    assert [(piece.step, piece.layer) for piece in pieces] == [(step, layer) for step in range(2) for layer in LAYERS]
    for step, given in enumerate(inputs):
        alone = record(other.transformer, given | {"return_dict": True}, spaces=["output"], lse=False)[0]
        assert same(outputs(pieces[5 * step : 5 * step + 5]), alone)


def test_pipelines_that_do_not_name_their_passes_have_both_recorded(pipe: FluxPipeline) -> None:
    other = FluxImg2ImgPipeline(**pipe.components)
    other.set_progress_bar_config(disable=True)
    options = {"image": torch.rand(1, 3, 16, 16, generator=seeded(7)), "strength": 1.0}
    _, pieces = traced_call(other, "a dog", generator=seeded(), **options)
    _, guided = traced_call(other, "a dog", generator=seeded(), negative_prompt="water", true_cfg_scale=3.0, **options)
    assert [piece.step for piece in guided if piece.layer == 0] == [0, 1, 2, 3]
    assert same(outputs(guided[:5]), outputs(pieces[:5])), "the conditional pass comes first"
    assert not same(outputs(guided[5:10]), outputs(pieces[:5]), 1e-2)


# --- batches, guidance, sizes, dtypes ------------------------------------------------------------------------------


def test_prompts_and_pictures_in_one_batch(pipe: FluxPipeline) -> None:
    prompts = ["a dog on grass", "red sun"]
    generators = [seeded(seed) for seed in range(4)]
    plain = pipe(prompts, num_images_per_prompt=2, generator=generators, **SMALL).images
    generators = [seeded(seed) for seed in range(4)]
    made, pieces = traced_call(pipe, prompts, num_images_per_prompt=2, generator=generators)
    assert torch.equal(made, plain)
    together = outputs(pieces)["output"]
    assert together.shape == (2 * 5, 4, 2, 3, 16)
    for index in range(4):
        _, alone = traced_call(pipe, prompts[index // 2], generator=seeded(index))
        assert same({"output": together[:, index : index + 1]}, outputs(alone))


def test_guided_passes_equal_passes_without_guidance(pipe: FluxPipeline) -> None:
    options: dict[str, Any] = {"negative_prompt": "water", "true_cfg_scale": 4.0}
    plain = pipe("a dog", generator=seeded(), **SMALL, **options).images
    with recorded_inputs(pipe.transformer) as inputs:
        made, pieces = traced_call(pipe, "a dog", generator=seeded(), **options)
    assert torch.equal(made, plain)
    assert len(inputs) == 4
    assert [piece.step for piece in pieces if piece.layer == 0] == [0, 1]
    for step, given in enumerate(inputs[::2]):
        alone = record(pipe.transformer, given | {"return_dict": True}, spaces=["output"], lse=False)[0]
        assert same(outputs(pieces[5 * step : 5 * step + 5]), alone, 0)


@pytest.mark.parametrize("name", ["pred_uncond", "pred_cond_skip", "uncond"])
def test_passes_that_guidance_names_otherwise_are_not_recorded(name: str, pipe: FluxPipeline) -> None:
    inputs = flux_inputs(pipe.transformer)
    with torch.no_grad(), trace(pipe.transformer, concept_embeddings()) as seen:
        with pipe.transformer.cache_context(name):
            pipe.transformer(**inputs)
        assert not seen.passes
        with pipe.transformer.cache_context("pred_cond"):
            pipe.transformer(**inputs)
    assert seen.passes == 1


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype: torch.dtype) -> None:
    pipe, exact = flux_pipeline(dtype=dtype), flux_pipeline()
    exact.transformer.load_state_dict(pipe.transformer.state_dict())
    plain = pipe("a dog", generator=seeded(), **SMALL).images
    inputs: list[dict[str, Any]] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: inputs.append(dict(kwargs)), with_kwargs=True
    )
    made, pieces = traced_call(pipe, "a dog", generator=seeded())
    handle.remove()
    assert torch.equal(made, plain)
    assert all(piece.scores["output"].dtype == torch.float32 for piece in pieces)
    widened = {name: value.float() if isinstance(value, Tensor) else value for name, value in inputs[0].items()}
    expected = record(exact.transformer, widened | {"return_dict": True}, spaces=["output"], lse=False)[0]
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 5e-2, torch.float32: 1e-5}[dtype]
    assert same(outputs(pieces[:5]), expected, tolerance)


@pytest.mark.slow
def test_an_oblong_picture_of_full_size() -> None:
    small = flux_pipeline(num_layers=2, num_single_layers=1)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(2, 2, 2, 2),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=1,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    pipe = FluxPipeline(**(small.components | {"vae": vae.eval()}))
    pipe.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {
        "model": pipe,
        "size": (880, 1184),
        "layers": [1, 2],
        "spaces": "output",
        "store": False,
        "progress": False,
    }
    made = workbench.generate("a dog", ["dog", "sky"], steps=1, **options)
    picture = made["image"].isel(sample=0).values
    plain = pipe(
        "a dog",
        height=880,
        width=1184,
        num_inference_steps=1,
        max_sequence_length=256,
        generator=seeded(),
        output_type="np",
    ).images
    assert np.array_equal(picture, (plain[0] * 255).round().astype("uint8"))
    for ds in (made, workbench.capture(picture, ["dog", "sky"], **options)):
        assert dict(ds["output"].sizes) == {
            "sample": 1,
            "timestep": 1,
            "layer": 2,
            "head": 2,
            "concept": 2,
            "y": 55,
            "x": 74,
        }
        assert float(ds["y"][-1]) == 871.5
        assert float(ds["x"][-1]) == 1175.5
        assert bool(np.isfinite(ds["output_total"]).all())
    assert not snapshot(pipe.transformer)[0][0][2]["_forward_hooks"]
