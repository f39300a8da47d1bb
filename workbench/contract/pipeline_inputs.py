"""The rule that a real image is shown to the transformer as its pipeline would show it, at every step.

A picture is made while the transformer's results are replaced by one velocity. Its latents then go along a straight
line, which says where each step has to be, whatever the pipeline packs, shifts, scales or reverses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from workbench.contract.passes import item_of
from workbench.contract.pipeline_case import PipelineCase
from workbench.models.pipeline import PipelineAdapter
from workbench.schema import CONDITIONAL, FLOW, ContractError

_STEPS: Final = 3
_TOLERANCE: Final = {torch.float64: 1e-4, torch.float32: 1e-4}
"""Of the largest absolute value."""
_ROUNDED: Final = 2e-2
"""The same of what was held in 16 bits."""


def image_goes_in_as_the_pipelines_do(case: PipelineCase) -> str:
    """What the transformer is given for a real image is what the pipeline gives it at the same step.

    Of the latents, that is the line from noise to image at the noise which the timestep says; of everything else, the
    values themselves. What a family tells a real image by convention, as :attr:`.PipelineAdapter.conventions` says, is
    left out.

    Raises
    ------
    ContractError
        If something differs.
    """
    adapter = case.adapter
    if adapter.uncaptured or adapter.needs or not adapter.process.startswith(FLOW):
        return "not tried: no flow, or no picture without further inputs"
    guided = {"guidance": adapter.default_guidance, "negative_prompt": None, "true_guidance": 1.0}
    branch = adapter.guidance(guided)[CONDITIONAL]
    schedule = adapter.schedule(_STEPS, *case.size)
    latents, noise = adapter.encode_image(case.small).draw(0)
    with torch.no_grad():
        text = adapter.encode_prompt(case.prompt)

    def shown(image: Tensor, noise: Tensor, step: int) -> dict[str, Any]:
        time = schedule.timesteps[step]
        return adapter.inputs(adapter.noised(image, noise, time), time, text, adapter.grid(*case.size))

    line, still = [shown(noise, noise, step) for step in range(_STEPS)], torch.zeros_like(noise)
    name = _latents(line[0], shown(latents, latents, 0), type(adapter).__name__)
    with _moving(adapter, line[0][name]) as passes:
        case.generated(steps=_STEPS)
    adapter.release()
    if len(passes) != _STEPS * branch.passes:
        return f"not tried: {len(passes)} passes for {_STEPS} steps"
    seen = [passes[step * branch.passes + branch.place] for step in range(_STEPS)]
    item = branch.items.start or 0
    seen = [item_of(given, item, text.embeddings[0]) for given in seen]

    def differs(what: str, step: int, off: float) -> ContractError:
        return ContractError(
            f"at step {step} of {_STEPS} (timestep {schedule.timesteps[step]:g}) {what} of a real image differ from "
            f"those that {type(adapter.pipe).__name__} gives, by {off:.2g} of the largest: look at noised, inputs, "
            f"sigma and schedule of {type(adapter).__name__}."
        )

    worst = 0.0
    for step in range(_STEPS):
        sigma, whole = schedule.sigmas[step], line[step][name]
        for image, drawn, share in ((still, noise, sigma), (noise, still, 1 - sigma)):
            off = _off(shown(image, drawn, step)[name], _times(whole, share), whole)
            if not off <= _allowed(whole):
                raise differs(f"the parts of noise and image in {name}", step, off)
        moved, way = _minus(seen[step][name], seen[0][name]), sigma - schedule.sigmas[0]
        off = min(_off(moved, _times(whole, sign * way), whole) for sign in (1, -1))
        if not off <= _allowed(seen[step][name]):
            raise differs(name, step, off)
        worst = max(worst, off)
        for other in sorted({*line[step], *seen[step]} - {name, *adapter.conventions}):
            mine, given = line[step].get(other), seen[step].get(other)
            if mine is None and (given is None or isinstance(given, Mapping | bool)):  # options of the call
                continue
            off = _off(mine, given, given)
            if not off <= _allowed(given):
                raise differs(other, step, off)
            worst = max(worst, off)
    return f"{_STEPS} steps, off by {worst:.1e}"


def _latents(one: Mapping[str, Any], other: Mapping[str, Any], adapter: str) -> str:
    """Name of the argument that holds the latents: the only one that differs between two images."""
    names = sorted({*one, *other})
    found = [name for name in names if _off(one.get(name), other.get(name), one.get(name)) > 0]
    if len(found) != 1:
        differ = (
            f"the arguments {' and '.join(found)} differ" if found else f"no argument of {', '.join(names)} differs"
        )
        raise ContractError(
            f"of the transformer's inputs for two images of one prompt and timestep {differ}; expected the latents "
            f"alone to differ: look at inputs and noised of {adapter}."
        )
    return found[0]


@contextmanager
def _moving(adapter: PipelineAdapter, velocity: Any) -> Iterator[list[dict[str, Any]]]:
    """Arguments of the transformer's passes, whose results are a velocity."""
    inner, seen = adapter.inner, list[dict[str, Any]]()
    module = inner.transformer

    def after(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if isinstance(output, tuple):
            return _like(velocity, output[0]), *output[1:]
        assert is_dataclass(output)
        (first, *_rest) = fields(output)
        return replace(output, **{first.name: _like(velocity, getattr(output, first.name))})  # type: ignore[type-var]

    handles = [
        module.register_forward_pre_hook(
            lambda _, args, kwargs: seen.append(inner.given(args, kwargs)), with_kwargs=True
        ),
        module.register_forward_hook(after, with_kwargs=True),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _like(velocity: Any, output: Any) -> Any:
    """A velocity of one item for each item of a batch."""
    if isinstance(output, list):
        return [velocity[0].to(one).reshape(one.shape) for one in output]
    one = velocity if isinstance(velocity, Tensor) else torch.stack(list(velocity))
    return one.to(output).reshape(1, *output.shape[1:]).expand_as(output).clone()


def _each(value: Any, act: Callable[[Tensor], Any]) -> Any:
    return act(value) if isinstance(value, Tensor) else [_each(one, act) for one in value]


def _times(value: Any, factor: float) -> Any:
    return _each(value, lambda tensor: tensor.double() * factor)


def _minus(one: Any, other: Any) -> Any:
    if isinstance(one, Tensor):
        return one.double() - other.double()
    return [_minus(*pair) for pair in zip(one, other, strict=True)]


def _off(one: Any, other: Any, scale: Any) -> float:
    """Largest difference of tensors in nested lists, relative to the largest value of others; inf for other shapes."""
    if isinstance(one, Tensor) and isinstance(other, Tensor) and isinstance(scale, Tensor):
        if one.shape != other.shape:
            return float("inf")
        if not one.numel():
            return 0.0
        largest = max(float(scale.double().abs().max()), 1e-12)
        return float((one.double() - other.to(one.device).double()).abs().max()) / largest
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        pairs = [_off(a, b, c) for a, b, c in zip(one, other, scale, strict=False)]
        return max(pairs, default=0.0) if len(one) == len(other) else float("inf")
    return 0.0 if one is other or one == other else float("inf")


def _allowed(value: Any) -> float:
    """How far it may be off, for how it is held."""
    if isinstance(value, Tensor):
        return _TOLERANCE.get(value.dtype, _ROUNDED if value.is_floating_point() else 0.0)
    return max(map(_allowed, value), default=0.0) if isinstance(value, list | tuple) else 0.0
