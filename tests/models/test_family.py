"""Which models are taken, by the names of their classes, and what is said of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxControlImg2ImgPipeline, FluxPipeline

from tests.tiny_random import flux_pipeline, flux_transformer
from workbench.models import known
from workbench.models.family import adapter_for, pipeline_adapter_for
from workbench.models.flux import FluxAdapter, FluxPipelineAdapter
from workbench.models.known import Family, families, family_named
from workbench.models.quiet import imported
from workbench.schema import ModelError


def test_other_pipelines_of_a_supported_transformer() -> None:
    cls = FluxControlImg2ImgPipeline
    parts = flux_pipeline().components
    pipe = cls(**{name: part for name, part in parts.items() if name not in ("image_encoder", "feature_extractor")})
    message = rf"class {cls.__name__} is not supported.*FluxPipeline.*\. Its transformer can be .*workbench\.trace"
    with pytest.raises(ModelError, match=message):
        pipeline_adapter_for(pipe)
    with pytest.raises(ModelError) as error:
        pipeline_adapter_for(SimpleNamespace(transformer=None))
    assert "workbench.trace" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (FluxPipeline, r"This is the class itself: load a pipeline, FluxPipeline\.from_pretrained"),
        (flux_transformer(), r"This is the transformer alone: .*workbench\.trace"),
        (None, r"Give a loaded pipeline, or a name or a path: a string, such as 'tiny-flux'\.$"),
        (3, r"Give a loaded pipeline, or a name"),
    ],
    ids=["class", "transformer", "nothing", "number"],
)
def test_what_is_no_pipeline_is_answered_with_what_to_give(given: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        pipeline_adapter_for(given)


def test_a_pipeline_in_place_of_its_transformer() -> None:
    with pytest.raises(ModelError, match=r"This is the pipeline around one: give pipe\.transformer\.$"):
        adapter_for(flux_pipeline())


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
