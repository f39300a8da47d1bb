"""A real image goes into the transformer as the family's pipeline would put it there, and what shows it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.recording.test_family_pipelines import FAMILIES, INFO, params
from tests.tiny_pipelines.flux2 import flux2_pipeline
from tests.tiny_pipelines.sd3 import sd3_pipeline
from tests.tiny_random import flux_pipeline
from workbench.contract.pipeline_case import PipelineCase
from workbench.contract.pipeline_inputs import image_goes_in_as_the_pipelines_do as rule
from workbench.models.family import pipeline_adapter_for
from workbench.models.flux2_pipeline import Flux2PipelineAdapter
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Schedule
from workbench.models.sd3_pipeline import SD3PipelineAdapter
from workbench.schema import ContractError

SHORT = 24


def case_of(pipe: Any, length: int | None = SHORT) -> PipelineCase:
    """A small picture that is wider than high, with a prompt that is padded where texts are."""
    if length is None:
        pipe.tokenizer_max_length = SHORT
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    adapter = pipeline_adapter_for(pipe, {} if length is None else {"text_length": length})
    return PipelineCase(adapter, pixels, ("dog", "sky"), "a dog on grass")


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", params())
def test_every_family_keeps_to_it(name: str, dtype: torch.dtype) -> None:
    assert "3 steps" in rule(case_of(FAMILIES[name].pipeline(dtype=dtype), INFO[name]))


@pytest.mark.parametrize("guided", [False, True])
def test_what_is_a_convention_is_left_out(guided: bool) -> None:
    """FLUX.1: guidance 0 and no pooled text for a real image."""
    case = case_of(flux_pipeline(guidance_embeds=guided))
    assert case.adapter.conventions == ("pooled_projections", "guidance")
    assert "3 steps" in rule(case)


@pytest.mark.slow
def test_of_models_that_have_learnt_mean_flow() -> None:
    pipe = FAMILIES["hunyuan-image"].pipeline(guidance_embeds=True, use_meanflow=True)
    assert "3 steps" in rule(case_of(pipe, None))


# --- what it catches ---------------------------------------------------------------------------------------------
def noisier(patch: Any) -> str:
    patch.setattr(PipelineAdapter, "sigma", lambda self, timestep, size=None: (timestep / 1000) ** 2)
    return "the parts of noise and image in hidden_states"


def reversed_noise(patch: Any) -> str:
    noised = PipelineAdapter.noised
    patch.setattr(PipelineAdapter, "noised", lambda self, latents, noise, t: noised(self, noise, latents, t))
    return "the parts of noise and image in hidden_states"


def another_schedule(patch: Any) -> str:
    def halved(self: Any, steps: int, height: int, width: int) -> Schedule:
        return Schedule.of_flow([1.0, 0.6, 0.2])

    patch.setattr(SD3PipelineAdapter, "schedule", halved)
    return "at step 1 of 3 .* hidden_states of a real image"


def told_late(patch: Any) -> str:
    inputs = SD3PipelineAdapter.inputs

    def wrong(self: Any, *given: Any) -> dict[str, Any]:
        found = inputs(self, *given)
        return found | {"timestep": found["timestep"] / 1000}

    patch.setattr(SD3PipelineAdapter, "inputs", wrong)
    return "timestep of a real image"


def another_text(patch: Any) -> str:
    inputs = SD3PipelineAdapter.inputs

    def wrong(self: Any, *given: Any) -> dict[str, Any]:
        found = inputs(self, *given)
        return found | {"encoder_hidden_states": found["encoder_hidden_states"][:, :-1]}

    patch.setattr(SD3PipelineAdapter, "inputs", wrong)
    return "encoder_hidden_states of a real image"


@pytest.mark.parametrize("fault", [noisier, reversed_noise, another_schedule, told_late, another_text])
def test_a_fault_is_named(fault: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(sd3_pipeline(), 20)
    assert "3 steps" in rule(case)
    named = fault(monkeypatch)
    with pytest.raises(ContractError, match=named):
        rule(case)


def test_rows_in_place_of_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(flux2_pipeline(), 64)
    inputs = Flux2PipelineAdapter.inputs

    def wrong(self: Any, noised: Any, timestep: float, text: Any, grid: tuple[int, int]) -> dict[str, Any]:
        return inputs(self, noised, timestep, text, (grid[1], grid[0]))

    monkeypatch.setattr(Flux2PipelineAdapter, "inputs", wrong)
    with pytest.raises(ContractError, match=r"img_ids of a real image differ.*Flux2PipelineAdapter"):
        rule(case)


@pytest.mark.parametrize(
    ("another", "named"),
    [
        ({}, r"no argument of .*hidden_states.* differs"),
        ({"hidden_states", "seed"}, "the arguments hidden_states and seed differ"),
    ],
)
def test_the_latents_alone_differ_between_two_images(another: Any, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_of(sd3_pipeline(), 20)
    inputs = SD3PipelineAdapter.inputs

    def wrong(self: Any, noised: Any, *given: Any) -> dict[str, Any]:
        found = inputs(self, noised if another else torch.zeros_like(noised), *given)
        return found | ({"seed": noised.sum()} if another else {})

    monkeypatch.setattr(SD3PipelineAdapter, "inputs", wrong)
    with pytest.raises(ContractError, match=rf"{named}; expected the latents alone .* SD3PipelineAdapter"):
        rule(case)
