"""Ranking heads, with masks and without, and how far the ranking depends on the noise that was drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Unpack

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.elsewhere import Elsewhere, labelled_heads
from workbench.analysis.evaluation import evaluate, merit, observe
from workbench.analysis.heatmaps import check_center
from workbench.analysis.normalising import normalised
from workbench.analysis.selection import ScoreChoice
from workbench.analysis.sweep_variants import Choice
from workbench.numerics import resampling
from workbench.numerics.measures import FORMER_MEASURES, MEASURES, renamed
from workbench.numerics.ranking import correlation, ranks
from workbench.schema import InputError
from workbench.schema.given_options import check_names

if TYPE_CHECKING:
    from workbench.analysis.heatmaps import Centre

DEFAULT: Final = "full_map_iou"
"""What ranks heads where there is no truth."""
LABELLED: Final = "label_separability"
"""The criterion that takes its labels from elsewhere, beside :data:`workbench.numerics.measures.MEASURES`."""
_OWN: Final = (
    "labels and distances come from the same maps: noise of a large scale ranks high, and scale alone moves ranks"
)
PRESUMES: Final[Mapping[str, str]] = {
    "full_map_iou": "that the map of all heads and layers chosen is good: heads that agree with it rank high, right or "
    "wrong",
    "calinski_harabasz": _OWN,
    "silhouette": _OWN,
    "entropy": "that decided maps are good ones: a factor on a head's scores moves it",
    "total_variation": "that smooth maps are good ones: a map that is the same everywhere ranks first",
}
"""What a criterion without masks takes for granted, by its name."""


class RankOptions(ScoreChoice, total=False):
    """Options of :func:`rank_heads`."""

    space: str
    center: Centre | None
    elsewhere: Elsewhere
    shuffles: int
    seed: int


def rank_heads(
    ds: xr.Dataset,
    metric: str | None = None,
    *,
    space: str = "output",
    center: Centre | None = None,
    elsewhere: Elsewhere = "samples",
    shuffles: int = 100,
    seed: int = 0,
    **choice: Unpack[ScoreChoice],
) -> xr.Dataset:
    """Rank every head of every layer by the maps it makes alone.

    Parameters
    ----------
    ds
        A captured dataset with per-head scores.
    metric
        With masks ``"iou"``, ``"accuracy"`` or ``"ap"``. Without them ``"full_map_iou"``, IoU with the segmentation of
        everything chosen, which **presumes that this full map is good**: the right choice where it is, and no evidence
        that it is. Or ``"label_separability"``: the share of the variance of a head's scores, in units of their
        standard deviation, that lies between labels from ``elsewhere``. Also ``"calinski_harabasz"``, ``"silhouette"``,
        ``"entropy"`` and ``"total_variation"``, which take labels, distances and scale from the same maps.
        :data:`PRESUMES` says of each what it takes for granted; how each goes with IoU on the bundled model stands in
        its model card. By default ``"iou"`` where there is truth, :data:`DEFAULT` elsewhere.
    space
        What was compared with what.
    center
        ``"patch"`` for maps that do not depend on the values' origin, as in
        :func:`workbench.analysis.heatmaps.heatmap`. ``label_separability`` never does.
    elsewhere
        Of ``label_separability``: where its labels come from. ``"samples"``: for each noise sample the segmentation
        that all others make of everything chosen. ``"colours"``: as many clusters of the patches' mean colours as there
        are concepts. Or labels (y, x) of your own, such as :func:`workbench.numerics.separability.clusters` of
        attention outputs; whole numbers, one for each patch.
    shuffles, seed
        Of ``label_separability``: how often its labels are laid onto patches at random, for the null, and the seed.
    **choice
        ``layers``, ``timesteps``, ``heads``, ``samples`` and ``concepts`` (see :mod:`workbench.analysis.selection`);
        all captured layers by default.

    Returns
    -------
    A dataset of ``<metric>`` (layer, head), averaged over concepts; ``rank`` (layer, head), 1 for the best, equal for
    equals, NaN where nothing was captured. Of several samples also ``rank_correlation`` (sample, other_sample),
    Spearman's between the rankings of single noise samples, and ``stability``, its mean over pairs: 1 if noise does
    not matter, 0 if the ranking is all noise. ``label_separability`` has ``label_separability_null`` (bound, layer,
    head) beside it, the 2.5 and 97.5 % points over shuffled patches: shuffling takes neighbourhood away too, so what
    lies above is no chance of single patches, and may still be mere smoothness. ``attrs["presumes"]`` says what the
    criterion takes for granted.

    Raises
    ------
    InputError
        If the metric is unknown, needs a truth or another sample that is not there, or labels do not fit.
    SelectionError
        If something chosen is not in the dataset; lists what is.
    """
    check_names("rank_heads", choice, ("metric", *RankOptions.__annotations__))
    ds = normalised(ds)
    if metric is None:
        metric = "iou" if schema.TRUTH in ds else DEFAULT
    metric = renamed("metric", metric, FORMER_MEASURES)
    if metric not in (*MEASURES, LABELLED):
        raise InputError(f"metric is {metric!r}; expected one of {', '.join((*MEASURES, LABELLED))}.")
    check_center(center)
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
        center=center,
    )
    against_truth = metric != LABELLED and MEASURES[metric].against == "truth"
    observations, _ = observe([ds], alone, choice.get("concepts"), truth=against_truth)
    scores = observations[0].scores
    record: dict[str, Any] = {}
    null: NDArray[np.float64] | None = None
    if metric == LABELLED:
        overall, single, null, record = labelled_heads(ds, observations, elsewhere, shuffles, seed)
        higher = True
    else:
        measure = MEASURES[metric]
        above, below = evaluate(observations, [metric])[metric]
        overall, higher = merit(measure, (above, below)), measure.higher_is_better
        single = [merit(measure, (above[[one]], below[[one]])) for one in range(len(above))]
        record = {"presumes": PRESUMES[metric]} if metric in PRESUMES else {}

    found = xr.Dataset(
        {metric: (over, overall if higher else -overall), "rank": (over, ranks(overall))},
        coords={dim: scores.labels[dim] for dim in over},
    )
    if null is not None:
        found[f"{metric}_null"] = (("bound", *over), null)
        found = found.assign_coords(bound=["low", "high"])
    if len(single) > 1:
        related = correlation(np.stack(single).reshape(len(single), -1))
        pairs = related[np.triu_indices(len(related), 1)]
        found["rank_correlation"] = ((schema.SAMPLE, f"other_{schema.SAMPLE}"), related)
        found["stability"] = float(resampling.mean_over_concepts(pairs))
        labels = scores.labels[schema.SAMPLE]
        found = found.assign_coords({schema.SAMPLE: labels, f"other_{schema.SAMPLE}": labels})
    chosen: dict[str, Any] = {name: scores.labels[name[:-1]] for name in ("samples", "timesteps", "layers", "heads")}
    if center is not None:
        chosen["center"] = center
    return found.assign_attrs(
        chosen | record, metric=metric, higher_is_better=int(higher), space=space, softmax_over=scores.concepts
    )
