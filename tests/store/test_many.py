from __future__ import annotations

from pathlib import Path

import pytest

from workbench import store
from workbench.schema import StoreError
from workbench.store.many import Item, find_register, registers

RECORD = {"model": "m", "prompt": "", "concepts": ["dog"], "created": "2026-01-01T00:00:00+00:00", "schema_version": 1}


def _item(name: str, position: int, run: str = "run", **more: object) -> Item:
    return Item(name, position, run, "hash", ("dog",), (8, 8), **more)  # type: ignore[arg-type]


@pytest.fixture
def register(home: Path) -> store.Register:
    store.check_writable(home)
    return store.register("some-key", RECORD, home)


def test_items_come_back_in_the_order_of_their_places(register: store.Register, home: Path) -> None:
    first, second = _item("b", 1, "r2"), _item("a", 0, "r1")
    register.enter([first])
    register.enter([second, _item("a", 7, "r1")])
    again = find_register("some-key", home)
    assert again is not None
    assert again.items() == ([second, first], [])
    assert registers(home)[0].location == register.location


def test_a_register_that_exists_is_kept(register: store.Register, home: Path) -> None:
    register.enter([_item("a", 0)])
    before = (register.location / "manifest.json").read_bytes()
    assert store.register("some-key", RECORD | {"created": "later"}, home).items()[0] == [_item("a", 0)]
    assert (register.location / "manifest.json").read_bytes() == before


def test_lines_that_a_kill_cut_short_count_for_nothing(register: store.Register) -> None:
    register.enter([_item("a", 0), _item("b", 1)])
    file = register.location / "items"
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        held = register.items()[0]
        assert held == [_item("a", 0), _item("b", 1)][: whole[:length].count(b"\n")]
    file.write_bytes(whole[:-5])
    register.enter([_item("c", 2)])
    assert register.items()[0] == [_item("a", 0), _item("c", 2)]
    assert register.problems() == ["items: 1 of 3 lines cannot be read"]
    register.enter([_item("b", 1)])
    assert [item.name for item in register.items()[0]] == ["a", "b", "c"]


def test_changed_lines_count_for_nothing(register: store.Register) -> None:
    register.enter([_item("a", 0), _item("b", 1)])
    file = register.location / "items"
    file.write_bytes(file.read_bytes().replace(b'"name":"a"', b'"name":"z"'))
    assert register.items()[0] == [_item("b", 1)]


def test_a_failure_is_forgotten_once_its_image_is_captured(register: store.Register) -> None:
    register.enter([Item("a", 0, error="truncated"), Item("b", 1, error="empty")])
    assert [item.name for item in register.items()[1]] == ["a", "b"]
    register.enter([_item("a", 0)])
    captured, failed = register.items()
    assert (captured, [item.error for item in failed]) == ([_item("a", 0)], ["empty"])


def test_a_register_that_was_removed_is_not_written_to(register: store.Register, home: Path) -> None:
    store.discard("some-key", home)
    assert find_register("some-key", home) is None
    with pytest.raises(StoreError, match="was removed while it was written"):
        register.enter([_item("a", 0)])
    assert not register.location.exists()


def test_a_home_without_appending_is_refused() -> None:
    with pytest.raises(StoreError, match="kept in a folder, and memory://runs is a URL"):
        store.register("some-key", RECORD, "memory://runs")


def test_a_name_of_a_run_outside_the_store_is_no_item(register: store.Register) -> None:
    register.enter([_item("a", 0, "../../elsewhere")])
    assert register.items() == ([], [])
