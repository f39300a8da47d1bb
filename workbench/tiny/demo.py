"""The package's main job in one command: ``python -m workbench.tiny.demo``, or ``make demo``.

Draws a scene, captures it with the bundled model, prints where the dataset is, how large it is and how well its maps
agree with the scene's own masks, and writes ``demo.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import workbench as wb
from workbench.store import home
from workbench.tiny.scenes import SPLITS, render

SEED = SPLITS["gallery"][8]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED, help="which scene to render")
    parser.add_argument("--output", type=Path, default=Path("demo.png"), help="picture to write")
    options = parser.parse_args()

    scene = render(options.seed)
    print(f'Scene {options.seed}: "{scene.caption}"')
    ds = wb.capture(scene.image, scene.words, truth=scene.truth)
    run = next(run for run in wb.runs() if run.key == ds.attrs["key"])
    score = ds.wb.score()
    print(f"Dataset:  {run.path}")
    print(f"          open it again with workbench.open({run.key!r}); all runs are in {home()}")
    print(f"          {run.size / 1e6:.2f} MB on disk, {ds.nbytes / 1e6:.2f} MB in memory; {dict(ds.sizes)}")
    print(f"Scores:   mean IoU {float(score.mean_iou):.2f}, pixel accuracy {float(score.accuracy):.2f}")
    for word, value in zip(score.concept.to_numpy(), score.iou.to_numpy(), strict=True):
        print(f"          IoU {value:.2f}  {word}")
    wb.figures.concept_grid(ds).savefig(options.output, dpi=200)
    print(f"Picture:  {options.output.absolute()}")


if __name__ == "__main__":
    main()
