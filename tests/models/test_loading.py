"""Loading models by name and path, and what the messages say when that fails."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers.pipelines.pipeline_utils as hub
import psutil
import pytest
import torch
from diffusers import DiffusionPipeline, FluxImg2ImgPipeline, FluxPipeline
from huggingface_hub import errors
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from tests.tiny_random import flux_pipeline
from workbench import folders
from workbench.models import loading
from workbench.models.fingerprint import fingerprint
from workbench.models.loading import bundled_folder, info_of, load_model, weight_bytes
from workbench.schema import InputError, ModelError, WorkbenchWarning

DEV = "black-forest-labs/FLUX.1-dev"
HTTP: Any = importlib.import_module(errors.HTTPError.__module__.partition(".")[0])
"""The library huggingface_hub fetches with: httpx or, in its later versions, httpx2."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline folder no test changes."""
    path = tmp_path_factory.mktemp("models") / "saved"
    flux_pipeline().save_pretrained(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pipeline folder of a test's own."""
    flux_pipeline().save_pretrained(tmp_path / "mine")
    return tmp_path / "mine"


def models(pipe: Any) -> dict[str, torch.nn.Module]:
    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


# --- folders ----------------------------------------------------------------------------------------------------
def test_a_folder_in_float32(saved: Path) -> None:
    pipe = load_model(saved, device="cpu", dtype=torch.float32)
    assert isinstance(pipe, FluxPipeline)
    assert fingerprint(pipe) == fingerprint(flux_pipeline()), "the very weights that were saved"
    assert all(parameter.device.type == "cpu" for part in models(pipe).values() for parameter in part.parameters())


def test_as_another_pipeline_around_the_same_transformer(saved: Path) -> None:
    pipe = load_model(saved, dtype=torch.float32, pipeline="FluxImg2ImgPipeline")
    assert isinstance(pipe, FluxImg2ImgPipeline)
    assert info_of(pipe) == info_of(load_model(saved, dtype=torch.float32))


def test_other_models_are_bfloat16_by_default(saved: Path) -> None:
    for pipe in (load_model(str(saved), device="cpu"), load_model(saved, device="cpu", dtype=torch.bfloat16)):
        assert {part.dtype for part in models(pipe).values()} == {torch.bfloat16}


def test_a_path_from_home(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(saved.parent))
    assert isinstance(load_model("~/saved", device="cpu"), FluxPipeline)


def test_folders_that_are_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is no diffusers pipeline: it has no model_index\.json"):
        load_model(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"weights\.safetensors is no diffusers pipeline"):
        load_model(tmp_path / "weights.safetensors")


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="torchvision is there")
def test_a_component_whose_library_is_missing(folder: Path) -> None:
    """As the processor of FLUX.2 dev, which reads images too."""
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"cannot be loaded: PixtralProcessor requires the Torchvision library"):
        load_model(folder, device="cpu")


def test_unsupported_class(tmp_path: Path) -> None:
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    with pytest.raises(
        ModelError, match=r"holds a StableDiffusionPipeline; supported are FluxPipeline, .*workbench\.trace"
    ):
        load_model(tmp_path)
    index.write_text("{}")
    with pytest.raises(ModelError, match="holds a nameless pipeline; supported are FluxPipeline"):
        load_model(tmp_path)
    for broken in ("{", "[]"):
        index.write_text(broken)
        with pytest.raises(ModelError, match=r"model_index\.json .*expected a JSON object: restore the file"):
            load_model(tmp_path)


def test_damaged_weights(folder: Path) -> None:
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    for content in (
        whole[:-100],
        whole[:50],
        b"",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    ):
        weights.write_bytes(content)
        with pytest.raises(ModelError, match=r"diffusion_pytorch_model\.safetensors is damaged .*git lfs pull"):
            load_model(folder)
    weights.unlink()
    with pytest.raises(ModelError, match=r"mine cannot be loaded .*: files may be missing or damaged"):
        load_model(folder)


# --- names ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["no-such-model", "a/b/c", "/absent/folder", "./absent", "../absent", "~/absent"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(ModelError) as error:
        load_model(name)
    assert str(error.value) == (
        f"unknown model '{name}'; expected 'tiny-flux', a folder in diffusers format, or a hub name such as "
        "'black-forest-labs/FLUX.1-schnell'."
    )


def response(status: int) -> Any:
    return HTTP.Response(status, request=HTTP.Request("GET", f"https://huggingface.co/{DEV}"))


def hub_that_raises(monkeypatch: pytest.MonkeyPatch, listing: Exception | None, file: Exception) -> None:
    """Replace what is asked of the hub: the index alone, a model's files, then one file after the other."""

    def fail(error: Exception) -> Any:
        def raising(*_: Any, **__: Any) -> Any:
            raise error

        return raising

    listed = SimpleNamespace(siblings=[SimpleNamespace(rfilename="model_index.json")])
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail(listing or file))
    monkeypatch.setattr(hub, "_resolve_revision", lambda *_, **__: None)
    monkeypatch.setattr(hub, "model_info", fail(listing) if listing else lambda *_, **__: listed)
    monkeypatch.setattr(hub, "hf_hub_download", fail(file))
    monkeypatch.setattr(hub, "snapshot_download", fail(file))


ABSENT = LocalEntryNotFoundError("not in the local cache")


@pytest.mark.parametrize("listed", [True, False])
def test_gated_weights(monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    """The hub lists a gated model's files and refuses to hand them out, or refuses both."""
    gated = GatedRepoError("401 Client Error\nAccess to model is restricted", response=response(401))
    hub_that_raises(monkeypatch, None if listed else gated, gated if listed else ABSENT)
    with pytest.raises(ModelError) as error:
        load_model(DEV)
    assert str(error.value) == (
        f"the weights of {DEV} are gated: accept the licence at https://huggingface.co/{DEV}, then log in with "
        "`hf auth login` (or set HF_TOKEN to a token of that account) and call again."
    )


def test_a_name_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = RepositoryNotFoundError("401 Client Error", response=response(401))
    hub_that_raises(monkeypatch, missing, ABSENT)
    with pytest.raises(ModelError) as error:
        load_model("someone/no-such-model")
    assert str(error.value) == (
        "the hub has no model someone/no-such-model, or it is private: check the spelling at "
        "https://huggingface.co/someone/no-such-model, or log in with `hf auth login`."
    )


def test_a_name_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"the hub has no model some one/model--x, .*: check the spelling"):
        load_model("some one/model--x")


@pytest.mark.parametrize(
    "failure", [HTTP.ConnectError("Name or service not known"), HTTP.ConnectTimeout("timed out"), OSError("no route")]
)
def test_no_network(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    hub_that_raises(monkeypatch, failure, ABSENT)
    with pytest.raises(ModelError, match=f"{DEV} cannot be fetched .*: check the network, or give the folder of a"):
        load_model(DEV)


def index_on_the_hub(monkeypatch: pytest.MonkeyPatch, index: Path) -> list[tuple[str, str]]:
    """Have the hub hand out an index, and nothing else; gives what was asked for."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file: asked.append((name, file)) or str(index))
    monkeypatch.setattr(DiffusionPipeline, "download", lambda name: pytest.fail(f"{name} was downloaded"))
    return asked


def test_a_name_on_the_hub(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    asked = index_on_the_hub(monkeypatch, saved / "model_index.json")
    monkeypatch.setattr(DiffusionPipeline, "download", lambda name: asked.append((name, "all")) or str(saved))
    assert isinstance(load_model("someone/model", device="cpu"), FluxPipeline)
    assert asked == [("someone/model", "model_index.json"), ("someone/model", "all")]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("StableDiffusionPipeline", r"^someone/model holds a StableDiffusionPipeline; supported are FluxPipeline"),
        ("WanPipeline", r"^someone/model cannot be used: models of class WanPipeline are refused: .*cross-attention"),
        ("", "^someone/model holds a nameless pipeline"),
    ],
)
def test_a_class_is_refused_before_its_weights_are_fetched(
    named: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"_class_name": named} if named else {}))
    asked = index_on_the_hub(monkeypatch, index)
    with pytest.raises(ModelError, match=message):
        load_model("someone/model", device="cpu")
    assert asked == [("someone/model", "model_index.json")]


def test_another_pipeline_is_refused_before_weights_are_fetched(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    index_on_the_hub(monkeypatch, saved / "model_index.json")
    with pytest.raises(InputError, match="expected one around the transformer of someone/model: FluxPipeline"):
        load_model("someone/model", device="cpu", pipeline="StableDiffusion3Pipeline")
    with pytest.raises(InputError, match="which needs controlnet, and someone/model has none"):
        load_model("someone/model", device="cpu", pipeline="FluxControlNetPipeline")


def test_a_repository_that_is_no_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = RemoteEntryNotFoundError("404 Client Error", response=response(404))
    hub_that_raises(monkeypatch, missing, ABSENT)
    with pytest.raises(ModelError, match=r"^someone/lora on the hub is no diffusers pipeline: it has no model_index"):
        load_model("someone/lora")


def test_bundled_model_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(folders.resources, "files", lambda _: tmp_path / "workbench")
    with pytest.raises(ModelError, match=r"the bundled model tiny-flux is missing .*: reinstall concept-workbench"):
        load_model("tiny-flux")
    for place in ("data/tiny-flux", "workbench/data/tiny-flux"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model_index.json").touch()
        assert bundled_folder("tiny-flux") == tmp_path / place


# --- memory -----------------------------------------------------------------------------------------------------
def test_weight_bytes(saved: Path) -> None:
    pipe = flux_pipeline()
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in models(pipe).items()}
    assert weight_bytes(saved, torch.float32) == {name: 4 * count for name, count in counts.items()}
    assert weight_bytes(saved, torch.bfloat16) == {name: 2 * count for name, count in counts.items()}


def test_weights_in_shards_and_variants(tmp_path: Path) -> None:
    pipe = flux_pipeline()
    pipe.transformer.save_pretrained(tmp_path / "transformer", max_shard_size="200KB")
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 1
    expected = sum(parameter.numel() * 4 for parameter in pipe.transformer.parameters())
    assert weight_bytes(tmp_path, torch.float32) == {"transformer": expected}
    pipe.transformer.save_pretrained(tmp_path / "transformer", variant="fp16", max_shard_size="200KB")
    assert weight_bytes(tmp_path, torch.float32) == {"transformer": expected}, "variants are not loaded"


def test_weights_in_a_variant_only(tmp_path: Path) -> None:
    pipe = flux_pipeline(dtype=torch.float16)
    pipe.save_pretrained(tmp_path, variant="fp16")
    with pytest.warns(WorkbenchWarning, match=r"has fp16 weights only: they are loaded, and brought to torch\.float32"):
        loaded = load_model(tmp_path, dtype=torch.float32, device="cpu")
    assert fingerprint(loaded) == fingerprint(flux_pipeline(dtype=torch.float16).to(torch.float32))
    counts = {name: sum(parameter.numel() for parameter in part.parameters()) for name, part in models(pipe).items()}
    assert weight_bytes(tmp_path, torch.float32) == {name: 4 * count for name, count in counts.items()}
    for file in (tmp_path / "vae").glob("*.safetensors"):
        file.rename(file.with_name(file.name.replace("fp16", "ema")))
    with pytest.raises(ModelError, match=r"with no variant in common \(.*vae: ema\): fetch the plain ones"):
        load_model(tmp_path, device="cpu")


def test_not_enough_host_memory(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    needed = sum(weight_bytes(saved, torch.float32).values())
    monkeypatch.setattr(loading, "_load", lambda *_: pytest.fail("weights were loaded"))
    monkeypatch.setattr(loading, "weight_bytes", lambda *_: {"transformer": 20 * 2**30, "vae": 2**30})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5.5 * 2**30))
    with pytest.raises(ModelError) as error:
        load_model(saved, device="cpu")
    assert str(error.value) == (
        f"{saved} needs about 24.1 GiB of host memory in bfloat16, and 5.5 GiB are free: load it on a machine with "
        "more memory, or load a quantised pipeline and pass it as model=."
    )
    monkeypatch.undo()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=needed // 2))
    with pytest.raises(ModelError, match=r"needs about 0\.0 GiB of host memory in float32"):
        load_model(saved, device="cpu", dtype=torch.float32)


def test_not_enough_gpu_memory(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    """Without a GPU: what one would say about its memory is made up, and nothing is loaded."""
    loaded: list[str | None] = []
    monkeypatch.setattr(loading, "_load", lambda *given: loaded.append(given[-1]))
    monkeypatch.setattr(loading, "weight_bytes", lambda *_: {"transformer": 20 * 2**30, "text_encoder_2": 10 * 2**30})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * 2**30))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    free = {"now": 0.0}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free["now"] * 2**30, 80 * 2**30))

    free["now"] = 32
    message = r'about 34\.5 GiB of cuda in bfloat16, and 32\.0 GiB are free: use offload="model", or load it on a'
    with pytest.raises(ModelError, match=message):
        load_model(saved)
    load_model(saved, offload="model")
    free["now"] = 16
    with pytest.raises(
        ModelError, match=r'about 23\.0 GiB of cuda .* 16\.0 GiB are free: use offload="sequential", or'
    ):
        load_model(saved, offload="model")
    load_model(saved, offload="sequential")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * 2**30))
    with pytest.raises(ModelError, match=r"about 34\.5 GiB of host memory .* 8\.0 GiB are free: load it on a machine"):
        load_model(saved, offload="sequential")
    assert loaded == ["model", "sequential"]


# --- arguments --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offload": "disk"}, "offload is 'disk'; expected one of model, sequential, or None"),
        (
            {"offload": "model", "device": "cpu"},
            "offload='model' moves weights to an accelerator, but the device is the",
        ),
        ({"device": "toaster"}, "device is 'toaster'; expected a torch device such as 'cpu'"),
        ({"device": "cuda:1"}, "device is 'cuda:1', but torch sees no CUDA device here: use 'cpu'"),
        ({"device": "mps"}, "device is 'mps', but torch sees no MPS device here: use 'cpu'"),
        ({"device": "xpu:0"}, "device is 'xpu:0', but torch sees no XPU device here: use 'cpu'"),
        ({"device": "meta"}, "device is 'meta', but torch sees no META device here: use 'cpu'"),
        ({"dtype": "float32"}, "dtype is 'float32'; expected a torch dtype such as torch.bfloat16"),
        ({"pipeline": "FluxPipline"}, "pipeline is 'FluxPipline'; expected one around the transformer of .*Img2Img"),
        ({"pipeline": "QwenImagePipeline"}, "'QwenImagePipeline'; expected one around the transformer of .*FluxPipeli"),
        ({"pipeline": "FluxControlNetPipeline"}, "needs controlnet, and .* has none: load it with diffusers, and pass"),
    ],
)
def test_refused_arguments(monkeypatch: pytest.MonkeyPatch, saved: Path, options: dict[str, Any], message: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: None)
    monkeypatch.setattr(loading, "_load", lambda *_: pytest.fail("weights were loaded"))
    with pytest.raises(InputError, match=message):
        load_model(saved, **options)


def test_a_name_that_is_no_text() -> None:
    with pytest.raises(InputError, match=r"the model is 3; expected a path: a string, or a pathlib\.Path"):
        load_model(3)  # type: ignore[arg-type]


def test_a_device_beyond_those_there_are(monkeypatch: pytest.MonkeyPatch, saved: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(InputError, match=r"device is 'cuda:2', but torch sees 2 of them, numbered from 0: give"):
        load_model(saved, device="cuda:2")


# --- what lies beside a pipeline --------------------------------------------------------------------------------
def test_info_of_a_pipeline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = load_model(folder)
    assert info_of(pipe) == {}
    about = folder / "workbench.json"
    about.write_text('{"vocabulary": ["Möwe"]}', encoding="utf-8")
    assert info_of(pipe) == {"vocabulary": ["Möwe"]}
    monkeypatch.chdir(folder)
    assert info_of(flux_pipeline()) == {}, "a pipeline built in code has no folder"
    for broken in ("{", "[]"):
        about.write_text(broken)
        with pytest.raises(ModelError, match=r"workbench\.json .*expected a JSON object: restore the file"):
            info_of(pipe)
