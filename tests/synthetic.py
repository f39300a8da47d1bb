"""Made-up datasets that follow the contract, for tests that need no model."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import xarray as xr

from workbench import schema


def dataset(
    *,
    concepts: Sequence[str] = ("dog", "grass", "sky"),
    samples: int = 1,
    timesteps: Sequence[float] = (750.0, 500.0, 250.0),
    dual: int = 3,
    single: int = 2,
    layers: Sequence[int] | None = None,
    heads: int = 2,
    grid: tuple[int, int] = (4, 6),
    patch: int = 8,
    spaces: Sequence[str] = ("output", "cross"),
    tokens: Sequence[str] = ("a", "dog", "on", "a", "hill"),
    kind: str = "capture",
    default_layers: Sequence[int] = (1, 2),
    missing: Sequence[tuple[int, float, int]] = (),
    truth: bool = False,
    seed: int = 0,
    signal: float = 0.0,
) -> xr.Dataset:
    """A dataset as ``capture`` or ``generate`` would return it, in memory.

    Parameters
    ----------
    layers
        The captured layers among ``dual + single`` blocks; all of them by default.
    missing
        Pieces (sample, timestep, layer) that are NaN and listed as missing.
    truth
        Whether to add masks: the picture is cut into one vertical strip per concept.
    signal
        Added to a concept's scores inside its strip, shared by the heads; 0 leaves pure noise.
    """
    rng = np.random.default_rng(seed)
    captured = list(range(dual + single)) if layers is None else list(layers)
    height, width = grid[0] * patch, grid[1] * patch
    labels = np.broadcast_to(np.arange(width) * len(concepts) // width, (height, width))
    coarse = labels[patch // 2 :: patch, patch // 2 :: patch]
    coords = _coords(concepts, samples, timesteps, captured, dual, heads, grid, patch)
    if kind == "generate" and schema.PROMPT not in spaces:
        coords[schema.PROMPT] = (schema.SAMPLE, [f"picture {index}" for index in range(samples)])
    if schema.PROMPT in spaces:
        coords[schema.TOKEN] = list(tokens)
        coords[schema.POSITION] = (schema.TOKEN, np.arange(len(tokens)))

    variables: dict[str, tuple[tuple[str, ...], np.ndarray]] = {}
    for space in spaces:
        names = tokens if space == schema.PROMPT else concepts
        shape = (samples, len(timesteps), len(captured), heads, len(names), *grid)
        exact = rng.normal(size=shape).astype(np.float32)
        if space != schema.PROMPT:
            exact += signal / heads * (coarse == np.arange(len(concepts))[:, None, None])
        for sample, timestep, layer in missing:
            exact[sample, list(timesteps).index(timestep), captured.index(layer)] = np.nan
        variables[space] = (schema.score_dims(space), exact.astype(np.float16))
        variables[schema.total(space)] = (schema.total_dims(space), exact.sum(3))
    picture = np.stack([labels * 80, 255 - labels * 80, np.full_like(labels, 128)], -1) % 256
    picture_dims = (schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL)
    if kind == "generate":
        picture = np.stack([np.roll(picture, 5 * index, axis=1) for index in range(samples)])
        picture_dims = (schema.SAMPLE, *picture_dims)
    variables[schema.IMAGE] = (picture_dims, picture.astype(np.uint8))
    if truth:
        masks = labels == np.arange(len(concepts))[:, None, None]
        variables[schema.TRUTH] = ((schema.CONCEPT, schema.PIXEL_Y, schema.PIXEL_X), masks)

    attrs = {
        "schema_version": schema.SCHEMA_VERSION,
        "capture_version": schema.CAPTURE_VERSION,
        "kind": kind,
        "model": "made-up",
        "model_revision": "",
        "prompt": "",
        "pool": "first",
        "attend": "both",
        "spaces": list(spaces),
        "seeds": list(range(samples)),
        "text_length": 16,
        "image_hash": "",
        "size": [height, width],
        "patch": patch,
        "default_layers": list(default_layers),
        "head_count": heads,
        "versions": json.dumps({"workbench": "0"}),
        "created": "2025-01-01T00:00:00+00:00",
        "missing": [dict(zip(schema.PIECE_DIMS, piece, strict=True)) for piece in missing],
    }
    if kind == "generate":
        attrs |= {"steps": len(timesteps), "guidance": 3.5}
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def video() -> xr.Dataset:
    """Two frames of a dataset, the second with other scores."""
    first, second = dataset(seed=1, truth=True), dataset(seed=2, truth=True)
    names = ["output", "output_total", "cross", "cross_total"]
    frames = xr.DataArray([0, 4], dims=schema.FRAME, name=schema.FRAME)
    both = {name: xr.concat([first[name], second[name]], frames) for name in names}
    return first.assign({name: scores.transpose(..., *schema.spatial(scores.dims)) for name, scores in both.items()})


def many(singles: dict[str, xr.Dataset]) -> xr.Dataset:
    """Datasets of one image each, by their names, as ``capture_many`` would return them."""
    words = list(dict.fromkeys(word for one in singles.values() for word in one[schema.CONCEPT].values.tolist()))
    alike = len({tuple(one[schema.CONCEPT].values.tolist()) for one in singles.values()}) == 1
    order = np.array(
        [
            [held.index(word) if word in held else -1 for word in words]
            for held in (one[schema.CONCEPT].values.tolist() for one in singles.values())
        ]
    )
    wide = []
    for one in singles.values():
        one = one.reindex({schema.CONCEPT: words}) if not alike else one
        masks = {schema.TRUTH: one[schema.TRUTH].fillna(0).astype(bool)} if schema.TRUTH in one else {}
        wide.append(one.assign(masks))
    joined = xr.concat(wide, schema.ITEM, coords="minimal", compat="override", combine_attrs="override")
    coords = {
        schema.ITEM: np.arange(len(singles)),
        schema.NAME: (schema.ITEM, list(singles)),
        schema.RUN: (schema.ITEM, [f"run-of-{name}" for name in singles]),
        schema.IMAGE_HASH: (schema.ITEM, [f"hash-of-{name}" for name in singles]),
    }
    if not alike:
        coords[schema.ASKED] = ((schema.ITEM, schema.CONCEPT), order >= 0)
        coords[schema.ORDER] = ((schema.ITEM, schema.CONCEPT), order)
    prompts = [one.attrs[schema.PROMPT] for one in singles.values()]
    if len(set(prompts)) > 1:
        coords[schema.PROMPT] = (schema.ITEM, prompts)
        joined.attrs[schema.PROMPT] = ""
    return joined.assign_coords(coords).assign_attrs(key="many")


def _coords(
    concepts: Sequence[str],
    samples: int,
    timesteps: Sequence[float],
    captured: Sequence[int],
    dual: int,
    heads: int,
    grid: tuple[int, int],
    patch: int,
) -> dict[str, object]:
    steps = np.arange(len(timesteps))
    modules = [
        f"transformer_blocks.{layer}" if layer < dual else f"single_transformer_blocks.{layer - dual}"
        for layer in captured
    ]
    return {
        schema.SAMPLE: np.arange(samples),
        schema.SEED: (schema.SAMPLE, np.arange(samples)),
        schema.TIMESTEP: np.asarray(timesteps, dtype=np.float64),
        schema.SIGMA: (schema.TIMESTEP, np.asarray(timesteps, dtype=np.float64) / 1000),
        schema.STEP: (schema.TIMESTEP, steps),
        schema.LAYER: np.asarray(captured),
        schema.BLOCK: (schema.LAYER, ["dual" if layer < dual else "single" for layer in captured]),
        schema.MODULE: (schema.LAYER, modules),
        schema.HEAD: np.arange(heads),
        schema.CONCEPT: list(concepts),
        schema.Y: schema.patch_centres(grid[0], patch),
        schema.X: schema.patch_centres(grid[1], patch),
        schema.PIXEL_Y: np.arange(grid[0] * patch),
        schema.PIXEL_X: np.arange(grid[1] * patch),
        schema.CHANNEL: list(schema.CHANNELS),
    }
