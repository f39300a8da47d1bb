"""Training examples of the bundled model: VAE latents of drawn scenes with the words of their captions."""

from __future__ import annotations

import logging
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from workbench.tiny.autoencoder import encode
from workbench.tiny.scenes import COLOUR_WORDS, NOUNS, OBJECTS, SPLITS, draw, sentence

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bank:
    """Encoded pictures and the words of their captions; no masks, no label maps, no positions.

    Attributes
    ----------
    latents
        (scene, latent channel, cell_y, cell_x) bfloat16.
    words
        Per scene, the noun indices in caption order: objects, then backgrounds.
    colours
        Per scene, the colour index of each object.
    """

    latents: torch.Tensor
    words: list[tuple[int, ...]]
    colours: list[tuple[int, ...]]


def _described(seeds: range, size: int, most: int) -> tuple[np.ndarray, list[tuple[int, ...]], list[tuple[int, ...]]]:
    scenes = [draw(seed, size, most) for seed in seeds]
    words = [tuple(NOUNS.index(word) for word in scene.words) for scene in scenes]
    colours = [tuple(COLOUR_WORDS.index(colour) for colour in scene.colours.values()) for scene in scenes]
    return np.stack([scene.image for scene in scenes]), words, colours


def make_bank(
    folder: Path, vae: AutoencoderKL, scenes: int, size: int, most: int, device: str = "cpu", workers: int = 2
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
        Side in pixels and largest number of objects, as for :func:`workbench.tiny.scenes.draw`.
    device
        Torch device of the encoder.
    workers
        Drawing processes.
    """
    path = folder / f"bank-{size}-{scenes}.pt"
    if path.exists():
        return Bank(**torch.load(path, weights_only=True))
    first = SPLITS["train"].start
    blocks = [range(start, min(start + 500, first + scenes)) for start in range(first, first + scenes, 500)]
    latents: list[torch.Tensor] = []
    words: list[tuple[int, ...]] = []
    colours: list[tuple[int, ...]] = []
    with ProcessPoolExecutor(workers) as pool:
        for images, block_words, block_colours in pool.map(
            _described, blocks, [size] * len(blocks), [most] * len(blocks)
        ):
            latents.append(encode(vae, torch.from_numpy(images).permute(0, 3, 1, 2), device))
            words += block_words
            colours += block_colours
    logger.info("%d scenes of %d pixels drawn and encoded", scenes, size)
    bank = Bank(torch.cat(latents), words, colours)
    torch.save(vars(bank), path)
    return bank


def caption(rng: np.random.Generator, words: tuple[int, ...], colours: tuple[int, ...]) -> str:
    """A random caption of a scene: nothing, a sentence with some or all colours, or a shuffled list of nouns."""
    kind = rng.random()
    if kind < 0.3:
        return ""
    objects = [NOUNS[word] for word in words if word < len(OBJECTS)]
    backgrounds = [NOUNS[word] for word in words if word >= len(OBJECTS)]
    named = {name: COLOUR_WORDS[colour] for name, colour in zip(objects, colours, strict=True)}
    if kind < 0.85:
        keep = 1.0 if kind < 0.65 else 0.5
        shown = {name: colour for name, colour in named.items() if rng.random() < keep}
        order = [objects[index] for index in rng.permutation(len(objects))]
        return sentence(order, shown, backgrounds)
    nouns = [str(noun) for noun in rng.permutation(objects + backgrounds)]
    return " ".join(nouns[: int(rng.integers(1, len(nouns) + 1))])
