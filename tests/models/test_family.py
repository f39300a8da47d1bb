"""Which models are taken, by the names of their classes, and what is said of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxKontextPipeline, FluxPipeline

from tests.tiny_random import flux_pipeline, flux_transformer
from workbench.models import known
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.models.flux import FluxAdapter, FluxPipelineAdapter
from workbench.models.known import Family, families, family_named
from workbench.models.quiet import imported
from workbench.schema import ModelError


@pytest.mark.parametrize("cls", [FluxKontextPipeline, FluxImg2ImgPipeline])
def test_other_pipelines_of_a_supported_transformer(cls: Any) -> None:
    pipe = cls(**flux_pipeline().components)
    message = rf"class {cls.__name__} is not supported.*FluxPipeline.*\. Its transformer can be .*workbench\.trace"
    with pytest.raises(ModelError, match=message):
        pipeline_adapter_for(pipe)
    with pytest.raises(ModelError) as error:
        pipeline_adapter_for(SimpleNamespace(transformer=None))
    assert "workbench.trace" not in str(error.value)


def test_a_transformer_split_over_devices() -> None:
    pipe = flux_pipeline()
    pipe.transformer = torch.nn.DataParallel(flux_transformer())
    message = r"the transformer is wrapped in DataParallel, which splits .*: give the model itself, pipe\.transformer ="
    with pytest.raises(ModelError, match=message):
        pipeline_adapter_for(pipe)
    with pytest.raises(ModelError, match=message):
        adapter_for(pipe.transformer)


def test_classes_are_known_by_their_names_and_those_of_their_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    class Patched(FluxPipeline):
        pass

    pipe = Patched(**flux_pipeline().components)
    assert isinstance(pipeline_adapter_for(pipe), FluxPipelineAdapter)
    assert isinstance(pipeline_adapter_for(pipe).inner, FluxAdapter)

    # The nearest class counts, whichever family was named first.
    nearer = Family("patched", (), ("Patched",), "", "tests.models.test_family:OtherAdapter", (), "")
    monkeypatch.setattr(known, "FAMILIES", (*known.FAMILIES, nearer))
    assert isinstance(pipeline_adapter_for(pipe), OtherAdapter)
    assert not isinstance(pipeline_adapter_for(flux_pipeline()), OtherAdapter)
    assert family_named("Patched") is nearer
    assert family_named("patched") is None


class OtherAdapter(FluxPipelineAdapter):
    """Of a family of its own."""


def test_every_family_has_its_adapters() -> None:
    for each in families():
        adapter = imported(*each.adapter.split(":"))
        assert each.transformers
        assert bool(each.pipelines) is bool(each.pipeline_adapter) is (each.name != "FLUX.3"), "traced only"
        if each.pipelines:
            assert issubclass(imported(*each.pipeline_adapter.split(":")).transformer_side, adapter)
