"""Inputs of a pipeline's own call that ``generate`` has no argument for: read, checked, hashed, described."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from workbench.models.call_inputs import ARGUMENTS, EMBEDDINGS, IMAGES, KEPT, MASKS, STRENGTH
from workbench.models.known import around_the_same
from workbench.recording.pictures import Pixels, image_hash, read_image
from workbench.schema import InputError, noted, warn

if TYPE_CHECKING:
    from workbench.models.pipeline import PipelineAdapter
    from workbench.recording.request import Request

_ALIKE: Final = 0.02
"""How far aspect ratios may be apart, relatively: one pixel of a side of 50."""


@dataclass(frozen=True)
class ExtraInputs:
    """Inputs of a pipeline's own call.

    Attributes
    ----------
    values : dict of str to Any
        As the pipeline takes them: images as PIL images.
    described : dict of str to Any
        The same for attributes and key: images and tensors by shape and content hash.
    shape : tuple of int or None
        Height and width in pixels of the first image.
    unread : dict of str to str
        What is wrong with values that are no input's of any pipeline, once the pipeline has inputs of these names.
    """

    values: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)
    shape: tuple[int, int] | None = None
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def replaces_prompt(self) -> bool:
        """Whether embeddings take the place of the prompt."""
        return any(name in self.values for name in EMBEDDINGS)


def read_extra(inputs: Mapping[str, Any] | None) -> ExtraInputs:
    """Read inputs, as far as they can be without the model.

    Parameters
    ----------
    inputs
        By name: images as :func:`.pictures.read_image` takes them (or a list of them), floating-point tensors, finite
        numbers, True or False, or lists of those.

    Raises
    ------
    InputError
        If an image cannot be read, a mask is of another shape than its image, or an embedding is no such tensor.
    """
    if inputs is None:
        return ExtraInputs()
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"inputs is a {type(inputs).__name__}; expected a mapping from names of the pipeline's own inputs to "
            'values, such as {"image": "photo.png", "strength": 0.6}.'
        )
    found = ExtraInputs()
    shape = None
    for name, value in inputs.items():
        if not isinstance(name, str):
            raise InputError(f"inputs has the name {name!r}; expected strings.")
        if name in IMAGES:
            pixels = [_image(name, one) for one in (value if isinstance(value, list | tuple) else [value])]
            if not pixels:
                raise InputError(f"inputs has no image in {name!r}: give one, or leave it out.")
            if name not in MASKS:
                shape = shape or (pixels[0].shape[0], pixels[0].shape[1])
            images, described = [Image.fromarray(one) for one in pixels], [_described_image(one) for one in pixels]
            several = isinstance(value, list | tuple)
            found.values[name] = images if several else images[0]
            found.described[name] = described if several else described[0]
        elif name in EMBEDDINGS:
            found.values[name], found.described[name] = _tensor(name, value)
        else:
            try:
                found.values[name] = found.described[name] = _number(name, value)
            except InputError as error:
                found.unread[name] = str(error)
    _check_masks(found.values)
    return replace(found, shape=shape)


def with_extra(adapter: PipelineAdapter, extra: ExtraInputs) -> tuple[PipelineAdapter, ExtraInputs]:
    """The adapter of calls with these inputs, and the inputs with the pipeline's own numbers for those left out.

    A later version of the pipeline may have others: what they are is part of a run.

    Raises
    ------
    InputError
        If the pipeline does not have one, ``generate`` sets it itself, it is of another kind, or one that is needed is
        not there.
    """
    pipeline = type(adapter.pipe).__name__
    for name in (*extra.values, *extra.unread):
        if name not in adapter.taken:
            raise InputError(f"inputs holds {name!r}, {_why_not(adapter, name)}. {_taken(adapter, name)}")
    for problem in extra.unread.values():
        raise InputError(problem)
    if lacking := [name for name in adapter.needs if name not in extra.values]:
        others = [name for name in adapter.taken if name not in (*lacking, *EMBEDDINGS)]
        given = ", ".join(f'"{name}": …' for name in lacking)
        more = f"; it also takes {', '.join(others)}" if others else ""
        raise InputError(f"{pipeline} makes no picture without {' and '.join(lacking)}: give inputs={{{given}}}{more}.")
    for name, value in extra.values.items():
        if isinstance(value, list) and name in IMAGES and not adapter.several:
            raise InputError(f"inputs has {len(value)} images in {name!r}, and {pipeline} takes one: give one image.")
    if (strength := extra.values.get(STRENGTH)) is not None and not (_is_real(strength) and 0 < strength <= 1):
        raise InputError(f"strength is {strength!r}; expected a number above 0, up to 1.")
    _check_embeddings(adapter, extra.values)
    adapter.refuse(extra.values)
    known = _known(type(adapter.pipe))
    usual = {name: known[name].default for name in adapter.taken if name in known}
    own = {name: value for name, value in usual.items() if isinstance(value, bool | int | float)}
    whole = replace(extra, values=own | extra.values, described=own | extra.described)
    return adapter.with_inputs(whole.values), whole


def check_replaced(extra: ExtraInputs, request: Request) -> None:
    """Refuse what needs a prompt in a run whose text is given as embeddings.

    Raises
    ------
    InputError
        If there is a prompt, its tokens are asked for, or an intervention takes from a run with another one.
    """
    if not extra.replaces_prompt:
        return
    if request.prompt.strip():
        raise InputError(
            f"prompt is {request.prompt!r}, and inputs has prompt_embeds, which take its place: give an empty prompt, "
            "or no embeddings."
        )
    prompted = [source for edit in request.interventions for source in edit.sources() if source.prompt is not None]
    if prompted:
        raise InputError(
            f"{prompted[0]} names a prompt, and inputs has prompt_embeds, which take the place of every prompt: leave "
            "one of them out."
        )


def _why_not(adapter: PipelineAdapter, name: str) -> str:
    pipeline = type(adapter.pipe).__name__
    if name not in _known(type(adapter.pipe)) or name == "self":
        return f"which {pipeline} does not take"
    if name in ARGUMENTS:
        return f"which generate sets itself: give {ARGUMENTS[name]}"
    return f"which generate does not pass on to {pipeline}: {KEPT.get(name, 'runs with it were never tried')}"


def _taken(adapter: PipelineAdapter, name: str) -> str:
    import diffusers

    from workbench.models.family import family_of

    taken = ", ".join(adapter.taken)
    told = f"Of its own it takes {taken}." if taken else "It takes none of its own: leave inputs out."
    if name not in IMAGES or name in _known(type(adapter.pipe)):
        return told
    family = family_of(adapter.pipe)
    names = around_the_same(family.pipelines[0]) if family else ()
    others = [one for one in names if name in _known(getattr(diffusers, one, None))]
    if not others:
        return told
    return (
        f"{told} Around the same transformer, {', '.join(others)} can take it: "
        f"load_model(…, pipeline={others[0]!r}), or diffusers.{others[0]}.from_pipe(pipe)."
    )


def _known(pipeline: Any) -> Mapping[str, Any]:
    """Inputs of the call of a pipeline class."""
    return {} if pipeline is None else inspect.signature(pipeline.__call__).parameters


def _image(name: str, value: Any) -> Pixels:
    if name in MASKS and isinstance(value, np.ndarray) and value.dtype.kind == "b":
        value = value * np.uint8(255)
    try:
        with noted() as notes:
            pixels = read_image(value)
    except InputError as error:
        raise InputError(f"inputs has no image in {name!r}: {error}") from error
    except OSError as error:
        raise InputError(f"inputs has no image in {name!r}: {error}; check the path.") from error
    for note in notes:
        if name not in MASKS or not note.endswith("converted to RGB."):  # masks are grey
            warn(f"inputs, {name!r}: {note}", stacklevel=4)
    return pixels


def _check_masks(values: Mapping[str, Any]) -> None:
    """Refuse a mask whose image has other sides: both are brought to the picture's, and would no longer fit."""
    for name, of in (("mask_image", "image"), ("control_mask", "control_image")):
        mask, image = values.get(name), values.get(of)
        if not isinstance(mask, Image.Image) or not isinstance(image, Image.Image):
            continue
        if abs(mask.height / image.height / (mask.width / image.width) - 1) > _ALIKE:
            raise InputError(
                f"{name} has {mask.height} x {mask.width} pixels, and {of} {image.height} x {image.width}: give a mask "
                "of the same aspect ratio."
            )


def _described_image(pixels: Pixels) -> dict[str, Any]:
    return {"image": image_hash(pixels), "size": list(pixels.shape[:2])}


def _tensor(name: str, value: Any) -> tuple[Any, dict[str, Any]]:
    import torch

    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        raise InputError(f"inputs has a {type(value).__name__} in {name!r}; expected a floating-point tensor.")
    if not bool(torch.isfinite(value).all()):
        raise InputError(f"inputs has NaN or infinite values in {name!r}.")
    kept = value.detach().clone()
    raw = kept.cpu().contiguous().view(torch.uint8).numpy() if kept.numel() else np.zeros(0, np.uint8)
    dtype = str(kept.dtype).removeprefix("torch.")
    digest = hashlib.sha256(f"{dtype} {tuple(kept.shape)}".encode())
    digest.update(raw.tobytes())
    return kept, {"tensor": digest.hexdigest()[:20], "dtype": dtype, "shape": list(kept.shape)}


def _number(name: str, value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_number(name, item) for item in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if _is_real(value):
        return float(value)
    kind = f"{value!r}" if isinstance(value, str | float) else f"a {type(value).__name__}"
    raise InputError(
        f"inputs has {kind} in {name!r}; expected a finite number, True or False, or a list of them (images go into "
        f"{', '.join(sorted(IMAGES))})."
    )


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _check_embeddings(adapter: PipelineAdapter, values: Mapping[str, Any]) -> None:
    """Both embeddings or none, as wide as the transformer reads them."""
    inner = adapter.inner
    if not any(name in values for name in EMBEDDINGS):
        return
    if lacking := [name for name in EMBEDDINGS if name not in values]:
        raise InputError(
            f"inputs has embeddings of a text without {lacking[0]}: give both, {' and '.join(EMBEDDINGS)}."
        )
    text, pooled = (tuple(values[name].shape) for name in EMBEDDINGS)
    if len(text) != 3 or text[0] != 1 or text[1] == 0 or text[2] != inner.embedding_dim:
        raise InputError(
            f"prompt_embeds has shape {text}; expected (1, token, {inner.embedding_dim}), the text of one picture."
        )
    if pooled != (1, inner.pooled_dim):
        raise InputError(f"pooled_prompt_embeds has shape {pooled}; expected (1, {inner.pooled_dim}).")
