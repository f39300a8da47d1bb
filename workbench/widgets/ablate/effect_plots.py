"""Effects of interventions as the browser draws them: at the read-out, with their controls, and layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.interventions import layers_in_words
from workbench.widgets.ablate.edit_form import ALL
from workbench.widgets.ablate.plots import axis_name, best, plain

BY_LAYER: Final = "_by_layer"
EFFECTS: Final = {
    "map_distance": "mean absolute change of the maps",
    "total_variation_distance": "total variation of the shares at a patch (0 to 1)",
    "iou_shift": "shift of the IoU",
    "psnr": "PSNR of the pictures (dB, lower is a larger effect)",
    "ssim": "SSIM of the pictures (lower is a larger effect)",
    "perceptual": "LPIPS of the pictures",
}
MARKED_FROM: Final = 19
"""With so many controls an effect that is larger than all of them is marked."""
_Line: TypeAlias = tuple[xr.Dataset, str, str, int | None]
"""The part of a result, its variable, the name of the line, and the position of its concept."""
_SMALLER_IS_MORE: Final = ("psnr", "ssim")
_OF_PICTURES: Final = (*_SMALLER_IS_MORE, "perceptual")
_AXES: Final = {"concept": "concept (dropped)", "mode": "what concepts attend to", ALL: "one edit"}
_KINDS: Final = {
    "units": "as many other units of the layer",
    "direction": "random direction",
    "matched": "random direction with the activations’ covariance",
    "resample": "other images’ activations",
}
_REACH: Final = {
    "own": "inside the edited layer",
    "downstream": "",
    "later": "through later passes",
    "skipped": "left out by the edit",
    "unreachable": "out of the edit’s reach",
}


def effect_plots(
    over: Sequence[str], labels: Sequence[Sequence[Any]], found: xr.Dataset, drawn: Sequence[str] | None = None
) -> dict[str, dict[str, Any]]:
    """The effects of an experiment, each as one figure, in the shape of the plots of sweeps.

    Parameters
    ----------
    over
        What there is one intervention for each of.
    labels
        The labels along each of those.
    found
        What :func:`workbench.intervene` returned.
    drawn
        The concepts whose truth was drawn, where it was: of others it is not known.

    Returns
    -------
    By effect. Lines also have ``control_low``, ``control_middle`` and ``control_high``, the range of the controls and
    their median, and ``rank``, the share of them with a smaller effect. ``reach`` says of each point how the edit
    reaches what is read, ``why`` why it has no value, ``remark`` where all of it is read. Effects on maps are there
    once more, ``<effect>_by_layer``: a matrix of the edits and the layers that were read.
    """
    names = [str(name) for name in found[schema.CONCEPT].to_numpy()]
    shape = [len(each) for each in labels]
    kinds = sorted({str(kind) for kind in found["control"].to_numpy()} - {"none"}) if "control" in found.coords else []
    repeats = found.sizes.get("repeat", 0)
    of_kinds = " and ".join(_KINDS.get(kind, kind) for kind in kinds)
    texts = [[_text(label) or "all that is chosen" for label in each] for each in labels]
    plots: dict[str, dict[str, Any]] = {}
    matrices: dict[str, dict[str, Any]] = {}
    for effect, measure in EFFECTS.items():
        if effect not in found:
            continue
        of = "the unedited run" if found.attrs.get("iou_of") == "baseline" else "the truth"
        on_maps = effect not in _OF_PICTURES
        known = [name for name in names if drawn is None or effect != "iou_shift" or name in drawn]
        which = _lines_of(found, effect, known, names)
        plot = {
            "dims": list(over),
            "labels": texts,
            "axes": [_AXES.get(dim, f"{axis_name(dim, found)} (edited)") for dim in over],
            "measure": f"{measure} with {of}" if effect == "iou_shift" else measure,
            "better": "lower" if effect in _SMALLER_IS_MORE else "higher",
            "signed": effect == "iou_shift",
            "zero": effect not in _SMALLER_IS_MORE,
            "peak": "largest effect",
            "joined": over[0] in (schema.LAYER, schema.TIMESTEP),
            "band": "",
            "control": f"{'control' if repeats == 1 else f'range of {repeats} controls'}: {of_kinds}",
            "repeats": repeats,
            "marked": repeats >= MARKED_FROM,
            "reference": "",
            "lines": [_line(part, name, shape, label, concept) for part, name, label, concept in which],
        }
        plots[effect] = plot | (_reached(found, shape) if on_maps else {})
        if on_maps and f"{effect}{BY_LAYER}" in found:
            rows = [" × ".join(one) for one in _product(texts)]
            matrices[f"{effect}{BY_LAYER}"] = _by_layer(found, plot, rows, which)
    # Where nothing can be read at the read-out, what can be comes first.
    return dict(sorted((plots | matrices).items(), key=lambda item: best(item[1]) is None))


def _lines_of(found: xr.Dataset, effect: str, known: Sequence[str], names: Sequence[str]) -> list[_Line]:
    """The lines of one effect: all concepts together where there are several, and each."""
    if schema.CONCEPT not in found[effect].dims:
        return [(found, effect, "pictures" if effect in _OF_PICTURES else "all concepts", None)]
    lines: list[_Line] = []
    if list(known) == list(names) and len(names) > 1:
        lines.append((found, f"mean_{effect}", "mean of the concepts", None))
    return lines + [(found.sel(concept=name), effect, name, names.index(name)) for name in known]


def _line(found: xr.Dataset, name: str, shape: Sequence[int], label: str, concept: int | None) -> dict[str, Any]:
    def part(values: Any) -> Any:
        return plain(np.asarray(values, dtype=float).reshape(shape))

    line = {"name": label, "concept": concept, "values": part(found[name]), "low": None, "high": None, "full": None}
    controls = found.get(f"{name}_control")
    if controls is not None:
        finite = controls.where(np.isfinite(controls))
        ends = (("low", finite.min("repeat")), ("middle", finite.median("repeat")), ("high", finite.max("repeat")))
        for end, made in ends:
            line[f"control_{end}"] = part(made)
        line["rank"] = part(found[f"{name}_rank"])
    return line


def _reached(found: xr.Dataset, shape: Sequence[int]) -> dict[str, Any]:
    """What is to be said of where the points of a plot are read."""
    if "readout_reach" not in found.coords:
        return {}
    readout = schema.read_attributes(found.attrs).get("readout", "")
    where = "all layers behind each edit" if isinstance(readout, str) else layers_in_words(readout)
    reach = found["readout_reach"].to_numpy().astype(object).reshape(shape).tolist()
    why = found["note"].to_numpy().astype(object).reshape(shape).tolist()
    return {"reach": reach, "why": why, "remark": f"read in {where}"}


def _by_layer(
    found: xr.Dataset,
    plot: Mapping[str, Any],
    rows: list[str],
    which: Sequence[_Line],
) -> dict[str, Any]:
    def values(part: xr.Dataset, name: str) -> Any:
        return plain(part[f"{name}{BY_LAYER}"].transpose("intervention", "read_layer").to_numpy())

    lines = [
        {"name": label, "concept": concept, "values": values(part, name), "low": None, "high": None, "full": None}
        for part, name, label, concept in which
    ]
    reach: NDArray[Any] = found["reach"].transpose("intervention", "read_layer").to_numpy()
    layers = [str(layer) for layer in found["read_layer"].to_numpy().tolist()]
    edited = " × ".join(plot["axes"]).replace(" (edited)", "")
    return {
        **plot,
        "dims": [" × ".join(plot["dims"]), "read layer"],
        "labels": [rows, layers],
        "axes": [f"{edited} (edited)", "layer that is read"],
        "measure": f"{plot['measure']}, by layer",
        "joined": False,
        "control": "",
        "marked": False,
        "lines": lines,
        "reach": reach.tolist(),
        "why": [[_REACH[str(kind)] for kind in row] for row in reach],
        "remark": "empty: out of reach, or left out",
    }


def _product(texts: Sequence[Sequence[str]]) -> list[list[str]]:
    found: list[list[str]] = [[]]
    for each in texts:
        found = [[*one, text] for one in found for text in each]
    return found


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
