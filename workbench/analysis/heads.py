"""Ranking heads, with masks and without, and how far the ranking depends on the noise that was drawn."""

from __future__ import annotations

from typing import Any, Final, Unpack

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.evaluation import evaluate, merit, observe
from workbench.analysis.normalising import normalised
from workbench.analysis.selection import ScoreChoice
from workbench.analysis.variants import Choice
from workbench.numerics import resampling
from workbench.numerics.measures import FORMER_MEASURES, MEASURES, renamed
from workbench.numerics.ranking import correlation, ranks
from workbench.schema import InputError

DEFAULT: Final = "calinski_harabasz"
"""What ranks heads where there is no truth."""


class RankOptions(ScoreChoice, total=False):
    """Options of :func:`rank_heads`."""

    space: str


def rank_heads(
    ds: xr.Dataset, metric: str | None = None, *, space: str = "output", **choice: Unpack[ScoreChoice]
) -> xr.Dataset:
    """Rank every head of every layer by the maps it makes alone.

    Parameters
    ----------
    ds
        A captured dataset with per-head scores.
    metric
        One of :data:`workbench.numerics.measures.MEASURES`. With masks ``"iou"``, ``"accuracy"`` or ``"ap"``; without
        them ``"calinski_harabasz"``, ``"silhouette"``, ``"entropy"``, ``"total_variation"`` or ``"full_map_iou"``. By
        default ``"iou"`` where there is truth, :data:`DEFAULT` elsewhere.
    space
        What was compared with what.
    **choice
        ``layers``, ``timesteps``, ``heads``, ``samples`` and ``concepts`` (see :mod:`workbench.analysis.selection`);
        all captured layers by default.

    Returns
    -------
    A dataset of ``<metric>`` (layer, head), averaged over concepts; ``rank`` (layer, head), 1 for the best, equal for
    equals, NaN where nothing was captured. Of several samples also ``rank_correlation`` (sample, other_sample),
    Spearman's between the rankings of single noise samples, and ``stability``, its mean over pairs: 1 if noise does
    not matter, 0 if the ranking is all noise.

    Raises
    ------
    InputError
        If the metric is unknown, or needs a truth that is not there.
    SelectionError
        If something chosen is not in the dataset; lists what is.
    """
    ds = normalised(ds)
    if metric is None:
        metric = "iou" if schema.TRUTH in ds else DEFAULT
    metric = renamed("metric", metric, FORMER_MEASURES)
    if metric not in MEASURES:
        raise InputError(f"metric is {metric!r}; expected one of {', '.join(MEASURES)}.")
    measure = MEASURES[metric]
    over = (schema.LAYER, schema.HEAD)
    selection.space_of(ds, space)
    alone = Choice(
        over,
        "only",
        window=1,
        spaces=(space,),
        reduce="softmax_mean",
        layers=choice.get("layers"),
        timesteps=choice.get("timesteps"),
        heads=choice.get("heads"),
        samples=choice.get("samples"),
    )
    observations, _ = observe([ds], alone, choice.get("concepts"), truth=measure.against == "truth")
    above, below = evaluate(observations, [metric])[metric]
    sign = 1 if measure.higher_is_better else -1
    overall = merit(measure, (above, below))

    scores = observations[0].scores
    found = xr.Dataset(
        {metric: (over, sign * overall), "rank": (over, ranks(overall))},
        coords={dim: scores.labels[dim] for dim in over},
    )
    if len(observations) > 1:
        single = [merit(measure, (above[[one]], below[[one]])) for one in range(len(above))]
        related = correlation(np.stack(single).reshape(len(single), -1))
        pairs = related[np.triu_indices(len(related), 1)]
        found["rank_correlation"] = ((schema.SAMPLE, f"other_{schema.SAMPLE}"), related)
        found["stability"] = float(resampling.mean_over_concepts(pairs))
        labels = scores.labels[schema.SAMPLE]
        found = found.assign_coords({schema.SAMPLE: labels, f"other_{schema.SAMPLE}": labels})
    record: dict[str, Any] = {name: scores.labels[name[:-1]] for name in ("samples", "timesteps", "layers", "heads")}
    return found.assign_attrs(
        record, metric=metric, higher_is_better=int(measure.higher_is_better), space=space, softmax_over=scores.concepts
    )
