"""A contact sheet of pictures tiny-flux makes: ``python -m workbench.tiny.training.sheet sheet.png``."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from workbench.models.family import pipeline_adapter_for
from workbench.models.loading import info_of, load_model

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

CAPTIONS = (
    "a red heart on grass",
    "a large yellow sun on sky",
    "a cyan tree on sand under sky",
    "a blue boat on water",
    "a small purple fish on wood",
    "an orange fish right of a white moon on night",
    "a red house left of a green tree on snow under night",
    "a pink flower above a black heart on brick",
    "a large red mushroom on lava",
    "a small green star below an orange mushroom on stone under snow",
    "a blue heart and a small yellow sun above a small white boat on grass under water",
    "a small red house and a small pink flower and a small cyan moon and a small orange star on wood",
)
TRUE_GUIDANCE = 2.5


def contact_sheet(pipe: DiffusionPipeline, columns: int = 4) -> Figure:
    """One picture for each of :data:`CAPTIONS`, seeds 0, 1, 2, …, with true classifier-free guidance."""
    adapter = pipeline_adapter_for(pipe, info_of(pipe))
    rows = -(-len(CAPTIONS) // columns)
    figure = Figure(figsize=(2.1 * columns, 2.35 * rows), layout="constrained")
    for index, caption in enumerate(CAPTIONS):
        picture = adapter.generate(
            caption,
            steps=adapter.default_steps,
            guidance=adapter.default_guidance,
            seed=index,
            size=adapter.native,
            negative_prompt="",
            true_guidance=TRUE_GUIDANCE,
        )
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title("\n".join(textwrap.wrap(caption, 34)), fontsize=7)
    return figure


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="picture to write")
    parser.add_argument("--model", default="tiny-flux", help="pipeline folder; the bundled one by default")
    options = parser.parse_args()
    contact_sheet(load_model(options.model)).savefig(options.output, dpi=150)


if __name__ == "__main__":
    main()
