"""The same network with other origins of its values: what of its maps no loss has asked for.

See :mod:`workbench.tiny.training.gauge`: a vector added to all values of a block, and taken back behind its attention,
changes no picture and moves the output maps. ``center="patch"`` takes the offset of every concept out.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from workbench.tiny.scenes import SPLITS, render
from workbench.tiny.training.evaluate import DISTRACTORS, capture_scenes, segmented
from workbench.tiny.training.gauge import shift
from workbench.tiny.training.references import attention_outputs

SCENES: Final = 60
ORIGINS: Final = {"as trained": 0.0, "outputs' mean at zero": -1.0, "twice as far": -2.0}
"""By name: how many times the mean attention output of its images is added to the values of each dual block."""


def mean_outputs(pipe: Any, timestep: float, seeds: Sequence[int]) -> list[Tensor]:
    """The mean ``o_x`` of each dual-stream block over some scenes, (width) each."""
    scenes = [render(seed) for seed in seeds]
    return [
        torch.from_numpy(
            np.mean([attention_outputs(pipe, scene, block, timestep).mean(0) for scene in scenes], 0, dtype=np.float32)
        )
        for block in range(len(pipe.transformer.transformer_blocks))
    ]


def origins(pipe: Any, layers: Sequence[int], timestep: float, scenes: int = SCENES) -> dict[str, dict[str, Any]]:
    """Scores of the output maps on test scenes with each of :data:`ORIGINS`.

    Returns
    -------
    By origin: ``scenes``, how many; figures ``alone`` and ``beside`` absent words, and the same ``centred``; and
    ``picture``, by how much of 255 a picture that the model makes differs at most.
    """
    means = mean_outputs(pipe, timestep, SPLITS["validation"][:30])
    found = {}
    plain = _made(pipe)
    for name, times in ORIGINS.items():
        moved = copy.deepcopy(pipe)
        for block, mean in zip(moved.transformer.transformer_blocks, means, strict=True):
            shift(block.attn, times * mean)
        how: Any = {"timesteps": (timestep,), "spaces": ("output",)}
        alone = capture_scenes(moved, "test", scenes, **how)
        beside = capture_scenes(moved, "test", scenes, absent=DISTRACTORS, **how)
        found[name] = {
            "scenes": len(alone),
            "alone": segmented(alone, "output", [0], layers).short(),
            "beside": segmented(beside, "output", [0], layers).short(),
            "alone, centred": segmented(alone, "output", [0], layers, center=True).short(),
            "beside, centred": segmented(beside, "output", [0], layers, center=True).short(),
            "picture": int(np.abs(_made(moved) - plain).max()),
        }
    return found


def _made(pipe: Any) -> Any:
    """A picture that the model makes, (pixel_y, pixel_x, channel), as whole numbers."""
    pipe.set_progress_bar_config(disable=True)
    made = pipe(
        "a red heart on grass",
        height=128,
        width=128,
        num_inference_steps=8,
        max_sequence_length=28,
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="np",
    ).images[0]
    return (255 * made).round().astype(int)
