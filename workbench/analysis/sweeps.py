"""Sweeps: which layers, timesteps, heads, samples or spaces of a captured run make good maps.

A sweep is a **choice made afterwards** among scores that were all recorded in one run of the intact network. It says
where the answer can be read off, not what the network needs: for that the network is changed and run again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.adding_truth import truth_hash, with_truth
from workbench.analysis.evaluation import FULL, Observation, Values, evaluate, observe, pick, words
from workbench.analysis.heatmaps import check_center
from workbench.analysis.many_images import items_of
from workbench.analysis.normalising import normalised
from workbench.analysis.origin import as_text, provenance_of
from workbench.analysis.selection import Labels, Numbers
from workbench.analysis.steps import Progress, Steps
from workbench.analysis.sweep_variants import HOWS, SPACE, Choice
from workbench.interventions import edit_of
from workbench.numerics import resampling
from workbench.numerics.measures import FORMER_MEASURES, MEASURES, renamed
from workbench.numerics.scores import REDUCTIONS
from workbench.schema import InputError, warn
from workbench.schema.given_options import check_count, check_flag, is_number

if TYPE_CHECKING:
    from workbench.analysis.heatmaps import Centre, Reduction
    from workbench.truth import Ignored, Truth

Swept: TypeAlias = Literal["layer", "timestep", "head", "sample", "space"]
How: TypeAlias = Literal["only", "drop", "prefix", "suffix", "window", "greedy"]

SWEPT: Final = (schema.LAYER, schema.TIMESTEP, schema.HEAD, schema.SAMPLE, SPACE)
"""What can be swept, alone or two together."""
RANK: Final = "rank"
BOUND: Final = "bound"
RESAMPLE: Final = "resample"


class SweepOptions(TypedDict, total=False):
    """Options of :func:`sweep` beside ``over`` and ``how``."""

    window: int
    truth: Truth | None
    labels: Any
    ignore: Ignored
    resize: bool
    metric: str | Sequence[str] | None
    space: str | Sequence[str] | None
    layers: Numbers
    timesteps: Numbers
    heads: Numbers
    samples: Numbers
    concepts: Labels
    reduce: Reduction
    center: Centre | None
    most: int | None
    interval: Literal["bootstrap", "t"]
    confidence: float
    resamples: int
    seed: int
    keep_resamples: bool
    draws: bool | None
    progress: Progress
    cancel: Event | None


def sweep(
    data: xr.Dataset | Sequence[xr.Dataset],
    over: Swept | tuple[Swept, Swept],
    how: How = "only",
    *,
    window: int = 3,
    truth: Truth | None = None,
    labels: Any = None,
    ignore: Ignored = None,
    resize: bool = False,
    metric: str | Sequence[str] | None = None,
    space: str | Sequence[str] | None = None,
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
    concepts: Labels = None,
    reduce: Reduction = "softmax_mean",
    center: Centre | None = None,
    most: int | None = None,
    interval: Literal["bootstrap", "t"] = "bootstrap",
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    keep_resamples: bool = False,
    draws: bool | None = None,
    progress: Progress = False,
    cancel: Event | None = None,
) -> xr.Dataset:
    """Measure the heat maps of every choice along one or two dimensions.

    Parameters
    ----------
    data
        A captured dataset, or several of different pictures; a run of many images is several.
    over
        ``"layer"``, ``"timestep"``, ``"head"``, ``"sample"`` or ``"space"``, or two of them: every cell then is a
        choice. What is not swept is averaged, as in :func:`workbench.analysis.heatmaps.heatmap`; swept layers are
        all captured ones unless ``layers`` is given, others the default layers.
    how
        ``"only"``: each alone. ``"drop"``: all but each. ``"prefix"``: all up to each, in the order of the dataset
        (layers by depth, timesteps from noisy to clean) or of the list that was chosen. ``"suffix"``: all from each on.
        ``"window"``: ``window`` neighbours; the coordinate is the first of them, ``<dimension>_last`` the last.
        ``"greedy"``: starting from nothing, always add the one with which the first metric is best; the dimension is
        ``rank``, with what was added as a coordinate; what was not captured has no rank. Over two dimensions,
        ``prefix``, ``suffix`` and ``window`` are rectangles.
    window
        Neighbours in a window.
    truth, labels, ignore, resize
        Masks to compare with, as :func:`workbench.analysis.adding_truth.with_truth` takes them; by default the
        dataset's own. For one dataset only; several bring their own.
    metric
        One or several of :data:`workbench.numerics.measures.MEASURES`. With truth ``"iou"`` (mIoU is its mean over
        concepts), ``"accuracy"``, ``"ap"``; without it ``"full_map_iou"`` (IoU with the segmentation of the full map,
        over everything chosen), ``"entropy"``, ``"calinski_harabasz"``, ``"silhouette"``, ``"total_variation"``. By
        default ``"iou"`` where there is truth, and ``"full_map_iou"`` elsewhere.
    space
        What was compared with what, ``"output"`` by default; several when it is swept, by default all captured ones.
    layers, timesteps, heads, samples
        What to take (see :mod:`workbench.analysis.selection`), of swept dimensions too.
    concepts
        What is compared, each with the others chosen; the softmax is over all captured ones in any case.
    reduce
        ``"softmax_mean"``, ``"mean_softmax"`` or ``"mean"`` (no softmax), as for a heat map.
    center
        ``"patch"``: every concept from its mean over the patches, as for a heat map.
    most
        Greedy: how many to add at most; all by default.
    interval
        ``"bootstrap"``: the percentile bootstrap of the value over all observations; in the mean over concepts, one
        that a resample lacks keeps its value over all observations. ``"t"``: Student's t interval of
        the mean over observations of each one's own value (for IoU the mIoU of each picture), which is
        ``<variable>_each``.
    confidence
        Of the intervals. A percentile bootstrap over few observations is too narrow, whatever is asked for: over 10
        it may hold the right value little more than every other time. A t interval is too narrow for skewed values.
    resamples, seed
        Of the bootstrap, how many, and the seed that makes them.
    keep_resamples
        Keep the value in each resample, as ``<variable>_resamples``. Sweeps over the same pictures with the same seed
        are resampled alike, so differences of theirs are paired.
    draws
        The former name of ``keep_resamples``, with the former names in the result; warns, and goes with the next
        version.
    progress
        Show a bar, or a function that is called with the steps done and their number: the pieces that are read, and
        the choices that are measured.
    cancel
        An event that ends the sweep behind the step that is under way.

    Returns
    -------
    A dataset with one variable for each metric: (\\*over, concept) and ``mean_<metric>`` (\\*over), or (\\*over) for
    metrics that concepts have no share in. ``<variable>_full`` is that of the full map, over everything chosen. Several
    observations add ``<variable>_n``, how many noise samples of one picture, or pictures, have a value, and
    ``<variable>_interval`` with the dimension ``bound`` ("low", "high"): NaN under 5 of them and exploratory under 10,
    as ``attrs["intervals"]`` says; that of a greedy sweep leaves the choosing out. IoU and accuracy are
    summed over observations before dividing, other metrics are means. With a single sample ``iou`` and ``accuracy`` are
    those of :func:`workbench.analysis.metrics.score`. NaN where nothing was captured. Attributes record every choice.

    Raises
    ------
    InputError
        If an option is none of the above, nothing would be left, or datasets do not fit together.
    SelectionError
        If something chosen is not in the dataset; lists what is.
    SchemaError
        If scores are NaN that are not listed as missing.
    CancelledError
        If ``cancel`` was set.
    """
    steps = Steps(progress, cancel)
    datasets = _datasets(data)
    swept = _swept(over)
    if truth is not None:
        if len(datasets) > 1:
            raise InputError("truth belongs to one picture; give each of several datasets its own: ds.wb.with_truth().")
        datasets = [with_truth(datasets[0], truth, labels=labels, ignore=ignore, resize=resize)]
    metrics = _metrics(metric, datasets, reduce)
    _check(how, swept, reduce)
    window, resamples = check_count("window", window, 1), check_count("resamples", resamples, 1)
    most = None if most is None else check_count("most", most, 1)
    if not is_number(confidence) or not 0 < confidence < 1:
        raise InputError(f"confidence is {confidence!r}; expected a number between 0 and 1, such as 0.95.")
    confidence = float(confidence)
    check_center(center)
    seed, keep_resamples = check_count("seed", seed, 0), check_flag("keep_resamples", keep_resamples)
    if draws is not None:
        warn(
            "draws of sweep is called keep_resamples now, and <variable>_draws along 'draw' <variable>_resamples along "
            "'resample'; the former names go with the next version.",
            stacklevel=2,
        )
    kept = ("draws", "draw") if draws else ("resamples", RESAMPLE) if keep_resamples else None
    if interval not in ("bootstrap", "t") or (interval == "t" and kept):
        given = f"interval is {interval!r}" if interval != "t" else "interval='t' makes no resamples to keep"
        raise InputError(f"{given}; expected 'bootstrap', or 't' without keep_resamples.")
    step = "only" if how == "greedy" else how
    spaces = _spaces(datasets, space, swept)
    choice = Choice(swept, step, window, spaces, reduce, layers, timesteps, heads, samples, center)
    against_truth = any(MEASURES[name].against == "truth" for name in metrics)
    observations, unit = observe(datasets, choice, concepts, truth=against_truth, steps=steps)
    if reduce != "mean" and any(len(one.scores.concepts) == 1 for one in observations):
        warn(
            "a softmax over one concept is 1 everywhere: capture a second one to compare with, or pass reduce='mean'.",
            stacklevel=2,
        )

    if how == "greedy":
        chosen, values = pick(observations, metrics, most or math.prod(_lengths(observations)), steps)
        dims, coords = _ranked(observations, chosen)
    else:
        values = evaluate(observations, metrics, steps)
        dims, coords = choice.dims, _coords(observations)
    steps.finish()
    found = _assemble(
        values, dims, words(observations), confidence, None if interval == "t" else (resamples, seed), kept
    )
    found = found.assign_coords(coords)
    if how != "greedy":
        found = found.transpose(..., *swept, *([schema.CONCEPT] if schema.CONCEPT in found.dims else []))
    record = _record(observations, choice) | {
        "analysis": "sweep: a choice made afterwards among recorded scores; the network is unchanged",
        "over": list(swept),
        "how": how,
        "metrics": metrics,
        "concepts": words(observations),
        "higher_is_better": [int(MEASURES[name].higher_is_better) for name in metrics],
        "observation": unit,
        "observations": len(observations),
    }
    record["origin"] = as_text(provenance_of(datasets))
    if against_truth:
        record["truth_hash"] = ", ".join(map(truth_hash, datasets))
    if any(edits := [edit_of(ds.attrs) for ds in datasets]):
        record["edits"] = list(dict.fromkeys(edit or "none" for edit in edits))
    if how == "window":
        record["window"] = window
    if len(observations) > 1:
        record |= {"interval": interval, "confidence": confidence, "intervals": _caution(found, metrics, unit)}
        record |= {} if interval == "t" else {"resamples": resamples, "seed": seed}
    return found.assign_attrs(record)


def _datasets(data: Any) -> list[xr.Dataset]:
    datasets = [data] if isinstance(data, xr.Dataset) else list(data) if isinstance(data, Sequence) else []
    if not datasets or not all(isinstance(ds, xr.Dataset) for ds in datasets):
        raise InputError(f"got {type(data).__name__}; expected a captured dataset or a list of them.")
    return [normalised(one) for ds in datasets for one in items_of(ds)]


def _swept(over: Any) -> tuple[str, ...]:
    dims = (over,) if isinstance(over, str) else tuple(over) if isinstance(over, list | tuple) else ()
    if not 1 <= len(dims) <= 2 or len(set(dims)) < len(dims) or not set(dims) <= set(SWEPT):
        raise InputError(f"over is {over!r}; expected one of {', '.join(SWEPT)}, or a pair of two of them.")
    return dims


def _check(how: str, swept: tuple[str, ...], reduce: str) -> None:
    if how not in (*HOWS, "greedy"):
        raise InputError(f"how is {how!r}; expected one of {', '.join((*HOWS, 'greedy'))}.")
    if SPACE in swept and how in ("prefix", "suffix", "window"):
        raise InputError(f"how={how!r} needs an order, which spaces do not have; use 'only', 'drop' or 'greedy'.")
    if how == "greedy" and schema.HEAD in swept and len(swept) > 1:
        raise InputError("how='greedy' picks heads on their own: sweep over='head', with layers= to say where.")
    if reduce not in REDUCTIONS:
        raise InputError(f"reduce is {reduce!r}; expected one of {', '.join(REDUCTIONS)}.")


def _metrics(metric: Any, datasets: Sequence[xr.Dataset], reduce: str) -> list[str]:
    if metric is None:
        return ["iou" if all(schema.TRUTH in ds for ds in datasets) else "full_map_iou"]
    names = [metric] if isinstance(metric, str) else list(metric)
    for place, name in enumerate(names):
        names[place] = renamed("metric", name, FORMER_MEASURES, stacklevel=3)
    if not names or not set(names) <= set(MEASURES) or len(set(names)) < len(names):
        raise InputError(f"metric is {metric!r}; expected one or several of {', '.join(MEASURES)}.")
    if "entropy" in names and reduce == "mean":
        raise InputError("entropy needs shares that sum to one; reduce='mean' takes no softmax. Leave one of them out.")
    return names


def _spaces(datasets: Sequence[xr.Dataset], space: Any, swept: tuple[str, ...]) -> tuple[str, ...]:
    """The spaces to read, in every dataset."""
    if space is None:
        held = [name for name in schema.SPACES if name != schema.PROMPT]
        in_all = [name for name in held if all(schema.total(name) in ds for ds in datasets)]
        names = in_all if SPACE in swept and in_all else ["output"]
    else:
        names = [space] if isinstance(space, str) else list(space)
    if not names or len(set(names)) < len(names) or (len(names) > 1 and SPACE not in swept):
        raise InputError(f"space is {space!r}; expected one space, or several different ones with over='space'.")
    if schema.PROMPT in names:
        raise InputError(
            "space='prompt' has tokens in place of concepts, which a sweep compares: choose another space."
        )
    for ds in datasets:
        for name in names:
            selection.space_of(ds, name)
    return tuple(names)


def _lengths(observations: Sequence[Observation]) -> list[int]:
    scores = observations[0].scores
    return [len(scores.labels[dim]) for dim in scores.choice.over]


def _coords(observations: Sequence[Observation]) -> dict[str, Any]:
    scores, coords = observations[0].scores, {}
    for dim in scores.choice.over:
        coords[dim] = (dim, scores.variant_labels(dim))
        if scores.choice.how == "window":
            coords[f"{dim}_last"] = (dim, scores.labels[dim][scores.choice.window - 1 :])
    return coords


def _ranked(observations: Sequence[Observation], chosen: Sequence[int]) -> tuple[tuple[str, ...], dict[str, Any]]:
    scores = observations[0].scores
    # The members are numbered in the order of the cells' own dimensions.
    order = scores.choice.dims
    places = np.unravel_index(list(chosen), [len(scores.labels[dim]) for dim in order])
    members = {dim: (RANK, [scores.labels[dim][at] for at in place]) for dim, place in zip(order, places, strict=True)}
    return (RANK,), {RANK: np.arange(1, len(chosen) + 1), **members}


def _assemble(
    values: Values,
    dims: tuple[str, ...],
    names: list[str],
    confidence: float,
    bootstrap: tuple[int, int] | None,
    kept: tuple[str, str] | None,
) -> xr.Dataset:
    """Labelled values and their intervals, by t without numbers for a bootstrap; resamples by a name and dimension."""
    variables: dict[str, Any] = {}

    def add(name: str, own: tuple[str, ...], value: Any, drawn: Any, each: Any) -> None:
        variables[name] = (own, value)
        if len(each) < 2:
            return
        count = (~np.isnan(each)).sum(0)
        if drawn is None:
            mean, ends = resampling.t_interval(each, confidence)
            variables[f"{name}_each"] = (own, mean)
        else:
            ends = resampling.interval(drawn, confidence)
        variables[f"{name}_n"] = (own, count)
        variables[f"{name}_interval"] = ((BOUND, *own), np.where(count >= resampling.LEAST, ends, np.nan))
        if kept:
            variables[f"{name}_{kept[0]}"] = ((kept[1], *own), drawn)

    for entry, (above, below) in values.items():
        metric = entry.removesuffix(FULL)
        own = () if entry.endswith(FULL) else dims
        value, drawn = resampling.ratio(above.sum(0), below.sum(0)), None
        each = resampling.ratio(above, below)
        if len(above) > 1 and bootstrap is not None:
            weights = resampling.draws(len(above), *bootstrap)
            drawn = resampling.ratio(resampling.resampled(weights, above), resampling.resampled(weights, below))
        if not MEASURES[metric].per_concept:
            add(entry, own, value, drawn, each)
            continue
        add(entry, (*own, schema.CONCEPT), value, drawn, each)
        overall = None if drawn is None else resampling.mean_of_draws(drawn, value)
        means = resampling.mean_over_concepts(each)
        add(f"mean_{entry}", own, resampling.mean_over_concepts(value), overall, means)
    found = xr.Dataset(variables)
    if schema.CONCEPT in found.dims:
        found = found.assign_coords({schema.CONCEPT: names})
    return found.assign_coords({BOUND: ["low", "high"]}) if BOUND in found.dims else found


def _caution(found: xr.Dataset, metrics: Sequence[str], unit: str) -> str:
    """What to make of the intervals, by how many observations have a value."""
    said: dict[str, list[str]] = {}
    for metric in metrics:
        for name in (f"mean_{metric}", metric):
            if (counted := f"{name}{FULL}_n") not in found:
                continue
            count = found[counted].to_numpy()
            for at in np.ndindex(count.shape):
                number = int(count[at])
                kind = "none under" if number < resampling.LEAST else "exploratory under"
                concept = f" of {found[schema.CONCEPT].to_numpy()[at[0]]}" if at else ""
                if number < resampling.FEW:
                    said.setdefault(kind, []).append(f"{name}{concept} ({number})")
    limits = {"none under": resampling.LEAST, "exploratory under": resampling.FEW}
    parts = [f"{kind} {limits[kind]} {unit}s: {', '.join(named)}" for kind, named in said.items()]
    return "; ".join(parts) or f"over {resampling.FEW} {unit}s or more"


def _record(observations: Sequence[Observation], choice: Choice) -> dict[str, Any]:
    """What was chosen and held fixed, as plain attributes."""
    scores = observations[0].scores
    one = len({id(other.scores) for other in observations}) == 1
    record: dict[str, Any] = {
        "space": choice.spaces[0] if len(choice.spaces) == 1 else list(choice.spaces),
        "reduce": choice.reduce,
        "samples": scores.labels[schema.SAMPLE],
        "timesteps": scores.labels[schema.TIMESTEP],
        "layers": scores.labels[schema.LAYER],
    }
    if one:
        record["softmax_over"] = [] if choice.reduce == "mean" else scores.concepts
    if choice.center is not None:
        record["center"] = choice.center
    if scores.heads:
        record["heads"] = scores.heads
    if scores.timesteps_asked:
        record["timesteps_asked"] = scores.timesteps_asked
    return record
