"""The scenes that come as files: ``python -m workbench.tiny.training.gallery data/scenes``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from PIL import Image

from workbench.tiny.scenes import SPLITS, render


def write_gallery(folder: Path) -> None:
    """Write each gallery scene as PNG, with its label map and an index of captions and words.

    ``scene-00.png`` is the picture; ``scene-00-labels.png`` holds, at each pixel, the index of the word in
    ``scenes.json`` (8-bit grey).
    """
    folder.mkdir(parents=True, exist_ok=True)
    index = []
    for number, seed in enumerate(SPLITS["gallery"]):
        scene = render(seed)
        name = f"scene-{number:02d}"
        Image.fromarray(scene.image).save(folder / f"{name}.png", optimize=True)
        Image.fromarray(scene.labels).save(folder / f"{name}-labels.png", optimize=True)
        index.append({"name": name, "seed": seed, "caption": scene.caption, "words": list(scene.words)})
    (folder / "scenes.json").write_text(json.dumps(index, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write, for example data/scenes")
    write_gallery(parser.parse_args().folder)
