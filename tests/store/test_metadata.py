from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numcodecs.abc import Codec
from numcodecs.registry import codec_registry

from tests import synthetic
from tests.store.replay import place
from workbench import store
from workbench.schema import StoreError
from workbench.store.manifest import write_manifest


class _Trap(Codec):
    """Unpickles what it reads."""

    codec_id = "trap"

    def encode(self, buf: Any) -> Any:
        raise NotImplementedError

    def decode(self, buf: Any, out: Any = None) -> Any:
        return pickle.loads(bytes(buf))


class _Sprung:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.mkdir, (self.path,))


@pytest.fixture
def run(home: Path) -> Path:
    place(synthetic.dataset(timesteps=(500.0,), missing=[(0, 500.0, 4)]), home)
    return home / "runs" / "run.zarr"


def _changed(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the metadata of a run whose manifest then fits them, as a forger would."""
    path = run / "zarr.json"
    group = json.loads(path.read_text())
    change(group)
    path.write_text(json.dumps(group))
    write_manifest(run, {"key": "run"})


def _array(group: dict[str, Any]) -> dict[str, Any]:
    return group["consolidated_metadata"]["metadata"]["concept"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda group: _array(group)["codecs"].append({"name": "numcodecs.pickle"}), "codec is 'numcodecs.pickle'"),
        (
            lambda group: _array(group)["codecs"].append({"name": "my.codec", "configuration": {}}),
            "codec is 'my.codec'",
        ),
        (lambda group: _array(group).update(data_type="variable_length_bytes"), "type is 'variable_length_bytes'"),
        (lambda group: _array(group).update(data_type={"name": "struct", "configuration": {}}), "type is {'name'"),
        (lambda group: _array(group).update(storage_transformers=[{"name": "x"}]), "storage transformers"),
        (lambda group: _array(group).update(shape=[1 << 40]), "1,099,511,627,776 values"),
        (lambda group: _array(group).update(zarr_format=2), "no array of zarr format 3"),
        (lambda group: _array(group).update(node_type="group"), "no array of zarr format 3"),
    ],
)
def test_metadata_of_other_things_than_runs_are_refused(
    change: Callable[[dict[str, Any]], object], says: str, run: Path
) -> None:
    _changed(run, change)
    store.verify(run)
    with pytest.raises(StoreError, match=f"holds 'concept', which is not loaded: .*{says}"):
        store.open(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda group: group.clear(),
        lambda group: group.update(consolidated_metadata=None),
        lambda group: group.update(consolidated_metadata={"metadata": []}),
        lambda group: _array(group).pop("codecs"),
        lambda group: _array(group).update(codecs="zstd"),
        lambda group: _array(group).update(shape=None),
    ],
)
def test_metadata_that_say_nothing_are_damage(change: Callable[[dict[str, Any]], object], run: Path) -> None:
    _changed(run, change)
    with pytest.raises(StoreError, match="cannot be read"):
        store.open(run)


@pytest.mark.parametrize("codec", ["pickle", "trap"])
def test_codecs_that_run_code_are_not_loaded(codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(codec_registry, "trap", _Trap)
    sprung, foreign = tmp_path / "sprung", tmp_path / "foreign.zarr"
    (foreign / "concept").mkdir(parents=True)
    (foreign / ".zgroup").write_text('{"zarr_format": 2}')
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|u1", "fill_value": 0, "order": "C"}
    array |= {"compressor": None, "filters": [{"id": codec}]}
    (foreign / "concept" / ".zarray").write_text(json.dumps(array))
    (foreign / "concept" / ".zattrs").write_text('{"_ARRAY_DIMENSIONS": ["concept"]}')
    (foreign / "concept" / "0").write_bytes(pickle.dumps(_Sprung(sprung)))
    write_manifest(foreign, {"key": "foreign"})
    store.verify(foreign)
    with pytest.raises(StoreError, match="cannot be read"):
        store.open(foreign)
    assert not sprung.exists()
    with pytest.raises((ValueError, TypeError)), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        xr.open_zarr(foreign, consolidated=False, chunks=None)["concept"].load()
    assert sprung.exists() == (codec == "trap"), "zarr itself refuses a pickle, and runs what else is registered"


def test_a_chunk_that_is_gone_is_no_gap(run: Path) -> None:
    ds = store.open(run)
    (run / "output" / "c.0.0.2.0.0.0.0").unlink()
    assert np.isnan(ds["output"].sel(layer=4)).all(), "what never was is a gap"
    with pytest.raises(StoreError, match=r"removed or damaged while it was open \(output/c\.0\.0\.2.*: missing"):
        ds["output"].load()


def test_a_chunk_that_was_cut_is_told(run: Path) -> None:
    ds = store.open(run)
    chunk = run / "cross_total" / "c.0.0.1.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    with pytest.raises(StoreError, match=r"cross_total/c\.0\.0\.1\.0\.0\.0: \d+ bytes, expected \d+"):
        ds["cross_total"].load()


def test_a_flipped_bit_in_a_chunk_is_noticed_when_it_is_read(run: Path) -> None:
    ds = store.open(run)
    chunk = run / "output" / "c.0.0.0.0.0.0.0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(RuntimeError, match="Zstd"):
        ds["output"].load()


def test_a_dataset_survives_pickling_with_its_guard(run: Path) -> None:
    data = pickle.dumps(store.open(run))
    xr.testing.assert_identical(pickle.loads(data), store.open(run))
    again = pickle.loads(data)
    (run / "output" / "c.0.0.2.0.0.0.0").unlink()
    with pytest.raises(StoreError, match="missing"):
        again["output"].load()
