from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench import store
from workbench.schema import InputError, StoreError, WorkbenchError
from workbench.store.locations import canonical_json

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
recipes = st.dictionaries(
    st.text(),
    st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)),
    max_size=4,
)


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(item) for key, item in reversed(value.items())}
    return [_reversed(item) for item in value] if isinstance(value, list) else value


@pytest.mark.slow
@given(recipes)
def test_key_does_not_depend_on_the_order_of_a_mapping(recipe: dict[str, Any]) -> None:
    assert store.content_key(recipe) == store.content_key(_reversed(recipe))


@given(recipes, recipes)
def test_different_recipes_have_different_keys(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert (store.content_key(a) == store.content_key(b)) == (canonical_json(a) == canonical_json(b))


def test_numpy_values_count_as_the_plain_ones() -> None:
    given_ = {"t": np.float64(0.5), "n": np.int32(3), "flag": np.bool_(True), "all": np.array([1, 2]), "pair": (1, 2)}
    assert store.content_key(given_) == store.content_key(
        {"t": 0.5, "n": 3, "flag": True, "all": [1, 2], "pair": [1, 2]}
    )


def test_key_is_short_hexadecimal() -> None:
    key = store.content_key({})
    assert len(key) == 20
    assert set(key) <= set("0123456789abcdef")


def test_key_changes_with_the_version_of_the_capture_code(monkeypatch: pytest.MonkeyPatch) -> None:
    before = store.content_key({})
    monkeypatch.setattr("workbench.store.locations.CAPTURE_VERSION", 999)
    assert store.content_key({}) != before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes", {1: "int key"}, {"a", "set"}])
def test_what_has_no_one_spelling_is_refused(value: object) -> None:
    with pytest.raises(InputError):
        store.content_key({"value": value})


def test_home_is_the_argument_then_the_environment_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "environment"))
    assert store.home(tmp_path / "argument") == tmp_path / "argument"
    assert store.home() == tmp_path / "environment"
    monkeypatch.delenv("WORKBENCH_HOME")
    assert store.home() == platformdirs.user_cache_path("concept-workbench")
    monkeypatch.chdir(tmp_path)
    assert store.home("relative") == tmp_path / "relative"


@pytest.mark.parametrize("call", [store.runs, store.open, store.info, store.check_writable, store.open_many])
@pytest.mark.parametrize("given", [3, ["a"], b"runs", "a\0b"], ids=repr)
def test_what_is_no_path_is_refused(call: Callable[[Any], Any], given: Any) -> None:
    with pytest.raises(WorkbenchError, match=r"(home|the run) is .*; expected (a|its key or its) path|is no finished"):
        call(given)


@pytest.mark.parametrize("given", [None, ""])
def test_nothing_names_no_run(given: Any) -> None:
    with pytest.raises(InputError, match="expected its key or its path"):
        store.open(given)


def test_a_path_that_is_not_there_is_told_from_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="KEY is no finished run: nothing has that name; expected a key or a path"):
        store.open(tmp_path / "KEY")
    with pytest.raises(StoreError, match=r"no manifest\.json, so it is no finished run"):
        store.open(tmp_path)
