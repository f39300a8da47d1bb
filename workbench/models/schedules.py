"""What a scheduler does, found out by running a copy of it: whether its timesteps say how noisy the latents are.

A stored map says of which sigma it is, and a seed stands for one image. Some schedulers break the first (other sigmas
than their timesteps, several passes a step), others the second (noise of their own at each step). Which do is asked of
the scheduler itself, not of a list of classes: under a model whose velocity is the same everywhere, every solver of the
flow's equation is exact, so the latents must be at the announced sigma at each step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor

from workbench.models.defaults import own_defaults
from workbench.schema import ModelError

TOLERANCE: Final = 0.01
"""Largest difference, in sigma, between what a step announces and how noisy the latents are: 10 timesteps."""


def checked_schedule(
    scheduler: Any,
    steps: int,
    set_timesteps: Callable[[Any], object],
    sigma: Callable[[float], float] = lambda timestep: timestep / 1000,
) -> tuple[float, ...]:
    """Sigmas of the passes that a pipeline runs with this scheduler, once it is known that they are those of the noise.

    Parameters
    ----------
    scheduler : SchedulerMixin
        The pipeline's; it is copied and stays as it is.
    steps : int
        Length of the schedule.
    set_timesteps : callable
        Sets the timesteps of a scheduler as the pipeline does.
    sigma : callable
        How noisy the latents should be at a timestep; that of a flow by default.

    Returns
    -------
    tuple of float
        Decreasing, without the final zero.

    Raises
    ------
    ModelError
        If the scheduler cannot run such a schedule, its timesteps do not decrease from 1000 x sigma of pure noise, the
        latents are not at the sigma that a step announces, or it adds noise that the seed does not decide.
    """
    with own_defaults():
        try:
            first = copy.deepcopy(scheduler)
            set_timesteps(first)
            second = copy.deepcopy(first)
            sigmas = tuple(sigma(float(timestep)) for timestep in first.timesteps)
            _check_timesteps(scheduler, steps, sigmas)
            latents, drift = _small(0), _small(1)
            with _same_generator():
                one, other = _latents(first, latents, drift), _latents(second, latents, drift)
        except ModelError:
            raise
        except Exception as error:  # whatever a scheduler of any kind does with options it was not made for
            reason = str(error) or type(error).__name__
            raise _refused(scheduler, f"cannot run a schedule of {steps} steps ({reason})") from error
    if not all(torch.equal(*pair) for pair in zip(one, other, strict=True)):
        raise _refused(
            scheduler,
            "adds noise of its own at each step, which the seed does not decide: two equal calls would make two images",
        )
    for step, (noisy, reached) in enumerate(zip(sigmas, [latents + drift, *one], strict=False)):
        off = float((reached - latents - noisy * drift).abs().max() / drift.abs().max())
        if not off <= TOLERANCE:
            raise _refused(
                scheduler,
                f"announces timestep {1000 * noisy:g} at step {step}, where the latents are at another one (off by "
                f"{1000 * off:.3g}): maps would be labelled with timesteps they are not of",
            )
    return sigmas


def shift_of(scheduler: Any, tokens: int, most: float = 1.15) -> float:
    """How far the pipelines that take FLUX.1's way shift the sigmas of a picture of so many tokens.

    Parameters
    ----------
    scheduler : SchedulerMixin
        The pipeline's, whose configuration may say otherwise.
    tokens : int
        Of the picture.
    most : float
        The shift of a picture of 4096 tokens, where the configuration says none.
    """
    from diffusers.pipelines.flux.pipeline_flux import calculate_shift

    config = scheduler.config
    shift: float = calculate_shift(
        tokens,
        config.get("base_image_seq_len", 256),
        config.get("max_image_seq_len", 4096),
        config.get("base_shift", 0.5),
        config.get("max_shift", most),
    )
    return shift


def _check_timesteps(scheduler: Any, steps: int, sigmas: tuple[float, ...]) -> None:
    if len(sigmas) != steps:
        raise _refused(scheduler, f"takes {len(sigmas)} passes for {steps} steps; expected one pass a step")
    falling = all(later < earlier for earlier, later in pairwise(sigmas))
    if not falling or not 0 < sigmas[-1] <= sigmas[0] <= 1:
        announced = ", ".join(f"{1000 * sigma:g}" for sigma in sigmas[:5])
        raise _refused(
            scheduler,
            f"has the timesteps {announced}{', …' if steps > 5 else ''}; expected 1000 x sigma, decreasing from 1000 "
            "to above 0, each once",
        )


@contextmanager
def _same_generator() -> Iterator[None]:
    """Put torch's own generator, which noise of a scheduler comes from, back as it was; untouched where none is drawn.

    Other threads may draw from it: it is never seeded here.
    """
    before = torch.get_rng_state()
    try:
        yield
    finally:
        if not torch.equal(before, torch.get_rng_state()):
            torch.set_rng_state(before)


def _small(seed: int) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(seed)
    return torch.randn(1, 4, 4, generator=generator, dtype=torch.float32, device="cpu")


def _latents(scheduler: Any, latents: Tensor, drift: Tensor) -> list[Tensor]:
    """Latents after each step from pure noise, under a model whose velocity is ``drift`` everywhere."""
    scheduler.set_begin_index(0)
    reached, current = [], latents + drift
    for timestep in scheduler.timesteps:
        current = scheduler.step(drift, timestep, current, return_dict=False)[0]
        reached.append(current)
    return reached


def _refused(scheduler: Any, why: str) -> ModelError:
    return ModelError(
        f"the pipeline's {type(scheduler).__name__} {why}; use a FlowMatchEulerDiscreteScheduler: pipe.scheduler = "
        "FlowMatchEulerDiscreteScheduler.from_config(pipe.scheduler.config, stochastic_sampling=False, "
        "invert_sigmas=False)."
    )
