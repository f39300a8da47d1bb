"""Runs of many images: a register that names the run of each item, and grows while they are made.

``<home>/many/<key>/manifest.json``
    What is common to all items; written first, and never changed.
``<home>/many/<key>/items``
    One line for each item that is complete, or failed, each ending in its own checksum. Lines are only appended, under
    the lock of the key, so that several processes may write and others read at the same time. A line that a kill or a
    power cut spoilt counts for nothing: its run is found again by its key when the same call is made again.

Items are runs like any other, in ``<home>/runs``, with all that the store promises of those.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from workbench.schema import MANY, StoreError
from workbench.store import durability, reader_locks
from workbench.store.contents import Folder
from workbench.store.files import append, disk_errors, write_file
from workbench.store.locations import MANIFEST, check_key, is_key, plain
from workbench.store.locations import home as home_of
from workbench.store.locks import exclusively
from workbench.store.manifest import FORMAT, sealed, unsealed

if TYPE_CHECKING:
    from zarr.abc.store import Store

_FOLDER: Final = "many"
ITEMS: Final = "items"
"""The file with the lines."""


class Item(NamedTuple):
    """An image of many: one that was captured, or one that failed.

    Attributes
    ----------
    name
        What it is called.
    position
        Its place among the images of the call that first asked for it.
    run
        Key of its run; empty for one that failed.
    image_hash
        Of its processed image.
    concepts
        What it was asked.
    size
        Height and width of its processed image, in pixels.
    error
        Why it failed; empty for one that was captured.
    prompt
        What the model was told about it; None where all images have the prompt of the run.
    """

    name: str
    position: int
    run: str = ""
    image_hash: str = ""
    concepts: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    error: str = ""
    prompt: str | None = None

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """The item that a line tells of.

        Raises
        ------
        TypeError, ValueError, KeyError
            If it is not laid out like one.
        """
        height, width = told["size"]
        run = str(told["run"])
        if run:
            check_key(run)
        return cls(
            str(told["name"]),
            int(told["position"]),
            run,
            str(told["image_hash"]),
            tuple(map(str, told["concepts"])),
            (int(height), int(width)),
            str(told["error"]),
            None if told.get("prompt") is None else str(told["prompt"]),
        )


class Register(Folder):
    """The register of a run of many images; its manifest lists no files, because the items are runs of their own."""

    def sizes(self) -> dict[str, int]:
        return {}

    def zarr(self) -> Store:
        raise StoreError(f"{self.location} holds no arrays of its own: they are in the runs of its items")

    def claimed(self) -> bool:
        return True

    @property
    def home(self) -> Path:
        """The folder of the runs."""
        return self.location.parent.parent

    def items(self) -> tuple[list[Item], list[Item]]:
        """The items that were entered, and those that failed and were not captured since.

        Both in the order of their places in the calls that asked for them first, and of their names.
        """
        captured: dict[tuple[str, str], Item] = {}
        failed: dict[str, Item] = {}
        for item in self._read():
            if item.error:
                failed[item.name] = item
            else:
                first = captured.get((item.name, item.run), item)
                captured[item.name, item.run] = item._replace(position=first.position)
                failed.pop(item.name, None)
        return sorted(captured.values(), key=_order), sorted(failed.values(), key=_order)

    def runs(self) -> set[str]:
        """Keys of the runs of its items."""
        return {item.run for item in self._read() if item.run}

    def problems(self) -> list[str]:
        """What is damaged in the register itself."""
        held = self._lines()
        spoilt = len(held) - sum(_told(line) is not None for line in held)
        return [f"{ITEMS}: {spoilt} of {len(held)} lines cannot be read"] if spoilt else []

    def present(self) -> tuple[list[Item], list[Item]]:
        """Those of :meth:`items` whose runs are stored, and those that failed.

        Raises
        ------
        StoreError
            When no run of an item is stored.
        """
        items, failed = self.items()
        # One look at the folder, however many there are.
        stored = {path.name.removesuffix(".zarr") for path in (self.home / "runs").glob("*.zarr")}
        there = [item for item in items if item.run in stored]
        if not there:
            gone = f": the runs of its {len(items)} items were removed" if items else " yet"
            more = f", and {len(failed)} images failed ({failed[0].name}: {failed[0].error})" if failed else ""
            raise StoreError(
                f"the run {self.location} holds no items{gone}{more}; make the same call of capture_many again, or "
                "wait for it"
            )
        return there, failed

    def enter(self, items: Iterable[Item]) -> None:
        """Append items, so that a power cut afterwards does not lose them.

        Raises
        ------
        StoreError
            If the disk is full, or the register was removed.
        """
        data = lines(items)
        path = self.location / ITEMS
        kept = "The items themselves are kept: make the same call again, and they are entered."
        with exclusively(self.key, self.home), disk_errors(self.home, lambda: len(data), kept):
            if not (self.location / MANIFEST).is_file():
                raise StoreError(f"the run {self.location} was removed while it was written: make the same call again")
            append(path, data if _ends_a_line(path) else b"\n" + data)
            durability.sync_file(path)

    def _lines(self) -> list[bytes]:
        with suppress(FileNotFoundError):
            # What follows the last end of a line is on its way.
            return [line for line in (self.location / ITEMS).read_bytes().rpartition(b"\n")[0].split(b"\n") if line]
        return []

    def _read(self) -> Iterator[Item]:
        for line in self._lines():
            if (item := _told(line)) is not None:
                yield item


def lines(items: Iterable[Item]) -> bytes:
    """What a register says of items."""
    return b"".join(sealed({"format": FORMAT, "item": plain(item._asdict())}) + b"\n" for item in items)


def read_lines(data: bytes) -> list[Item]:
    """What :func:`lines` gave.

    Raises
    ------
    ValueError
        If it is damaged.
    """
    found = [_told(line) for line in data.split(b"\n") if line]
    if None in found or not data.endswith(b"\n"):
        raise ValueError(f"{ITEMS}: {found.count(None) or 1} of {len(found)} lines cannot be read")
    return [item for item in found if item is not None]


def _ends_a_line(path: Path) -> bool:
    """Whether nothing of a line that a kill cut short is at the end of a file."""
    if not path.exists() or not path.stat().st_size:
        return True
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def _order(item: Item) -> tuple[int, str, str]:
    return item.position, item.name, item.run


def _told(line: bytes) -> Item | None:
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        return Item.of(unsealed(line, ITEMS)["item"])
    return None


def register(key: str, record: Mapping[str, Any], home: str | os.PathLike[str] | None = None) -> Register:
    """The register of a key, begun where there is none.

    Parameters
    ----------
    key
        From :func:`workbench.store.content_key`.
    record
        What lists of runs show of it, as plain values.
    home
        A folder for runs.

    Raises
    ------
    StoreError
        When it cannot be written, or the home is a URL.
    """
    place = check_folder(home_of(home))
    found = Register(_path(key, place))
    with exclusively(key, place), disk_errors(place, lambda: 4096, "Nothing was written: make room and call again."):
        if not (found.location / MANIFEST).is_file():
            found.location.mkdir(parents=True, exist_ok=True)
            told = {"kind": MANY, "key": key, **plain(record)}
            data = sealed({"format": FORMAT, "record": told, "files": {}})
            write_file(found.location / MANIFEST, data, sync=True)
            durability.sync_folder(found.location)
            durability.sync_folder(found.location.parent)
    return found


def check_folder(place: Path | str) -> Path:
    """The home itself, when runs of many images can be kept there.

    Raises
    ------
    StoreError
        When it is a URL.
    """
    if isinstance(place, str):
        raise StoreError(
            f"runs of many images are kept in a folder, and {place} is a URL, where lines cannot be appended: pass "
            "home= with a folder, or capture the images one by one."
        )
    return place


def keep(holder: object, register: Register) -> None:
    """Keep a register from being removed, and with it its items, for as long as an object is alive."""
    reader_locks.hold(holder, register.location.absolute())


def find_register(key: str, home: Path) -> Register | None:
    """The register of a key, or None."""
    path = _path(key, home)
    return Register(path) if (path / MANIFEST).is_file() else None


def registers(home: Path) -> list[Register]:
    """Every register of a home, by key."""
    found = [Register(path.parent) for path in sorted((home / _FOLDER).glob(f"*/{MANIFEST}"))]
    return [each for each in found if is_key(each.key)]


def _path(key: str, home: Path) -> Path:
    return home / _FOLDER / check_key(key)
