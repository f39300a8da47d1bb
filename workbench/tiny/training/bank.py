"""Training examples of the bundled model: VAE latents of drawn scenes with the words of their captions."""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from workbench.tiny.scenes import (
    COLOUR_WORDS,
    NOUNS,
    OBJECTS,
    RELATIONS,
    SIZE_WORDS,
    SPLITS,
    Scene,
    order_of_words,
    render,
    sentence,
)
from workbench.tiny.training.autoencoder import encode

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

logger = logging.getLogger(__name__)

_BARE = 0.3
"""Share of captions that say nothing."""


class Described(NamedTuple):
    """What captions can say of a scene; no masks, no label maps, no positions.

    Attributes
    ----------
    words
        Noun indices: objects, then backgrounds.
    colours, sizes
        Of each object: index into the colour words, and into the size words.
    relations
        For each ordered pair of objects, row by row: index into the relation words, -1 on the diagonal.
    """

    words: tuple[int, ...]
    colours: tuple[int, ...]
    sizes: tuple[int, ...]
    relations: tuple[int, ...]


@dataclass(frozen=True)
class Bank:
    """Encoded pictures and what their captions can say.

    Attributes
    ----------
    latents
        (scene, latent channel, cell_y, cell_x) bfloat16.
    described
        One for each scene.
    """

    latents: torch.Tensor
    described: list[Described]


def describe(scene: Scene) -> Described:
    """The words of a scene as indices."""
    objects = list(scene.colours)
    return Described(
        tuple(NOUNS.index(word) for word in scene.words),
        tuple(COLOUR_WORDS.index(colour) for colour in scene.colours.values()),
        tuple(SIZE_WORDS.index(scene.sizes.get(name, "")) for name in objects),
        tuple(RELATIONS.index(scene.relations[a, b]) if a != b else -1 for a in objects for b in objects),
    )


def _described(seeds: range, size: int, most: int) -> tuple[np.ndarray, list[Described]]:
    scenes = [render(seed, size, most) for seed in seeds]
    return np.stack([scene.image for scene in scenes]), [describe(scene) for scene in scenes]


def make_bank(
    folder: Path, vae: AutoencoderKL, scenes: int, size: int, most: int, device: str = "cpu", workers: int | None = None
) -> Bank:
    """Draw and encode training scenes, or load the bank an earlier call left in ``folder``.

    Parameters
    ----------
    folder
        Where ``bank-<size>.pt`` is kept.
    vae
        The trained autoencoder.
    scenes
        Number of scenes, from the start of the training split.
    size, most
        Side in pixels and largest number of objects, as for :func:`workbench.tiny.scenes.render`.
    device
        Torch device of the encoder.
    workers
        Drawing processes; by default as many as there are cores.
    """
    path = folder / f"bank-{size}-{scenes}.pt"
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return Bank(stored["latents"], [Described(*each) for each in stored["described"]])
    first = SPLITS["train"].start
    blocks = [range(start, min(start + 500, first + scenes)) for start in range(first, first + scenes, 500)]
    latents: list[torch.Tensor] = []
    described: list[Described] = []
    with ProcessPoolExecutor(workers) as pool:
        for images, block in pool.map(_described, blocks, [size] * len(blocks), [most] * len(blocks)):
            latents.append(encode(vae, torch.from_numpy(images).permute(0, 3, 1, 2), device))
            described += block
    logger.info("%d scenes of %d pixels drawn and encoded", scenes, size)
    bank = Bank(torch.cat(latents), described)
    torch.save({"latents": bank.latents, "described": [tuple(each) for each in described]}, path)
    return bank


def caption(rng: np.random.Generator, described: Described) -> str:
    """A random caption of a scene: a sentence with some or all adjectives, a shuffled list of nouns, or nothing."""
    kind = (rng.random() - _BARE) / (1 - _BARE)
    if kind < 0:
        return ""
    objects = [NOUNS[word] for word in described.words if word < len(OBJECTS)]
    backgrounds = [NOUNS[word] for word in described.words if word >= len(OBJECTS)]
    if kind > 0.92:
        nouns = [str(noun) for noun in rng.permutation(objects + backgrounds)]
        return " ".join(nouns[: int(rng.integers(1, len(nouns) + 1))])
    count = len(objects)
    keep = 1.0 if kind < 0.8 else 0.5
    adjectives = {}
    for name, colour, size in zip(objects, described.colours, described.sizes, strict=True):
        words = [SIZE_WORDS[size]] * bool(rng.random() < 0.95) + [COLOUR_WORDS[colour]] * bool(rng.random() < keep)
        adjectives[name] = " ".join(filter(None, words))
    relations = {
        (objects[i], objects[j]): RELATIONS[described.relations[i * count + j]]
        for i, j in permutations(range(count), 2)
    }
    order, joined = order_of_words(rng, objects, relations)
    return sentence(order, adjectives, backgrounds, joined)
