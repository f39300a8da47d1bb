"""Schedulers by what they do: accepted where timesteps are those of the latents and the seed decides the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FlowMatchLCMScheduler,
    LTXEulerAncestralRFScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_random import flux_pipeline
from workbench.models.flux import FluxPipelineAdapter
from workbench.models.schedules import checked_schedule
from workbench.schema import ModelError

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


@pytest.fixture(scope="module")
def adapter() -> FluxPipelineAdapter:
    return FluxPipelineAdapter(flux_pipeline())


def schedule(adapter: FluxPipelineAdapter, scheduler: Any, steps: int = 4) -> tuple[float, ...]:
    adapter.pipe.scheduler = scheduler
    return adapter.schedule(steps, 24, 32).sigmas


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shift": 3.0},
        {"use_dynamic_shifting": True},
        {"use_karras_sigmas": True},
        {"use_exponential_sigmas": True},
    ],
)
@pytest.mark.parametrize("steps", [1, 5])
def test_schedules_of_flow_matching(adapter: FluxPipelineAdapter, options: dict[str, Any], steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(**options)
    state, timesteps = torch.get_rng_state(), scheduler.timesteps
    sigmas = schedule(adapter, scheduler, steps)
    assert torch.equal(torch.get_rng_state(), state)
    assert scheduler.timesteps is timesteps, "a copy was run"
    assert len(sigmas) == steps
    assert sigmas == tuple(sorted(set(sigmas), reverse=True))


def test_a_schedule_that_ends_at_a_noise_level_of_its_own(adapter: FluxPipelineAdapter) -> None:
    assert schedule(adapter, FlowMatchEulerDiscreteScheduler(shift_terminal=0.1))[-1] == pytest.approx(0.1)


def test_a_multistep_solver_of_the_same_equation(adapter: FluxPipelineAdapter) -> None:
    assert schedule(adapter, UniPCMultistepScheduler(**FLOW)) == pytest.approx((1, 0.75, 0.5, 0.25), abs=2e-3)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), "adds noise of its own at each step"),
        (FlowMatchLCMScheduler(), "adds noise of its own at each step"),
        (LTXEulerAncestralRFScheduler(), "adds noise of its own at each step"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "has the timesteps 0, 250, 500, 750; expected 1000 x"),
        (FlowMatchEulerDiscreteScheduler(num_train_timesteps=500), "announces timestep 500 at step 0"),
        (UniPCMultistepScheduler(use_flow_sigmas=True), "announces timestep 750 at step 1"),
        (DPMSolverMultistepScheduler(**FLOW), r"cannot run a schedule of 4 steps \(AssertionError\)"),
        (DPMSolverMultistepScheduler(), r"cannot run a schedule of 4 steps \(The current scheduler class"),
        (FlowMatchHeunDiscreteScheduler(), "cannot run a schedule of 4 steps"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_schedulers_that_are_refused(adapter: FluxPipelineAdapter, scheduler: Any, message: str) -> None:
    state = torch.get_rng_state()
    with pytest.raises(ModelError, match=rf"^the pipeline's {type(scheduler).__name__} {message}.*scheduler = Flow"):
        schedule(adapter, scheduler)
    assert torch.equal(torch.get_rng_state(), state)


def test_noise_that_comes_to_nothing(adapter: FluxPipelineAdapter) -> None:
    """The last step of a schedule adds none: with one step the seed decides the image after all."""
    assert schedule(adapter, FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), steps=1) == (1.0,)


def test_several_passes_a_step() -> None:
    with pytest.raises(ModelError, match=r"takes 7 passes for 4 steps; expected one pass a step; use a FlowMatch"):
        checked_schedule(FlowMatchHeunDiscreteScheduler(), 4, lambda scheduler: scheduler.set_timesteps(4))


class Shifted(FlowMatchEulerDiscreteScheduler):
    """Announces timesteps that are off by a part of what it runs."""

    part = 0.0

    def set_timesteps(self, *args: Any, **kwargs: Any) -> None:
        super().set_timesteps(*args, **kwargs)
        self.timesteps = self.timesteps * (1 - self.part)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(part=st.floats(0.02, 0.9), steps=st.integers(1, 20))
def test_any_other_noise_level_is_seen(part: float, steps: int) -> None:
    scheduler = Shifted()
    scheduler.part = part
    sigmas = np.linspace(1, 1 / steps, steps).tolist()
    with pytest.raises(ModelError, match="where the latents are at another one"):
        checked_schedule(scheduler, steps, lambda copied: copied.set_timesteps(sigmas=sigmas))
