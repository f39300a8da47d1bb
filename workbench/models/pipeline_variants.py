"""Pipelines around a family's transformer that take pictures of their own: what is the same in all of them.

They are no subclasses of the family's main pipeline, and differ from one another by the inputs of their calls. Those
are asked of the call's own signature: which defaults it has, whether it leaves the first steps out, and whether it
guides.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, Final

from workbench.models.call_inputs import STRENGTH
from workbench.models.guidance import Branch
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import Schedule
from workbench.schema import InputError

FROM_PICTURE: Final = ("image", "mask_image", STRENGTH)
"""Inputs of pipelines that begin with a picture, inside a mask or everywhere."""
WITH_CONTROLNET: Final = (
    "control_image",
    "controlnet_conditioning_scale",
    "control_guidance_start",
    "control_guidance_end",
)
"""Inputs of pipelines with a ControlNet."""
_PICTURES: Final = ("image", "mask_image", "control_image")


class Variant(PipelineAdapter):
    """Comes before the adapter of the family's main pipeline among the bases."""

    @property
    def known(self) -> Mapping[str, inspect.Parameter]:
        """All inputs of the pipeline's call."""
        return inspect.signature(type(self.pipe).__call__).parameters

    def default(self, name: str) -> Any:
        """Default of an input of the pipeline's call; None where there is no such input."""
        found = self.known.get(name)
        return None if found is None else found.default

    @property
    def taken(self) -> tuple[str, ...]:
        return tuple(name for name in self.extras if name in self.known)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(name for name in self.taken if name in _PICTURES)

    @property
    def several(self) -> bool:
        return self._nets is not None

    @property
    def _nets(self) -> int | None:
        """How many ControlNets the pipeline has together; None for one alone, or none."""
        nets = getattr(getattr(self.pipe, "controlnet", None), "nets", None)
        return None if nets is None else len(nets)

    def refuse(self, inputs: Mapping[str, Any]) -> None:
        nets = self._nets
        for name in ("control_image", "controlnet_conditioning_scale") if nets is not None else ():
            value = inputs.get(name)
            if not isinstance(value, list) or len(value) != nets:
                raise InputError(
                    f"{type(self.pipe).__name__} has {nets} ControlNets together: give {name} as a list of as many, "
                    "one for each."
                )

    def schedule(self, steps: int, height: int, width: int) -> Schedule:
        """As of the main pipeline, without the steps that a strength below 1 leaves out.

        Raises
        ------
        InputError
            If it leaves all of them out.
        """
        whole = super().schedule(steps, height, width)  # type: ignore[safe-super]
        strength = self.extra.get(STRENGTH, self.default(STRENGTH))
        if strength is None:
            return whole
        # What is left is said by the pipeline itself, which asks its scheduler for it.
        timed = SimpleNamespace(scheduler=SimpleNamespace(timesteps=whole.timesteps, order=1))
        _, left = type(self.pipe).get_timesteps(timed, steps, strength, "cpu")
        if left < 1:
            raise InputError(
                f"a strength of {strength:g} leaves none of {steps} steps to run: give a larger one, or more steps."
            )
        skipped = steps - left
        return replace(
            whole, timesteps=whole.timesteps[skipped:], sigmas=whole.sigmas[skipped:], skipped=whole.skipped + skipped
        )

    def ran(self) -> tuple[float, ...]:
        return super().ran()[self.pipe.scheduler.begin_index or 0 :]

    def guidance(self, options: Mapping[str, Any]) -> Mapping[str, Branch]:
        if options["negative_prompt"] is not None and "negative_prompt" not in self.known:
            raise InputError(
                f"negative_prompt is {options['negative_prompt']!r}, but {type(self.pipe).__name__} reads none: leave "
                "it out."
            )
        return super().guidance(options)


class GuidedFromPicture(Variant):
    """Begins with a noised picture, as far into the schedule as ``strength`` says, with defaults of its own call."""

    extras: ClassVar[tuple[str, ...]] = FROM_PICTURE

    @property
    def default_steps(self) -> int:
        return int(self.info.get("steps", self.default("num_inference_steps")))

    @property
    def default_guidance(self) -> float:
        return float(self.info.get("guidance", self.default("guidance_scale")))
