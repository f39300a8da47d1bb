"""How well tiny-flux finds what is in a picture: ``make bench-tiny``.

Concepts are the nouns of each scene, alone and beside nouns that are not in it. A segmentation is the argmax of a heat
map, brought to pixels by nearest neighbour. Default layers and timestep are chosen on the validation split only, with
distractors and without; the figures are those of the test split.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.folders import INFO_FILE, bundled_folder
from workbench.models.loading import info_of, load_model
from workbench.numerics.scores import reduce_maps
from workbench.recording.capturing import capture
from workbench.schema import total
from workbench.tiny.scenes import NOUNS, SPLITS, Scene, render
from workbench.tiny.training.card_tables import report
from workbench.tiny.training.map_scores import Figure, chance, figure, majority, oracle, tally, to_pixels

SPACES = ("output", "cross", "reverse_cross", "value", "query")
HEAD_SPACES = ("output", "cross")
"""Spaces whose heads are scored one by one."""
TIMESTEPS = (900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0)
ATTEND = ("both", "image", "concepts", "none")
DISTRACTORS = 3
"""Nouns beside a scene's own that are not in it."""

Values = NDArray[np.float32]


@dataclass(frozen=True)
class Captured:
    """Raw maps of one scene.

    Attributes
    ----------
    scene
        The scene.
    words
        The concepts: the scene's words, then the distractors.
    maps
        Per space, sums over heads (timestep, layer, concept, y, x).
    heads
        Per space of :data:`HEAD_SPACES`, values at one timestep (layer, head, concept, y, x); empty unless asked for.
    """

    scene: Scene
    words: tuple[str, ...]
    maps: Mapping[str, Values]
    heads: Mapping[str, Values] = field(default_factory=dict)


def distractors(scene: Scene, seed: int, count: int) -> tuple[str, ...]:
    """Nouns that are not in the scene; the same for the same seed."""
    absent = [word for word in NOUNS if word not in scene.words]
    return tuple(str(word) for word in np.random.default_rng([seed, 7]).choice(absent, count, replace=False))


def capture_scene(
    pipe: Any,
    seed: int,
    absent: int = 0,
    timesteps: Sequence[float] = TIMESTEPS,
    spaces: Sequence[str] = SPACES,
    heads_at: float | None = None,
    attend: str = "both",
) -> Captured:
    """Capture the scene of a seed, in the size the model was made for, at every layer.

    Parameters
    ----------
    pipe
        The pipeline.
    seed
        Seed of the scene.
    absent
        Distractors beside each scene's words.
    timesteps, spaces
        What to record.
    heads_at
        Timestep at which heads are kept apart, in :data:`HEAD_SPACES`; None for none.
    attend
        What concepts attend to, one of :data:`ATTEND`.
    """
    layers = list(range(len(pipe.transformer.transformer_blocks) + len(pipe.transformer.single_transformer_blocks)))
    scene = render(seed, info_of(pipe)["size"][0])
    words = scene.words + distractors(scene, seed, absent)
    run = capture(
        scene.image,
        words,
        model=pipe,
        timesteps=timesteps,
        layers=layers,
        spaces=spaces,
        attend=attend,
        store=False,
        progress=False,
    ).isel(sample=0)
    dims = ("timestep", "layer", "concept", "y", "x")
    maps = {space: run[total(space)].transpose(*dims).to_numpy() for space in spaces}
    heads = {}
    if heads_at is not None:
        at = run.sel(timestep=heads_at)
        heads = {space: at[space].transpose("layer", "head", *dims[2:]).to_numpy() for space in HEAD_SPACES}
    return Captured(scene, words, maps, heads)


def capture_scenes(pipe: Any, split: str, scenes: int, pool: Executor | None = None, **options: Any) -> list[Captured]:
    """:func:`capture_scene` for the first scenes of a split, here or in the processes of :func:`workers`."""
    seeds = SPLITS[split][:scenes]
    each = partial(capture_scene, pipe, **options) if pool is None else partial(_in_worker, options)
    found = map(each, seeds) if pool is None else pool.map(each, seeds, chunksize=4)
    return list(tqdm(found, total=len(seeds), desc=split, unit="scene"))


_mine: Any = None
"""The pipeline of a worker process."""


def _start_worker(folder: Path) -> None:
    global _mine
    torch.set_num_threads(1)
    _mine = load_model(folder, dtype=torch.float32)


def _in_worker(options: Mapping[str, Any], seed: int) -> Captured:
    return capture_scene(_mine, seed, **options)


def workers(folder: Path, count: int) -> Executor:
    """Processes of one thread that have the pipeline of a folder: small models do not fill two cores otherwise."""
    return ProcessPoolExecutor(count, get_context("spawn"), initializer=_start_worker, initargs=(folder,))


def score(captured: Sequence[Captured], heatmaps: Sequence[Values]) -> Figure:
    """Scores of one heat map (concept, y, x) for each scene."""
    return figure(
        tally(one.scene, one.words, to_pixels(heatmap.argmax(0), one.scene.labels.shape))
        for one, heatmap in zip(captured, heatmaps, strict=True)
    )


def segmented(
    captured: Sequence[Captured], space: str, timesteps: Sequence[int], layers: Sequence[int], soft: bool = True
) -> Figure:
    """Scores of the heat map over some positions of timesteps and layers.

    ``soft`` is ``reduce="softmax_mean"`` (the mean after the softmax over concepts), else it is ``"mean"``.
    """

    def heatmap(one: Captured) -> Values:
        chosen = one.maps[space][np.ix_(timesteps, layers)]
        return reduce_maps(chosen, concept_axis=2, mean_axes=(0, 1), reduce="softmax_mean" if soft else "mean")

    return score(captured, [heatmap(one) for one in captured])


def choose(alone: Sequence[Captured], beside: Sequence[Captured], duals: int) -> tuple[list[int], int]:
    """Consecutive dual blocks (at least two) and the timestep's position with the best ``output`` heat maps.

    Best by the mean of two scores: with the scenes' own words, and with words beside them that are not there.
    """
    spans = [list(range(start, stop)) for start in range(duals) for stop in range(start + 2, duals + 1)]
    options = [(span, index) for span in spans for index in range(len(TIMESTEPS))]

    def both(option: tuple[list[int], int]) -> float:
        return sum(segmented(captured, "output", [option[1]], option[0]).words for captured in (alone, beside))

    return max(options, key=both)


def baselines(captured: Sequence[Captured]) -> dict[str, Figure]:
    """What needs no model: a random word at each patch, the scene's largest word, and the right word of each patch."""
    rng = np.random.default_rng(0)
    return {
        "chance": figure(tally(one.scene, one.words, chance(one.scene, rng, len(one.words))) for one in captured),
        "majority": figure(tally(one.scene, one.words, majority(one.scene)) for one in captured),
        "oracle": figure(tally(one.scene, one.words, oracle(one.scene)) for one in captured),
    }


def evaluate(pipe: Any, defaults: tuple[list[int], float], scenes: int, pool: Executor | None = None) -> dict[str, Any]:
    """Every figure of the model card on the test split, as plain values."""
    chosen, time = defaults[0], defaults[1]
    at = TIMESTEPS.index(time)
    captured = capture_scenes(pipe, "test", scenes, pool, heads_at=time)
    distracted = capture_scenes(pipe, "test", scenes, pool, absent=DISTRACTORS, timesteps=(time,))
    attended = {
        mode: capture_scenes(pipe, "test", scenes, pool, timesteps=(time,), spaces=("output",), attend=mode)
        for mode in ATTEND[1:]
    }
    duals = list(range(len(pipe.transformer.transformer_blocks)))
    layers = list(range(captured[0].maps["output"].shape[1]))
    spaces = {space: segmented(captured, space, [at], chosen) for space in SPACES}
    beside = {space: segmented(distracted, space, [0], chosen) for space in SPACES}
    return {
        "scenes": len(captured),
        "default_layers": chosen,
        "dual_layers": len(duals),
        "timestep": time,
        "distractors": DISTRACTORS,
        "spaces": {space: found.short() for space, found in spaces.items()},
        "distracted": {space: found.short() for space, found in beside.items()},
        "per_word": spaces["output"].per_word,
        "baselines": {name: found.short() for name, found in baselines(captured).items()},
        "distracted_baselines": {name: found.short() for name, found in baselines(distracted).items()},
        "layers": {
            space: {layer: segmented(captured, space, [at], [layer]).short() for layer in layers} for space in SPACES
        },
        "all_dual": {space: segmented(captured, space, [at], duals).short() for space in SPACES},
        "timesteps": {
            space: {time: segmented(captured, space, [i], chosen).short() for i, time in enumerate(TIMESTEPS)}
            for space in SPACES
        },
        "heads": {space: _by_head(captured, space, layers) for space in HEAD_SPACES},
        "attend": {
            "both": spaces["output"].short(),
            **{mode: segmented(runs, "output", [0], chosen).short() for mode, runs in attended.items()},
        },
        "raw": {space: segmented(captured, space, [at], chosen, soft=False).short() for space in ("output", "cross")},
    }


def _by_head(captured: Sequence[Captured], space: str, layers: Sequence[int]) -> list[list[dict[str, Any]]]:
    """Scores of single heads, [layer][head]."""
    heads = range(captured[0].heads[space].shape[1])

    def alone(layer: int, head: int) -> dict[str, Any]:
        return score(captured, [one.heads[space][layer, head] for one in captured]).short()

    return [[alone(layer, head) for head in heads] for layer in layers]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="pipeline folder; the bundled tiny-flux by default")
    parser.add_argument("--scenes", type=int, default=200, help="scenes of each split, at most 500")
    parser.add_argument("--choose", action="store_true", help="choose defaults on validation, write workbench.json")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes of one thread")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    folder = options.model or bundled_folder("tiny-flux")
    pipe = load_model(folder, dtype=torch.float32)
    path = folder / INFO_FILE
    info = json.loads(path.read_text())
    with workers(folder, options.workers) as pool:
        if options.choose:
            alone, beside = (
                capture_scenes(pipe, "validation", options.scenes, pool, absent=absent, spaces=("output",))
                for absent in (0, DISTRACTORS)
            )
            chosen, at = choose(alone, beside, len(pipe.transformer.transformer_blocks))
            info |= {"default_layers": chosen, "timestep": TIMESTEPS[at]}
            path.write_text(json.dumps(info, indent=2) + "\n")
        result = evaluate(pipe, (info["default_layers"], float(info["timestep"])), options.scenes, pool)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(report(result))


if __name__ == "__main__":
    main()
