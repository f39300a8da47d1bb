"""Where attention goes: to the concepts themselves, to a few patches, to padding.

The stored ``cross`` scores are the logits of concepts over patches; ``lse_image`` and ``lse_concept`` are the
log-sum-exps of a concept's logits over all patches and over all concepts. A concept's attention is one softmax over
both.
"""

from __future__ import annotations

import math
from typing import Final, Literal, Unpack

import numpy as np
import xarray as xr

from workbench import schema
from workbench.analysis import selection
from workbench.analysis.normalising import normalised
from workbench.analysis.selection import Labels, Numbers, ScoreChoice
from workbench.interventions import AttendMode, DropConcept, Intervention, RandomDirection, read
from workbench.schema import PADDING, TEXT, TEXT_MASS, InputError, SelectionError, warn

CROSS: Final = "cross"
_CONTROL: Final = "control"
"""In place of a mode where a random direction took the place of attention."""
_WHAT: Final = {"none": "nothing", "concepts": "concepts only", _CONTROL: "what a random direction made"}
LSE_IMAGE, LSE_CONCEPT = schema.LSE


def concept_share(
    ds: xr.Dataset,
    *,
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
    concepts: Labels = None,
) -> xr.DataArray:
    """Share of a concept's attention that goes to concepts, itself included, instead of patches.

    Parameters
    ----------
    ds
        A dataset captured with ``lse=True``.
    layers, timesteps, heads, samples, concepts
        What to take (see :mod:`workbench.analysis.selection`); None takes all.

    Returns
    -------
    (sample, timestep, layer, head, concept) float32, 0 to 1; NaN where nothing was captured. It is 0 where concepts
    attended to the image only and 1 where they attended to concepts only, in the whole run (``attend=``) or in some
    layers and timesteps (:class:`workbench.AttendMode`). Where they attended to nothing, or to what a random direction
    made of it, it is undefined: NaN, with a warning. ``attrs["attend"]`` is what they attended to, ``"mixed"`` where
    that differs.

    Raises
    ------
    SelectionError
        If the dataset has no log-sum-exps, or something chosen is not in it.
    InputError
        If concepts attended to nothing in all that is chosen.
    """
    ds = normalised(ds)
    _check_captured(ds, schema.LSE, "lse=True")
    image, concept = (
        selection.take_concepts(
            selection.take(ds[name], layers=layers, timesteps=timesteps, heads=heads, samples=samples), concepts
        )
        .astype(np.float64)
        .load()
        for name in (LSE_IMAGE, LSE_CONCEPT)
    )
    modes = _attended(ds, image)
    _tell_undefined(modes, modes.isin(["none", _CONTROL]), "the share of concepts")
    # exp(concept) / (exp(concept) + exp(image)), written so that nothing overflows.
    both: xr.DataArray = 1 / (1 + xr.apply_ufunc(np.exp, (image - concept).clip(max=700)))
    share = both.where(modes == "both", (modes == "concepts").astype(np.float64))
    share = share.where((image + concept).notnull() & ~modes.isin(["none", _CONTROL]))
    share = share.transpose(*schema.LSE_DIMS).astype(np.float32)
    held = np.unique(modes)
    return share.rename("concept_share").assign_attrs(attend=str(held[0]) if len(held) == 1 else "mixed")


def _attended(ds: xr.Dataset, like: xr.DataArray) -> xr.DataArray:
    """What concepts attended to, (timestep, layer), at those of a choice: a mode, or :data:`_CONTROL`."""
    modes = xr.DataArray(
        np.full((like.sizes[schema.TIMESTEP], like.sizes[schema.LAYER]), ds.attrs.get("attend", "both"), dtype="<U8"),
        {dim: like[dim].to_numpy() for dim in (schema.TIMESTEP, schema.LAYER)},
        (schema.TIMESTEP, schema.LAYER),
    )
    edits = read(ds.attrs.get("interventions", ()))
    named: list[tuple[Intervention, str]] = [(edit, edit.mode) for edit in edits if isinstance(edit, AttendMode)]
    named += [
        (edit, _CONTROL)
        for edit in edits
        if isinstance(edit, RandomDirection) and isinstance(edit.of, AttendMode | DropConcept)
    ]
    for edit, mode in named:
        levels = [edit.acts_at(float(timestep)) for timestep in modes[schema.TIMESTEP]]
        modes.values[np.outer(levels, [edit.acts_in(int(layer)) for layer in modes[schema.LAYER]])] = mode
    return modes


def _tell_undefined(modes: xr.DataArray, undefined: xr.DataArray, what: str) -> None:
    """Warn of layers and timesteps without a figure; refuse where there is no other."""
    if not undefined.any():
        return
    if (modes == "none").all():
        raise InputError(
            "concepts attended to nothing in this run (attend='none'), or in all that is chosen: capture with another "
            "attend=, or choose others."
        )
    layers, timesteps = (
        modes[dim].to_numpy()[undefined.any(other).to_numpy()].tolist()
        for dim, other in ((schema.LAYER, schema.TIMESTEP), (schema.TIMESTEP, schema.LAYER))
    )
    held = sorted({str(mode) for mode in modes.to_numpy()[undefined.to_numpy()]})
    warn(
        f"concepts attended to {' or '.join(_WHAT[mode] for mode in held)} in layers {layers} at timesteps "
        f"{timesteps}: {what} is undefined there, and NaN.",
        stacklevel=4,
    )


def self_attention(ds: xr.Dataset, **choice: Unpack[ScoreChoice]) -> xr.DataArray:
    """The former name of :func:`concept_share`, with a warning."""
    warn("self_attention is called concept_share now; the old name will go with the next version.", stacklevel=3)
    return concept_share(ds, **choice)


def sinks(
    ds: xr.Dataset,
    top: int = 1,
    *,
    of: Literal["image", "all"] = "image",
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
    concepts: Labels = None,
) -> xr.Dataset:
    """How much of the concepts' attention a few patches take, head by head.

    Parameters
    ----------
    ds
        A dataset captured with the space ``cross``.
    top
        How many patches: those that take most.
    of
        ``"image"``: shares of the attention to patches. ``"all"``: shares of all attention, to concepts too; this needs
        a dataset captured with ``lse=True``.
    layers, timesteps, heads, samples, concepts
        What to take (see :mod:`workbench.analysis.selection`); None takes all.

    Returns
    -------
    NaN, with a warning, where concepts attended to no patch (of all attention, patches then take 0) or to nothing. A
    dataset of ``top_share`` (sample, timestep, layer, head, concept), the share of the ``top`` patches of each
    concept; ``peak_ratio``, the strongest patch's share by that of an even spread; and, without ``concept``,
    ``common_share``: the share of the ``top`` patches that take most from all concepts together, averaged over
    concepts. A high ``top_share`` may be a small object; a high ``common_share`` is a sink, the same patches whatever
    the concept. Shares are good to about 0.1 %; to 1 % in runs of earlier capture versions, whose scores are float16.

    Raises
    ------
    SelectionError
        If what is needed was not captured, or something chosen is not in the dataset.
    InputError
        If ``top`` is not a number of patches, or ``of`` is neither of the two.
    """
    if of not in ("image", "all"):
        raise InputError(f"of is {of!r}; expected 'image' or 'all'.")
    ds = normalised(ds)
    _check_captured(ds, [CROSS], f"spaces=({CROSS!r}, ...)")
    patches = math.prod(ds.sizes[dim] for dim in schema.spatial(ds[CROSS].dims))
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= patches:
        raise InputError(f"top is {top!r}; expected a number of patches, 1 to {patches}.")
    _check_plane(ds, patches, of)
    # The softmax over patches does not depend on which other concepts are taken.
    whole = selection.take(ds[CROSS], layers=layers, timesteps=timesteps, heads=heads, samples=samples)
    taken = selection.take_concepts(whole, concepts)
    image_share: float | xr.DataArray = 1.0
    if of == "all":
        image_share = 1 - concept_share(
            ds, layers=layers, timesteps=timesteps, heads=heads, samples=samples, concepts=concepts
        )
    parts = [_concentration(taken.isel({schema.TIMESTEP: [step]}), top) for step in range(taken.sizes[schema.TIMESTEP])]
    found = xr.concat(parts, schema.TIMESTEP)
    found["peak_ratio"] = found["peak_ratio"] * patches
    if of == "all":
        # Shares of one concept shrink with what it spends on concepts; the common patches stay the same.
        found["top_share"] = found["top_share"] * image_share
        found["peak_ratio"] = found["peak_ratio"] * image_share
        found["common_by_concept"] = found["common_by_concept"] * image_share
    else:
        modes = _attended(ds, taken)
        without = modes.isin(["none", "concepts", _CONTROL])
        _tell_undefined(modes, without, "a share of the attention to patches")
        found = found.where(~without)
    found["common_share"] = found["common_by_concept"].mean(schema.CONCEPT, skipna=False)
    found = found.drop_vars("common_by_concept").astype(np.float32)
    dims = (*schema.PIECE_DIMS, schema.HEAD, schema.CONCEPT)
    return found.transpose(*dims).assign_attrs(top=top, of=of, patches=patches)


def text_sinks(
    ds: xr.Dataset,
    top: int = 1,
    *,
    layers: Numbers = None,
    timesteps: Numbers = None,
    heads: Numbers = None,
    samples: Numbers = None,
) -> xr.Dataset:
    """How much of the image's attention goes to text tokens that are only padding, and to the few strongest.

    Parameters
    ----------
    ds
        A dataset with ``text_mass`` (sample, timestep, layer, head, text): the attention of patches to each token of
        the text sequence, averaged over patches; and the coordinate ``padding`` (text), true for tokens that are
        padding.
    top
        How many tokens: those that take most.
    layers, timesteps, heads, samples
        What to take (see :mod:`workbench.analysis.selection`); None takes all.

    Returns
    -------
    A dataset over (sample, timestep, layer, head): ``text_share``, the share of the image's attention that goes to
    text; ``padding_share``, what of it goes to padding; ``top_share``, what of it goes to the ``top`` tokens;
    ``peak_ratio``, the strongest token's mass by the mean of all tokens; ``top_token``, its position;
    ``top_is_padding``, 0 or 1. NaN where nothing was captured or no attention goes to text.

    Raises
    ------
    SelectionError
        If ``text_mass`` was not captured, or something chosen is not in the dataset.
    InputError
        If ``top`` is not a number of tokens.
    """
    ds = normalised(ds)
    _check_captured(ds, [TEXT_MASS], "text_mass=True")
    mass = selection.take(ds[TEXT_MASS], layers=layers, timesteps=timesteps, heads=heads, samples=samples)
    tokens = mass.sizes[TEXT]
    if tokens != (whole := ds.attrs.get("text_length", tokens)):
        raise InputError(
            f"shares are of the attention to all text, but this dataset holds {tokens} of {whole} tokens: leave the "
            "dimension 'text' whole."
        )
    if isinstance(top, bool) or not isinstance(top, int) or not 1 <= top <= tokens:
        raise InputError(f"top is {top!r}; expected a number of text tokens, 1 to {tokens}.")
    mass = mass.astype(np.float64).load()
    padding = ds[PADDING].astype(bool)
    total = mass.sum(TEXT, skipna=False)
    shares = (mass / total.where(total > 0)).transpose(..., TEXT)
    known = total.notnull() & (total > 0)
    strongest = mass.fillna(0).argmax(TEXT)
    ordered = xr.DataArray(np.sort(shares.to_numpy(), axis=-1)[..., -top:].sum(-1), dims=shares.dims[:-1])
    return xr.Dataset(
        {
            "text_share": total,
            "padding_share": shares.where(padding, 0).sum(TEXT, skipna=False).where(known),
            "top_share": ordered,
            "peak_ratio": shares.max(TEXT, skipna=False) * tokens,
            "top_token": ds[TEXT].isel({TEXT: strongest}).drop_vars([TEXT, PADDING]).where(known),
            "top_is_padding": padding.isel({TEXT: strongest}).drop_vars([TEXT, PADDING]).astype(float).where(known),
        },
        attrs={"top": top, "tokens": tokens},
    )


def _concentration(logits: xr.DataArray, top: int) -> xr.Dataset:
    """Shares of the strongest patches, one's own and those common to all concepts, of attention to patches."""
    plane = schema.spatial(logits.dims)
    dims = [dim for dim in logits.dims if dim not in plane]
    values = logits.transpose(*dims, *plane).to_numpy().astype(np.float32)
    flat = values.reshape(*values.shape[: len(dims)], -1)
    powers = np.exp(flat - flat.max(-1, keepdims=True))
    shares = powers / powers.sum(-1, keepdims=True)
    strongest = np.sort(shares, axis=-1)[..., -top:]
    together = shares.mean(dims.index(schema.CONCEPT), keepdims=True)
    common = np.broadcast_to(np.argsort(together, axis=-1)[..., -top:], (*shares.shape[:-1], top))
    return xr.Dataset(
        {
            "top_share": (dims, strongest.sum(-1)),
            "peak_ratio": (dims, strongest[..., -1]),
            "common_by_concept": (dims, np.take_along_axis(shares, common, -1).sum(-1)),
        },
        coords={name: coord for name, coord in logits.coords.items() if not set(plane) & set(coord.dims)},
    )


def _check_plane(ds: xr.Dataset, patches: int, of: str) -> None:
    """Refuse a part of the patches where shares are of the attention to all of them."""
    size, side = ds.attrs.get("size"), ds.attrs.get("patch")
    frames = ds.sizes.get(schema.FRAME, 1)
    whole = frames * math.prod(int(length) // int(side) for length in size) if size and side else patches
    if of == "all" and patches != whole:
        raise InputError(
            f"of='all' measures shares of all attention, but this dataset holds {patches} of {whole} patches: take the "
            "whole picture, or of='image' for shares among the patches that are there."
        )


def _check_captured(ds: xr.Dataset, names: tuple[str, ...] | list[str], option: str) -> None:
    absent = [name for name in names if name not in ds.data_vars]
    if absent:
        raise SelectionError(
            f"this needs {', '.join(absent)}, which this dataset does not hold; capture again with {option}."
        )
