"""From a plan of what to record to an empty dataset, and from traced pieces to its values."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import torch
import xarray as xr

from workbench import store
from workbench.interventions import Intervention, in_words
from workbench.models.family import brought_to
from workbench.models.known import Family
from workbench.models.layers import Layer
from workbench.models.pipeline import PipelineAdapter
from workbench.recording.edits.resolving import missing_pieces
from workbench.recording.provenance import made_for
from workbench.recording.request import Request
from workbench.schema import (
    BOTH,
    BRANCH,
    BRANCHES,
    CAPTURE_VERSION,
    CHANNEL,
    CONCEPT,
    CONDITIONAL,
    EDIT,
    FAMILY,
    FAMILY_FROM,
    FLOW,
    HEAD,
    HEAD_COUNT,
    LAYER,
    LSE,
    LSE_DIMS,
    MASS_DIMS,
    PADDING,
    PIXEL_X,
    PIXEL_Y,
    PROCESS,
    PROMPT,
    ROLE,
    SAMPLE,
    SCHEMA_VERSION,
    TEXT,
    TEXT_MASS,
    TIMESTEP,
    TOKEN,
    UNCONDITIONAL,
    X,
    Y,
    in_branches,
    patch_centres,
    residual,
    score_dims,
    total,
    total_dims,
)
from workbench.store import residuals
from workbench.store.pieces import Writer

Variable: TypeAlias = tuple[tuple[str, ...], str]
"""Dimensions and dtype of a variable that is still to be written."""
Variables: TypeAlias = Mapping[str, Variable]


@dataclass(frozen=True)
class Plan:
    """What a run records, all of it checked.

    Attributes
    ----------
    kind
        ``"capture"`` or ``"generate"``.
    concepts
        Concept words.
    timesteps, steps
        1000 x sigma of each recorded pass, decreasing, and its index in the schedule.
    layers
        Recorded blocks by depth.
    spaces
        Recorded spaces.
    seeds
        One for each sample.
    prompts
        The prompt of each sample.
    tokens
        Positions and strings of the prompt's tokens, for the ``prompt`` space; empty without it.
    size
        Height and width in pixels.
    attend, pool
        Options of the concept stream.
    lse, text_mass
        Whether log-sum-exps and the image's attention to text are recorded.
    options
        What else determines the result (guidance, schedule length, image and truth hashes), plain values.
    interventions
        Edits of the network, as given.
    """

    kind: str
    concepts: tuple[str, ...]
    timesteps: tuple[float, ...]
    steps: tuple[int, ...]
    layers: tuple[Layer, ...]
    spaces: tuple[str, ...]
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    tokens: tuple[tuple[int, str], ...]
    size: tuple[int, int]
    attend: str
    pool: str
    lse: bool
    text_mass: bool
    options: Mapping[str, Any]
    interventions: tuple[Intervention, ...] = ()

    @classmethod
    def of(cls, request: Request, **known: Any) -> Self:
        """The plan of a request, with what only the model could tell."""
        names = ("concepts", "spaces", "seeds", "attend", "pool", "lse", "text_mass", "interventions")
        asked: dict[str, Any] = {name: getattr(request, name) for name in names}
        return cls(prompts=(request.prompt,) * len(request.seeds), **asked, **known)

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches of guidance that are recorded."""
        branch: str = self.options.get("branch", CONDITIONAL)
        return BRANCHES if branch == BOTH else (branch,)

    @property
    def read(self) -> str | None:
        """The text whose tokens the recorded passes read; None where they read several."""
        if len(self.branches) > 1:
            return None
        return self.prompts[0] if self.branches == (CONDITIONAL,) else (self.options["negative_prompt"] or "")

    @property
    def positions(self) -> dict[int, int]:
        """Position along ``layer`` of each recorded layer."""
        return {layer.index: position for position, layer in enumerate(self.layers)}

    def key(self, fingerprint: Mapping[str, Any], text_length: int, default_layers: Sequence[int]) -> str:
        """Content key of the run on a pipeline with this fingerprint."""
        recipe = {field.name: getattr(self, field.name) for field in fields(self)}
        recipe["layers"] = [layer.index for layer in self.layers]
        edits = recipe.pop("interventions")
        if edits:  # without any, a run keeps the key it had before there were interventions
            recipe["interventions"] = [edit.as_dict() for edit in edits]
        told = {"text_length": text_length, "default_layers": default_layers}
        return store.content_key(recipe | told | {"pipeline": fingerprint})

    def reader(self, adapter: PipelineAdapter) -> PipelineAdapter:
        """The adapter as it reads the text of the recorded passes."""
        return adapter.negative() if self.branches == (UNCONDITIONAL,) else adapter

    def text_length(self, adapter: PipelineAdapter) -> int:
        """Tokens of the text in the recorded passes: texts that share a batch are as long as the longest of them."""
        lengths = [self.reader(adapter).length_of(self.prompts[0] if self.read is None else self.read)]
        guided = "guidance" in self.options
        if guided and any(branch.items != slice(None) for branch in adapter.guidance(self.options).values()):
            negative = adapter.negative().length_of(self.options["negative_prompt"] or "")
            lengths += [adapter.length_of(self.prompts[0]), negative]
        return max(lengths)

    def padding(self, adapter: PipelineAdapter) -> list[bool]:
        """Which of them are padding."""
        own = self.reader(adapter).padding(self.read or "")
        return own + [True] * (self.text_length(adapter) - len(own))

    def template(self, adapter: PipelineAdapter, model: str, heads: int, key: str) -> xr.Dataset:
        """Coordinates and attributes of the run, without values."""
        height, width = self.size
        rows, columns = adapter.grid(height, width)
        timesteps = np.array(self.timesteps, dtype=np.float64)
        coords: dict[str, Any] = {
            SAMPLE: np.arange(len(self.seeds)),
            "seed": (SAMPLE, np.array(self.seeds, dtype=np.int64)),
            TIMESTEP: timesteps,
            "sigma": (
                TIMESTEP,
                np.array([adapter.sigma(time, self.size) for time in self.timesteps], dtype=np.float64),
            ),
            "step": (TIMESTEP, np.array(self.steps, dtype=np.int64)),
            LAYER: np.array([layer.index for layer in self.layers], dtype=np.int64),
            "block": (LAYER, [layer.kind for layer in self.layers]),
            "module": (LAYER, [layer.name for layer in self.layers]),
            HEAD: np.arange(heads),
            CONCEPT: list(self.concepts),
            Y: patch_centres(rows, adapter.patch),
            X: patch_centres(columns, adapter.patch),
            PIXEL_Y: np.arange(height),
            PIXEL_X: np.arange(width),
            CHANNEL: ["r", "g", "b"],
        }
        if len(self.branches) > 1:
            coords[BRANCH] = list(self.branches)
        if self.tokens:
            coords[TOKEN] = [text for _, text in self.tokens]
            coords["position"] = (TOKEN, np.array([position for position, _ in self.tokens], dtype=np.int64))
        if self.text_mass:
            padding = self.padding(adapter)
            coords[TEXT] = np.arange(len(padding))
            coords[PADDING] = (TEXT, np.array(padding))
        if self.kind == "generate" and "prompt" not in self.spaces:
            coords["prompt"] = (SAMPLE, list(self.prompts))
        one_prompt = len(set(self.prompts)) == 1
        attrs = {
            "schema_version": SCHEMA_VERSION,
            "capture_version": CAPTURE_VERSION,
            "key": key,
            "kind": self.kind,
            "model": model,
            "model_revision": revision(adapter.pipe),
            "prompt": self.prompts[0] if one_prompt else list(self.prompts),
            "pool": self.pool,
            "attend": self.attend,
            "spaces": list(self.spaces),
            "seeds": list(self.seeds),
            "text_length": self.text_length(adapter),
            "image_hash": self.options.get("image_hash", ""),
            "size": [height, width],
            "patch": adapter.patch,
            "default_layers": list(adapter.default_layers),
            HEAD_COUNT: heads,
            "device": adapter.device.type,
            "threads": torch.get_num_threads(),
            "versions": json.dumps(versions()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "missing": missing_pieces(
                self.interventions, len(self.seeds), self.timesteps, [layer.index for layer in self.layers]
            ),
        }
        if self.kind == "generate":
            attrs[BRANCH] = self.options.get("branch", CONDITIONAL)
        if adapter.process != FLOW:
            attrs[PROCESS] = adapter.process
        if self.interventions:
            attrs["interventions"] = [edit.as_dict() for edit in self.interventions]
            attrs[EDIT] = in_words(self.interventions)
        attrs |= family_attrs(brought_to(adapter.pipe))
        attrs |= made_for(key)
        return xr.Dataset(coords=coords, attrs=attrs)

    def variables(self) -> dict[str, Variable]:
        """Dimensions and dtype of every score variable."""
        declared: dict[str, Variable] = {}
        for space in self.spaces:
            declared[space] = (score_dims(space), "float16")
            declared[residual(space)] = (score_dims(space), residuals.DTYPE)
            declared[total(space)] = (total_dims(space), "float32")
        if self.lse:
            declared |= dict.fromkeys(LSE, (LSE_DIMS, "float32"))
        if self.text_mass:
            declared[TEXT_MASS] = (MASS_DIMS, "float32")
        if len(self.branches) > 1:
            return {name: (in_branches(dims), dtype) for name, (dims, dtype) in declared.items()}
        return declared


def plan_tokens(adapter: PipelineAdapter, spaces: Sequence[str], text: str) -> tuple[tuple[int, str], ...]:
    """Positions and strings of the tokens that are recorded of a text: none without the space ``prompt``."""
    return tuple(zip(*adapter.prompt_tokens(text), strict=True)) if PROMPT in spaces else ()


@contextmanager
def writing(
    stored: bool,
    key: str,
    template: xr.Dataset,
    variables: Variables,
    home: str | os.PathLike[str] | None,
) -> Iterator[Writer]:
    """The store's writer, or the one in memory."""
    derived = ROLE in template.attrs
    if stored:
        store.keep_ownership(key, derived, home)
    chosen: AbstractContextManager[Writer] = (
        store.writer(key, template, variables, home) if stored else store.in_memory(template, variables)
    )
    with chosen as run:
        found = stored and run.complete
        yield run
    if found and not derived:  # an experiment wrote it while this call waited
        store.claim(key, home)


def remaining_passes(run: Writer) -> Sequence[tuple[int, int]]:
    """(sample, timestep) positions of the passes that still have pieces to write, in order."""
    return list(dict.fromkeys((piece.sample, piece.timestep) for piece in run.remaining))


def family_attrs(brought: Sequence[Family]) -> dict[str, str]:
    """What a run says of the families of other distributions that its model is served by; nothing without any."""
    if not brought:
        return {}
    return {FAMILY: ", ".join(family.name for family in brought), FAMILY_FROM: ", ".join(f.origin for f in brought)}


def versions() -> dict[str, str]:
    """Versions of the libraries a result may depend on, for information."""
    names = ("concept-workbench", "torch", "diffusers", "transformers")
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


@cache
def _version(distribution: str) -> str:
    return version(distribution)


def revision(pipe: Any) -> str:
    """Commit of a pipeline that came from the hub's cache; empty otherwise."""
    folder = Path(str(pipe.config.get("_name_or_path", "")))
    return folder.name if folder.parent.name == "snapshots" else ""
