"""The drawn scenes of the bundled model as a data set: exact masks, nothing to download."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from workbench.evaluation.datasets import DataSet, Labels, Task
from workbench.schema import InputError
from workbench.tiny.scenes import BACKGROUNDS, NOUNS, OBJECTS, SPLITS, Scene, render

_MOST = 500


@dataclass(frozen=True)
class DrawnScenes(DataSet):
    """Scenes of a split, named by their seeds.

    With the task ``"multi"`` every noun is a class; with ``"single"`` the grounds are the background, and scenes of one
    object count.
    """

    seeds: range = field(default_factory=lambda: SPLITS["test"])

    def all_names(self) -> tuple[str, ...]:
        """The seeds."""
        return tuple(map(str, self.seeds))

    def image(self, name: str) -> NDArray[np.uint8]:
        """The scene."""
        return _scene(int(name)).image

    def labels(self, name: str) -> Labels:
        """Positions of the scene's nouns."""
        scene = _scene(int(name))
        places = [self.classes.index(word) if word in self.classes else 0 for word in scene.words]
        return np.asarray(places, dtype=np.int16)[scene.labels]


def open_scenes(task: Task = "multi", split: str = "test") -> DrawnScenes:
    """The drawn scenes of a split.

    Parameters
    ----------
    task
        ``"single"`` or ``"multi"``.
    split
        One of :data:`workbench.tiny.scenes.SPLITS`; of a long one the first 500 scenes.

    Raises
    ------
    InputError
        If there is no such split.
    """
    if split not in SPLITS:
        raise InputError(f"split is {split!r}; expected one of {', '.join(SPLITS)}.")
    seeds = SPLITS[split]
    classes = ("background", *OBJECTS) if task == "single" else NOUNS
    return DrawnScenes(
        name=f"drawn scenes ({'one object' if task == 'single' else 'all words'}), {split} split",
        task=task,
        classes=classes,
        background=0 if task == "single" else None,
        source={"data": f"scenes-{task}", "split": split},
        grid=(16, 16),
        seeds=seeds[: min(len(seeds), _MOST)],
    )


GROUND_WORDS = BACKGROUNDS
"""Background words of scenes with one object."""


@lru_cache(maxsize=16)
def _scene(seed: int) -> Scene:
    return render(seed)
