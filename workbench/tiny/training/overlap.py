"""Which test scenes a model was trained on, pixel for pixel, and which scenes show words it never saw together.

``python -m workbench.tiny.training.overlap`` renders every scene that the training stages of the full size drew from
(:class:`workbench.tiny.training.train.Stage`), and writes ``splits.json`` into the model's folder (four minutes on two
cores): seeds of other splits that give the pixels of one of them, and seeds of hard scenes whose words are in none of
them together.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Final

from workbench.folders import INFO_FILE, bundled_folder
from workbench.schema import InputError
from workbench.tiny.scenes import HARD_SEEDS, SIZE, SPLITS, content_hash, render, render_hard

FILE: Final = "splits.json"
HARD_SCENES: Final = 500
_BLOCK: Final = 500

Words = frozenset[str]


def looks(seeds: range) -> tuple[set[str], set[Words]]:
    """What scenes look like, as :func:`workbench.tiny.scenes.content_hash`, and the sets of their words."""
    scenes = [render(seed) for seed in seeds]
    return {content_hash(scene) for scene in scenes}, {frozenset(scene.words) for scene in scenes}


def told_apart(trained: range, hard: Iterable[int] = HARD_SEEDS, workers: int | None = None) -> dict[str, Any]:
    """Splits of a model that was trained on the scenes of some seeds.

    Parameters
    ----------
    trained
        Seeds of its training scenes.
    hard
        Seeds of :func:`workbench.tiny.scenes.render_hard` to choose from.
    workers
        Rendering processes; by default as many as there are cores.

    Returns
    -------
    ``trained``: first seed and number; ``seen``: by split, the seeds that give the pixels of a training scene;
    ``hard``: at most :data:`HARD_SCENES` seeds of scenes with words that no training scene shows together.
    """
    blocks = [trained[start : start + _BLOCK] for start in range(0, len(trained), _BLOCK)]
    pixels: set[str] = set()
    words: set[Words] = set()
    with ProcessPoolExecutor(workers) as pool:
        for some, sets in pool.map(looks, blocks):
            pixels |= some
            words |= sets
    seen = {
        split: [seed for seed in SPLITS[split] if content_hash(render(seed)) in pixels]
        for split in ("validation", "test")
    }
    # A scene shows its words together with those of any part of them.
    new = (seed for seed in hard if not _together(frozenset(render_hard(seed).words), words))
    return {"trained": [trained.start, len(trained)], "seen": seen, "hard": list(islice(new, HARD_SCENES))}


def _together(own: Words, others: Iterable[Words]) -> bool:
    return any(own <= other for other in others)


def splits_of(folder: Path) -> dict[str, Any]:
    """What :func:`told_apart` found for a model.

    Raises
    ------
    InputError
        If the command was not run for it.
    """
    path = folder / FILE
    if not path.is_file():
        raise InputError(
            f"{path} is missing, which says what the model was trained on: run python -m "
            f"workbench.tiny.training.overlap --model {folder} first."
        )
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="pipeline folder; the bundled tiny-flux by default")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="rendering processes")
    options = parser.parse_args()
    folder = options.model or bundled_folder("tiny-flux")
    stages = json.loads((folder / INFO_FILE).read_text())["recipe"]["stages"]
    most = max((stage["scenes"] for stage in stages if stage["size"] == SIZE), default=0)
    found = told_apart(SPLITS["train"][:most], workers=options.workers)
    (folder / FILE).write_text(json.dumps(found) + "\n")
    counts = ", ".join(f"{len(seeds)} of {len(SPLITS[split])} {split}" for split, seeds in found["seen"].items())
    print(f"{most} training scenes; seen: {counts} scenes; {len(found['hard'])} hard scenes with new words together")


if __name__ == "__main__":
    main()
