"""What the browser is told about a dataset: its coordinates as plain values, and its picture as a file."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from workbench import schema
from workbench.interventions import edit_of
from workbench.numerics.measures import OVERVIEW
from workbench.widgets.shared.refusals import drawable, remarks
from workbench.widgets.shared.spaces import held_spaces, names_of

_LONGEST: Final = 1024
"""Pictures are reduced to this many pixels a side."""
_LOSSLESS: Final = 256
"""Pictures up to this many pixels a side are sent as PNG, larger ones as JPEG."""
_QUALITY: Final = 92
_LONGEST_PROMPT: Final = 300


def describe(ds: xr.Dataset) -> dict[str, Any]:
    """Coordinates and names of a dataset, as values that JSON can hold.

    Parameters
    ----------
    ds
        A captured dataset without a :func:`workbench.widgets.shared.refusals.problem`.
    """
    layers = _numbers(ds, schema.LAYER)
    timesteps = _numbers(ds, schema.TIMESTEP)
    samples = _numbers(ds, schema.SAMPLE)
    truth = schema.TRUTH in ds
    return {
        "model": str(ds.attrs.get("model", "")),
        "edit": edit_of(ds.attrs),
        "prompt": _shortened(ds.attrs.get("prompt", "")),
        "spaces": {space: {"names": names_of(ds, space), "heads": space in ds.data_vars} for space in held_spaces(ds)},
        "layers": layers,
        "blocks": [str(block) for block in ds[schema.BLOCK].to_numpy()] if schema.BLOCK in ds.coords else [],
        "timesteps": timesteps,
        "sigmas": _numbers(ds, schema.SIGMA) or [timestep / 1000 for timestep in timesteps],
        "samples": samples,
        "seeds": _numbers(ds, schema.SEED),
        "heads": _numbers(ds, schema.HEAD),
        "frames": _numbers(ds, schema.FRAME),
        "grid": [ds.sizes[schema.Y], ds.sizes[schema.X]],
        "size": [ds.sizes.get(schema.PIXEL_Y), ds.sizes.get(schema.PIXEL_X)],
        "missing": _missing(ds, samples, timesteps, layers),
        "picture": drawable(ds),
        "pictures": [
            dim for dim in (schema.SAMPLE, schema.FRAME) if schema.IMAGE in ds and dim in ds[schema.IMAGE].dims
        ],
        "truth": truth,
        "statistics": [name for name in OVERVIEW if truth or OVERVIEW[name].against != "truth"],
        "remarks": remarks(ds),
    }


def picture(ds: xr.Dataset, sample: int | None = None, frame: int | None = None) -> tuple[str, bytes]:
    """The picture under the maps.

    Parameters
    ----------
    ds
        A captured dataset with a drawable image.
    sample, frame
        Labels; without one, the first one's picture is taken.

    Returns
    -------
    The media type and the file.
    """
    from PIL import Image

    image = ds[schema.IMAGE]
    for dim, label in ((schema.SAMPLE, sample), (schema.FRAME, frame)):
        if dim in image.dims:
            image = image.isel({dim: 0}) if label is None else image.sel({dim: label})
    pixels = _on_patches(ds, image.transpose(schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL)).to_numpy()
    drawn = Image.fromarray(np.ascontiguousarray(pixels))
    drawn.thumbnail((_LONGEST, _LONGEST))
    buffer = io.BytesIO()
    if max(drawn.size) <= _LOSSLESS:
        drawn.save(buffer, format="PNG")
        return "image/png", buffer.getvalue()
    drawn.save(buffer, format="JPEG", quality=_QUALITY)
    return "image/jpeg", buffer.getvalue()


def _on_patches(ds: xr.Dataset, image: xr.DataArray) -> xr.DataArray:
    """The part of the image that the patches cover: all of it unless patches were cut away."""
    for dim, pixel_dim in ((schema.Y, schema.PIXEL_Y), (schema.X, schema.PIXEL_X)):
        centres = ds[dim].to_numpy()
        if pixel_dim not in ds.coords or len(centres) < 2:
            continue
        half = (centres[1] - centres[0]) / 2
        pixels = ds[pixel_dim].to_numpy()
        inside = (pixels > centres[0] - half) & (pixels < centres[-1] + half)
        image = image.isel({pixel_dim: inside}) if inside.any() else image
    return image


def _numbers(ds: xr.Dataset, name: str) -> list[Any]:
    if name not in ds.coords:
        return []
    values: NDArray[Any] = np.atleast_1d(ds[name].to_numpy())
    return [value if np.isfinite(value) else None for value in values.tolist()]


def _missing(ds: xr.Dataset, samples: list[Any], timesteps: list[Any], layers: list[Any]) -> list[list[int]]:
    """Positions (sample, timestep, layer) of the pieces that do not exist."""
    found = []
    for piece in ds.attrs.get("missing", ()):
        held = (samples, timesteps, layers)
        at = [
            values.index(piece[dim])
            for values, dim in zip(held, schema.PIECE_DIMS, strict=True)
            if piece[dim] in values
        ]
        if len(at) == len(held):
            found.append(at)
    return found


def _shortened(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else "; ".join(map(str, prompt))
    return text if len(text) <= _LONGEST_PROMPT else text[:_LONGEST_PROMPT] + "…"
