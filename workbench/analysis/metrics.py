"""How well the segmentation of a dataset agrees with its truth."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.analysis.adding_truth import masks_of, truth_hash, void_of
from workbench.analysis.heatmaps import HeatmapOptions, segment
from workbench.analysis.normalising import normalised
from workbench.analysis.nulls import Null, null_scores
from workbench.analysis.origin import as_text, provenance
from workbench.numerics.masks import iou, pixel_accuracy
from workbench.numerics.measures import Reference
from workbench.numerics.resampling import mean_over_concepts
from workbench.schema import InputError
from workbench.schema.given_options import check_names


def score(
    ds: xr.Dataset,
    *,
    null: Null | None = None,
    repeats: int = 200,
    seed: int = 0,
    **options: Unpack[HeatmapOptions],
) -> xr.Dataset:
    """Compare the segmentation of a dataset with its truth, at pixels.

    The segmentation is the argmax of the heat map, brought to pixels by nearest neighbour. Void pixels, where the
    dataset has any, are left out of everything.

    Parameters
    ----------
    ds
        A captured dataset with the variable ``truth``.
    null
        Also score maps that cannot know the answer: ``"patches"``, the same maps with their patches shuffled;
        ``"concepts"``, the same regions, each under another concept's name (all such orders, where they are no more
        than ``repeats``); or datasets with the same concepts and size, such as runs of other images, or of the model
        with random weights.
    repeats, seed
        Of such a null: how many, at most, and the seed of its permutations. Of datasets each is one.
    **options
        Those of :func:`workbench.analysis.heatmaps.heatmap`, except ``keep`` and the space ``prompt``.

    Returns
    -------
    A dataset of ``iou`` (concept), NaN for concepts neither true nor predicted anywhere; ``mean_iou``, their mean;
    ``accuracy``, the share of labelled pixels given the right concept. Attributes record the choice. With ``null`` also
    ``iou_null`` (repeat, concept), ``mean_iou_null`` and ``accuracy_null`` (repeat); they are references, not tests.

    Raises
    ------
    InputError
        If there is no truth, an option has no meaning here, or a null does not fit.
    """
    check_names("score", options, ("null", "repeats", "seed", *HeatmapOptions.__annotations__))
    ds = normalised(ds)
    masks = masks_of(ds)
    if options.get("keep") or options.get("space") == schema.PROMPT:
        raise InputError(
            "score compares one segmentation by concepts with the truth: leave out keep and space='prompt'."
        )
    upsample = options.get("upsample") or "nearest"
    settings: HeatmapOptions = {**options, "upsample": upsample}
    found = segment(ds, **settings)
    names = found.attrs["flag_meanings"]
    plane = schema.spatial(found.dims)
    # The masks of a video are those of each of its frames.
    truth = masks.sel({schema.CONCEPT: names, schema.PIXEL_Y: found.pixel_y, schema.PIXEL_X: found.pixel_x})
    target = xr.broadcast(truth, found)[0].transpose(schema.CONCEPT, *plane).to_numpy()
    labels = found.transpose(*plane).to_numpy()
    predicted = labels == np.arange(len(names)).reshape(-1, *[1] * len(plane))
    known: NDArray[np.bool_] = np.ones(labels.shape, dtype=bool)
    if (void := void_of(ds)) is not None:
        void = void.sel({dim: found[dim] for dim in void.dims})
        known = ~xr.broadcast(void, found)[0].transpose(*plane).to_numpy()
        predicted, target = predicted & known, target & known
    if len(plane) > 2:  # frames one below the other
        predicted, target = (each.reshape(len(names), -1, each.shape[-1]) for each in (predicted, target))
        known = known.reshape(-1, known.shape[-1])
    by_word = iou([(dict(zip(names, predicted, strict=True)), dict(zip(names, target, strict=True)))])
    scored = xr.Dataset(
        {
            "iou": (schema.CONCEPT, [by_word[name] for name in names]),
            "mean_iou": float(mean_over_concepts(np.array(list(by_word.values())))),
            "accuracy": pixel_accuracy(predicted, target),
        },
        coords={schema.CONCEPT: names},
        attrs={
            **{name: value for name, value in found.attrs.items() if not name.startswith("flag_")},
            "truth_hash": truth_hash(ds),
            "origin": as_text(provenance(ds)),
        },
    )
    if null is None:
        return scored
    reference = Reference(target.astype(np.float64), known.astype(np.float64), float(target.any(0).sum()))
    beside = null_scores(ds, null, reference, found.transpose(*plane), repeats, seed, settings)
    return scored.assign(beside.variables).assign_attrs(beside.attrs)
