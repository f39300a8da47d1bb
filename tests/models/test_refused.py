"""Classes that are refused by name, with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import diffusers
import pytest
from torch import nn

import workbench as wb
from tests.tiny_random import flux_pipeline, flux_transformer
from workbench.models.family import adapter_for, pipeline_adapter_for, pipeline_names, transformer_names
from workbench.models.known import Family
from workbench.models.plugins import register
from workbench.models.refused import REFUSED
from workbench.schema import ModelError

TRANSFORMERS = sorted(name for name in REFUSED if not name.endswith("Pipeline"))
PIPELINES = sorted(name for name in REFUSED if name.endswith("Pipeline"))


def sentence(name: str) -> str:
    return rf"models of class {name} are refused: .{{60,}}: see workbench\.models\.$"


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformer(name: str) -> None:
    stand_in = type(name, (nn.Module,), {})()
    real: Any = getattr(diffusers, name)
    for model in (stand_in, real.__new__(real), type("Own", (type(stand_in),), {})()):
        with pytest.raises(ModelError, match=sentence(name)):
            adapter_for(model)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline(name: str, tmp_path: Path) -> None:
    try:
        real: list[Any] = [getattr(diffusers, name)]
    except RuntimeError:  # it needs a newer transformers
        real = []
    for cls in (type(name, (), {}), *real):
        pipe = cls.__new__(cls)
        pipe.__dict__["transformer"] = flux_transformer()
        with pytest.raises(ModelError, match=sentence(name)):
            pipeline_adapter_for(pipe)
    # By name, before any weights are read.
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": name}))
    with pytest.raises(ModelError, match=sentence(name)):
        wb.load_model(tmp_path)


def test_what_is_refused_is_not_served() -> None:
    assert not set(REFUSED) & {*pipeline_names(), *transformer_names()}


def test_a_class_of_a_supported_base_is_refused_by_its_own_name() -> None:
    pipe = flux_pipeline()
    kept = type("Flux2KleinKVPipeline", (type(pipe),), {})(**pipe.components)
    with pytest.raises(ModelError, match=sentence("Flux2KleinKVPipeline")):
        pipeline_adapter_for(kept)


def test_a_family_of_ones_own_may_serve_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.models.plugins._registered", [])
    register(Family("Mine", ("PRXTransformer2DModel",), (), "workbench.models.flux:FluxAdapter", "", (), ""))
    own = type("PRXTransformer2DModel", (diffusers.FluxTransformer2DModel,), {})
    model = flux_transformer()
    model.__class__ = own
    assert adapter_for(model).heads == 2
