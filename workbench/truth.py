"""Reading masks: what shows where in a picture, from arrays, files or label maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from workbench import schema
from workbench.images import Decoded, decode, shown, to_array
from workbench.schema import InputError, warn

if TYPE_CHECKING:
    from PIL import Image

    MaskLike = ArrayLike | str | os.PathLike[str] | IO[bytes] | Image.Image
    Truth = Mapping[str, MaskLike] | MaskLike | xr.DataArray
    Values = Mapping[str, int | Sequence[int]]

ROUNDING: Final = 1e-3
"""How far floats of a mask may be from 0, 1 or 255."""


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
        concept, pixel_y and pixel_x. A mask or label map is an array (pixel_y, pixel_x), a picture, or the path or
        open file of one, which is read as :func:`workbench.capture` reads its image: turned as its metadata says. A
        mask is boolean or holds two values (0 and 1, 0 and 255), in grey or in its alpha; a palette counts by its
        colours, and with ``labels`` by its numbers.
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
        If nothing is given, a concept is unknown, a file cannot be read, or a mask has the wrong kind or size, or one
        mask in its colours and another in its alpha.
    """
    if isinstance(truth, xr.DataArray) and schema.CONCEPT in truth.dims:
        masks = _split(truth)
    elif isinstance(truth, Mapping):
        masks = dict(truth)
        if labels is not None:
            raise InputError("labels belongs to a label map, but truth is a mapping of masks: leave labels out.")
    elif labels is not None:
        masks = _from_labels(truth, labels)
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


def _from_labels(source: Any, labels: Values) -> dict[str, Any]:
    label_map = _labels_of(source, "the label map")
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


def _labels_of(source: Any, what: str) -> NDArray[Any]:
    """Whole numbers of a label map: those of a palette's colours where it has a palette."""
    decoded = _decoded(source, what)
    if decoded is None:
        return _grey(_array(source, what), what)
    for numbers in (decoded.indices(), decoded.numbers()):
        if numbers is not None:
            return numbers
    if decoded.deep:
        raise InputError(f"{what} has colours of 16 bits, of which 8 are read: save it in grey, or as an array.")
    if decoded.image.mode == "1":
        return np.array(decoded.image)
    colours, alpha = decoded.colours()
    if alpha is not None and (alpha != 255).any():
        raise InputError(f"{what} is transparent in places; expected whole numbers: save it without alpha.")
    return _grey(colours, what)


def _grey(pixels: NDArray[Any], what: str) -> NDArray[Any]:
    """One value per pixel where all colours are grey."""
    if pixels.ndim == 3 and pixels.shape[-1] in (3, 4) and (pixels[..., :3] == pixels[..., :1]).all():
        if pixels.shape[-1] == 4 and (pixels[..., 3] != pixels[0, 0, 3]).any():
            raise InputError(f"{what} is transparent in places; expected whole numbers: give it without alpha.")
        return pixels[..., 0]
    return pixels


def _mask(source: Any, concept: str) -> NDArray[np.bool_]:
    what = f"the mask of {concept!r}"
    decoded = _decoded(source, what)
    if decoded is not None:
        pixels = decoded.numbers()
        if pixels is None:
            colours, alpha = decoded.colours()
            pixels = _of_colours(colours, alpha, what)
    else:
        pixels = _array(source, what)
        if pixels.ndim == 3 and pixels.shape[-1] in (3, 4) and pixels.size:
            pixels = _of_colours(pixels[..., :3], pixels[..., 3] if pixels.shape[-1] == 4 else None, what)
    if pixels.ndim != 2 or pixels.size == 0:
        raise InputError(f"{what} has shape {pixels.shape}; expected one value per pixel: (height, width).")
    return _two_valued(pixels, what)


def _of_colours(colours: NDArray[Any], alpha: NDArray[Any] | None, what: str) -> NDArray[Any]:
    """The channel (height, width) that holds a mask: grey, or alpha where that differs from pixel to pixel."""
    grey = colours[..., 0] if (colours == colours[..., :1]).all() else None
    if alpha is None or (alpha == alpha[0, 0]).all():
        if alpha is not None and not alpha.any() and (colours != colours[:1, :1]).any():
            raise InputError(f"{what} is transparent everywhere, over colours that differ: save it without alpha.")
        return colours if grey is None else grey
    seen = colours[alpha > 0]
    if grey is None or (seen == seen[0]).all() or not _is_two_valued(grey):
        return alpha
    raise InputError(
        f"{what} holds two masks, one in its colours and another in its alpha: save the one that is meant, in grey."
    )


def _two_valued(pixels: NDArray[Any], what: str) -> NDArray[np.bool_]:
    if not _is_two_valued(pixels):
        count = len(np.unique(pixels)) if pixels.dtype.kind in "iuf" else 0
        raise InputError(
            f"{what} is {pixels.dtype} with {count} values; expected bool, or 0 and 1, or 0 and 255. Threshold it "
            "first; a label map, such as the indices of a palette, goes with labels=."
        )
    return pixels > 0.5


def _is_two_valued(pixels: NDArray[Any]) -> bool:
    """Whether values are 0 and one of 1, 255 and (of 16 bits) 65535, or only one of them."""
    if pixels.dtype.kind not in "biuf" or not np.isfinite(pixels).all():
        return False
    # Resizing and rescaling leave rounding errors.
    values = np.unique(np.round(pixels)) if pixels.dtype.kind == "f" else np.unique(pixels)
    if pixels.dtype.kind == "f" and np.abs(pixels - np.round(pixels)).max() > ROUNDING:
        return False
    return any(np.isin(values, (0, full)).all() for full in (1, 255, 65535))


def _decoded(source: Any, what: str) -> Decoded | None:
    try:
        return decode(source, what)
    except InputError as error:
        if not isinstance(source, str | os.PathLike):
            raise
        raise InputError(f"{what} cannot be read from {shown(os.fsdecode(source))!r}: {error}") from error


def _array(source: Any, what: str) -> NDArray[Any]:
    if isinstance(source, xr.DataArray):
        if set(source.dims) != {schema.PIXEL_Y, schema.PIXEL_X}:
            raise InputError(f"{what} has the dimensions {source.dims}; expected pixel_y and pixel_x.")
        source = source.transpose(schema.PIXEL_Y, schema.PIXEL_X).to_numpy()
    return to_array(source, what, "an image, or an array (height, width)")


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
