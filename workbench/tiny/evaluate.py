"""How well tiny-flux finds what is in a picture: ``python -m workbench.tiny.evaluate``, or ``make bench-tiny``.

Concepts are the nouns of each scene. A segmentation is the argmax of a heat map, brought to pixels by nearest
neighbour. IoU is computed per word, with intersection and union summed over all scenes, and then averaged over words.
Default layers and timestep are chosen on the validation split only; the figures are those of the test split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from workbench.models.loading import INFO_FILE, bundled_folder, load_model
from workbench.recording.capturing import capture
from workbench.schema import total
from workbench.scores import softmax
from workbench.tiny.scenes import NOUNS, OBJECTS, SPLITS, Scene, draw

SPACES = ("output", "cross", "reverse_cross", "value", "query")
TIMESTEPS = (900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0)

Labels = NDArray[np.int64]
Share = NDArray[np.float32]


@dataclass(frozen=True)
class Captured:
    """Softmaxed maps of one scene: per space, (timestep, layer, concept, y, x)."""

    scene: Scene
    maps: dict[str, Share]


@dataclass(frozen=True)
class Figure:
    """Scores of one way to segment the scenes.

    Attributes
    ----------
    words
        Mean IoU over all words.
    objects, backgrounds
        Mean IoU over these words alone.
    per_word
        IoU of each word.
    """

    words: float
    objects: float
    backgrounds: float
    per_word: dict[str, float]


def capture_scenes(pipe: Any, split: str, scenes: int) -> tuple[list[Captured], list[int]]:
    """Capture the scenes of a split at every timestep, layer and space; also returns the layers by depth."""
    layers = list(range(len(pipe.transformer.transformer_blocks) + len(pipe.transformer.single_transformer_blocks)))
    captured = []
    for seed in tqdm(SPLITS[split][:scenes], desc=split, unit="scene"):
        scene = draw(seed)
        run = capture(
            scene.image,
            scene.words,
            model=pipe,
            timesteps=TIMESTEPS,
            layers=layers,
            spaces=SPACES,
            store=False,
            progress=False,
        )
        dims = ("sample", "timestep", "layer", "concept", "y", "x")
        totals = {space: run[total(space)].transpose(*dims).to_numpy()[0] for space in SPACES}
        captured.append(Captured(scene, {space: softmax(values, axis=2) for space, values in totals.items()}))
    return captured, layers


def to_pixels(labels: Labels, shape: tuple[int, ...]) -> Labels:
    """Patch labels (y, x) to pixels by nearest neighbour."""
    return labels.repeat(shape[0] // labels.shape[0], 0).repeat(shape[1] // labels.shape[1], 1)


def figure(scenes: Iterable[tuple[Scene, Labels]]) -> Figure:
    """Scores of segmentations, each (pixel_y, pixel_x) with indices into its scene's words."""
    both = dict.fromkeys(NOUNS, 0)
    either = dict.fromkeys(NOUNS, 0)
    for scene, labels in scenes:
        for index, word in enumerate(scene.words):
            truth, found = scene.labels == index, labels == index
            both[word] += int((truth & found).sum())
            either[word] += int((truth | found).sum())
    per_word = {word: both[word] / either[word] for word in NOUNS if either[word]}

    def mean(words: Iterable[str]) -> float:
        return float(np.mean([value for word, value in per_word.items() if word in set(words)]))

    grounds = [word for word in NOUNS if word not in OBJECTS]
    return Figure(mean(NOUNS), mean(OBJECTS), mean(grounds), per_word)


def segmented(captured: Sequence[Captured], space: str, timesteps: Sequence[int], layers: Sequence[int]) -> Figure:
    """Scores of the heat map over some positions of timesteps and layers: the mean after the softmax."""

    def labels(one: Captured) -> Labels:
        chosen = one.maps[space][np.ix_(timesteps, layers)].mean((0, 1))
        return to_pixels(chosen.argmax(0), one.scene.labels.shape)

    return figure((one.scene, labels(one)) for one in captured)


def oracle(scene: Scene, patch: int = 8) -> Labels:
    """The best a segmentation by patches can do: each patch takes its most frequent word."""
    height, width = (side // patch for side in scene.labels.shape)
    blocks = scene.labels.reshape(height, patch, width, patch).transpose(0, 2, 1, 3).reshape(height, width, -1)
    counts = np.stack([(blocks == index).sum(-1) for index in range(len(scene.words))])
    return to_pixels(counts.argmax(0), scene.labels.shape)


def majority(scene: Scene) -> Labels:
    """Every pixel takes the scene's most frequent word."""
    return np.full(scene.labels.shape, np.bincount(scene.labels.ravel()).argmax())


def chance(scene: Scene, rng: np.random.Generator, patch: int = 8) -> Labels:
    """Every patch takes one of the scene's words at random."""
    height, width = (side // patch for side in scene.labels.shape)
    return to_pixels(rng.integers(0, len(scene.words), (height, width)), scene.labels.shape)


def choose(captured: Sequence[Captured], duals: int) -> tuple[list[int], int]:
    """Consecutive dual blocks (at least two) and the timestep's position with the best ``output`` heat map."""
    spans = [list(range(start, stop)) for start in range(duals) for stop in range(start + 2, duals + 1)]
    options = [(span, index) for span in spans for index in range(len(TIMESTEPS))]
    return max(options, key=lambda option: segmented(captured, "output", [option[1]], option[0]).words)


def evaluate(pipe: Any, defaults: tuple[list[int], float], scenes: int) -> dict[str, Any]:
    """Every figure of the model card on the test split, as plain values."""
    captured, layers = capture_scenes(pipe, "test", scenes)
    chosen, at = defaults[0], TIMESTEPS.index(defaults[1])
    rng = np.random.default_rng(0)
    pictures = [one.scene for one in captured]
    duals = len(pipe.transformer.transformer_blocks)

    def both(found: Figure) -> dict[str, float]:
        return {"words": found.words, "objects": found.objects, "backgrounds": found.backgrounds}

    spaces = {space: segmented(captured, space, [at], chosen) for space in SPACES}
    return {
        "scenes": len(captured),
        "default_layers": chosen,
        "timestep": defaults[1],
        "spaces": {space: both(found) for space, found in spaces.items()},
        "per_word": spaces["output"].per_word,
        "baselines": {
            "chance": both(figure((scene, chance(scene, rng)) for scene in pictures)),
            "majority": both(figure((scene, majority(scene)) for scene in pictures)),
            "oracle": both(figure((scene, oracle(scene)) for scene in pictures)),
        },
        "layers": {
            space: {layer: segmented(captured, space, [at], [layer]).words for layer in layers} for space in SPACES
        },
        "all dual layers": {space: segmented(captured, space, [at], list(range(duals))).words for space in SPACES},
        "timesteps": {
            space: {time: segmented(captured, space, [i], chosen).words for i, time in enumerate(TIMESTEPS)}
            for space in SPACES
        },
    }


def report(result: dict[str, Any]) -> str:
    """The figures as Markdown tables."""

    def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
        lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
        return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]

    def cells(values: Iterable[float]) -> list[str]:
        return [f"{value:.3f}" for value in values]

    layers, time = result["default_layers"], result["timestep"]
    kinds = ("words", "objects", "backgrounds")
    named = {f"`{space}`": found for space, found in result["spaces"].items()} | result["baselines"]
    lines = [f"Mean IoU on {result['scenes']} test scenes; layers {layers[0]} to {layers[-1]}, timestep {time:g}.", ""]
    lines += table(
        ["map", "all words", *kinds[1:]], ([name, *cells(found[k] for k in kinds)] for name, found in named.items())
    )
    lines += ["By layer (dual blocks, then single-stream ones), at the default timestep:", ""]
    some = result["layers"]["output"]
    lines += table(
        ["space", *map(str, some), "all dual"],
        (
            [f"`{s}`", *cells(found.values()), *cells([result["all dual layers"][s]])]
            for s, found in result["layers"].items()
        ),
    )
    lines += ["By timestep, with the default layers:", ""]
    times = result["timesteps"]["output"]
    lines += table(
        ["space", *(f"{time:g}" for time in times)],
        ([f"`{s}`", *cells(found.values())] for s, found in result["timesteps"].items()),
    )
    words = sorted(result["per_word"].items(), key=lambda item: -item[1])
    lines += ["`output`, by word: " + ", ".join(f"{word} {value:.2f}" for word, value in words) + "."]
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="pipeline folder; the bundled tiny-flux by default")
    parser.add_argument("--scenes", type=int, default=200, help="scenes of each split, at most 200")
    parser.add_argument("--choose", action="store_true", help="choose defaults on validation, write workbench.json")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    options = parser.parse_args()
    folder = options.model or bundled_folder("tiny-flux")
    pipe = load_model(folder, dtype=torch.float32)
    path = folder / INFO_FILE
    info = json.loads(path.read_text())
    if options.choose:
        captured, _ = capture_scenes(pipe, "validation", options.scenes)
        chosen, at = choose(captured, len(pipe.transformer.transformer_blocks))
        info |= {"default_layers": chosen, "timestep": TIMESTEPS[at]}
        path.write_text(json.dumps(info, indent=2) + "\n")
    result = evaluate(pipe, (info["default_layers"], float(info["timestep"])), options.scenes)
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n")
    print(report(result))


if __name__ == "__main__":
    main()
