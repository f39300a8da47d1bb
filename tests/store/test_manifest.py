from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests import synthetic
from tests.store.replay import place
from workbench import store
from workbench.schema import StoreError


@pytest.fixture
def run(home: Path) -> Path:
    place(synthetic.dataset(timesteps=(500.0,), dual=1, single=1), home)
    path = store.find("run", home)
    assert path is not None
    return path


def test_an_intact_run_passes(run: Path) -> None:
    store.verify(run)


def test_any_flipped_bit_is_found_and_its_file_named(run: Path) -> None:
    rng = random.Random(0)
    files = sorted(path for path in run.rglob("*") if path.is_file())
    assert len(files) > 20
    for path in files:
        intact = path.read_bytes()
        place = rng.randrange(len(intact))
        damaged = bytearray(intact)
        damaged[place] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match="damaged") as caught:
            store.verify(run)
        assert f"- {path.relative_to(run).as_posix()}" in str(caught.value)
        path.write_bytes(intact)
    store.verify(run)


def test_a_cut_a_missing_and_an_added_file_are_named(run: Path) -> None:
    cut = run / "image" / "zarr.json"
    cut.write_bytes(cut.read_bytes()[:-1])
    (run / "head" / "c" / "0").unlink()
    (run / "stray").write_text("")
    with pytest.raises(StoreError) as caught:
        store.verify(run)
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) == 3
    assert lines[0] == "- head/c/0: missing"
    assert lines[1].startswith("- image/zarr.json: ")
    assert lines[2] == "- stray: not in the manifest"


def test_a_folder_that_is_no_run_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no manifest\.json, so it is no finished run"):
        store.verify(tmp_path)
