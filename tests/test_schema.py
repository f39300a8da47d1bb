from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from tests import synthetic
from workbench import schema, store
from workbench.schema import InputError, SchemaError, WorkbenchWarning, noted, warn
from workbench.schema.paths import check_path
from workbench.schema.upgrading import UPGRADES


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"kind": "generate", "samples": 3},
        {"kind": "generate", "spaces": ("output", "prompt")},
        {"truth": True, "layers": (0, 2, 4), "missing": [(0, 500.0, 2)]},
        {"concepts": ("dog",), "spaces": ("prompt",), "timesteps": (1000.0,)},
    ],
)
def test_datasets_that_follow_the_contract_pass(options: dict) -> None:
    schema.validate(synthetic.dataset(**options), values=True)


def test_patch_centres_select_the_pixels_of_the_patch() -> None:
    ds = synthetic.dataset(patch=8)
    assert ds["y"].values.tolist() == [3.5, 11.5, 19.5, 27.5]
    y = ds["y"].values[1]
    assert ds["image"].sel(pixel_y=slice(y - 4, y + 4))["pixel_y"].values.tolist() == list(range(8, 16))


def _without(name: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.drop_vars(name)


def _attribute(name: str, value: object) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.assign_attrs({name: value})


def _no_attribute(name: str) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(ds: xr.Dataset) -> xr.Dataset:
        del ds.attrs[name]
        return ds

    return change


def _coordinate(name: str, values: object) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.assign_coords({name: (ds[name].dims, values)})


def _dtype(name: str, dtype: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.assign({name: ds[name].astype(dtype)})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_without("output"), "variable 'output' is not there"),
        (_without("cross_total"), "variable 'cross_total' is not there"),
        (_without("image"), "variable 'image' is not there"),
        (_dtype("output", "float64"), "'output' is float64; expected float16 or float32"),
        (_dtype("output_total", "float16"), "'output_total' is float16; expected float32"),
        (_dtype("image", "float32"), "'image' is float32"),
        (_dtype("truth", "uint8"), "'truth' is uint8"),
        (lambda ds: ds.transpose("head", ...), "'output' lies along"),
        (_attribute("spaces", ["output"]), "'cross' is there, but attribute 'spaces'"),
        (_coordinate("timestep", [250.0, 500.0, 750.0]), "strictly decreasing"),
        (_coordinate("timestep", [1001.0, 500.0, 250.0]), r"in \(0, 1000\]"),
        (_coordinate("sigma", [0.75, 0.5, 0.3]), "expected timestep / 1000"),
        (lambda ds: ds.assign_coords(sigma=("timestep", [0.9, 0.5, 0.5])).assign_attrs(process="ddim"), "decreasing"),
        (_attribute("branch", "positive"), "one of 'conditional', 'unconditional', 'both'"),
        (lambda ds: ds.expand_dims(branch=["conditional", "negative"]), "expected 'conditional' and 'unconditional'"),
        (lambda ds: ds.expand_dims(branch=["conditional", "unconditional"]), r"lies along \('branch', 'sample'"),
        (_coordinate("layer", [0, 1, 1, 3, 4]), "'layer' is int64"),
        (_coordinate("block", ["single", "dual", "dual", "single", "single"]), "dual blocks first"),
        (_coordinate("sample", [1]), "'sample' is int64"),
        (_coordinate("concept", ["dog", "dog", "sky"]), "no two alike"),
        (_coordinate("concept", ["dog", " ", "sky"]), "not blank"),
        (_coordinate("y", [4.0, 12.0, 20.0, 28.0]), "expected the 4 patch centres"),
        (_coordinate("x", np.arange(6)), "floats: patch centres"),
        (_coordinate("channel", ["b", "g", "r"]), "'r', 'g', 'b'"),
        (lambda ds: ds.drop_vars("seed"), "coordinate 'seed' is not there"),
        (lambda ds: ds.drop_vars("module"), "coordinate 'module' is not there"),
        (_attribute("seeds", [7]), "'seeds' is"),
        (_attribute("size", [32, 40]), "'pixel_x' has 48 pixels"),
        (_attribute("size", [33, 48]), "expected multiples of the patch"),
        (_attribute("patch", 0), "attribute 'patch' is 0"),
        (_attribute("schema_version", 999), "attribute 'schema_version' is 999"),
        (_attribute("pool", "middle"), "attribute 'pool' is 'middle'"),
        (_attribute("spaces", ["outptu"]), "attribute 'spaces'"),
        (_attribute("attend", np.array(["both"])), "attribute 'attend'"),
        (_attribute("guidance", {3.5}), "set that JSON cannot hold"),
        (_attribute("guidance", float("nan")), "JSON cannot hold"),
        (_attribute("versions", "torch 2"), "attribute 'versions'"),
        (_attribute("created", "2025-01-01"), "attribute 'created'"),
        (_attribute("missing", [(0, 500.0, 1)]), "attribute 'missing'"),
        (_attribute("missing", [{"sample": 0, "timestep": 400.0, "layer": 1}]), "lists .*'timestep' has"),
        (_attribute("kind", "generate"), "attribute 'steps' is not there"),
        *[(_no_attribute(name), f"attribute '{name}' is not there") for name in ("model", "image_hash", "text_length")],
    ],
)
def test_each_departure_is_named(change: Callable[[xr.Dataset], xr.Dataset], named: str) -> None:
    broken = change(synthetic.dataset(truth=True))
    with pytest.raises(SchemaError, match=named):
        schema.validate(broken)


@pytest.fixture
def third_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up history: heads were counted from 1 first, then the picture was called so."""

    def from_first(ds: xr.Dataset) -> xr.Dataset:
        return ds.assign_coords(head=ds["head"] - 1)

    def from_second(ds: xr.Dataset) -> xr.Dataset:
        return ds.rename({"picture": "image"})

    for module in ("schema.checking", "schema.upgrading", "store.reading"):
        monkeypatch.setattr(f"workbench.{module}.SCHEMA_VERSION", 3)
    monkeypatch.setattr("workbench.schema.upgrading.UPGRADES", {1: from_first, 2: from_second})


def _of_version(number: int) -> xr.Dataset:
    ds = synthetic.dataset().assign_attrs(schema_version=number)
    if number == 1:
        ds = ds.assign_coords(head=ds["head"] + 1)
    return ds.rename({"image": "picture"}) if number < 3 else ds


def test_there_is_an_upgrade_from_every_version() -> None:
    assert set(UPGRADES) == set(range(1, schema.SCHEMA_VERSION))


@pytest.mark.usefixtures("third_version")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_datasets_of_every_version_are_taken(number: int, tmp_path: Path) -> None:
    old = _of_version(number)
    before = old.copy(deep=True)
    schema.validate(old, values=True)
    xr.testing.assert_identical(old, before)
    xr.testing.assert_identical(schema.upgraded(old), _of_version(3))
    declared = {name: (tuple(map(str, old[name].dims)), "float16") for name in ("output", "cross")}
    with store.writer("run", old.drop_vars(list(declared)), declared, home=tmp_path) as run:
        for piece in run.remaining:
            run.write(piece._asdict(), {name: old[name].isel(piece._asdict()).values for name in declared})
    stored = store.open("run", tmp_path, verify=True)
    assert not stored["output"].variable._in_memory
    xr.testing.assert_identical(stored.load(), _of_version(3))


@pytest.mark.usefixtures("third_version")
def test_a_newer_version_is_refused_with_a_sentence() -> None:
    newer = _of_version(3).assign_attrs(schema_version=4)
    says = r"'schema_version' is 4; this version of the package reads up to 3: upgrade concept-workbench"
    for call in (schema.validate, schema.upgraded):
        with pytest.raises(SchemaError, match=says):
            call(newer)


@pytest.mark.usefixtures("third_version")
@pytest.mark.parametrize("number", [0, -1, True, "1", None, 1.0])
def test_what_is_no_version_is_named(number: object) -> None:
    with pytest.raises(SchemaError, match=r"'schema_version' is .*; expected an int, 1 to"):
        schema.validate(_of_version(3).assign_attrs(schema_version=number))


def test_prompts_lie_beside_the_samples_of_a_generated_run() -> None:
    with pytest.raises(SchemaError, match="coordinate 'prompt' is not there"):
        schema.validate(synthetic.dataset(kind="generate").drop_vars("prompt"))


def test_tokens_are_needed_by_the_space_prompt_only() -> None:
    with pytest.raises(SchemaError, match="coordinate 'position' is not there"):
        schema.validate(synthetic.dataset(spaces=("prompt",)).drop_vars("position"))


def test_all_problems_are_listed_at_once() -> None:
    broken = synthetic.dataset().drop_vars(["seed", "output"]).assign_attrs(patch=-1)
    with pytest.raises(SchemaError) as caught:
        schema.validate(broken)
    assert "3 places" in str(caught.value)
    assert str(caught.value).count("\n- ") == 3


@pytest.mark.parametrize("listed", [True, False])
def test_values_are_absent_exactly_where_listed(listed: bool) -> None:
    ds = synthetic.dataset(missing=[] if listed else [(0, 500.0, 2)])
    ds.attrs["missing"] = [{"sample": 0, "timestep": 500.0, "layer": 2}] if listed else []
    schema.validate(ds)
    with pytest.raises(SchemaError, match=r"'cross': 1 pieces .*'timestep': 500.0, 'layer': 2"):
        schema.validate(ds, values=True)


def test_a_warning_names_the_line_that_caused_it() -> None:
    def suspicious() -> None:
        warn("this is odd.")

    with pytest.warns(WorkbenchWarning, match="this is odd") as given:
        suspicious()
    assert given[0].filename == __file__


def test_noted_warnings_are_kept_once_and_not_given() -> None:
    with noted() as outer:
        warn("one.")
        with noted() as inner:
            warn("two.")
        warn("one.")
    assert (outer, inner) == (["one."], ["two."])
    with pytest.warns(WorkbenchWarning):
        warn("three.")


def test_warnings_are_given_in_one_place_only() -> None:
    """What goes past it would not reach the panels, whose work is in threads."""
    package = Path(schema.__file__).parents[1]
    assert [path.name for path in package.rglob("*.py") if "warnings.warn(" in path.read_text()] == ["notes.py"]


@pytest.mark.parametrize(
    ("written", "says"),
    [("a\0b", "null character"), (b"runs", "expected a path"), (3, "expected a path"), ("runs", "")],
)
def test_a_path_is_what_it_stands_for_whatever_it_is_printed_as(written: Any, says: str) -> None:
    class Named:
        def __fspath__(self) -> Any:
            return written

        def __str__(self) -> str:
            return "a name"

    refused = pytest.raises(InputError, match=says) if says else nullcontext()
    with refused:
        check_path(Named(), "home")
    with pytest.raises(InputError, match="expected a path"):
        check_path(b"runs", "home")
