"""Reading masks: what shows where in a picture, from arrays, files or label maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from workbench import schema
from workbench.schema import InputError, warn

if TYPE_CHECKING:
    from PIL import Image

    MaskLike = ArrayLike | str | Path | Image.Image
    Truth = Mapping[str, MaskLike] | MaskLike | xr.DataArray
    Values = Mapping[str, int | Sequence[int]]


def read_truth(
    truth: Truth,
    concepts: Sequence[str],
    size: tuple[int, int],
    *,
    labels: Values | None = None,
    resize: bool = False,
) -> NDArray[np.bool_]:
    """Read masks of concepts.

    Parameters
    ----------
    truth
        One of: a mapping from concept to mask; a label map, with ``labels``; a DataArray with the dimensions
        concept, pixel_y and pixel_x. A mask or label map is an array (pixel_y, pixel_x), a picture or the path
        of one. A mask is boolean or holds two values (0 and 1, 0 and 255).
    concepts
        The concepts of the run.
    size
        Height and width of the processed image, in pixels.
    labels
        For a label map: the value, or values, of each concept in it.
    resize
        Bring masks of another size to the image's by nearest neighbour. Only right for masks that show the whole
        picture, because captured pictures are resized and never cropped.

    Returns
    -------
    (concept, pixel_y, pixel_x) bool, in the order of ``concepts``. A concept without a mask is False everywhere,
    with a warning.

    Raises
    ------
    InputError
        If nothing is given, a concept is unknown, a file cannot be read, or a mask has the wrong kind or size.
    """
    if isinstance(truth, xr.DataArray) and schema.CONCEPT in truth.dims:
        masks = _split(truth)
    elif isinstance(truth, Mapping):
        masks = dict(truth)
        if labels is not None:
            raise InputError("labels belongs to a label map, but truth is a mapping of masks: leave labels out.")
    elif labels is not None:
        masks = _from_labels(_pixels(truth, "the label map"), labels)
    else:
        raise InputError(
            f"truth is a {type(truth).__name__}; expected a mapping from concept to mask, for example "
            "{'dog': mask}, or a label map with labels={'dog': 1}."
        )
    if not masks:
        raise InputError("truth holds no mask; give one for at least one of: " + ", ".join(concepts) + ".")
    unknown = [str(name) for name in masks if name not in concepts]
    if unknown:
        raise InputError(
            f"truth has masks for {', '.join(map(repr, unknown))}, not among the concepts {', '.join(concepts)}; "
            "use the captured words, or capture with these."
        )
    empty = np.zeros(size, dtype=bool)
    read = np.stack([_fit(_mask(masks[c], c), c, size, resize) if c in masks else empty for c in concepts])
    absent = [name for name in concepts if name not in masks]
    if absent:
        warn(
            f"no mask for {', '.join(map(repr, absent))}: taken to be nowhere in the picture.",
            stacklevel=2,
        )
    return read


def _split(truth: xr.DataArray) -> dict[str, Any]:
    expected = {schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X}
    if set(truth.dims) != expected or schema.CONCEPT not in truth.coords:
        raise InputError(
            f"truth has the dimensions {', '.join(map(str, truth.dims))}; expected concept, pixel_y and pixel_x, with "
            "the concepts' names as a coordinate."
        )
    ordered = truth.transpose(schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X)
    return dict(zip(map(str, ordered[schema.CONCEPT].to_numpy()), ordered.to_numpy(), strict=True))


def _from_labels(label_map: NDArray[Any], labels: Values) -> dict[str, Any]:
    if label_map.ndim != 2 or label_map.dtype.kind not in "iub":
        raise InputError(
            f"the label map is {label_map.dtype} with shape {label_map.shape}; expected whole numbers (height, width)."
        )
    masks = {}
    held = np.unique(label_map)
    for concept, values in labels.items():
        wanted = np.atleast_1d(np.asarray(values))
        if wanted.dtype.kind not in "iu":
            raise InputError(f"labels[{concept!r}] is {values!r}; expected a whole number or a list of them.")
        if not np.isin(wanted, held).any():
            raise InputError(
                f"labels[{concept!r}] is {values!r}, but the label map holds only {', '.join(map(str, held[:32]))}."
            )
        masks[concept] = np.isin(label_map, wanted)
    return masks


def _pixels(source: Any, what: str) -> NDArray[Any]:
    """An array from an array, a picture or a path; pictures with three equal channels become one."""
    if isinstance(source, xr.DataArray):
        if set(source.dims) != {schema.PIXEL_Y, schema.PIXEL_X}:
            raise InputError(f"{what} has the dimensions {source.dims}; expected pixel_y and pixel_x.")
        return source.transpose(schema.PIXEL_Y, schema.PIXEL_X).to_numpy()
    if isinstance(source, str | Path):
        from PIL import Image

        try:
            with Image.open(source) as picture:
                picture.load()
                source = picture.copy()
        except OSError as error:
            raise InputError(f"{what} cannot be read from {str(source)!r}: {error}. Give the path of a PNG.") from error
    pixels = np.asarray(source)
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4) and (pixels[..., :3] == pixels[..., :1]).all():
        pixels = pixels[..., 0]
    return pixels


def _mask(source: Any, concept: str) -> NDArray[np.bool_]:
    pixels = _pixels(source, f"the mask of {concept!r}")
    if pixels.ndim != 2 or pixels.size == 0:
        raise InputError(
            f"the mask of {concept!r} has shape {pixels.shape}; expected one value per pixel: (height, width)."
        )
    if pixels.dtype.kind == "b":
        return pixels
    values = np.unique(pixels) if pixels.dtype.kind in "iuf" else np.empty(0)
    if (
        len(values) > 2
        or (len(values) == 2 and values[0] != 0)
        or not np.isin(values, (0, 1, 255)).all()
        or not len(values)
    ):
        raise InputError(
            f"the mask of {concept!r} is {pixels.dtype} with {len(values)} values; expected bool, or 0 and 1, or 0 and "
            "255. Threshold it first; a label map goes with labels=."
        )
    return pixels > 0


def _fit(mask: NDArray[np.bool_], concept: str, size: tuple[int, int], resize: bool) -> NDArray[np.bool_]:
    if mask.shape == tuple(size):
        return mask
    if not resize:
        raise InputError(
            f"the mask of {concept!r} is {mask.shape[0]} x {mask.shape[1]} pixels (height x width); the processed "
            f"image is {size[0]} x {size[1]}. Give masks of that size, or pass resize=True if they show the whole "
            "picture."
        )
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]
