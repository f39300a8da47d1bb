from __future__ import annotations

import gc
import uuid
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from tests.store.replay import parts, replay, save
from workbench import store
from workbench.schema import InputError
from workbench.store import remote


def _derived(**attrs: str) -> xr.Dataset:
    ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,))
    return ds.assign_attrs({"role": "control", "parent": "mine", "edit": "SkipBlock(3)"} | attrs)


@pytest.fixture(params=["folder", "url"])
def place(request: pytest.FixtureRequest, home: Path) -> Path | str:
    return home if request.param == "folder" else f"memory://{uuid.uuid4().hex}"


def test_a_run_says_what_it_was_made_for_until_the_user_claims_it(place: Path | str) -> None:
    save(_derived(), place, "run")
    run = store.info("run", place)
    assert (run.role, run.parent, run.edit) == ("control", "mine", "SkipBlock(3)")
    assert store.runs(place) == [run]
    open_before = store.open("run", place)
    store.claim("run", place)
    run = store.info("run", place)
    assert (run.role, run.parent, run.edit) == ("", "", "SkipBlock(3)")
    assert store.runs(place) == [run]
    assert not {"role", "parent"} & set(store.open("run", place, verify=True).attrs)
    assert open_before.attrs["role"] == "control"
    assert np.isfinite(open_before["output"]).all(), "what is open is read on"
    store.claim("run", place)


def test_claiming_what_is_no_run_of_an_experiment_changes_nothing(place: Path | str, home: Path) -> None:
    save(synthetic.dataset(), place, "run")
    store.claim("run", place)
    store.claim("none", place)
    assert not list(home.rglob("*.own"))
    assert [run.key for run in store.runs(place)] == ["run"]
    with pytest.raises(InputError, match="the key is"):
        store.claim("../run", place)


def test_a_claim_that_cannot_be_written_is_no_error(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    save(_derived(), home, "run")
    monkeypatch.setattr("workbench.store.ownership.write_file", read_only)
    store.claim("run", home)
    monkeypatch.setattr("workbench.store.ownership.exclusively", read_only)
    store.claim("run", home)
    assert store.info("run", home).role == "control"


def test_a_damaged_manifest_is_left_to_whoever_opens_the_run(home: Path) -> None:
    save(_derived(), home, "run")
    (home / "runs" / "run.zarr" / "manifest.json").write_text("{")
    store.claim("run", home)
    assert not list(home.rglob("*.own"))


@pytest.mark.slow
def test_a_run_that_is_gone_leaves_no_claim(place: Path | str) -> None:
    save(_derived(), place, "run")
    store.claim("run", place)
    gc.collect()
    store.prune(place, keep=0, force=True)
    save(_derived(), place, "run")
    assert store.info("run", place).role == "control"


@pytest.mark.parametrize(("begun", "goes_on", "own"), [(0, 1, True), (1, 0, True), (1, 1, False)])
def test_whoever_has_a_part_in_an_interrupted_run_owns_it(begun: int, goes_on: int, own: bool, home: Path) -> None:
    first, second = (_derived() if derived else _derived(role="", parent="") for derived in (begun, goes_on))
    for ds in (first, second):
        ds.attrs = {name: value for name, value in ds.attrs.items() if value != ""}
    template, variables = parts(first)
    with pytest.raises(KeyboardInterrupt), store.writer("run", template, variables, home) as run:
        replay(run, first, run.remaining[:1])
        raise KeyboardInterrupt
    store.keep_ownership("run", bool(goes_on), home)
    template, variables = parts(_derived())  # in the end an experiment finishes it
    with store.writer("run", template, variables, home) as run:
        replay(run, first)
    assert store.info("run", home).own is own


def test_a_run_that_was_stored_before_edits_were_told_in_words(home: Path) -> None:
    save(synthetic.dataset().assign_attrs(interventions=[{"edit": "SkipBlock", "layers": [3]}]), home, "old")
    save(synthetic.dataset(), home, "plain")
    from workbench.store.contents import Folder
    from workbench.store.manifest import read_manifest, write_manifest

    for key in ("old", "plain"):
        folder = home / "runs" / f"{key}.zarr"
        record = read_manifest(Folder(folder)).record
        del record["edit"]
        write_manifest(folder, record)
    assert {run.key: run.edit for run in store.runs(home)} == {"old": "edited", "plain": ""}


def test_listing_a_url_asks_for_no_claim_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    for key in ("a", "b"):
        save(_derived(), url, key)
    store.claim("a", url)
    fs, _ = remote.filesystem(url)

    def asked(*_: object, **__: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(type(fs), "exists", asked)
    assert {run.key: run.own for run in store.runs(url)} == {"a": True, "b": False}
