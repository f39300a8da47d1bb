"""What an edit did: to the maps, on the blocks that neither side edited, and to the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.heatmaps import heatmap, to_pixels
from workbench.analysis.truth import void_of, with_truth
from workbench.experiments.picture_effects import Bytes
from workbench.experiments.planning import Edits
from workbench.interventions import DropConcept, RandomDirection
from workbench.numerics.image_similarity import psnr, ssim
from workbench.numerics.masks import overlap
from workbench.numerics.measures import map_distance
from workbench.numerics.resampling import ratio

Values: TypeAlias = dict[str, NDArray[np.float64]]
"""Effects by name: (concept,) for maps, () otherwise."""
Floats: TypeAlias = NDArray[np.float64]

MAP_EFFECTS: Final = ("map_distance", "iou_shift")
SIZES: Final[Mapping[str, Callable[[Floats], Floats]]] = {
    "map_distance": lambda value: value,
    "mean_map_distance": lambda value: value,
    "iou_shift": np.abs,
    "mean_iou_shift": np.abs,
    "psnr": np.negative,
    "ssim": np.negative,
    "perceptual": lambda value: value,
}
"""How large an effect is, for ranking: a lower PSNR is a larger one."""


@dataclass
class Outcome:
    """What is kept of one run.

    Parameters
    ----------
    ds
        Its dataset, in memory.
    space
        The space of its maps.
    """

    ds: xr.Dataset
    space: str
    _maps: dict[Any, xr.DataArray] = field(default_factory=dict)

    @classmethod
    def of(cls, run: xr.Dataset, space: str) -> Outcome:
        """The sums over heads and the picture of a run, read from disk."""
        return cls(run[[schema.total(space), schema.IMAGE]].load(), space)

    @property
    def generated(self) -> bool:
        """Whether each sample is a picture of its own."""
        return bool(self.ds.attrs["kind"] == "generate")

    def maps(self, layers: Sequence[int], concepts: Sequence[str]) -> xr.DataArray:
        """Heat maps (sample, concept, y, x) over some layers, with the softmax over some concepts."""
        key = (tuple(layers), tuple(concepts))
        if key not in self._maps:
            chosen = self.ds.sel({schema.CONCEPT: list(concepts)})
            keep: Any = [schema.SAMPLE] if self.generated else []
            found = heatmap(chosen, space=self.space, layers=list(layers), keep=keep)
            self._maps[key] = found if keep else found.expand_dims(schema.SAMPLE)
        return self._maps[key]

    def pictures(self) -> list[Bytes]:
        """The pictures (pixel_y, pixel_x, channel), one for each sample."""
        return list(self.ds[schema.IMAGE].transpose(schema.SAMPLE, ...).to_numpy())


def shared_layers(recorded: Sequence[int], *edits: Edits) -> list[int]:
    """The layers that none of some edits touches; edits of what concepts attend to touch none."""
    touching = [edit for one in edits for edit in one if not _of_concepts(edit)]
    return [layer for layer in recorded if not any(edit.acts_in(layer) for edit in touching)]


def shared_concepts(names: Sequence[str], *edits: Edits) -> list[str]:
    """The concepts that none of some edits drops."""
    plain = [_plain(edit) for one in edits for edit in one]
    dropped = {concept for edit in plain if isinstance(edit, DropConcept) for concept in edit["concepts"] or ()}
    return [name for place, name in enumerate(names) if name not in dropped and place not in dropped]


def map_effects(
    baseline: Outcome, edited: Outcome, layers: Sequence[int], concepts: Sequence[str], truth: xr.Dataset | None
) -> Values:
    """Distance of the maps and shift of the IoU, by concept.

    Parameters
    ----------
    baseline, edited
        The runs.
    layers
        Those that are compared.
    concepts
        Those that are compared; the others are NaN.
    truth
        With masks (concept, pixel_y, pixel_x) and void pixels, as :func:`truth_of` gives them; without the IoU
        is with the segmentation of the baseline.

    Returns
    -------
    ``map_distance``, the mean absolute difference of the maps, and ``iou_shift``, each (concept,).
    """
    names = baseline.ds[schema.CONCEPT].to_numpy().tolist()
    found = {name: np.full(len(names), np.nan) for name in MAP_EFFECTS}
    # A softmax over the last concept that is left says nothing.
    if not layers or len(concepts) < min(2, len(names)):
        return found
    before, after = (run.maps(layers, concepts) for run in (baseline, edited))
    places = [names.index(name) for name in concepts]
    dims = (schema.SAMPLE, schema.CONCEPT, *schema.spatial(before.dims))
    plain = (maps.sel({schema.CONCEPT: list(concepts)}).transpose(*dims).to_numpy() for maps in (after, before))
    found["map_distance"][places] = map_distance(*plain)
    if truth is None:
        shift = _iou(_masks(after), _masks(before)) - 1
    else:
        target = truth[schema.TRUTH].sel({schema.CONCEPT: list(concepts)}).to_numpy()
        void = void_of(truth)
        known = True if void is None else ~void.to_numpy()
        with_pixels = [_masks(to_pixels(maps, baseline.ds, "nearest")) & known for maps in (before, after)]
        shift = _iou(with_pixels[1], target[None]) - _iou(with_pixels[0], target[None])
    found["iou_shift"][places] = shift
    return found


def picture_effects(baseline: Outcome, edited: Outcome, perceptual: Callable[[Bytes, Bytes], float] | None) -> Values:
    """PSNR, SSIM and, where there is one, the perceptual distance of generated pictures, each a mean over samples."""
    measures: dict[str, Callable[[Bytes, Bytes], float]] = {"psnr": psnr, "ssim": ssim}
    if perceptual is not None:
        measures["perceptual"] = perceptual
    pairs = list(zip(baseline.pictures(), edited.pictures(), strict=True))
    return {name: np.array(np.mean([measure(*pair) for pair in pairs])) for name, measure in measures.items()}


def rank(effect: Floats, controls: Floats) -> Floats:
    """Share of the control draws with a smaller effect; a draw of the same size counts half.

    Parameters
    ----------
    effect, controls
        (..., draw): sizes; the effect in a draw's own setting.

    Returns
    -------
    (...) in 0 .. 1; NaN where there is no draw to compare with.
    """
    known = ~(np.isnan(effect) | np.isnan(controls))
    share = np.where(known, (controls < effect) + 0.5 * (controls == effect), 0.0).sum(-1)
    return ratio(share, known.sum(-1))


def truth_of(baseline: Outcome, truth: Any) -> xr.Dataset | None:
    """A dataset with the masks to compare with, those that are given, and their void pixels; None without any."""
    return None if truth is None else with_truth(baseline.ds, truth)


def _plain(edit: Any) -> Any:
    return edit.of if isinstance(edit, RandomDirection) else edit


def _of_concepts(edit: Any) -> bool:
    return bool(_plain(edit).of_concepts)


def _masks(maps: xr.DataArray) -> NDArray[np.bool_]:
    """Where each concept is the strongest, (sample, concept, row, column); frames of a video one below the other."""
    plane = schema.spatial(maps.dims)
    values = maps.transpose(schema.SAMPLE, schema.CONCEPT, *plane).to_numpy()
    values = values.reshape(*values.shape[:2], -1, values.shape[-1])
    places = np.arange(values.shape[1])[:, None, None]
    return np.asarray(values.argmax(axis=1)[:, None] == places)


def _iou(found: NDArray[np.bool_], target: NDArray[np.bool_]) -> Floats:
    """(concept,): intersection over union, both summed over samples; NaN for a concept that is nowhere."""
    return ratio(*(counts.sum(axis=0) for counts in overlap(found, np.broadcast_to(target, found.shape))))
