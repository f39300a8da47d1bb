"""Reading masks: what shows where in a picture, from arrays, files or label maps."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, cast

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from workbench import schema
from workbench.images import Decoded, decode, shown, to_array
from workbench.schema import InputError, warn

if TYPE_CHECKING:
    from PIL import Image

    MaskLike = ArrayLike | str | os.PathLike[str] | IO[bytes] | Image.Image
    Truth = Mapping[str, MaskLike] | MaskLike | xr.DataArray | xr.Dataset
    Values = Mapping[str, int | Sequence[int]]
    Ignored = int | Sequence[int] | str | None

ROUNDING: Final = 1e-3
"""How far floats of a mask may be from 0, 1 or 255."""
_BESIDE: Final = "ancillary_variables"
"""Attribute of a truth that has void pixels, after the CF conventions: the variable that says which they are."""
_USUAL_VOID: Final = 255


class Regions(NamedTuple):
    """What a truth says of every pixel.

    Attributes
    ----------
    masks
        (concept, pixel_y, pixel_x) bool, False in void pixels.
    void
        (pixel_y, pixel_x) bool: pixels that count for nothing and against nothing; None where there are none.
    """

    masks: NDArray[np.bool_]
    void: NDArray[np.bool_] | None

    def variables(self) -> dict[str, Any]:
        """The variables of a dataset that hold it."""
        dims = (schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X)
        if self.void is None:
            return {schema.TRUTH: (dims, self.masks)}
        return {schema.TRUTH: (dims, self.masks, {_BESIDE: schema.VOID}), schema.VOID: (dims[1:], self.void)}


def bits_hash(masks: NDArray[np.bool_]) -> str:
    """A hash of masks, which the same masks share."""
    return hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()[:20]


def read_truth(
    truth: Truth,
    concepts: Sequence[str],
    size: tuple[int, int],
    *,
    labels: Values | None = None,
    ignore: Ignored = None,
    resize: bool = False,
) -> NDArray[np.bool_]:
    """The masks of :func:`read_regions`, which takes the same: (concept, pixel_y, pixel_x) bool."""
    return read_regions(truth, concepts, size, labels=labels, ignore=ignore, resize=resize).masks


def read_regions(
    truth: Truth,
    concepts: Sequence[str],
    size: tuple[int, int],
    *,
    labels: Values | None = None,
    ignore: Ignored = None,
    resize: bool = False,
) -> Regions:
    """Read masks of concepts, and which pixels are void.

    Parameters
    ----------
    truth
        One of: a mapping from concept to mask; a label map, with ``labels``; a DataArray with the dimensions
        concept, pixel_y and pixel_x; a dataset that has a truth, with its void pixels. A mask or label
        map is an array (pixel_y, pixel_x), a picture, or the path or open file of one, which is read as
        :func:`workbench.capture` reads its image: turned as its metadata says. A mask is boolean or holds two values
        (0 and 1, 0 and 255), in grey or in its alpha; a palette counts by its colours, and with ``labels`` by its
        numbers.
    concepts
        The concepts of the run.
    size
        Height and width of the processed image, in pixels.
    labels
        For a label map: the value, or values, of each concept in it.
    ignore
        Which pixels are void, unlabelled or on a border, and are left out of every comparison: one or several values
        of a label map, such as 255, which need not occur in it; or the name of a mask among those that are given.
    resize
        Bring masks of another size to the image's by nearest neighbour. Only right for masks that show the whole
        picture, because captured pictures are resized and never cropped.

    Returns
    -------
    Masks in the order of ``concepts``, and void pixels. A concept without a mask is nowhere, with a warning.

    Raises
    ------
    InputError
        If nothing is given, a concept is unknown, a file cannot be read, or a mask has the wrong kind or size, or one
        mask in its colours and another in its alpha; if ``ignore`` names no mask, is a value of a concept too, or
        leaves no pixel.
    """
    void: Any = None
    if isinstance(truth, xr.Dataset):
        masks, void = _of_dataset(truth)
    elif isinstance(truth, xr.DataArray) and schema.CONCEPT in truth.dims:
        masks = _split(truth)
    elif isinstance(truth, Mapping):
        masks = dict(cast("Mapping[str, Any]", truth))
        if labels is not None:
            raise InputError("labels belongs to a label map, but truth is a mapping of masks: leave labels out.")
    elif labels is not None:
        masks, void = _from_labels(truth, labels, None if isinstance(ignore, str) else ignore)
    else:
        raise InputError(
            f"truth is a {type(truth).__name__}; expected a mapping from concept to mask, for example "
            "{'dog': mask}, or a label map with labels={'dog': 1}."
        )
    if isinstance(ignore, str):
        void = _named_void(masks, ignore, concepts)
    elif ignore is not None and (labels is None or isinstance(truth, xr.Dataset | Mapping)):
        raise InputError(
            f"ignore is {ignore!r}, a value of a label map, but truth holds masks: give the name of the mask of void "
            "pixels, such as ignore='void' with truth={'dog': mask, 'void': mask}."
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
    left_out = None if void is None else _fit(_mask(void, schema.VOID), schema.VOID, size, resize)
    if left_out is not None and left_out.all():
        raise InputError("every pixel is void, so there is nothing to compare with: give another ignore=, or no truth.")
    absent = [name for name in concepts if name not in masks]
    if absent:
        warn(
            f"no mask for {', '.join(map(repr, absent))}: taken to be nowhere in the picture.",
            stacklevel=3,
        )
    if left_out is None or not left_out.any():
        return Regions(read, None)
    return Regions(read & ~left_out, left_out)


def _of_dataset(truth: xr.Dataset) -> tuple[dict[str, Any], xr.DataArray | None]:
    if schema.TRUTH not in truth:
        raise InputError("truth is a dataset without a truth; expected one that ds.wb.with_truth(...) gave.")
    return _split(truth[schema.TRUTH].drop_attrs()), truth.get(schema.VOID)


def _named_void(masks: dict[str, Any], name: str, concepts: Sequence[str]) -> Any:
    """The mask of that name, taken out of the masks of concepts."""
    if name in concepts:
        raise InputError(f"ignore is {name!r}, which is one of the concepts: give the name of a mask of void pixels.")
    if name not in masks:
        raise InputError(
            f"ignore is {name!r}, but truth holds {', '.join(map(repr, masks))}: give the name of one of its masks, or "
            "a value of a label map, such as 255."
        )
    return masks.pop(name)


def _split(truth: xr.DataArray) -> dict[str, Any]:
    expected = {schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X}
    if set(truth.dims) != expected or schema.CONCEPT not in truth.coords:
        raise InputError(
            f"truth has the dimensions {', '.join(map(str, truth.dims))}; expected concept, pixel_y and pixel_x, with "
            "the concepts' names as a coordinate."
        )
    if truth.attrs.get(_BESIDE) == schema.VOID:
        raise InputError("this truth has void pixels, which are in a variable beside it: give the dataset, truth=ds.")
    ordered = truth.transpose(schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X)
    return dict(zip(map(str, ordered[schema.CONCEPT].to_numpy()), ordered.to_numpy(), strict=True))


def _from_labels(source: Any, labels: Values, ignore: Any) -> tuple[dict[str, Any], NDArray[np.bool_] | None]:
    label_map = _labels_of(source, "the label map")
    if label_map.ndim != 2 or label_map.dtype.kind not in "iub":
        raise InputError(
            f"the label map is {label_map.dtype} with shape {label_map.shape}; expected whole numbers (height, width)."
        )
    if not isinstance(labels, Mapping):
        raise InputError(f"labels is {labels!r}; expected what the label map calls each concept, such as {{'dog': 1}}.")
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
    used = np.concatenate([np.atleast_1d(np.asarray(values)) for values in labels.values()]) if labels else held[:0]
    if ignore is None:
        if _USUAL_VOID in held and _USUAL_VOID not in used and len(held) > 2:
            warn(
                f"the label map holds {_USUAL_VOID}, which often marks void pixels: they count as none of the "
                f"concepts; to leave them out pass ignore={_USUAL_VOID}, to say what they are name them in labels.",
                stacklevel=4,
            )
        return masks, None
    void = np.atleast_1d(np.asarray(ignore))
    if void.dtype.kind not in "iu" or not void.size:
        raise InputError(
            f"ignore is {ignore!r}; expected a whole number such as {_USUAL_VOID}, a list of them, or the name of a "
            "mask."
        )
    if (both := void[np.isin(void, used)]).size:
        raise InputError(
            f"{both[0]} is in ignore and in labels: a void pixel is none of the concepts. Take it out of one."
        )
    return masks, np.isin(label_map, void)


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
