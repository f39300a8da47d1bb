"""One figure of merit for the maps of every timestep and layer alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.evaluation import truth_by_patch
from workbench.analysis.heatmaps import HeatmapOptions, heatmap, segment
from workbench.analysis.normalising import normalised, once
from workbench.analysis.origin import as_text, provenance
from workbench.interventions import edit_of
from workbench.numerics.measures import OVERVIEW, Reference
from workbench.schema import InputError, SelectionError

if TYPE_CHECKING:
    from workbench.analysis.selection import Numbers

DEFAULT_MAP: Final = "default map"


def overview(
    ds: xr.Dataset, statistic: str = "patch_agreement", *, space: str = "output", samples: Numbers = None
) -> xr.DataArray:
    """Measure the maps of every timestep and layer alone, averaged over samples before they are measured.

    These are the numbers of the overview in :func:`workbench.explore`. A sweep measures each sample by itself, and
    averages the figures.

    Parameters
    ----------
    ds
        A captured dataset. Of a video the frames are measured together; choose some with ``ds.sel(frame=[...])``.
    statistic
        ``"patch_agreement"``: share of the patches whose strongest concept is that of the run's default heat map.
        ``"entropy"`` of the shares, 0 (decided) to 1 (all alike). ``"separability"``: share of the variance of the
        shares that lies between the segments (eta squared), 0 to 1. With truth ``"iou"`` and ``"ap"``, intersection
        over union and average precision, the mean over concepts.
    space
        What was compared with what.
    samples
        What to take (see :mod:`workbench.analysis.selection`), all by default.

    Returns
    -------
    (timestep, layer) float64, from the softmax over the concepts of all heads together; NaN where nothing was captured.
    Attributes record the choice.

    Raises
    ------
    InputError
        If ``statistic`` is none of the above, the run holds both branches of guidance, or the truth is of one picture
        and the samples show several.
    SelectionError
        If something chosen is not in the dataset, there is no truth to compare with, or only one concept.
    SchemaError
        If scores are NaN that are not listed as missing.
    """
    if not isinstance(statistic, str) or statistic not in OVERVIEW:
        raise InputError(f"statistic is {statistic!r}; expected one of {', '.join(OVERVIEW)}.")
    ds = normalised(ds)
    selection.space_of(ds, space)
    dim = selection.concept_dim(ds[schema.total(space)])
    if ds.sizes[dim] < 2:
        raise SelectionError("with one concept there is nothing to compare: capture a second one.")
    measure, reference = OVERVIEW[statistic], None
    options: HeatmapOptions = {"space": space} if samples is None else {"space": space, "samples": samples}
    record: dict[str, Any] = {"space": space, "reduce": "softmax_mean"}
    if measure.against == "truth":
        reference = _truth(ds, space, samples)
    if measure.against == DEFAULT_MAP:
        with once(ds):
            default = segment(ds, **options)
        reference = Reference.of_labels(_plane(default), ds.sizes[dim])
        record |= {f"default_map_{name}": default.attrs[name] for name in ("layers", "timesteps")}
    rows = []
    for timestep in ds[schema.TIMESTEP].to_numpy().tolist():
        pieces: HeatmapOptions = {**options, "layers": slice(None, None), "timesteps": timestep, "keep": ["layer"]}
        try:
            with once(ds):
                maps = heatmap(ds, **pieces)
        except SelectionError:
            rows.append(np.full(ds.sizes[schema.LAYER], np.nan))
            continue
        record["samples"] = maps.attrs["samples"]
        rows.append(measure.value(*measure(_plane(maps.transpose(schema.LAYER, dim, ...)), reference)))
    record |= {"statistic": statistic, "higher_is_better": int(measure.higher_is_better)}
    if edit := edit_of(ds.attrs):
        record["edits"] = [edit]
    coords = {name: ds[name] for name in (schema.TIMESTEP, schema.LAYER)}
    found = xr.DataArray(np.stack(rows), coords=coords, dims=tuple(coords), name=statistic)
    return found.assign_attrs(record | {"origin": as_text(provenance(ds))})


def _truth(ds: xr.Dataset, space: str, samples: Numbers) -> Reference:
    """The masks, patch by patch.

    Raises
    ------
    SelectionError
        If there are none, or the space has tokens in place of concepts.
    """
    if schema.TRUTH not in ds:
        raise SelectionError("there is no truth to compare with; add masks: ds.wb.with_truth({'dog': mask, ...}).")
    if space == schema.PROMPT:
        raise SelectionError("the truth names concepts, and this space has tokens: choose another figure.")
    taken = selection.take(ds[schema.total(space)], samples=samples)
    shown = ds.sel({schema.SAMPLE: taken[schema.SAMPLE]})
    plane = [ds[dim] for dim in schema.spatial(taken.dims)]
    shape = [axis.size for axis in plane]
    grid = xr.DataArray(np.arange(np.prod(shape)).reshape(shape), coords={str(axis.name): axis for axis in plane})
    return truth_by_patch(shown, grid, [str(name) for name in ds[schema.CONCEPT].to_numpy()])


def _plane(maps: xr.DataArray) -> NDArray[Any]:
    """The numbers with rows and columns last: the frames of a video lie one below the other."""
    plane = schema.spatial(maps.dims)
    ordered = maps.transpose(..., *plane)
    lead = [size for dim, size in ordered.sizes.items() if dim not in plane]
    return ordered.to_numpy().reshape(*lead, -1, maps.sizes[schema.X])
