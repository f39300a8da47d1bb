"""Results as the browser draws them: plain values of curves and matrices, with their names."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.sweep_variants import SPACE
from workbench.numerics import resampling
from workbench.numerics.measures import MEASURES
from workbench.widgets.ablate.sweep_form import GREEDY, SweepForm

METRIC_NAMES: Final = {
    "iou": "IoU with the truth",
    "accuracy": "pixel accuracy",
    "ap": "average precision",
    "full_map_iou": "IoU with the full map",
    "entropy": "entropy (0 decided, 1 undecided)",
    "calinski_harabasz": "Calinski-Harabasz index",
    "silhouette": "silhouette",
    "total_variation": "total variation",
}
_HOWS: Final = {
    "only": "each alone",
    "drop": "each left out",
    "prefix": "all up to it",
    "suffix": "all from it on",
    "window": "first of {window} neighbours",
}


def sweep_plot(form: SweepForm, found: xr.Dataset) -> dict[str, Any]:
    """A sweep as one figure.

    Returns
    -------
    ``dims``, ``labels`` (one list for each dimension), ``axes`` (their meaning), ``measure`` (that of the values),
    ``better`` (``"higher"`` or ``"lower"``), ``band`` (what the band is, or nothing), ``reference`` (what ``full`` is)
    and ``lines``: each with ``name``, ``concept`` (its position, None for all together), ``values``, ``low``, ``high``
    and ``full``. With two dimensions values are lists of rows.
    """
    metric = form.metric
    dims = ["rank"] if form.how == GREEDY else list(form.over)
    lines = []
    names = [str(name) for name in found[schema.CONCEPT].to_numpy()] if schema.CONCEPT in found.coords else []
    # Of a concept that was not drawn the truth is not known.
    known = [name for name in names if not form.by_hand or name in form.drawn]
    if not MEASURES[metric].per_concept:
        lines.append(_line(found, metric, dims, "all concepts", None))
    elif len(known) == len(names) > 1:
        lines.append(_line(found, f"mean_{metric}", dims, "mean of the concepts", None))
    if MEASURES[metric].per_concept:
        lines += [_line(found.sel({schema.CONCEPT: name}), metric, dims, name, names.index(name)) for name in known]
    attrs = found.attrs
    return {
        "dims": dims,
        "labels": [_labels(found, dim, form) for dim in dims],
        "axes": [_axis(dim, form, found) for dim in dims],
        "measure": METRIC_NAMES[metric],
        "better": "higher" if MEASURES[metric].higher_is_better else "lower",
        "band": f"{100 * attrs['confidence']:g} % interval over {attrs['observations']} {attrs['observation']}s"
        + (", exploratory" if attrs["observations"] < resampling.FEW else "")
        if attrs["observations"] >= resampling.LEAST
        else "",
        # As the figures: what stands each for itself, without an order, is not joined.
        "joined": not (dims[0] == SPACE or (dims[0] in (schema.HEAD, schema.SAMPLE) and form.how in ("only", "drop"))),
        "reference": "all together",
        "lines": lines,
    }


def best(plot: dict[str, Any]) -> tuple[list[int], float] | None:
    """Position and value of the best point, or largest effect, of the first line; None when nothing was measured."""
    values = np.array(plot["lines"][0]["values"], dtype=float)
    if np.isnan(values).all():
        return None
    merit = np.abs(values) if plot.get("signed") else values if plot["better"] == "higher" else -values
    flat = int(np.nanargmax(merit))
    at = [int(part) for part in np.unravel_index(flat, values.shape)]
    return at, float(values[tuple(at)])


def plain(values: NDArray[Any]) -> Any:
    """Nested lists with None where there is no finite number."""
    if values.ndim == 0:
        return float(values) if np.isfinite(values) else None
    return [plain(row) for row in values]


def _line(found: xr.Dataset, name: str, dims: list[str], label: str, concept: int | None) -> dict[str, Any]:
    line = {"name": label, "concept": concept, "values": plain(found[name].transpose(*dims).to_numpy())}
    full = found.get(f"{name}_full")
    # The full map compared with itself is 1.
    itself = MEASURES[name.removeprefix("mean_")].against == "full map"
    line["full"] = None if full is None or itself else plain(full.to_numpy())
    bounds = found.get(f"{name}_interval")
    for end in ("low", "high"):
        # Of too few observations there is none anywhere.
        line[end] = (
            None
            if bounds is None or bounds.isnull().all()
            else plain(bounds.sel(bound=end).transpose(*dims).to_numpy())
        )
    return line


def _labels(found: xr.Dataset, dim: str, form: SweepForm) -> list[str]:
    if dim == "rank":
        return [f"+{_text(label)}" for label in found[form.over[0]].to_numpy().tolist()]
    return [_text(label) for label in found[dim].to_numpy().tolist()]


def axis_name(dim: str, found: xr.Dataset) -> str:
    """A dimension, and what its numbers are: timesteps are 1000 × sigma unless the run says another process."""
    other = (schema.read_attributes(found.attrs).get("origin") or {}).get(schema.PROCESS)
    return "timestep, 1000 × sigma" if dim == schema.TIMESTEP and not other else dim


def _axis(dim: str, form: SweepForm, found: xr.Dataset) -> str:
    if dim == "rank":
        return f"{form.over[0]} added, best first"
    return f"{axis_name(dim, found)} ({_HOWS[form.how].format(window=form.window)})"


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
