"""What diffusers' guiders do with a step: pipelines that have them take guidance from them, not from their call."""

from __future__ import annotations

import copy
from typing import Any, Final

import torch
from diffusers.guiders.guider_utils import BaseGuidance

from workbench.schema import ModelError

_KNOWN: Final = {"pred_cond", "pred_uncond"}


def guides(guider: Any) -> bool:
    """Whether a guider runs a pass for each branch of guidance in every step; None guides nothing.

    Raises
    ------
    ModelError
        If it runs passes of other kinds, or with another model.
    """
    if guider is None:
        return False
    name = type(guider).__name__
    if not set(guider._input_predictions) <= _KNOWN or type(guider).prepare_models is not BaseGuidance.prepare_models:
        raise ModelError(
            f"the pipeline's {name} runs passes beside those of a prompt and a negative prompt, or changes the model "
            "for some of them: maps of those were never tried. Give the pipeline another guider, such as "
            "ClassifierFreeGuidance."
        )
    tried = copy.copy(guider)
    ends = (0, 1)  # first and last of the steps
    counts = []
    for step in ends:
        tried.set_state(step=step, num_inference_steps=len(ends), timestep=torch.zeros((), device="cpu"))
        counts.append(tried.num_conditions)
    whole = float(guider._start) == 0 and float(guider._stop) == 1
    return bool(guider._enabled) and whole and min(counts) > 1


def described(guider: Any) -> str:
    """A guider with its options, as one would write it; empty for none."""
    if guider is None:
        return ""
    options = {n: vars(guider).get(n, value) for n, value in guider.config.items() if not n.startswith("_")}
    options |= {"start": guider._start, "stop": guider._stop, "enabled": guider._enabled}
    return f"{type(guider).__name__}({', '.join(f'{name}={value!r}' for name, value in options.items())})"
