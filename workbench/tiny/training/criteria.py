"""Which criterion ranks heads as IoU does: ``python -m workbench.tiny.training.criteria``.

For each test scene the heads of all layers are ranked by IoU and by a criterion that sees no masks; a row is Spearman's
correlation of the two, averaged over scenes, with the t interval of that mean. Any function from a dataset to (layer,
head), higher for better, can be a row: ``--criterion package.module:function``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pkgutil import resolve_name
from typing import Any, Final

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from workbench.analysis.heads import LABELLED, rank_heads
from workbench.models.loading import load_model
from workbench.numerics.ranking import correlation
from workbench.numerics.resampling import t_interval
from workbench.numerics.separability import clusters
from workbench.recording.capturing import capture
from workbench.tiny.scenes import SPLITS, render
from workbench.tiny.training.card_tables import criteria_table
from workbench.tiny.training.references import attention_outputs

SCENES: Final = 100
CLUSTERS: Final = "clusters"
"""Variable of a dataset: clusters (y, x) of its attention outputs."""

Criterion = Callable[[xr.Dataset], xr.DataArray]


def by(metric: str, **options: Any) -> Criterion:
    """A metric of :func:`workbench.analysis.heads.rank_heads` as a criterion."""

    def criterion(ds: xr.Dataset) -> xr.DataArray:
        return -rank_heads(ds, metric, **options)["rank"]

    return criterion


def by_outputs(ds: xr.Dataset) -> xr.DataArray:
    """Separability of clusters of the attention outputs ``o_x``."""
    return -rank_heads(ds, LABELLED, elsewhere=ds[CLUSTERS], shuffles=1)["rank"]


CRITERIA: Final[Mapping[str, Criterion]] = {
    "`full_map_iou` (default)": by("full_map_iou"),
    "`label_separability`, other noise samples": by(LABELLED, elsewhere="samples", shuffles=1),
    "`label_separability`, image colours": by(LABELLED, elsewhere="colours", shuffles=1),
    "`label_separability`, clusters of `o_x`": by_outputs,
    **{f"`{name}`": by(name) for name in ("total_variation", "calinski_harabasz", "silhouette", "entropy")},
}
"""The rows of the model card."""


def datasets(pipe: Any, timestep: float, scenes: int = SCENES) -> list[xr.Dataset]:
    """Captures of test scenes with masks and two noise samples, and clusters of their attention outputs."""
    block = len(pipe.transformer.transformer_blocks) - 1
    layers = range(block + 1 + len(pipe.transformer.single_transformer_blocks))
    found = []
    for seed in tqdm(SPLITS["test"][:scenes], desc="criteria", unit="scene"):
        scene = render(seed)
        quiet: Any = {"spaces": ("output",), "samples": 2, "store": False, "progress": False}
        ds = capture(
            scene.image, scene.words, model=pipe, timesteps=[timestep], layers=layers, truth=scene.truth, **quiet
        )
        grid = (ds.sizes["y"], ds.sizes["x"])
        outputs = attention_outputs(pipe, scene, block, timestep).reshape(*grid, -1)
        found.append(ds.assign({CLUSTERS: (("y", "x"), clusters(outputs, len(scene.words)))}))
    return found


def row(criterion: Criterion, runs: Sequence[xr.Dataset]) -> dict[str, Any]:
    """Spearman's correlation of a criterion with IoU over the heads of each run.

    Parameters
    ----------
    criterion
        From a dataset to (layer, head), higher for better.
    runs
        Captured datasets with masks.

    Returns
    -------
    ``mean`` over runs, its 95 % t ``interval``, and ``runs``, of how many it is: those in which both vary.
    """
    each = []
    for ds in runs:
        truth = -rank_heads(ds, "iou")["rank"]
        own = criterion(ds).transpose(*truth.dims)
        each.append(correlation(np.stack([truth.to_numpy().ravel(), own.to_numpy().ravel()]))[0, 1])
    mean, (low, high) = t_interval(np.array(each), 0.95)
    return {"mean": float(mean), "interval": [float(low), float(high)], "runs": int(np.isfinite(each).sum())}


def rows(pipe: Any, timestep: float, scenes: int = SCENES, more: Mapping[str, Criterion] = {}) -> dict[str, Any]:
    """:func:`row` of every criterion of :data:`CRITERIA`, and of others."""
    runs = datasets(pipe, timestep, scenes)
    return {name: row(criterion, runs) for name, criterion in {**CRITERIA, **more}.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criterion", action="append", default=[], help="another one, as package.module:function")
    parser.add_argument("--scenes", type=int, default=SCENES, help="test scenes, at most 500")
    parser.add_argument("--timestep", type=float, default=300.0)
    options = parser.parse_args()
    more = {name: resolve_name(name) for name in options.criterion}
    found = rows(load_model("tiny-flux"), options.timestep, options.scenes, more)
    print("\n".join(criteria_table(found)))


if __name__ == "__main__":
    main()
