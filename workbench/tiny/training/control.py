"""What the word losses change: ``python -m workbench.tiny.training.control WITH WITHOUT data/tiny-flux/control.json``.

Scores the maps of two pipelines of the same number of steps, trained with the word losses and with flow matching alone.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import torch

from workbench.folders import INFO_FILE
from workbench.models.loading import load_model
from workbench.tiny.training.evaluate import baselines, capture_scenes, segmented, workers

SPACES = ("output", "cross", "reverse_cross", "query")


def layer_by_layer(folder: Path, scenes: int, timestep: float, count: int) -> dict[str, Any]:
    """Figures of each layer alone, in every space of :data:`SPACES`, on the test split.

    Parameters
    ----------
    folder
        The pipeline.
    scenes
        Number of scenes.
    timestep
        Where to look.
    count
        Processes.
    """
    info = json.loads((folder / INFO_FILE).read_text())
    pipe = load_model(folder, dtype=torch.float32)
    with workers(folder, count) as pool:
        captured = capture_scenes(pipe, "test", scenes, pool, timesteps=(timestep,), spaces=SPACES)
    layers = range(captured[0].maps["output"].shape[1])
    return {
        "steps": info["step"],
        "size": info["size"][0],
        "presence": info["recipe"]["presence"],
        "colour": info["recipe"]["colour"],
        "layers": {space: [segmented(captured, space, [0], [i]).short() for i in layers] for space in SPACES},
        "baselines": {name: found.short() for name, found in baselines(captured).items()},
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path, help="pipeline folder of a training with the word losses")
    parser.add_argument("control", type=Path, help="pipeline folder of a training with --control")
    parser.add_argument("output", type=Path, help="JSON file to write")
    parser.add_argument("--scenes", type=int, default=200, help="test scenes, at most 500")
    parser.add_argument("--timestep", type=float, default=300.0)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="processes of one thread")
    options = parser.parse_args()
    result = {"scenes": options.scenes, "timestep": options.timestep} | {
        name: layer_by_layer(folder, options.scenes, options.timestep, options.workers)
        for name, folder in (("trained", options.trained), ("control", options.control))
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
