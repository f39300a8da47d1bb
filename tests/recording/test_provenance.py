"""What a run says about the experiment that it is made for, and about its model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from diffusers import FluxPipeline

import workbench as wb
from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.interventions import SkipBlock
from workbench.recording import image_capture, opening
from workbench.recording.provenance import derived, model_attrs, model_name
from workbench.schema import WorkbenchWarning, validate

PICTURE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return flux_pipeline()


@pytest.fixture
def take(pipe: FluxPipeline, home: Path) -> Callable[..., xr.Dataset]:
    def capture(**options: Any) -> xr.Dataset:
        settings: dict[str, Any] = {"size": (16, 16), "layers": [0, 1], "home": home, "progress": False, "model": pipe}
        return wb.capture(PICTURE, ["dog", "sky"], **{**settings, **options})

    return capture


@contextmanager
def experiment(role: str = "control", parent: str = "0123") -> Iterator[None]:
    with derived(role, parent, "tiny-flux"):
        yield


def test_a_run_of_an_experiment_says_so_and_has_the_same_key(take: Callable[..., xr.Dataset], home: Path) -> None:
    with experiment():
        ds = take(interventions=SkipBlock(0))
    validate(ds)
    assert (ds.attrs["role"], ds.attrs["parent"], ds.attrs["edit"]) == ("control", "0123", "SkipBlock(0)")
    (run,) = store.runs(home)
    assert (run.role, run.parent, run.edit, run.own) == ("control", "0123", "SkipBlock(0)", False)
    mine = take(interventions=SkipBlock(0), home=home.with_name("other"))
    assert mine.attrs["key"] == ds.attrs["key"]
    assert mine.attrs["edit"] == "SkipBlock(0)"
    assert not {"role", "parent"} & set(mine.attrs)


@pytest.mark.slow
def test_a_run_that_the_user_asks_for_becomes_his_own(take: Callable[..., xr.Dataset], home: Path) -> None:
    with experiment():
        first = take()
    manifest = (home / "runs" / f"{first.attrs['key']}.zarr" / "manifest.json").read_bytes()
    ds = take()
    assert not {"role", "parent"} & set(ds.attrs)
    (run,) = store.runs(home)
    assert (run.key, run.own, run.parent) == (ds.attrs["key"], True, "")
    assert (Path(run.path) / "manifest.json").read_bytes() == manifest
    store.verify(run.key, home)
    xr.testing.assert_equal(first, ds)


def test_an_experiment_leaves_the_users_own_run_his_own(take: Callable[..., xr.Dataset], home: Path) -> None:
    take()
    with experiment():
        ds = take()
    assert "role" not in ds.attrs
    assert store.runs(home)[0].own


def test_a_run_that_an_experiment_finishes_meanwhile_becomes_the_users_own(
    take: Callable[..., xr.Dataset], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call looks for the run before it is there, and finds it complete when it may write."""
    with experiment():
        take()
    monkeypatch.setattr(opening, "opened", lambda *_: None)
    ds = take()
    assert "role" not in ds.attrs
    assert store.runs(home)[0].own


@pytest.mark.slow
@pytest.mark.parametrize("mine_first", [True, False])
def test_an_interrupted_run_is_the_users_own_if_he_had_a_part_in_it(
    mine_first: bool, take: Callable[..., xr.Dataset], pipe: FluxPipeline, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def begin() -> None:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(image_capture, "_record", stopped)
            take()

    if mine_first:
        begin()
    else:
        with experiment():
            begin()
        begin()
    with experiment():
        take()
    assert store.runs(home)[0].own


@pytest.mark.slow
def test_a_damaged_own_run_stays_own_when_an_experiment_computes_it_anew(
    take: Callable[..., xr.Dataset], home: Path
) -> None:
    ds = take()
    chunk = home / "runs" / f"{ds.attrs['key']}.zarr" / "output_total" / "c.0.0.0.0.0.0"
    del ds
    chunk.write_bytes(b"")
    with experiment(), pytest.warns(WorkbenchWarning, match="computed anew"):
        take(verify=True)
    assert store.runs(home)[0].own
    store.verify(store.runs(home)[0].key, home)


def test_a_run_is_no_parent_of_itself() -> None:
    with derived("baseline", "abc", None):
        assert wb.recording.provenance.made_for("abc") == {"role": "baseline", "parent": ""}


def _pipe(origin: str) -> Any:
    return SimpleNamespace(config={"_name_or_path": origin})


def test_a_model_is_called_by_its_name_and_never_by_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pipe: FluxPipeline
) -> None:
    folder = tmp_path / "my-flux"
    folder.mkdir()
    cached = f"/home/me/.cache/huggingface/hub/models--black-forest-labs--FLUX.1-schnell/snapshots/{'a' * 40}"
    assert model_name("tiny-flux") == "tiny-flux"
    assert model_name("black-forest-labs/FLUX.1-schnell") == "black-forest-labs/FLUX.1-schnell"
    assert model_name(_pipe("black-forest-labs/FLUX.1-schnell")) == "black-forest-labs/FLUX.1-schnell"
    assert model_name(_pipe(cached)) == "black-forest-labs/FLUX.1-schnell"
    assert model_name(folder) == model_name(str(folder)) == model_name(_pipe(str(folder))) == "my-flux"
    monkeypatch.chdir(tmp_path)
    assert model_name("my-flux") == model_name(Path("my-flux")) == model_name("./my-flux/") == "my-flux"
    monkeypatch.chdir(folder)
    assert model_name(".") == "my-flux"
    assert model_name(pipe) == "FluxPipeline"
    assert model_name(wb.load_model("tiny-flux")) == "tiny-flux"


def test_only_a_name_can_be_loaded_again(tmp_path: Path) -> None:
    assert model_attrs("tiny-flux") == model_attrs("org/name") == {"model_from": "name"}
    assert model_attrs(tmp_path) == model_attrs(str(tmp_path)) == {"model_from": "folder"}
    assert model_attrs(_pipe("org/name")) == {"model_from": "pipeline"}
    with derived("edit", "", "org/name"):
        assert model_attrs(_pipe("org/name")) == {"model_from": "name"}, "an experiment loads what it is given"


@pytest.mark.slow
def test_two_folders_of_one_name_are_two_models(take: Callable[..., xr.Dataset], home: Path, tmp_path: Path) -> None:
    folders = [tmp_path / where / "my-flux" for where in ("one", "two")]
    for seed, folder in enumerate(folders):
        flux_pipeline(seed=seed).save_pretrained(folder)
    found = [take(model=folder) for folder in folders]
    assert {ds.attrs["model"] for ds in found} == {"my-flux"}
    assert len({ds.attrs["key"] for ds in found}) == 2
    assert not any(str(tmp_path) in str(ds.attrs) for ds in found)
