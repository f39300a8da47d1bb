"""Names of dimensions, coordinates, variables and options, and the versions of the contract."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Final

import numpy as np
import numpy.typing as npt
import xarray as xr

# --- dimensions -----------------------------------------------------------------------------------------------
SAMPLE: Final = "sample"
TIMESTEP: Final = "timestep"
LAYER: Final = "layer"
HEAD: Final = "head"
CONCEPT: Final = "concept"
TOKEN: Final = "token"
TEXT: Final = "text"
Y: Final = "y"
X: Final = "x"
FRAME: Final = "frame"
BRANCH: Final = "branch"
"""Only where both branches of classifier-free guidance are recorded."""
ITEM: Final = "item"
"""Only in runs of many images, first: one image."""
PIXEL_FRAME: Final = "pixel_frame"
PIXEL_Y: Final = "pixel_y"
PIXEL_X: Final = "pixel_x"
CHANNEL: Final = "channel"

# --- coordinates beside a dimension ---------------------------------------------------------------------------
SEED: Final = "seed"
PROMPT: Final = "prompt"
SIGMA: Final = "sigma"
STEP: Final = "step"
BLOCK: Final = "block"
MODULE: Final = "module"
POSITION: Final = "position"
PADDING: Final = "padding"
NAME: Final = "name"
"""Of an item: what its image is called."""
RUN: Final = "run"
"""Of an item: key of its own stored run."""
IMAGE_HASH: Final = "image_hash"
"""Of an item; an attribute in a run of one image."""
ASKED: Final = "asked"
"""(item, concept): whether a concept was asked of an item; only where items were asked different ones."""
ORDER: Final = "order"
"""(item, concept): place of a concept among those that an item was asked, -1 where it was not; beside :data:`ASKED`."""
BLOCKS: Final = ("dual", "single")
CHANNELS: Final = ("r", "g", "b")

# --- variables beside the scores ------------------------------------------------------------------------------
IMAGE: Final = "image"
TRUTH: Final = "truth"
VOID: Final = "void"
LSE: Final = ("lse_image", "lse_concept")
TEXT_MASS: Final = "text_mass"
PIECE_DIMS: Final = (SAMPLE, TIMESTEP, LAYER)
"""What names one piece of a run: the unit that is written, and that can be missing."""

SCORE_DIMS: Final = (SAMPLE, TIMESTEP, LAYER, HEAD, CONCEPT, Y, X)
"""Dimensions of a per-head score variable; ``prompt`` has ``token`` in place of ``concept``."""
TOTAL_DIMS: Final = (SAMPLE, TIMESTEP, LAYER, CONCEPT, Y, X)
"""Dimensions of a ``<space>_total`` variable: the sum over heads."""
LSE_DIMS: Final = (SAMPLE, TIMESTEP, LAYER, HEAD, CONCEPT)
"""Dimensions of ``lse_image`` and ``lse_concept``."""
MASS_DIMS: Final = (SAMPLE, TIMESTEP, LAYER, HEAD, TEXT)
"""Dimensions of ``text_mass``."""

# --- spaces (what is compared with what) ----------------------------------------------------------------------
SPACES: Final = ("output", "cross", "reverse_cross", "value", "query", "prompt")
"""The spaces a run can capture; see the glossary in the README for their definitions."""
ATTEND_MODES: Final = ("both", "image", "concepts", "none")
"""What the concept tokens attend to: both, image patches only, concepts only, or nothing (their own value)."""
POOLS: Final = ("first", "last", "mean")
"""How the text encoder's tokens of one concept become one vector: the first token (paper), or their mean."""
TOTAL_SUFFIX: Final = "_total"
RESIDUAL_SUFFIX: Final = "_residual"
HEAD_COUNT: Final = "head_count"
"""Attribute: of how many heads ``<space>_total`` is the sum."""

FAILED: Final = "failed"
"""Attribute of a run of many images: the images that could not be captured, and why."""
MANY: Final = "many"
"""What lists of runs call a run of many images, each item of which is a run of the kind ``"capture"``."""
KINDS: Final = ("capture", "generate")
CONDITIONAL: Final = "conditional"
UNCONDITIONAL: Final = "unconditional"
BRANCHES: Final = (CONDITIONAL, UNCONDITIONAL)
"""Of classifier-free guidance: the passes that read the prompt, and those that read the negative prompt."""
BOTH: Final = "both"
PROCESS: Final = "process"
"""Attribute: how noise is added, where it is not by a flow, whose timestep is 1000 x sigma."""
FLOW: Final = "flow"
INPUTS: Final = "inputs"
"""Attribute: further inputs of the pipeline's own call."""
LEFT_OUT: Final = "left_out"
"""Attribute: what attends beside the patches and the text and is not recorded."""

# --- attributes that say where a run comes from ---------------------------------------------------------------
PARENT: Final = "parent"
ROLE: Final = "role"
EDIT: Final = "edit"
MODEL_FROM: Final = "model_from"
FAMILY: Final = "family"
FAMILY_FROM: Final = "family_from"
OF_MANY: Final = "item"
"""Role of a run that was made as an item of a run of many images."""
ROLES: Final = ("baseline", "edit", "control", OF_MANY)
"""What a run is in the experiment or run of many images that it was made for; one that the user asked for has none."""
MODEL_ORIGINS: Final = ("name", "folder", "pipeline")
"""How the model was given; only the name of one given by name can be loaded again."""

SCHEMA_VERSION: Final = 1
"""Version of the dataset contract, in ``attrs["schema_version"]``."""
CAPTURE_VERSION: Final = 3
"""Part of every content key: raised whenever the same call would give other numbers."""


def total(space: str) -> str:
    """Name of the variable that holds a space's scores summed over heads."""
    return space + TOTAL_SUFFIX


def residual(space: str) -> str:
    """Name of what a stored run keeps beside a space's scores in float16 (:mod:`workbench.store.residuals`)."""
    return space + RESIDUAL_SUFFIX


def score_dims(space: str) -> tuple[str, ...]:
    """Dimensions of a space's per-head scores: :data:`SCORE_DIMS`, with ``token`` for the space ``prompt``."""
    return tuple(TOKEN if dim == CONCEPT and space == PROMPT else dim for dim in SCORE_DIMS)


def total_dims(space: str) -> tuple[str, ...]:
    """Dimensions of a space's scores summed over heads."""
    return tuple(dim for dim in score_dims(space) if dim != HEAD)


def branch_of(ds: xr.Dataset) -> str:
    """The branch of guidance that a run is of, or what is chosen of one: one of :data:`BRANCHES`, or :data:`BOTH`."""
    if BRANCH in ds.dims:
        held = [str(name) for name in ds[BRANCH].to_numpy()]
        return held[0] if len(held) == 1 else BOTH
    return str(ds[BRANCH].item() if BRANCH in ds.coords else ds.attrs.get(BRANCH, CONDITIONAL))


def spatial(dims: Iterable[Hashable]) -> tuple[str, ...]:
    """Those of some dimensions that are of the picture: frames of a video, then rows and columns.

    In patches or in pixels, in the order of the contract; what is left of a map's dimensions is what it is of.
    """
    there = set(dims)
    return tuple(dim for dim in (FRAME, Y, X, PIXEL_FRAME, PIXEL_Y, PIXEL_X) if dim in there)


def in_frames(dims: tuple[str, ...]) -> tuple[str, ...]:
    """Dimensions of what lies in the plane, for a video: with its frames before rows and columns."""
    plane = spatial(dims)
    if not plane:
        return dims
    at = dims.index(plane[0])
    return (*dims[:at], FRAME if plane[0] == Y else PIXEL_FRAME, *dims[at:])


def in_branches(dims: tuple[str, ...]) -> tuple[str, ...]:
    """Dimensions of what comes in pieces, where both branches of guidance are recorded."""
    return (*PIECE_DIMS, BRANCH, *dims[len(PIECE_DIMS) :])


def patch_centres(count: int, patch: int) -> npt.NDArray[np.float64]:
    """Centres of ``count`` patches in a row, in pixels, pixel centres lying on whole numbers.

    Parameters
    ----------
    count
        Number of patches along the axis.
    patch
        Side of a patch in pixels.

    Returns
    -------
    numpy.ndarray
        ``patch * i + (patch - 1) / 2`` for every patch ``i``.
    """
    return patch * np.arange(count, dtype=np.float64) + (patch - 1) / 2
