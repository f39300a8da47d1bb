"""From a plan to an empty dataset, and from traced pieces to its values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.models.family import pipeline_adapter_for
from workbench.recording.block_reading import Record
from workbench.recording.plan import (
    Plan,
    remaining_passes,
    revision,
    versions,
    writing,
)
from workbench.recording.streaming import Stream
from workbench.schema import LSE_DIMS, MASS_DIMS, SCORE_DIMS, TOTAL_DIMS, validate

ADAPTER = pipeline_adapter_for(flux_pipeline())
PLAN = Plan(
    kind="capture",
    concepts=("dog", "sky"),
    timesteps=(750.0, 250.0),
    steps=(0, 1),
    layers=(ADAPTER.layers[1], ADAPTER.layers[4]),
    spaces=("output", "prompt"),
    seeds=(3, 4),
    prompts=("a cat", "a cat"),
    tokens=((0, "a"), (1, "cat")),
    size=(8, 12),
    attend="both",
    pool="first",
    lse=False,
    text_mass=False,
    options={"image_hash": "abc"},
)
PROMPTLESS = replace(PLAN, kind="generate", spaces=("output",), tokens=(), prompts=("one", "two"))


def piece(layer: int = 1, value: float = 1.0) -> Record:
    return Record(step=0, layer=layer, scores={space: torch.full((1, 2, 2, 6), float(value)) for space in PLAN.spaces})


def test_key_depends_on_everything_but_the_module_names() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"kind": "generate"},
        {"concepts": ("sky", "dog")},
        {"timesteps": (750.0, 250.5)},
        {"steps": (0, 2)},
        {"layers": ADAPTER.layers[1:3]},
        {"spaces": ("output",)},
        {"seeds": (3, 5)},
        {"prompts": ("a cat", "a dog")},
        {"size": (12, 8)},
        {"attend": "none"},
        {"pool": "mean"},
        {"lse": True},
        {"text_mass": True},
        {"options": {"image_hash": "abd"}},
    ]
    keys = [replace(PLAN, **change).key({"weights": 1}, 256, (1, 2)) for change in changes]
    keys += [
        PLAN.key({"weights": 2}, 256, (1, 2)),
        PLAN.key({"weights": 1}, 512, (1, 2)),
        PLAN.key({"weights": 1}, 256, (2,)),
    ]
    assert len(set(keys)) == len(keys)
    renamed = tuple(replace(layer, name=f"model.{layer.name}") for layer in PLAN.layers)
    assert replace(PLAN, layers=renamed).key({"weights": 1}, 256, (1, 2)) == keys[0]


def test_variables() -> None:
    declared = PLAN.variables()
    assert declared["output"] == (SCORE_DIMS, "float16")
    assert declared["output_residual"] == (SCORE_DIMS, "int8")
    assert declared["output_total"] == (TOTAL_DIMS, "float32")
    assert declared["prompt"][0] == ("sample", "timestep", "layer", "head", "token", "y", "x")
    assert declared["prompt_total"][0] == ("sample", "timestep", "layer", "token", "y", "x")
    assert not {"lse_image", "lse_concept"} & set(declared)
    assert replace(PLAN, text_mass=True).variables()["text_mass"] == (MASS_DIMS, "float32")
    with_lse = replace(PLAN, lse=True).variables()
    assert with_lse["lse_image"] == with_lse["lse_concept"] == (LSE_DIMS, "float32")


@pytest.mark.parametrize("stored", [True, False])
def test_pieces_find_their_place(stored: bool, home: Path) -> None:
    template = PLAN.template(ADAPTER, "a model", heads=2, key="0a")
    template["image"] = (("pixel_y", "pixel_x", "channel"), np.zeros((8, 12, 3), np.uint8))
    with writing(stored, "0a", template, PLAN.variables(), home) as run:
        assert remaining_passes(run) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        with Stream(run, (2, 3), PLAN.positions) as stream:
            for sample, timestep in remaining_passes(run):
                stream.write(piece(layer=4, value=10 * sample + timestep), sample, timestep)
                stream.write(piece(layer=1), sample, timestep)
                stream.commit()
        assert remaining_passes(run) == []
    ds = run.dataset()
    validate(ds, values=True)
    assert ds["prompt"].sel(layer=4).isel(head=0, token=0, y=0, x=0).values.tolist() == [[0, 1], [10, 11]]
    assert (ds["prompt"].sel(layer=1) == 1).all()
    assert (ds.attrs["model"], ds.attrs["key"], ds.attrs["prompt"]) == ("a model", "0a", "a cat")
    assert len(store.runs(home)) == stored


def test_prompts_of_samples() -> None:
    different = PROMPTLESS.template(ADAPTER, "m", heads=2, key="")
    assert different["prompt"].values.tolist() == different.attrs["prompt"] == ["one", "two"]
    assert "token" not in different.coords
    assert "prompt" not in PLAN.template(ADAPTER, "m", heads=2, key="").coords, "the space of that name is in its place"


def test_revisions() -> None:
    commit = "a" * 40
    cached = SimpleNamespace(config={"_name_or_path": f"/cache/models--a--b/snapshots/{commit}"})
    assert revision(cached) == commit
    assert revision(SimpleNamespace(config={"_name_or_path": "/home/me/model"})) == ""
    assert revision(flux_pipeline()) == ""


def test_versions() -> None:
    assert versions()["torch"] == torch.__version__
    assert set(versions()) == {"python", "concept-workbench", "torch", "diffusers", "transformers"}
