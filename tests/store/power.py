"""A disk that loses its power: every state that it may be in afterwards, while a process works on it."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from tests import synthetic
from tests.store.replay import MOMENTS, parts, replay, save
from workbench import store
from workbench.store import durability

State = dict[str, bytes | None]
"""What a disk holds: the content of every file by its path, and None for a folder."""


class _Entry(NamedTuple):
    """What a name stands for."""

    inode: int
    is_folder: bool


class _View(NamedTuple):
    """Names and contents by inode, as a process sees them or as the disk is sure to have them."""

    names: dict[int, dict[str, _Entry]]
    contents: dict[int, bytes]


class Disk:
    """A folder of which only what was synced is sure to survive.

    A name that was added, replaced or removed since its folder was synced may be in either state, each on its own; a
    file that was written since it was synced may be empty, cut short, full of zeros, or whole.
    """

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._home = home
        self._sure = self._seen()
        self._kept = [os.open(path, os.O_RDONLY) for path in [home, *home.rglob("*")]]
        self._lock = threading.RLock()
        self._inside = threading.local()
        self._listening = False
        self._moments = 0
        self._random = random.Random(0)
        self.states: dict[int, State] = {}

    def watch(self) -> None:
        """Begin: from now on there is a state for every moment of this process. There is no end to it."""
        self._listening = True
        os.fsync = self._fsync
        sys.addaudithook(self._listen)

    def stop(self) -> None:
        """Take the last states."""
        self._take()
        self._listening = False

    def _listen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._listening and event in MOMENTS and str(self._home) in str(arguments[:1]):
            self._moment(decisive=event == "os.rename")

    def _moment(self, decisive: bool) -> None:
        """Take the states of this moment; of those that resemble each other, of every fifth."""
        self._moments += 1
        if decisive or self._moments % 5 == 0:
            self._take()

    def _fsync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if self._listening and path.is_relative_to(self._home):
            self._moment(decisive=path.is_dir())
            with self._lock:
                self._inside.value = True
                # An open file keeps its inode from being used for another one.
                self._kept.append(os.open(path, os.O_RDONLY))
                inode = path.stat().st_ino
                if path.is_dir():
                    self._sure.names[inode] = _names(path)
                else:
                    self._sure.contents[inode] = path.read_bytes()
                self._inside.value = False

    def _seen(self) -> _View:
        view = _View({}, {})
        folders = [self._home]
        while folders:
            folder = folders.pop()
            try:
                view.names[folder.stat().st_ino] = _names(folder)
                for entry in os.scandir(folder):
                    if entry.is_dir():
                        folders.append(Path(entry.path))
                    else:
                        view.contents[entry.inode()] = Path(entry.path).read_bytes()
            except FileNotFoundError:  # another thread removed it just now
                continue
        return view

    def _take(self) -> None:
        if getattr(self._inside, "value", False):
            return
        with self._lock:
            self._inside.value = True
            seen = self._seen()
            for names, content in [
                (0.0, "lost"),
                (1.0, "lost"),
                (1.0, "half"),
                (1.0, "zeros"),
                (0.5, "any"),
                (0.9, "any"),
            ]:
                state: State = {}
                self._fill(state, "", self._home.stat().st_ino, seen, names, content)
                self.states.setdefault(hash(tuple(sorted(state.items(), key=lambda item: item[0]))), state)
            self._inside.value = False

    def _fill(self, state: State, folder: str, inode: int, seen: _View, share: float, content: str) -> None:
        sure, now = self._sure.names.get(inode, {}), seen.names.get(inode, {})
        for name in sorted(sure.keys() | now.keys()):
            before, after = sure.get(name), now.get(name)
            entry = after if before == after or self._random.random() < share else before
            if entry is None:
                continue
            path = f"{folder}{name}"
            if entry.is_folder:
                state[path] = None
                self._fill(state, f"{path}/", entry.inode, seen, share, content)
            else:
                kept, written = self._sure.contents.get(entry.inode), seen.contents.get(entry.inode, b"")
                state[path] = written if kept == written else self._spoilt(kept or b"", written, content)

    def _spoilt(self, kept: bytes, written: bytes, content: str) -> bytes:
        every = {"lost": kept, "half": written[: len(written) // 2], "zeros": bytes(len(written)), "whole": written}
        return every[self._random.choice(list(every)) if content == "any" else content]


def _names(folder: Path) -> dict[str, _Entry]:
    return {entry.name: _Entry(entry.inode(), entry.is_dir()) for entry in os.scandir(folder)}


def materialise(state: State, home: Path) -> None:
    """Make a disk of that state."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for path, content in sorted(state.items()):
        if content is None:
            (home / path).mkdir()
        else:
            (home / path).write_bytes(content)


def small() -> xr.Dataset:
    """Two pieces, of which one does not fit into float16, and a picture of its own for each sample."""
    ds = synthetic.dataset(
        timesteps=(500.0,), dual=1, single=1, spaces=("output",), default_layers=(0,), kind="generate"
    )
    ds["output"] = ds["output"].astype(np.float32)
    ds["output"][{"layer": 1, "head": 0, "concept": 0, "y": 0, "x": 0}] = 1e6
    return ds


def compute(home: Path, _: Path) -> Iterator[None]:
    """A run that is interrupted, taken up again, and finished."""
    yield
    template, declared = parts(small())
    try:
        with store.writer("run", template, declared, home=home) as run:
            replay(run, small(), run.remaining[:1])
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        save(small(), home)


def take_in(home: Path, beside: Path) -> Iterator[None]:
    """An exported run that is imported."""
    save(small(), beside / "first")
    file = store.export_runs("run", beside / "run.zarr.zip", beside / "first")
    yield
    store.import_runs(file, home)


def export(home: Path, beside: Path) -> Iterator[None]:
    """A run that is exported."""
    save(small(), beside / "first")
    yield
    store.export_runs("run", home / "run.zarr.zip", beside / "first")


def discard(home: Path, _: Path) -> Iterator[None]:
    """A run that is removed, and computed again."""
    save(small(), home)
    yield
    store.discard("run", home)
    save(small(), home)


def prune(home: Path, _: Path) -> Iterator[None]:
    """A run that is pruned."""
    save(small(), home)
    yield
    store.prune(home, keep=0)


def upload(home: Path, beside: Path) -> Iterator[None]:
    """A run for a URL: the disk is that of this machine, where it is made."""
    from workbench.store import remote

    remote.staging = lambda _: home  # type: ignore[assignment]
    yield
    save(small(), f"memory://{beside.name}")


def states(work: Callable[[Path, Path], Iterator[None]], home: Path, beside: Path, careless: str, result: Path) -> None:
    """Write down every state that a power cut may leave behind while this process does its work.

    Parameters
    ----------
    work
        One of the functions above: it prepares, yields, and works.
    home
        The folder on the disk in question.
    beside
        A folder elsewhere.
    careless
        A function of :mod:`workbench.store.durability` that does nothing.
    result
        Gets the states.
    """
    working = work(home, beside)
    next(working)
    disk = Disk(home)
    if careless:
        setattr(durability, careless, lambda *_, **__: None)
    disk.watch()
    next(working, None)
    disk.stop()
    result.write_bytes(pickle.dumps(list(disk.states.values())))
