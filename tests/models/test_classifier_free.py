"""Families with ordinary guidance: where its branches are, and the schedule that their pipelines run."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.tiny_pipelines.auraflow import auraflow_pipeline
from tests.tiny_pipelines.cogview4 import cogview4_pipeline
from tests.tiny_pipelines.flux_like import bria_pipeline, chroma_pipeline, longcat_pipeline, ovis_pipeline
from tests.tiny_pipelines.lumina2 import lumina2_pipeline
from tests.tiny_pipelines.z_image import z_image_pipeline
from workbench.models.family import pipeline_adapter_for
from workbench.schema import InputError

MAKERS: dict[str, Callable[[], Any]] = {
    "auraflow": auraflow_pipeline,
    "bria": bria_pipeline,
    "chroma": chroma_pipeline,
    "cogview4": cogview4_pipeline,
    "longcat": longcat_pipeline,
    "lumina2": lumina2_pipeline,
    "ovis": ovis_pipeline,
    "z-image": z_image_pipeline,
}
OPTIONS = {"negative_prompt": None, "true_guidance": 1.0}
ITEMS = {"auraflow": (1, 0), "bria": (1, 0), "z-image": (0, 1)}
"""Of the prompt and of the negative prompt in one batch."""
NAMED = ("cogview4", "longcat", "ovis")
"""Those whose pipelines name their passes."""


@cache
def adapter_of(name: str) -> Any:
    """The adapter of a pipeline no test changes."""
    return pipeline_adapter_for(MAKERS[name](), {"text_length": 24} if name != "longcat" else {})


@pytest.mark.parametrize("name", MAKERS)
def test_where_the_branches_are(name: str) -> None:
    adapter = adapter_of(name)
    assert set(adapter.guidance(OPTIONS | {"guidance": adapter.unguided})) == {"conditional"}
    branches = adapter.guidance(OPTIONS | {"guidance": adapter.unguided + 0.5})
    both = [branches["conditional"], branches["unconditional"]]
    if name in ITEMS:
        assert [branch.items for branch in both] == [slice(place, place + 1) for place in ITEMS[name]]
        assert all(branch.takes(None, index) for branch in both for index in range(2))
        return
    assert [branch.items for branch in both] == [slice(None)] * 2
    names: tuple[str | None, ...] = ("cond", "uncond") if name in NAMED else (None, None)
    taken = [[branch.takes(names[index % 2], index) for branch in both] for index in range(4)]
    assert taken == [[True, False], [False, True]] * 2


@pytest.mark.parametrize("name", MAKERS)
def test_guidance_of_distilled_models_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="give guidance= instead"):
        adapter_of(name).guidance({"negative_prompt": "", "true_guidance": 2.0, "guidance": 1.0})


@pytest.mark.parametrize("name", MAKERS)
def test_the_schedule_is_the_pipelines(name: str) -> None:
    adapter = adapter_of(name)
    size = (6 * adapter.patch, 8 * adapter.patch)
    schedule = adapter.schedule(5, *size)
    adapter.generate("a dog", steps=5, guidance=adapter.unguided, seed=0, size=size)
    np.testing.assert_allclose(schedule.timesteps, adapter.ran(), rtol=0, atol=1e-4)
