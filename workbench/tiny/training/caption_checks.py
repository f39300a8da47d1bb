"""Do pictures hold what their captions ask for? ``python -m workbench.tiny.training.caption_checks``.

A small convolutional network is trained on drawn scenes to say which nouns are in a picture and which colour each
object has; its own errors on held-out scenes are reported beside what it finds in the model's pictures.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from workbench.models.loading import bundled_folder, info_of, load_model
from workbench.tiny.scenes import COLOUR_WORDS, NOUNS, OBJECTS, RELATIONS, SIZE, SPLITS, Scene, render
from workbench.tiny.training.sheet import TRUE_GUIDANCE

logger = logging.getLogger("workbench.tiny.training.caption_checks")

FIRST_SEED = 50_000_000
"""Where the checker's training scenes begin, far from those of the model."""


class Checker(nn.Module):
    """Nouns and colours of a picture: cells of 8 x 8 pixels vote for nouns, and for colours where they do."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        sides = [(3, width // 3, 2, 1), (width // 3, 2 * width // 3, 2, 1), (2 * width // 3, width, 2, 1)]
        layers: list[nn.Module] = []
        for before, after, stride, dilation in [*sides, (width, width, 1, 1), (width, width, 1, 2)]:
            conv = nn.Conv2d(before, after, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.ReLU()]
        self.trunk = nn.Sequential(*layers)
        self.nouns = nn.Conv2d(width, len(NOUNS), 1)
        self.colours = nn.Conv2d(width, len(COLOUR_WORDS), 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Presence (picture, noun) and colour (picture, object, colour) logits of uint8 (picture, channel, y, x)."""
        features = self.trunk(pictures.float() / 127.5 - 1)
        votes = self.nouns(features).flatten(2)
        presence = (torch.logsumexp(4 * votes, 2) - np.log(votes.shape[2])) / 4
        where = votes[:, : len(OBJECTS)].softmax(2)
        return presence, torch.einsum("bnp,bcp->bnc", where, self.colours(features).flatten(2))

    def places(self, pictures: Tensor) -> Tensor:
        """Where the cells are that vote for each object: (picture, object, 2), in cells down and right."""
        votes = self.nouns(self.trunk(pictures.float() / 127.5 - 1))[:, : len(OBJECTS)]
        where = votes.flatten(2).softmax(2).unflatten(2, votes.shape[2:])
        middles = [where.sum(3 - axis) @ torch.arange(where.shape[2 + axis]).float() for axis in (0, 1)]
        return torch.stack(middles, -1)


def asked(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """What a scene's caption says: (noun,) 1.0 where it is named, (object,) colour index or -100."""
    present = np.isin(NOUNS, scene.words).astype(np.float32)
    hues = [COLOUR_WORDS.index(scene.colours[name]) if name in scene.colours else -100 for name in OBJECTS]
    return present, np.array(hues)


def train_checker(
    scenes: int = 6000, steps: int = 1500, batch: int = 48, device: str = "cpu", size: int = SIZE
) -> Checker:
    """Train a checker on freshly drawn scenes of a size."""
    torch.manual_seed(0)
    drawn = [
        render(seed, size) for seed in tqdm(range(FIRST_SEED, FIRST_SEED + scenes), desc="rendering", unit="scene")
    ]
    pictures = torch.from_numpy(np.stack([scene.image for scene in drawn])).permute(0, 3, 1, 2).contiguous()
    present, hues = (torch.from_numpy(np.stack(part)) for part in zip(*map(asked, drawn), strict=True))
    checker = Checker().to(device)
    optimiser = torch.optim.AdamW(checker.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(0, scenes, (batch,))
        presence, colour = checker(pictures[rows].to(device))
        loss = F.binary_cross_entropy_with_logits(presence, present[rows].to(device))
        loss = loss + 0.3 * F.cross_entropy(colour.flatten(0, 1), hues[rows].flatten().to(device), ignore_index=-100)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            logger.info("checker step %d, loss %.4f", step, loss)
    return checker.eval()


def related(scene: Scene) -> list[tuple[str, str, str]]:
    """The relations a scene's caption states, as (object, relation, object)."""
    return [
        (a, word, b)
        for (a, b), word in scene.relations.items()
        if re.search(rf"\b{a} {word} an? (?:\w+ ){{0,2}}{b}\b", scene.caption)
    ]


def holds(word: str, first: NDArray[np.floating], second: NDArray[np.floating]) -> bool:
    """Whether a place (y, x) lies to another as one of the relation words says, straight or up to 63 degrees aslant."""
    down, right = first - second
    ways = ((-right, down), (right, down), (-down, right), (down, right))
    along, across = ways[RELATIONS.index(word)]
    return bool(along > 0.5 * abs(across))


@dataclass(frozen=True)
class Hits:
    """Shares of what captions ask for that is found in the pictures.

    Attributes
    ----------
    shapes, colours, backgrounds
        Of the objects asked for: found; found in the right colour (of those found); of the backgrounds: found.
    relations
        Of the relations asked for between objects that are found: right; NaN where none is asked for.
    extra
        Objects found that nobody asked for, per picture.
    pictures
        Number of pictures.
    """

    shapes: float
    colours: float
    backgrounds: float
    relations: float
    extra: float
    pictures: int


@torch.no_grad()
def check(checker: Checker, pictures: Sequence[NDArray[np.uint8]], scenes: Sequence[Scene]) -> Hits:
    """Look for what the captions of ``scenes`` ask in ``pictures``, each (pixel_y, pixel_x, channel)."""
    stack = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    parts = [checker(part) for part in stack.split(64)]
    places = torch.cat([checker.places(part) for part in stack.split(64)]).numpy()
    found = torch.cat([presence for presence, _ in parts]).numpy() > 0
    hue = torch.cat([colour for _, colour in parts]).argmax(2).numpy()
    present, hues = (np.stack(part) for part in zip(*map(asked, scenes), strict=True))
    objects = len(OBJECTS)
    wanted, seen = present[:, :objects] > 0, found[:, :objects]
    right = [
        holds(word, *(places[row, OBJECTS.index(name)] for name in (a, b)))
        for row, scene in enumerate(scenes)
        for a, word, b in related(scene)
        if seen[row, OBJECTS.index(a)] and seen[row, OBJECTS.index(b)]
    ]
    return Hits(
        shapes=float(seen[wanted].mean()),
        colours=float((hue == hues)[wanted & seen].mean()),
        backgrounds=float(found[:, objects:][present[:, objects:] > 0].mean()),
        relations=float(np.mean(right)) if right else float("nan"),
        extra=float((seen & ~wanted).sum(1).mean()),
        pictures=len(scenes),
    )


def generated(
    pipe: Any, captions: Sequence[str], guidance: float = TRUE_GUIDANCE, batch: int = 20
) -> Iterator[NDArray[np.uint8]]:
    """A picture for each caption, seeds 0, 1, 2, …, with true classifier-free guidance: the pipeline's own call."""
    info = info_of(pipe)
    pipe.set_progress_bar_config(disable=True)
    for first in tqdm(range(0, len(captions), batch), desc="generating", unit="batch"):
        some = list(captions[first : first + batch])
        pictures = pipe(
            some,
            negative_prompt=[""] * len(some),
            true_cfg_scale=guidance,
            height=info["size"][0],
            width=info["size"][1],
            num_inference_steps=info["steps"],
            max_sequence_length=info["text_length"],
            generator=[torch.Generator("cpu").manual_seed(first + index) for index in range(len(some))],
            output_type="np",
        ).images
        yield from (255 * pictures).round().astype(np.uint8)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="pipeline folder; the bundled tiny-flux by default")
    parser.add_argument("--captions", type=int, default=200, help="captions of test scenes, at most 500")
    parser.add_argument("--checker", type=Path, help="file of a trained checker: read if it is there, else written")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if options.checker is not None and options.checker.exists():
        checker = Checker()
        checker.load_state_dict(torch.load(options.checker, weights_only=True))
        checker.eval()
    else:
        checker = train_checker()
        if options.checker is not None:
            torch.save(checker.state_dict(), options.checker)
    scenes = [render(seed) for seed in SPLITS["test"][: options.captions]]
    pipe = load_model(options.model or bundled_folder("tiny-flux"), dtype=torch.float32)
    pictures = list(generated(pipe, [scene.caption for scene in scenes]))
    result: dict[str, Any] = {
        "drawn": vars(check(checker, [scene.image for scene in scenes], scenes)),
        "generated": vars(check(checker, pictures, scenes)),
    }
    for count in range(1, 5):
        chosen = [i for i, scene in enumerate(scenes) if len(scene.colours) == count]
        if chosen:
            result[f"generated, {count} asked"] = vars(
                check(checker, [pictures[i] for i in chosen], [scenes[i] for i in chosen])
            )
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
