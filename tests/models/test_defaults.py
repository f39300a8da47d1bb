"""What is recorded does not depend on the defaults that torch makes tensors with."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import FluxPipeline

import workbench
from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from workbench.interventions import BlurAttention, MaskText, RandomDirection, ScaleHeads
from workbench.models.defaults import own_defaults
from workbench.models.loading import load_model
from workbench.recording.capturing import capture
from workbench.recording.generating import generate
from workbench.recording.tracing import trace

MAKERS = {
    function: frozenset({"device"} if function in ("arange", "randint", "randperm") else {"dtype", "device"})
    for function in (
        *("arange", "empty", "eye", "full", "linspace", "logspace", "normal", "ones", "rand", "randint", "randn"),
        *("randperm", "tensor", "zeros"),
    )
}
"""Functions that ask torch's defaults for what they are not told; those of whole numbers for the device only."""
PACKAGE = Path(workbench.__file__).parent
SIZE = (24, 32)


@pytest.fixture(scope="module")
def shared() -> FluxPipeline:
    return flux_pipeline(guidance_embeds=True)


@pytest.fixture(params=["float64", "meta"])
def defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Other defaults than torch's own, set once the test asks for them."""
    dtype = torch.get_default_dtype()
    try:
        if request.param == "meta":
            torch.set_default_device("meta")
        else:
            torch.set_default_dtype(getattr(torch, request.param))
        yield
    finally:
        no_default_device()
        torch.set_default_dtype(dtype)


def no_default_device() -> None:
    """As where none was ever set: torch up to 2.9 cannot be asked for the default device after None, by anybody."""
    torch.set_default_device(None)
    vars(torch._GLOBAL_DEVICE_CONTEXT).pop("device_context", None)


def record(pipe: FluxPipeline, home: Path, **options: Any) -> list[xr.Dataset]:
    """A capture and a generation with everything that is made on the way."""
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    common = {"model": pipe, "home": home, "size": SIZE, "progress": False, "lse": True, **options}
    spaces = ("output", "cross", "reverse_cross", "prompt")
    edits = (BlurAttention(width=0.5, tokens=[1]), RandomDirection(ScaleHeads(1, factor=0.5)))
    return [
        capture(image, ["dog", "sky"], prompt="a dog", spaces=spaces, interventions=edits, samples=2, **common).load(),
        capture(image, ["dog"], text_mass=True, **common).load(),
        generate(
            "a dog on grass", ["dog", "sky"], steps=2, seed=3, interventions=MaskText(tokens=[0]), **common
        ).load(),
    ]


@pytest.fixture(scope="module")
def ordinary(shared: FluxPipeline, tmp_path_factory: pytest.TempPathFactory) -> list[xr.Dataset]:
    return record(shared, tmp_path_factory.mktemp("ordinary"))


@pytest.mark.slow
def test_runs_are_the_same_bit_for_bit(
    ordinary: list[xr.Dataset], shared: FluxPipeline, tmp_path: Path, defaults: None
) -> None:
    for run, expected in zip(record(shared, tmp_path), ordinary, strict=True):
        xr.testing.assert_equal(run, expected)
        if torch.get_default_dtype() == torch.float32:  # which is in the key, for code of the user's in the model
            assert run.attrs["key"] == expected.attrs["key"]


@pytest.fixture(scope="module")
def saved(shared: FluxPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "saved"
    shared.save_pretrained(folder)
    return folder


def test_a_loaded_model_is_the_same(saved: Path, shared: FluxPipeline, defaults: None) -> None:
    pipe = load_model(saved, dtype=torch.float32, device="cpu")
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        one, other = (dict(getattr(each, name).named_parameters()) for each in (pipe, shared))
        buffers = (dict(getattr(each, name).named_buffers()) for each in (pipe, shared))
        for loaded, expected in ((one, other), tuple(buffers)):
            assert loaded.keys() == expected.keys()
            assert all(torch.equal(tensor, expected[path]) for path, tensor in loaded.items())


def test_a_trace_is_the_same() -> None:
    model = flux_transformer()
    inputs, concepts = flux_inputs(model), concept_embeddings()

    def scores() -> torch.Tensor:
        with torch.no_grad(), trace(model, concepts, lse=True) as seen:
            model(**inputs)
        return torch.cat([seen.scores["output"].flatten(), seen.lse["lse_image"].flatten()])

    expected = scores()
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(scores(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_users_default_device_comes_back() -> None:
    try:
        torch.set_default_device("meta")
        with own_defaults():
            assert torch.zeros(1).device.type == "cpu"
        assert torch.zeros(1).device.type == "meta"
        torch.set_default_device(None)
        with own_defaults():
            assert torch.zeros(1).device.type == "cpu"
    finally:
        no_default_device()


@pytest.mark.parametrize("package", ["models", "recording", "experiments"])
def test_tensors_name_their_dtype_and_device(package: str) -> None:
    """A tensor made with the defaults of the day gives other numbers under others."""
    silent = [
        f"{file.name}, line {call.lineno}: {ast.unparse(call)}"
        for file in sorted((PACKAGE / package).rglob("*.py"))
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and not _told(call)
    ]
    assert silent == []


def _told(call: ast.Call) -> bool:
    named = {keyword.arg for keyword in call.keywords}
    function = ast.unparse(call.func)
    if function == "torch.Generator":
        return bool(call.args) or "device" in named
    needed = MAKERS.get(function.removeprefix("torch."), frozenset()) if function.startswith("torch.") else frozenset()
    return None in named or needed <= named  # **options may hold what is needed
