"""Capture of real images: what the dataset holds, what is stored, what is refused, and how runs resume."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xarray as xr
import zarr
from diffusers import DiffusionPipeline, FluxPipeline
from PIL import Image

from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.models.loading import load_model
from workbench.recording import opening
from workbench.recording.capturing import capture
from workbench.recording.tracing import trace
from workbench.schema import InputError, ModelError, StoreError, TraceError, WorkbenchWarning, patch_centres, validate

pytestmark = pytest.mark.usefixtures("tests_code")

CONCEPTS = ["dog", "grass", "sky"]
SIZE = (24, 32)
EVERY_SPACE = ("output", "cross", "reverse_cross", "value", "query", "prompt")


@pytest.fixture(scope="module")
def shared() -> FluxPipeline:
    """A pipeline no test changes."""
    return flux_pipeline()


@pytest.fixture
def picture() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


@pytest.fixture
def take(picture: npt.NDArray[np.uint8], shared: FluxPipeline, home: Path) -> Callable[..., xr.Dataset]:
    """Capture the picture; every argument may be replaced."""

    def call(image: Any = picture, concepts: Any = CONCEPTS, **options: Any) -> xr.Dataset:
        return capture(image, concepts, **({"model": shared, "size": SIZE, "home": home, "progress": False} | options))

    return call


class Passes:
    """Counts the forward passes of every module of a pipeline, and raises at a chosen one."""

    def __init__(self, pipe: FluxPipeline, raise_at: int | None = None, where: str = "transformer") -> None:
        self.counts: dict[str, int] = {}
        self._raise_at, self._where = raise_at, where
        parts = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
        modules = {f"{name}.{path}".rstrip("."): m for name, part in parts.items() for path, m in part.named_modules()}
        self._handles = [m.register_forward_pre_hook(self._count(name)) for name, m in modules.items()]

    def _count(self, name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            self.counts[name] = self.counts.get(name, 0) + 1
            if name == self._where and self.counts[name] == self._raise_at:
                raise KeyboardInterrupt

        return hook

    def __enter__(self) -> Passes:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def transformer(self) -> int:
        return self.counts.get("transformer", 0)


def hooks(pipe: FluxPipeline) -> int:
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    modules = [module for part in parts for module in part.modules()]
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def files(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file()]


def same(one: xr.Dataset, other: xr.Dataset) -> None:
    """Equal bit for bit, but for the time of the run and the key that only a stored one has."""
    ignored = ("created", "key")
    attrs = [{name: value for name, value in ds.attrs.items() if name not in ignored} for ds in (one, other)]
    assert attrs[0] == attrs[1]
    one, other = one.load(), other.load()
    assert {n: v.dtype for n, v in one.variables.items()} == {n: v.dtype for n, v in other.variables.items()}
    xr.testing.assert_equal(one, other)


# --- the dataset ------------------------------------------------------------------------------------------------
def test_dataset_follows_the_contract(take: Callable[..., xr.Dataset], picture: npt.NDArray[np.uint8]) -> None:
    ds = take(
        prompt="a dog on grass",
        timesteps=[123.456, 1000, 0.5],
        layers=[4, 0, 2],
        spaces=EVERY_SPACE,
        samples=2,
        seed=7,
        attend="image",
        pool="mean",
    )
    validate(ds, values=True)
    ds.wb.validate()
    sizes = {"sample": 2, "timestep": 3, "layer": 3, "head": 2, "concept": 3, "token": 4, "y": 6, "x": 8}
    assert dict(ds.sizes) == sizes | {"pixel_y": 24, "pixel_x": 32, "channel": 3}
    assert ds["output"].dims == ("sample", "timestep", "layer", "head", "concept", "y", "x")
    assert ds["output_total"].dims == ("sample", "timestep", "layer", "concept", "y", "x")
    assert ds["prompt"].dims == ("sample", "timestep", "layer", "head", "token", "y", "x")
    assert {ds[space].dtype.name for space in EVERY_SPACE} == {"float32"}
    assert not [name for name in ds.variables if str(name).endswith("_residual")]
    assert {ds[f"{space}_total"].dtype.name for space in EVERY_SPACE} == {"float32"}
    expected: dict[str, Any] = {
        "seed": [7, 8],
        "timestep": [1000, 123.456, 0.5],
        "sigma": [1, 0.123456, 0.0005],
        "step": [0, 1, 2],
        "layer": [0, 2, 4],
        "block": ["dual", "dual", "single"],
        "module": ["transformer_blocks.0", "transformer_blocks.2", "single_transformer_blocks.1"],
        "head": [0, 1],
        "concept": CONCEPTS,
        "token": ["a", "dog", "on", "grass"],
        "position": [0, 1, 2, 3],
        "y": patch_centres(6, 4),
        "x": patch_centres(8, 4),
    }
    for name, values in expected.items():
        assert ds[name].values.tolist() == list(values), name
    np.testing.assert_array_equal(ds["image"], picture)
    promised = {
        "kind": "capture",
        "model": "FluxPipeline",
        "model_revision": "",
        "prompt": "a dog on grass",
        "pool": "mean",
        "attend": "image",
        "spaces": list(EVERY_SPACE),
        "seeds": [7, 8],
        "text_length": 256,
        "size": [24, 32],
        "patch": 4,
        "default_layers": [1, 2],
        "missing": [],
    }
    assert {name: ds.attrs[name] for name in promised} == promised
    assert len(ds.attrs["image_hash"]) == 20
    assert {"torch", "diffusers", "transformers"} < set(json.loads(ds.attrs["versions"]))


def test_defaults(take: Callable[..., xr.Dataset]) -> None:
    ds = take()
    assert ds["timestep"].values.tolist() == [500]
    assert ds["layer"].values.tolist() == [0, 1, 2], "all dual-stream blocks, no single-stream ones"
    assert ds.attrs["spaces"] == ["output", "cross"]
    assert set(ds.data_vars) == {"output", "output_total", "cross", "cross_total", "image"}
    assert ds["seed"].values.tolist() == [0]


def scores_by_hand(
    pipe: Any, picture: npt.NDArray[np.uint8], prompt: str, sigma: float, seed: int, **options: Any
) -> dict[str, torch.Tensor]:
    """Encode, noise and trace with the pipeline's own parts; (layer, head, concept, y, x) by space."""

    def text(words: str) -> torch.Tensor:
        ids = pipe.tokenizer_2(words, padding="max_length", max_length=256, truncation=True, return_tensors="pt")
        return pipe.text_encoder_2(ids.input_ids)[0]

    with torch.no_grad():
        pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        encoded = pipe.vae.encode(pixels).latent_dist
        generator = torch.Generator().manual_seed(seed)
        latents = encoded.mean + encoded.std * torch.randn(encoded.mean.shape, generator=generator)
        latents = (latents - 0.1159) * 0.3611
        mixed = sigma * torch.randn(latents.shape, generator=generator) + (1 - sigma) * latents
        _, channels, height, width = mixed.shape
        tokens = mixed.reshape(channels, height // 2, 2, width // 2, 2).permute(1, 3, 0, 2, 4).flatten(0, 1).flatten(1)
        y, x = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
        concepts = torch.cat([text(word)[:, :1] for word in CONCEPTS], dim=1)
        with trace(pipe.transformer, concepts, **options) as seen:
            pipe.transformer(
                hidden_states=tokens[None],
                encoder_hidden_states=text(prompt),
                pooled_projections=torch.zeros(1, 24),
                timestep=torch.tensor([sigma]),
                img_ids=torch.stack([torch.zeros(tokens.shape[0]), y.flatten(), x.flatten()], dim=1),
                txt_ids=torch.zeros(256, 3),
            )
    return {space: values[:, 0].unflatten(-1, (height // 2, width // 2)) for space, values in seen.scores.items()}


def test_values_equal_a_trace_of_the_same_inputs(
    take: Callable[..., xr.Dataset], picture: npt.NDArray[np.uint8], shared: FluxPipeline
) -> None:
    spaces, prompt = EVERY_SPACE, "a dog on grass"
    ds = take(timesteps=[700, 333.3], samples=2, seed=3, layers=[1, 3, 4], spaces=spaces, prompt=prompt)
    for sample in (0, 1):
        for timestep in (700, 333.3):
            expected = scores_by_hand(
                shared, picture, prompt, timestep / 1000, 3 + sample, layers=[1, 3, 4], spaces=spaces, tokens=range(4)
            )
            for space in spaces:
                values, where = expected[space].numpy(), {"sample": sample, "timestep": timestep}
                scale = np.abs(values).max()
                stored = ds[f"{space}_total"].sel(where).values
                np.testing.assert_allclose(stored, values.sum(1), atol=1e-5 * scale * 2, err_msg=space)
                rounded = ds[space].sel(where).values.astype(np.float32)
                np.testing.assert_allclose(rounded, values, rtol=1e-3, atol=1e-4 * scale, err_msg=space)


@pytest.mark.slow
@pytest.mark.parametrize("stored", [True, False])
def test_log_sum_exps(
    take: Callable[..., xr.Dataset], shared: FluxPipeline, picture: npt.NDArray[np.uint8], stored: bool
) -> None:
    ds = take(lse=True, layers=[1, 4], spaces=("cross",), store=stored)
    validate(ds, values=True)
    assert ds["lse_image"].dims == ds["lse_concept"].dims == ("sample", "timestep", "layer", "head", "concept")
    from_scores = np.log(np.exp(ds["cross"].values.astype(np.float64)).sum((-2, -1)))
    np.testing.assert_allclose(ds["lse_image"].values, from_scores, atol=2e-3)
    assert "lse_image" not in take(layers=[1, 4], spaces=("cross",), store=stored)


def test_attention_to_text(take: Callable[..., xr.Dataset]) -> None:
    ds = take(text_mass=True, layers=[1, 4], prompt="a dog on grass", timesteps=[300, 600])
    validate(ds, values=True)
    assert ds["text_mass"].dims == ("sample", "timestep", "layer", "head", "text")
    assert ds["padding"].values.tolist() == [False] * 5 + [True] * 251, "four words and the end of text"
    mass = ds["text_mass"].sum("text").values
    assert ((mass > 0) & (mass < 1)).all()
    shares = ds.wb.text_sinks(layers=[1, 4], timesteps=slice(0, 1000))
    assert (shares["padding_share"] > 0.5).all(), "a random model looks everywhere alike"


def test_guidance_distilled_model_encodes_with_zero_guidance(picture: npt.NDArray[np.uint8], home: Path) -> None:
    pipe, seen = flux_pipeline(guidance_embeds=True), []
    pipe.transformer.register_forward_pre_hook(lambda m, args, kwargs: seen.append(kwargs), with_kwargs=True)
    ds = capture(picture, CONCEPTS, model=pipe, size=SIZE, home=home, progress=False)
    assert ds.attrs["text_length"] == 512
    assert [kwargs["guidance"].tolist() for kwargs in seen] == [[0.0]]
    assert not seen[0]["pooled_projections"].any()


@pytest.mark.slow
def test_options_change_the_scores(take: Callable[..., xr.Dataset]) -> None:
    """A word of several tokens tells the pools apart; the modes of attention differ from block 1 on."""
    with pytest.warns(WorkbenchWarning, match=r"several tokens.*'skyscraper' \(2\).*pool=\"mean\""):
        first = take(concepts=["dog", "skyscraper"])["output_total"]
    mean = take(concepts=["dog", "skyscraper"], pool="mean")["output_total"]
    assert not np.allclose(first.sel(concept="skyscraper"), mean.sel(concept="skyscraper"), rtol=1e-3)
    modes = [take(attend=mode)["output_total"].values for mode in ("both", "image", "concepts", "none")]
    assert all(not np.allclose(a, b, rtol=1e-3) for i, a in enumerate(modes) for b in modes[:i])


@pytest.mark.slow
def test_samples_do_not_depend_on_each_other(take: Callable[..., xr.Dataset]) -> None:
    both, second = take(samples=2, seed=4), take(seed=5)
    np.testing.assert_array_equal(both["output"][1], second["output"][0])
    assert not np.array_equal(both["output"][0], both["output"][1])


@pytest.mark.slow
def test_stopping_early(take: Callable[..., xr.Dataset], shared: FluxPipeline) -> None:
    def blocks(layers: list[int]) -> list[int]:
        with Passes(shared) as passes:
            take(layers=layers, timesteps=[250, 750])
        dual = [passes.counts.get(f"transformer.transformer_blocks.{i}", 0) for i in range(3)]
        return dual + [passes.counts.get(f"transformer.single_transformer_blocks.{i}", 0) for i in range(2)]

    assert blocks([0]) == [2, 0, 0, 0, 0]
    assert blocks([0, 2]) == [2, 2, 2, 0, 0]
    assert blocks([3]) == [2, 2, 2, 2, 0]
    assert blocks([4]) == [2, 2, 2, 2, 2]


def test_size_keeps_the_aspect_ratio(
    take: Callable[..., xr.Dataset], shared: FluxPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "default_sample_size", 32)
    native = 64
    ds = take(np.zeros((30, 120, 3), np.uint8), size=None, layers=0)
    height, width = ds.attrs["size"]
    assert (height, width) == (native // 2, native * 2)
    assert ds.sizes["y"] * 4 == ds.sizes["pixel_y"] == height
    assert ds.sizes["x"] * 4 == ds.sizes["pixel_x"] == width
    validate(ds, values=True)


def test_image_is_resized_whole_and_given_in_any_form(
    take: Callable[..., xr.Dataset], picture: npt.NDArray[np.uint8], tmp_path: Path
) -> None:
    larger = Image.fromarray(picture).resize((100, 50))
    larger.save(tmp_path / "larger.png")
    keys = {take(image).attrs["key"] for image in (larger, tmp_path / "larger.png", np.asarray(larger))}
    assert len(keys) == 1, "the picture counts, not how it was given"
    expected = np.asarray(larger.resize((32, 24), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(take(larger)["image"], expected)


def test_truth_is_stored(take: Callable[..., xr.Dataset], home: Path) -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask[:10, 5:] = True
    with pytest.warns(WorkbenchWarning, match="no mask for 'sky'"):
        ds = take(truth={"dog": mask, "grass": ~mask})
    validate(ds, values=True)
    again = store.open(ds.attrs["key"], home)
    assert again["truth"].dims == ("concept", "pixel_y", "pixel_x")
    np.testing.assert_array_equal(again["truth"], np.stack([mask, ~mask, np.zeros_like(mask)]))
    assert "truth" not in take(), "another run"


@pytest.mark.slow
def test_void_pixels_are_stored(take: Callable[..., xr.Dataset], home: Path) -> None:
    mask, void = np.zeros(SIZE, dtype=bool), np.zeros(SIZE, dtype=bool)
    mask[:10], void[8:14] = True, True
    masks = {"dog": mask & ~void, "grass": ~mask & ~void, "sky": np.zeros_like(mask)}
    ds = take(truth=masks | {"border": void}, ignore="border")
    validate(ds, values=True)
    again = store.open(ds.attrs["key"], home)
    np.testing.assert_array_equal(again["void"], void)
    np.testing.assert_array_equal(again["truth"], np.stack(list(masks.values())))
    assert take(truth=masks).attrs["key"] != ds.attrs["key"], "another run"
    with pytest.raises(InputError, match="ignore is 255; here it names one of the masks"):
        take(truth=masks, ignore=255)


# --- stored and not ---------------------------------------------------------------------------------------------
def test_memory_and_disk_hold_the_same(take: Callable[..., xr.Dataset], home: Path) -> None:
    options: dict[str, Any] = {"timesteps": [250, 750], "samples": 2, "layers": [0, 4], "spaces": ("output", "value")}
    unstored = take(store=False, **options)
    assert not home.exists(), "nothing is written"
    assert unstored.attrs["key"] == ""
    validate(unstored, values=True)
    same(unstored, take(**options))


def test_second_call_opens(
    take: Callable[..., xr.Dataset], shared: FluxPipeline, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = take(timesteps=[250, 750])
    before = {path: path.stat().st_mtime_ns for path in files(home)}
    with Passes(shared) as passes:
        second = take(timesteps=[750, 250.0], progress=True)
    assert passes.counts == {}
    assert {path: path.stat().st_mtime_ns for path in files(home)} == before
    said = f"run {first.attrs['key']} is stored already: opened, nothing was computed"
    assert said in "".join(capsys.readouterr())
    assert second.attrs == first.attrs
    same(first, second)
    assert [run.key for run in store.runs(home)] == [first.attrs["key"]]
    same(first, store.open(first.attrs["key"], home))


@pytest.mark.slow
def test_damage_is_found_and_mended_on_request(
    take: Callable[..., xr.Dataset], shared: FluxPipeline, home: Path
) -> None:
    sound = take().load()
    key = sound.attrs["key"]
    with Passes(shared) as passes:
        same(sound, take(verify=True))
    assert passes.counts == {}, "a sound run is opened"
    chunk = next(path for path in files(home) if path.parent.name == "output" and path.name.startswith("c."))
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.warns(WorkbenchWarning, match=rf"run {key} is damaged and is computed anew: output/{chunk.name}"):
        mended = take(verify=True)
    store.verify(key, home)
    same(sound, mended)


def test_a_home_that_can_only_be_read(
    take: Callable[..., xr.Dataset], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = take().load()

    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    same(stored, take())
    with pytest.raises(StoreError, match=r"cannot write to .* \(Permission denied"):
        take(seed=1)


def test_progress_can_be_silenced(take: Callable[..., xr.Dataset], capfd: pytest.CaptureFixture[str]) -> None:
    take()
    take()
    assert "".join(capfd.readouterr()) == ""
    take(seed=1, progress=True)
    assert "capture" in capfd.readouterr().err


def test_every_argument_is_part_of_the_key(
    take: Callable[..., xr.Dataset], picture: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if every run were stored already.
    monkeypatch.setattr(opening, "opened", lambda key, *_: xr.Dataset(attrs={"key": key}))
    changed = picture.copy()
    changed[0, 0, 0] ^= 1
    mask = {word: np.zeros(SIZE, bool) for word in CONCEPTS}
    variants: list[dict[str, Any]] = [
        {},
        {"image": changed},
        {"concepts": CONCEPTS[:2]},
        {"concepts": CONCEPTS[::-1]},
        {"prompt": "a dog"},
        {"timesteps": 500.0001},
        {"timesteps": [500, 501]},
        {"layers": [0, 1]},
        {"spaces": "output"},
        {"samples": 2},
        {"seed": 1},
        {"size": (32, 24)},
        {"attend": "image"},
        {"pool": "mean"},
        {"truth": mask},
        {"truth": mask | {"dog": np.ones(SIZE, bool)}},
        {"model": flux_pipeline(seed=1)},
        {"model": flux_pipeline(dtype=torch.bfloat16)},
        {"model": flux_pipeline(guidance_embeds=True)},
    ]
    keys = [take(**variant).attrs["key"] for variant in variants]
    assert len(set(keys)) == len(variants)
    assert take(timesteps=500, layers=range(3), spaces=["output", "cross"]).attrs["key"] == keys[0]
    assert take(model=flux_pipeline()).attrs["key"] == keys[0], "the same weights in another object"


def test_a_changed_weight_is_another_run(take: Callable[..., xr.Dataset]) -> None:
    pipe = flux_pipeline()
    before = take(model=pipe)
    with torch.no_grad():
        pipe.text_encoder_2.shared.weight.add_(0.25)
    after = take(model=pipe)
    assert before.attrs["key"] != after.attrs["key"]
    assert not np.array_equal(before["output"], after["output"])


def test_stored_results_are_lazy(
    take: Callable[..., xr.Dataset], monkeypatch: pytest.MonkeyPatch, picture: npt.NDArray[np.uint8]
) -> None:
    take()
    read: list[str] = []
    get = zarr.storage.LocalStore.get

    async def recorded(self: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        read.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", recorded)
    ds = take()
    scores = [name for name in ds.data_vars if name != "image"]
    assert not [key for key in read if key.split("/")[0] in scores and not key.endswith("zarr.json")]
    assert all(not ds[name].variable._in_memory for name in scores)
    ds["output_total"].isel(layer=1).load()
    assert [key for key in read if key.startswith("output_total/c")] == ["output_total/c.0.0.1.0.0.0"]


# --- interruption -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["transformer", "transformer.transformer_blocks.2"])
def test_interrupted_run_resumes(
    take: Callable[..., xr.Dataset], shared: FluxPipeline, home: Path, tmp_path: Path, where: str
) -> None:
    """Stopped before the third of six passes, or in the middle of it."""
    options: dict[str, Any] = {"timesteps": [250, 500, 750], "samples": 2, "layers": [1, 2]}
    with Passes(shared, raise_at=3, where=where), pytest.raises(KeyboardInterrupt):
        take(**options)
    assert hooks(shared) == 0
    assert store.runs(home) == []
    with Passes(shared) as passes:
        resumed = take(**options)
    assert passes.transformer == 4
    validate(resumed, values=True)
    assert [run.key for run in store.runs(home)] == [resumed.attrs["key"]]
    assert files(home / "partial") == []
    same(resumed, take(home=tmp_path / "uninterrupted", **options))


@pytest.mark.slow
def test_interrupted_twice(take: Callable[..., xr.Dataset], shared: FluxPipeline, tmp_path: Path) -> None:
    options: dict[str, Any] = {"timesteps": range(100, 600, 100)}
    for _ in range(2):
        with Passes(shared, raise_at=3), pytest.raises(KeyboardInterrupt):
            take(**options)
    with Passes(shared) as passes:
        resumed = take(**options)
    assert passes.transformer == 1
    same(resumed, take(home=tmp_path / "uninterrupted", **options))


@pytest.mark.slow
def test_exception_leaves_no_hooks(take: Callable[..., xr.Dataset], shared: FluxPipeline) -> None:
    for where in ("text_encoder_2", "vae.encoder", "transformer", "transformer.transformer_blocks.1.attn.to_q"):
        for stored in (True, False):
            with Passes(shared, raise_at=1, where=where), pytest.raises(KeyboardInterrupt):
                take(store=stored)
            assert hooks(shared) == 0, where
    with trace(shared.transformer, torch.zeros(1, 1, 40)):  # no trace is left open
        take(model=flux_pipeline(), store=False)
        with pytest.raises(TraceError, match="is being traced already"):
            take(store=False)
        shared.transformer(
            hidden_states=torch.zeros(1, 4, 16),
            encoder_hidden_states=torch.zeros(1, 2, 40),
            pooled_projections=torch.zeros(1, 24),
            timestep=torch.ones(1),
            img_ids=torch.zeros(4, 3),
            txt_ids=torch.zeros(2, 3),
        )


def test_nan_in_the_model_is_named(take: Callable[..., xr.Dataset], home: Path) -> None:
    pipe = flux_pipeline()
    with torch.no_grad():
        pipe.transformer.transformer_blocks[1].attn.to_q.weight[0, 0] = float("nan")
    for stored in (True, False):
        with pytest.raises(TraceError, match=r"NaN or infinite values in layer 1 output.*load it in bfloat16"):
            take(model=pipe, store=stored)
    assert hooks(pipe) == 0
    assert store.runs(home) == []


# --- refused, before anything runs ------------------------------------------------------------------------------
@pytest.fixture
def untouched(shared: FluxPipeline, home: Path) -> Iterator[None]:
    """Nothing ran and no file was written during the test."""
    with Passes(shared) as passes:
        yield
    assert passes.counts == {}
    assert files(home) == []


ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"concepts": []}, "concepts is empty; expected one or more words"),
    ({"concepts": "dog"}, "concepts is the single string 'dog'; expected a list of words"),
    ({"concepts": ["dog", " "]}, "concepts holds ' '; expected words that are not blank"),
    ({"concepts": ["dog", "dog"]}, "concepts holds 'dog' more than once; expected each word once"),
    ({"concepts": [str(i) for i in range(65)]}, "65 concepts; expected at most 64"),
    ({"concepts": ["dog", 3]}, "concepts holds 3; expected words"),
    ({"concepts": {"dog": 1}}, "concepts is a dict; expected a list of words"),
    ({"size": (24, 30)}, "size 24 x 30 is no multiple of the model's patch of 4 pixels: use for example"),
    ({"size": (-24, 32)}, r"size is \(-24, 32\); expected two positive whole numbers"),
    ({"size": (24,)}, r"size is \(24,\); expected \(height, width\)"),
    ({"size": (24, 32, 3)}, r"size is \(24, 32, 3\); expected \(height, width\)"),
    ({"size": (10**5, 10**5)}, "expected at most 64 million pixels"),
    *(
        ({"timesteps": wrong}, "timesteps .* numbers above 0, up to 1000")
        for wrong in (0, -1, 1001, float("nan"), float("inf"), "500", True, ["a"], [])
    ),
    ({"timesteps": [500, 500]}, r"timesteps is \[500, 500\], with one of them twice"),
    *(
        ({"layers": wrong}, r"layers is \[.*\]; expected whole numbers from 0 to 4, each once")
        for wrong in ([5], [-1], [0.0], [True], [1, 1], 5, "0", [])
    ),
    ({"samples": 0}, "samples is 0; expected a whole number from 1"),
    ({"seed": -1}, "seed is -1; expected a whole number from 0"),
    ({"seed": 0.5}, "seed is 0.5; expected a whole number from 0"),
    ({"prompt": None}, "prompt is a NoneType; expected a string"),
    ({"spaces": ["attention"]}, r"spaces is \('attention',\); expected one or more of output, cross, reverse_cross"),
    ({"spaces": "prompt"}, 'the space "prompt" needs a prompt, but prompt is empty: give one'),
    ({"attend": "all"}, "attend is 'all'; expected one of both, image, concepts, none"),
    ({"pool": "middle"}, "pool is 'middle'; expected one of first, last, mean"),
    ({"lse": 1}, "lse is 1; expected True or False"),
    ({"text_mass": "yes"}, "text_mass is 'yes'; expected True or False"),
    ({"verify": None}, "verify is None; expected True or False"),
    ({"truth": {"cat": np.zeros(SIZE, bool)}}, "masks for 'cat', not among the concepts dog, grass, sky"),
    ({"truth": {"dog": np.zeros((4, 4), bool)}}, "is 4 x 4 pixels .*; the processed image is 24 x 32"),
    ({"truth": np.zeros(SIZE, bool)}, "truth is a ndarray; expected a mapping from concept to mask"),
    ({"image": "absent.png"}, "there is no image file at absent.png: check the path"),
    ({"image": np.zeros((1, 1, 3), np.uint8)}, "the image has 1 x 1 pixels; expected at least 8 a side"),
    ({"image": np.full((9, 9, 3), np.nan)}, "the image holds 243 NaN or infinite values; expected floats in 0..1"),
    ({"image": None}, "the image is a NoneType; expected a path, a PIL image, or an array"),
]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize(("wrong", "message"), ARGUMENTS, ids=[str(wrong)[:50] for wrong, _ in ARGUMENTS])
def test_refused_arguments(take: Callable[..., xr.Dataset], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        take(**wrong)


@pytest.mark.usefixtures("untouched")
def test_refused_models(take: Callable[..., xr.Dataset], tmp_path: Path) -> None:
    class OtherPipeline(DiffusionPipeline):
        pass

    supported = "Supported pipeline classes: FluxPipeline"
    with pytest.raises(ModelError, match=f"a pipeline of class OtherPipeline is not supported. {supported}"):
        take(model=OtherPipeline())
    with pytest.raises(ModelError, match=f"a pipeline of class SimpleNamespace is not supported. {supported}"):
        take(model=SimpleNamespace())
    with pytest.raises(ModelError, match=f"a pipeline of class NoneType is not supported. {supported}"):
        take(model=None)
    with pytest.raises(ModelError, match=r"unknown model 'no-such-model'; expected 'tiny-flux', a folder .* or a hub"):
        take(model="no-such-model")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=r"folder is no diffusers pipeline: it has no model_index.json"):
        take(model=tmp_path / "folder")


@pytest.mark.usefixtures("untouched")
def test_no_write_permission(take: Callable[..., xr.Dataset], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    # Tests may run as root, to whom every folder is writable.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        StoreError,
        match=r"cannot write to .*runs of a test \(Permission denied; .*\); set WORKBENCH_HOME",
    ):
        take()


@pytest.mark.usefixtures("untouched")
def test_home_that_cannot_be_a_folder(take: Callable[..., xr.Dataset], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write to .*; set WORKBENCH_HOME or pass home="):
        take(home=tmp_path / "file" / "runs")


def test_weights_that_cannot_be_identified(take: Callable[..., xr.Dataset], home: Path) -> None:
    pipe = flux_pipeline()
    pipe.text_encoder.to("meta")
    with pytest.raises(ModelError, match=r"the weights of 'text_encoder' cannot be identified.*pass store=False"):
        take(model=pipe)
    assert files(home) == []


def test_pipeline_without_a_part_that_is_needed(take: Callable[..., xr.Dataset], home: Path) -> None:
    pipe = flux_pipeline()
    pipe.register_modules(vae=None)
    with pytest.raises(ModelError, match="the pipeline was loaded without its vae"):
        take(model=pipe)
    assert store.runs(home) == []
    assert hooks(pipe) == 0


# --- models by path ---------------------------------------------------------------------------------------------
VOCABULARY = ["dog", "cat", "grass", "sky"]


@pytest.fixture
def folder(tmp_path: Path, shared: FluxPipeline) -> Path:
    """A saved pipeline that says what it is made for."""
    path = tmp_path / "a model"
    shared.save_pretrained(path)
    about = {
        "size": [16, 32],
        "text_length": 12,
        "timestep": 400,
        "default_layers": [2],
        "vocabulary": VOCABULARY,
        "fillers": ["a", "on"],
    }
    (path / "workbench.json").write_text(json.dumps(about))
    return path


def test_model_says_what_it_is_made_for(take: Callable[..., xr.Dataset], folder: Path, home: Path) -> None:
    pipe = load_model(folder, dtype=torch.float32)
    ds = take(model=pipe, size=None, prompt="a dog on grass")
    validate(ds, values=True)
    assert ds.attrs["text_length"] == 12
    assert ds.attrs["default_layers"] == [2]
    assert (ds.attrs["model"], ds.attrs["model_from"]) == ("a model", "pipeline")
    assert ds["timestep"].values.tolist() == [400]
    assert ds.attrs["size"] == [20, 28], "the picture's aspect ratio at the model's area"
    before = files(home)
    with Passes(pipe) as passes:
        with pytest.raises(InputError, match=f"does not know 'tree'. Its words: {', '.join(VOCABULARY)}. For other"):
            take(model=pipe, concepts=["dog", "tree"])
        with pytest.raises(InputError, match=f"does not know 'the'. Its words: {', '.join(VOCABULARY)}, a, on"):
            take(model=pipe, prompt="a dog on the grass")
    assert passes.counts == {}
    assert files(home) == before


@pytest.mark.slow
def test_model_by_path(take: Callable[..., xr.Dataset], folder: Path) -> None:
    by_path = take(model=folder)
    assert (by_path.attrs["model"], by_path.attrs["model_from"]) == ("a model", "folder")
    assert take(model=str(folder)).attrs["key"] == by_path.attrs["key"]
    loaded = load_model(folder)
    assert loaded.dtype == torch.bfloat16
    assert take(model=loaded).attrs["key"] == by_path.attrs["key"], "the same pipeline, whoever loaded it"

    class Location(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(folder)

    assert take(model=Location(), seed=1).attrs["model"] == "a model"


@pytest.mark.slow
def test_unfamiliar_picture(take: Callable[..., xr.Dataset], folder: Path) -> None:
    (folder / "workbench.json").write_text(json.dumps({"familiar_psnr": 60}))
    with pytest.warns(WorkbenchWarning, match=r"knows drawn scenes only.*at \d+\.\d dB; scenes reach 60 dB.*load FLUX"):
        take(model=folder)
    (folder / "workbench.json").write_text(json.dumps({"familiar_psnr": 1}))
    take(model=folder, seed=1)


def test_working_folder_says_nothing_about_a_pipeline(
    take: Callable[..., xr.Dataset], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert take().attrs["text_length"] == 256
