"""The folder in which a run grows.

``run.zarr``
    The zarr group, with one file for each piece of each variable.
``wide/<name>.<chunk>``
    Pieces that overflow the variable's float16, in float32; the variable is widened once, when the run is complete.
``plan.json``
    What the folder was laid out for.
``journal``
    One line for each committed piece, or part of a variable that does not come in pieces: where it belongs, size and
    checksum of its files, and which of them are wide.

Nothing here is synced until the run is complete, so a power cut may take or spoil any of it, in any order. When the run
is taken up again, a chunk counts if the journal has its checksum, and everything else is written anew.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
import zarr
from numcodecs.zstd import Zstd

from workbench.schema import PIECE_DIMS, SAMPLE
from workbench.store import durability
from workbench.store.files import UNFINISHED, Digest, append, digest, write_file
from workbench.store.layout import LEVEL, Declared, create, lay_out
from workbench.store.pieces import Array, Part, Piece, Variable

LAYOUT: Final = 2
"""Number of the layout described above; a folder of another is begun anew."""
_PLAN: Final = "plan.json"
_JOURNAL: Final = "journal"
_WIDE: Final = "wide"
_PROMOTED: Final = ".promoted"
_NARROW: Final = ".narrow"
_ANEW: Final = "anew.zarr"

_Index = tuple[int, ...]


class Resumed(NamedTuple):
    """What an interrupted run already holds: pieces, parts, and the pieces of each variable that are wide."""

    pieces: set[Piece]
    parts: set[Part]
    wide: dict[str, set[Piece]]


class _Entry(NamedTuple):
    """One line of the journal."""

    at: _Index
    files: dict[str, Digest]
    wide: list[str]
    line: bytes


class Partial:
    """A run on its way.

    Attributes
    ----------
    run : pathlib.Path
        The zarr group.
    digests : dict
        Size and checksum of the file that was written for each variable and position; the position is a piece, or
        what a :class:`Part` says.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]], variables: Mapping[str, Variable]) -> None:
        self.folder = folder
        self.run = folder / "run.zarr"
        self.digests: dict[tuple[str, _Index], Digest] = {}
        self._shapes = shapes
        self._variables = variables
        self._codec = Zstd(level=LEVEL, checksum=True)

    def prepare(self, template: xr.Dataset, plan: str) -> None:
        """Begin anew."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
            durability.sync_folder(self.folder.parent)  # what was there must not come back under the new plan
        (self.folder / _WIDE).mkdir(parents=True)
        self._lay_out(self.run, template)
        write_file(self.folder / _PLAN, plan.encode())

    def resume(self, template: xr.Dataset, plan: str) -> Resumed | None:
        """Take up an interrupted run: what was committed and is whole; None when there is nothing for this plan."""
        try:
            if (self.folder / _PLAN).read_bytes() != plan.encode():
                return None
        except FileNotFoundError:
            return None
        (self.folder / _WIDE).mkdir(exist_ok=True)
        for name in self._variables:
            narrow = self._aside(name, _NARROW)
            if narrow.exists():  # widening was interrupted; what it started from is still whole
                shutil.rmtree(self.run / name, ignore_errors=True)
                self.run.mkdir(exist_ok=True)  # after a power cut it may be gone
                narrow.replace(self.run / name)
            shutil.rmtree(self._aside(name, _PROMOTED), ignore_errors=True)
        for rest in self.folder.rglob(f"*{UNFINISHED}"):
            rest.unlink()
        resumed = self._read_journal()
        known = {self._chunk(name, at, at in resumed.wide.get(name, ())) for name, at in self.digests}
        anew = self.folder / _ANEW
        shutil.rmtree(anew, ignore_errors=True)
        self._lay_out(anew, template)
        for file in [path for path in anew.rglob("*") if path.is_file()]:
            target = self.run / file.relative_to(anew)
            target.parent.mkdir(parents=True, exist_ok=True)
            known.add(file.replace(target))
        shutil.rmtree(anew)
        for file in [*self.run.rglob("*"), *(self.folder / _WIDE).iterdir()]:
            if file.is_file() and file not in known:
                file.unlink()
        return resumed

    def write(self, name: str, at: _Index, array: Array) -> None:
        """Write one file of a variable, narrow or wide."""
        # The chunk is what zarr would write; zarr's own machinery takes several times as long as the compression.
        data = self._codec.encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))
        wide = array.dtype != np.dtype(self._variables[name].dtype)
        self.digests[name, at] = write_file(self._chunk(name, at, wide), data)
        self._chunk(name, at, not wide).unlink(missing_ok=True)

    def read(self, name: str, at: list[list[int]]) -> Array:
        """What was written of a variable in its own type, at positions along its first dimensions; NaN elsewhere."""
        array = zarr.open_array(self.run / name, mode="r")
        return np.asarray(array.oindex[tuple(map(np.asarray, at))])

    def erase(self, piece: Piece) -> None:
        """Remove a piece that turned out not to exist."""
        for name in self._pieced:
            self._chunk(name, piece, False).unlink(missing_ok=True)
            self._chunk(name, piece, True).unlink(missing_ok=True)
            self.digests.pop((name, piece), None)

    def commit(self, pieces: Iterable[Piece], parts: Iterable[Part], wide: Mapping[str, set[Piece]]) -> None:
        """Enter pieces and parts into the journal."""
        entries: list[tuple[_Index, list[str]]] = [(piece, self._pieced) for piece in pieces]
        entries += [(() if part.sample is None else (part.sample,), [part.name]) for part in parts]
        lines = []
        for at, names in entries:
            files = {name: self.digests[name, at] for name in names}
            line = [at, files, [name for name in names if at in wide.get(name, ())]]
            lines.append(json.dumps(line, separators=(",", ":")) + "\n")
        append(self.folder / _JOURNAL, "".join(lines).encode())

    def widen(self, name: str, pieces: Iterable[Piece]) -> None:
        """Give a variable of which some pieces are wide the wider type, so that a kill on the way loses nothing."""
        wider, narrow = self._aside(name, _PROMOTED), self._aside(name, _NARROW)
        create(wider, self._declared(name, "float32"))
        for piece in pieces:
            overflowing = self._chunk(name, piece, True)
            if overflowing.exists():
                data = overflowing.read_bytes()
            else:
                raw = self._codec.decode(self._chunk(name, piece, False).read_bytes())
                values = np.frombuffer(raw, np.dtype(self._variables[name].dtype).newbyteorder("<"))
                data = self._codec.encode(values.astype("<f4"))
            self.digests[name, piece] = write_file(wider / self._key(name, piece), data)
        (self.run / name).replace(narrow)
        wider.replace(self.run / name)

    def consolidate(self, attrs: dict[str, Any]) -> None:
        """Write the group's metadata: the attributes, and a copy of the metadata of every array.

        The copy is what zarr calls consolidated metadata, so that opening a run reads one file instead of one for each
        variable; zarr's own function for it warns, and warnings can be silenced for a whole process only.
        """
        root = self.run / "zarr.json"
        arrays = {path.parent.name: json.loads(path.read_bytes()) for path in sorted(self.run.glob("*/zarr.json"))}
        inline = {"kind": "inline", "must_understand": False, "metadata": arrays}
        group = json.loads(root.read_bytes())
        of_xarray = {name: text for name, text in group["attributes"].items() if name == "coordinates"}
        group |= {"attributes": attrs | of_xarray, "consolidated_metadata": inline}
        write_file(root, json.dumps(group, indent=2).encode())

    def chunks(self) -> dict[str, Digest]:
        """Sizes and checksums of the files written so far, by their names in the finished run."""
        return {f"{name}/{self._key(name, at)}": entry for (name, at), entry in self.digests.items()}

    @property
    def _pieced(self) -> list[str]:
        return [name for name, variable in self._variables.items() if variable.in_pieces]

    def _lead(self, name: str) -> int:
        """Dimensions along which one file has one position."""
        variable = self._variables[name]
        return len(PIECE_DIMS) if variable.in_pieces else int(variable.dims[:1] == (SAMPLE,))

    def _aside(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{suffix}"

    def _key(self, name: str, at: _Index) -> str:
        return ".".join(["c", *map(str, at), *["0"] * (len(self._shapes[name]) - len(at))])

    def _chunk(self, name: str, at: _Index, wide: bool) -> Path:
        key = self._key(name, at)
        return self.folder / _WIDE / f"{name}.{key}" if wide else self.run / name / key

    def _lay_out(self, run: Path, template: xr.Dataset) -> None:
        """Write everything of a run but the chunks that are still to come."""
        lay_out(
            run, template, {name: self._declared(name, variable.dtype) for name, variable in self._variables.items()}
        )

    def _declared(self, name: str, dtype: str) -> Declared:
        return Declared(self._variables[name].dims, self._shapes[name], dtype, self._lead(name))

    def _read_journal(self) -> Resumed:
        """What was committed, as far as its files are what the journal says; the journal is written anew with that."""
        path = self.folder / _JOURNAL
        # A line that a kill cut short has no end; what it says is written again.
        text = path.read_bytes().rpartition(b"\n")[0] if path.exists() else b""
        entries = {(entry.at, *entry.files): entry for entry in map(self._entry, text.split(b"\n")) if entry}
        resumed = Resumed(set(), set(), {})
        kept = []
        for at, files, wide, line in entries.values():  # of two for the same files, the last one counts
            if not all(self._intact(self._chunk(name, at, name in wide), files[name]) for name in files):
                continue
            kept.append(line + b"\n")
            self.digests |= {(name, at): entry for name, entry in files.items()}
            if len(at) < len(PIECE_DIMS):
                (name,) = files
                resumed.parts.add(Part(name, *at) if at else Part(name, None))
                continue
            resumed.pieces.add(Piece(*at))
            for name in wide:
                resumed.wide.setdefault(name, set()).add(Piece(*at))
        write_file(path, b"".join(kept), sync=True)
        return resumed

    def _entry(self, line: bytes) -> _Entry | None:
        """What a line of the journal says; None for one that a power cut spoilt."""
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            at, files, wide = json.loads(line)
            entry = _Entry(tuple(at), {name: Digest(*files[name]) for name in files}, list(wide), line)
            if self._fits(entry):
                return entry
        return None

    def _fits(self, entry: _Entry) -> bool:
        """Whether it is one of the lines that :meth:`commit` writes for these variables."""
        names = list(entry.files)
        if not names or (names != self._pieced and (len(names) > 1 or names[0] in self._pieced)):
            return False
        sizes = [self._shapes[name][: self._lead(name)] for name in names if name in self._variables]
        inside = all(
            isinstance(index, int) and 0 <= index < size
            for at in sizes
            for index, size in zip(entry.at, at, strict=True)
        )
        return len(sizes) == len(names) and inside and set(entry.wide) <= set(names)

    def _intact(self, path: Path, expected: Digest) -> bool:
        return path.is_file() and path.stat().st_size == expected.size and digest(path) == expected
