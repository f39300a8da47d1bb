"""Which models are taken, and what is said of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxKontextPipeline

from tests.tiny_random import flux_pipeline, flux_transformer
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.schema import ModelError


@pytest.mark.parametrize("cls", [FluxKontextPipeline, FluxImg2ImgPipeline])
def test_other_pipelines_of_a_supported_transformer(cls: Any) -> None:
    pipe = cls(**flux_pipeline().components)
    message = rf"class {cls.__name__} is not supported.*FluxPipeline\. Its transformer can be .*workbench\.trace"
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
