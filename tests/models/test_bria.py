"""Bria 3.2: T5 text with zeros behind it, timesteps as in the schedule, both branches of guidance in one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

import workbench as wb
from tests.recording.test_family_pipelines import FAMILIES, INFO, params
from tests.tiny_pipelines.flux_like import bria_inputs, bria_pipeline, bria_transformer
from workbench.models.block_records import BlockCall
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.recording.generating import _is_unread
from workbench.recording.plan import Plan
from workbench.schema import ModelError

LENGTH = 20


@pytest.fixture(scope="module")
def adapter() -> Any:
    return pipeline_adapter_for(bria_pipeline(), {"text_length": LENGTH})


# --- the transformer ---------------------------------------------------------------------------------------------
def test_timesteps_are_those_of_the_schedule() -> None:
    model = bria_transformer()
    assert adapter_for(model).timesteps(bria_inputs(model, batch=2)).tolist() == [300.0, 700.0]


def test_a_mask_is_looked_for_where_blocks_are_given_one() -> None:
    """They are only while gradients are checkpointed."""
    adapter = adapter_for(bria_transformer())
    mask = torch.ones(1, 1, 1, 31)
    assert adapter.mask({"attention_kwargs": {"attention_mask": mask}}) is mask  # type: ignore[attr-defined]
    assert adapter.mask({}) is None  # type: ignore[attr-defined]
    assert adapter.text_bias(BlockCall({}, 7)) is None  # type: ignore[attr-defined]


# --- the pipeline ------------------------------------------------------------------------------------------------
def test_text_is_t5s_with_zeros_behind_it(adapter: Any) -> None:
    assert adapter.prompt_tokens("a skyscraper") == ([0, 1, 2], ["a", "sky", "scraper"])
    text = adapter.encode_prompt("a dog")
    assert text.embeddings.shape == (1, LENGTH, 40)
    padding = torch.tensor(adapter.padding("a dog"))
    assert padding.tolist() == [False] * 3 + [True] * (LENGTH - 3), "two words and the end of text"
    assert not text.embeddings[:, padding].any()
    assert text.embeddings[:, ~padding].any(dim=-1).all()
    longer = pipeline_adapter_for(adapter.pipe)
    assert longer.text_length == 128
    assert torch.equal(longer.encode_concepts(["dog"])[0], adapter.encode_concepts(["dog"])[0]), "padding is not read"
    assert adapter.concept_positions(["dog"]) is None


def test_inputs_are_those_the_pipeline_itself_would_give(adapter: Any) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    seen: list[dict[str, Any]] = []
    pipe = adapter.pipe
    handle = pipe.transformer.register_forward_pre_hook(lambda _, args, given: seen.append(given), with_kwargs=True)
    latents = adapter.noised(*adapter.encode_image(image).draw(0), 1000.0)
    options = {"height": 24, "width": 32, "guidance_scale": 1.0, "max_sequence_length": LENGTH}
    pipe("a dog", num_inference_steps=1, latents=latents, output_type="latent", **options)
    handle.remove()
    inputs = adapter.inputs(latents, 1000.0, adapter.encode_prompt("a dog"), (6, 8))
    for name, value in inputs.items():
        assert value.dtype == seen[0][name].dtype, name
        assert torch.equal(value, seen[0][name]), name
    assert adapter.patch == 4
    assert adapter.native == (256, 256), "64 patches a side"
    assert adapter.inner.grid(inputs) == adapter.grid(24, 32) == (6, 8)


@pytest.mark.parametrize("dynamic", [False, True])
def test_the_schedule_is_the_pipelines(adapter: Any, dynamic: bool) -> None:
    pipe = adapter.pipe
    own, pipe.scheduler = pipe.scheduler, FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic)
    schedule = adapter.schedule(3, 24, 32)
    adapter.generate("a dog", steps=3, guidance=1.0, seed=0, size=(24, 32))
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)
    pipe.scheduler = own


def test_a_schedule_that_is_no_flow_is_refused(adapter: Any) -> None:
    """The pipeline runs it too."""
    pipe = adapter.pipe
    own, pipe.scheduler = pipe.scheduler, DDIMScheduler()
    with pytest.raises(ModelError, match="DDIMScheduler"):
        adapter.schedule(3, 24, 32)
    pipe.scheduler = own


@pytest.mark.parametrize("negative", [None, "", "a cat"])
def test_an_empty_negative_prompt_is_padding_throughout(adapter: Any, negative: str | None) -> None:
    """The pipeline gives the transformer zeros for it."""
    seen: list[dict[str, Any]] = []
    handle = adapter.pipe.transformer.register_forward_pre_hook(
        lambda _, a, given: seen.append(given), with_kwargs=True
    )
    options: dict[str, Any] = {"model": adapter.pipe, "size": (24, 32), "guidance": 3.0, "store": False, "steps": 1}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.recording.opening.info_of", lambda pipe: adapter.info)
        ds = wb.generate(
            "a dog",
            ["dog"],
            negative_prompt=negative,
            branch="unconditional",
            text_mass=True,
            progress=False,
            **options,
        )
    handle.remove()
    zeros = (seen[0]["encoder_hidden_states"][0] == 0).all(dim=-1)
    assert ds.padding.values.tolist() == zeros.tolist()
    assert bool(zeros.all()) == (not negative)


def test_what_was_stored_when_an_empty_text_had_an_end_is_not_opened(adapter: Any, home: Path) -> None:
    """The padding is stored with the mass on the text, so such runs are named anew, and no others."""

    def options(**given: Any) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("workbench.recording.opening.info_of", lambda pipe: adapter.info)
            found: list[Plan] = []
            patch.setattr(
                "workbench.recording.generating.found_or_recorded",
                lambda adapter, plan, *more, **named: lambda: found.append(plan),
            )
            wb.generate(
                "a dog", ["dog"], model=adapter.pipe, size=(24, 32), guidance=3.0, steps=1, progress=False, **given
            )
        return dict(found[0].options)

    unread = options(branch="unconditional", text_mass=True)
    assert unread["unread"] is True
    assert "unread" not in options(branch="unconditional", text_mass=True, negative_prompt="a cat")
    assert "unread" not in options(branch="unconditional")
    assert "unread" not in options(text_mass=True)


@pytest.mark.parametrize("name", params())
def test_no_other_familys_runs_are_named_anew(name: str) -> None:
    info = {} if INFO[name] is None else {"text_length": INFO[name]}
    family = pipeline_adapter_for(FAMILIES[name].pipeline(), info)
    assert _is_unread(family, "unconditional", True, "") == (name == "bria")


def test_what_a_heat_map_is_made_of(adapter: Any) -> None:
    assert adapter.default_layers == (1, 2)
    assert (adapter.default_timestep, adapter.default_steps, adapter.default_guidance) == (500, 30, 5.0)
