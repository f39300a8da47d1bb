"""Which findings about maps depend on the origin of the values, which no image depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis.heatmaps import segment
from workbench.analysis.many_images import items_of
from workbench.analysis.normalising import normalised, once
from workbench.analysis.selection import Labels, Numbers
from workbench.analysis.sweep_variants import SPACE
from workbench.analysis.sweeps import sweep
from workbench.numerics.measures import MEASURES
from workbench.numerics.ranking import correlation
from workbench.schema import InputError
from workbench.schema.given_options import check_names

if TYPE_CHECKING:
    from workbench.analysis.heatmaps import Centre, Reduction

GAUGE: Final = "gauge"
FINDING: Final = "finding"
GAUGES: Final[dict[str, Centre | None]] = {"as stored": None, "patch": "patch"}
"""By name, what :func:`workbench.analysis.heatmaps.heatmap` takes as ``center``."""


class GaugeOptions(TypedDict, total=False):
    """What of the datasets is reported on."""

    layers: Numbers
    timesteps: Numbers
    samples: Numbers
    concepts: Labels
    reduce: Reduction


def gauge_report(
    data: xr.Dataset | Sequence[xr.Dataset],
    *,
    spaces: Sequence[str] | None = None,
    metric: str | None = None,
    **options: Unpack[GaugeOptions],
) -> xr.Dataset:
    """Compare what maps say as they are stored with what they say centred, and name the findings that move.

    A vector added to all values of a block and taken back behind its attention leaves the network as it is, and moves
    the maps of the spaces ``output`` and ``value`` by an offset for each concept. A finding that holds with
    ``center="patch"`` as well does not rest on where that origin happens to lie; one that does not may.

    Parameters
    ----------
    data
        A captured dataset, or several of different images; a run of many images is several.
    spaces
        The spaces to compare; by default all that every dataset holds.
    metric
        As in :func:`workbench.analysis.sweeps.sweep`: by default ``"iou"`` where there is truth, else
        ``"full_map_iou"``, with which the full maps themselves, each in its own gauge, are not compared.
    **options
        ``layers``, ``timesteps``, ``samples``, ``concepts`` and ``reduce``, as for a heat map.

    Returns
    -------
    A dataset along ``gauge`` (``"as stored"``, ``"patch"``): ``score`` (gauge, space) of the full maps, where there is
    truth; ``by_layer`` (gauge, space, layer) and ``by_timestep`` (gauge, space, timestep), where there are several;
    ``area`` (gauge, space, concept), the share of the patches each concept takes, averaged over the datasets that have
    it; ``changed`` (space), the share of all patches whose strongest concept differs; ``head_correlation`` (space),
    Spearman's between the rankings of the heads, where per-head scores are there. And the findings themselves: ``said``
    (finding, gauge) in words, and ``holds`` (finding), whether both say the same. ``attrs["moves"]`` lists those that
    do not.

    Raises
    ------
    InputError, SelectionError
        As :func:`workbench.analysis.sweeps.sweep`.
    """
    check_names("gauge_report", options, ("spaces", "metric", *GaugeOptions.__annotations__))
    datasets = [normalised(one) for ds in ([data] if isinstance(data, xr.Dataset) else data) for one in items_of(ds)]
    if not datasets:
        raise InputError("got no dataset; expected a captured dataset or a list of them.")
    held = [name for name in schema.SPACES if name != schema.PROMPT]
    chosen = list(spaces or [name for name in held if all(schema.total(name) in ds for ds in datasets)])
    by_space = _both(datasets, SPACE, metric, chosen, options)
    name = str(by_space.attrs["metrics"][0])
    measure = MEASURES[name]
    label = f"mean {name}" if measure.per_concept else name

    found = xr.Dataset(coords={SPACE: chosen})
    findings: dict[str, list[str]] = {}
    if measure.against == "truth":
        found["score"] = _mean(by_space, name)
        findings[f"spaces by {label}"] = [_order(one, measure.higher_is_better) for one in found["score"]]
    for dim, key in ((schema.LAYER, "by_layer"), (schema.TIMESTEP, "by_timestep")):
        values = _mean(_both(datasets, (SPACE, dim), metric, chosen, options), name)
        if values.sizes[dim] < 2:
            continue
        found[key] = values.transpose(GAUGE, SPACE, dim)
        for space in chosen:
            best = [_best(one.sel({SPACE: space}), dim, measure.higher_is_better) for one in found[key]]
            findings[f"best {dim} of {space}"] = best
    for space in chosen:
        if all(space in ds for ds in datasets):
            heads = _mean(_both(datasets, (schema.LAYER, schema.HEAD), metric, [space], options), name)
            rows = heads.to_numpy().reshape(len(GAUGES), -1)
            found = found.assign({f"heads of {space}": float(correlation(rows)[0, 1])})
            best = [_best_head(one, measure.higher_is_better) for one in heads]
            findings[f"best head of {space}"] = best
    related = {space: found.get(f"heads of {space}") for space in chosen}
    found = found.drop_vars([f"heads of {space}" for space in chosen], errors="ignore")
    if any(one is not None for one in related.values()):
        numbers = [np.nan if one is None else float(one) for one in related.values()]
        found["head_correlation"] = (SPACE, numbers)
    areas, found["changed"] = _areas(datasets, chosen, options)
    found["area"] = areas
    for space in chosen:
        findings[f"largest concept of {space}"] = [
            str(one.sel({SPACE: space}).idxmax(schema.CONCEPT).item()) for one in areas
        ]

    names = list(findings)
    holds = [len(set(said)) == 1 for said in findings.values()]
    found["said"] = ((FINDING, GAUGE), np.array(list(findings.values())))
    found["holds"] = (FINDING, holds)
    record = {
        key: value for key, value in by_space.attrs.items() if key in ("layers", "timesteps", "samples", "reduce")
    }
    return found.assign_coords({FINDING: names, GAUGE: list(GAUGES)}).assign_attrs(
        record, metric=name, moves=[one for one, held in zip(names, holds, strict=True) if not held]
    )


def _both(datasets: list[xr.Dataset], over: Any, metric: Any, spaces: list[str], options: GaugeOptions) -> xr.Dataset:
    """A sweep in both gauges, along ``gauge``."""
    what: Any = {"space": spaces if over == SPACE or SPACE in over else spaces[0], "metric": metric, "resamples": 1}
    swept = [sweep(datasets, over, center=center, **what, **options) for center in GAUGES.values()]
    return xr.concat(swept, GAUGE, combine_attrs="override", coords="minimal", compat="override", join="exact")


def _mean(found: xr.Dataset, metric: str) -> xr.DataArray:
    return found[f"mean_{metric}" if f"mean_{metric}" in found else metric]


def _best(values: xr.DataArray, dim: str, higher: bool) -> str:
    """The label of the best value; where there is none, that."""
    if not values.notnull().any():
        return "none"
    label = (values.idxmax(dim) if higher else values.idxmin(dim)).item()
    return f"{label:g}"


def _best_head(values: xr.DataArray, higher: bool) -> str:
    flat = values.to_numpy() if higher else -values.to_numpy()
    if not np.isfinite(flat).any():
        return "none"
    at = np.unravel_index(int(np.nanargmax(flat)), flat.shape)
    labels = (f"{dim} {values[dim].to_numpy()[place]}" for dim, place in zip(values.dims, at, strict=True))
    return ", ".join(labels)


def _order(values: xr.DataArray, higher: bool) -> str:
    """The spaces from the best on."""
    numbers = np.nan_to_num(values.to_numpy() if higher else -values.to_numpy(), nan=-np.inf)
    order = np.argsort(-numbers, kind="stable")
    return " > ".join(str(name) for name in values[SPACE].to_numpy()[order])


def _areas(datasets: list[xr.Dataset], spaces: list[str], options: GaugeOptions) -> tuple[xr.DataArray, xr.DataArray]:
    """Shares of the patches by (gauge, space, concept), and the share that changes by (space)."""
    names: dict[str, None] = {}
    shares: list[dict[tuple[int, int, str], float]] = []
    changed = np.zeros((len(datasets), len(spaces)))
    for index, ds in enumerate(datasets):
        own: dict[tuple[int, int, str], float] = {}
        for place, space in enumerate(spaces):
            with once(ds):
                maps = [segment(ds, space=space, center=center, **options) for center in GAUGES.values()]
            changed[index, place] = float((maps[0] != maps[1]).mean())
            for gauge, labels in enumerate(maps):
                for number, name in enumerate(labels.attrs["flag_meanings"]):
                    own[gauge, place, name] = float((labels == number).mean())
                    names.setdefault(name)
        shares.append(own)
    dims = (GAUGE, SPACE, schema.CONCEPT)
    values = np.full((len(GAUGES), len(spaces), len(names)), np.nan)
    for at in np.ndindex(values.shape):
        key = (at[0], at[1], list(names)[at[2]])
        values[at] = np.mean([own[key] for own in shares if key in own])
    coords = {SPACE: spaces, schema.CONCEPT: list(names)}
    return xr.DataArray(values, dims=dims, coords=coords), xr.DataArray(changed.mean(0), dims=SPACE)
