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
from workbench.models.families import pipeline_adapter_for
from workbench.recording.reading import Piece
from workbench.recording.runs import (
    Plan,
    model_name,
    piece_values,
    receive,
    remaining_passes,
    revision,
    versions,
    writing,
)
from workbench.schema import SCORE_DIMS, TOTAL_DIMS, TraceError, validate

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
    options={"image_hash": "abc"},
)
PROMPTLESS = replace(PLAN, kind="generate", spaces=("output",), tokens=(), prompts=("one", "two"))


def piece(layer: int = 1, value: float = 1.0) -> Piece:
    scores = {space: torch.full((1, 2, 2, 6), value) for space in PLAN.spaces}
    scores["output"][0, 1] += torch.arange(6)
    return Piece(step=0, layer=layer, scores=scores, vectors={}, lse={})


def test_values_of_a_piece() -> None:
    values = piece_values(piece(value=0.25), (2, 3))
    assert {name: array.shape for name, array in values.items()} == {
        "output": (2, 2, 2, 3),
        "output_total": (2, 2, 3),
        "prompt": (2, 2, 2, 3),
        "prompt_total": (2, 2, 3),
    }
    assert values["output_total"][1].tolist() == [[0.5, 1.5, 2.5], [3.5, 4.5, 5.5]], "summed over heads, row by row"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_values_that_are_not_finite(wrong: float) -> None:
    with pytest.raises(TraceError, match="NaN or infinite scores in layer 4 output"):
        piece_values(piece(layer=4, value=wrong), (2, 3))


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
    assert declared["output_total"] == (TOTAL_DIMS, "float32")
    assert declared["prompt"][0] == ("sample", "timestep", "layer", "head", "token", "y", "x")
    assert declared["prompt_total"][0] == ("sample", "timestep", "layer", "token", "y", "x")


@pytest.mark.parametrize("stored", [True, False])
def test_pieces_find_their_place(stored: bool, home: Path) -> None:
    template = PLAN.template(ADAPTER, "a model", heads=2, key="0a")
    template["image"] = (("pixel_y", "pixel_x", "channel"), np.zeros((8, 12, 3), np.uint8))
    with writing(stored, "0a", template, PLAN.variables(), home) as run:
        assert remaining_passes(run) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        for place in remaining_passes(run):
            write = receive(run, PLAN, (2, 3), lambda at=place: at)
            write(piece(layer=4, value=10 * place[0] + place[1]))
            assert place in remaining_passes(run), "half of its layers are missing"
            write(piece(layer=1))
            assert place not in remaining_passes(run)
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


def test_names_and_revisions() -> None:
    commit = "a" * 40
    cached = SimpleNamespace(config={"_name_or_path": f"/cache/models--a--b/snapshots/{commit}"})
    assert revision(cached) == commit
    assert revision(SimpleNamespace(config={"_name_or_path": "/home/me/model"})) == ""
    assert revision(flux_pipeline()) == ""
    assert model_name("tiny-flux") == "tiny-flux"
    assert model_name(Path("a", "b")) == str(Path("a", "b"))
    assert model_name(flux_pipeline()) == "FluxPipeline"
    assert model_name(SimpleNamespace(config={"_name_or_path": "x"})) == "SimpleNamespace x"


def test_versions() -> None:
    assert versions()["torch"] == torch.__version__
    assert set(versions()) == {"python", "concept-workbench", "torch", "diffusers", "transformers"}
