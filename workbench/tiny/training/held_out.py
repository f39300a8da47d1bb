"""Scores on scenes that a model was not trained on: others pixel for pixel, and others in kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Final

from workbench.tiny.scenes import CHANGES, SPLITS
from workbench.tiny.training.evaluate import (
    DISTRACTORS,
    Captured,
    baselines,
    capture_scenes,
    segmented,
)

SPACES: Final = ("output", "cross")
SCENES: Final = 80
"""Of each kind."""
KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    "new words together": (),
    "and grounds side by side or aslant": ("grounds",),
    "and objects anywhere": ("places",),
    "and grounds drawn anew": ("textures",),
    "hard: all of these": CHANGES,
}
"""What is other than in training, and the changes that :func:`workbench.tiny.scenes.render_hard` makes for it."""


def held_out(
    pipe: Any,
    defaults: tuple[Sequence[int], float],
    splits: Mapping[str, Any],
    scenes: int,
    pool: Executor | None = None,
) -> dict[str, dict[str, Any]]:
    """Scores of a model on the test split, on what of it no training scene equals, and on hard scenes.

    Parameters
    ----------
    pipe
        The pipeline.
    defaults
        Layers and timestep.
    splits
        From :func:`workbench.tiny.training.overlap.splits_of`.
    scenes
        How many of each, at most.
    pool
        Processes of :func:`workbench.tiny.training.evaluate.workers`.

    Returns
    -------
    By kind of scenes: ``scenes``, how many; figures by space, ``alone`` and ``beside`` absent words; ``chance`` and
    ``oracle``.
    """
    layers, time = defaults
    how: Any = {"timesteps": (time,), "spaces": SPACES}
    tests = list(SPLITS["test"][:scenes])
    alone, beside = (capture_scenes(pipe, tests, scenes, pool, absent=absent, **how) for absent in (0, DISTRACTORS))
    new = [place for place, seed in enumerate(tests) if seed not in set(splits["seen"]["test"])]
    found = {"test": _scored(alone, beside, layers)}
    if new:
        found["test, not seen"] = _scored([alone[at] for at in new], [beside[at] for at in new], layers)
    for name, changes in KINDS.items():
        alone, beside = (
            capture_scenes(pipe, splits["hard"], scenes, pool, absent=absent, changes=changes, **how)
            for absent in (0, DISTRACTORS)
        )
        found[name] = _scored(alone, beside, layers)
    return found


def _scored(alone: list[Captured], beside: list[Captured], layers: Sequence[int]) -> dict[str, Any]:
    bounds = baselines(alone)
    return {
        "scenes": len(alone),
        "alone": {space: segmented(alone, space, [0], layers).short() for space in SPACES},
        "beside": {space: segmented(beside, space, [0], layers).short() for space in SPACES},
        "chance": bounds["chance"].short(),
        "oracle": bounds["oracle"].short(),
    }
