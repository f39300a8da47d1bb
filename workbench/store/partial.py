"""The folder in which a run grows.

``run.zarr``
    The zarr group, with one file for each piece of each variable.
``wide/<name>.<chunk>``
    Pieces that overflow the variable's float16, in float32; the variable is widened once, when the run is complete.
``plan.json``
    What the folder was laid out for.
``journal``
    One line for each committed piece: where it belongs, size and checksum of its files, and which of them are wide.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import zarr
from numcodecs.zstd import Zstd
from zarr.codecs import ZstdCodec

from workbench.schema import PIECE_DIMS
from workbench.store.files import UNFINISHED, Digest, append, digest, write_file
from workbench.store.pieces import Array, Piece, Variable, string_type

LAYOUT: Final = 2
"""Number of the layout described above; a folder of another is begun anew."""
_LEVEL: Final = 3
"""Twice the writing speed of the blosc variants, and reads as fast, for 5 to 12 % more bytes."""
_PLAN: Final = "plan.json"
_JOURNAL: Final = "journal"
_WIDE: Final = "wide"
_PROMOTED: Final = ".promoted"
_NARROW: Final = ".narrow"


class Partial:
    """A run on its way.

    Attributes
    ----------
    run : pathlib.Path
        The zarr group.
    digests : dict
        Size and checksum of the file of each (piece, variable) that was written.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, tuple[int, ...]], variables: Mapping[str, Variable]) -> None:
        self.folder = folder
        self.run = folder / "run.zarr"
        self.digests: dict[tuple[Piece, str], Digest] = {}
        self._shapes = shapes
        self._variables = variables
        self._codec = Zstd(level=_LEVEL, checksum=True)

    def prepare(self, template: xr.Dataset, plan: str) -> None:
        """Begin anew."""
        if self.folder.exists():
            shutil.rmtree(self.folder)
        (self.folder / _WIDE).mkdir(parents=True)
        texts = string_type(template, np.dtypes.StringDType()).drop_encoding()
        texts.to_zarr(self.run, mode="w-", zarr_format=3, consolidated=False)
        for name, variable in self._variables.items():
            self._create(self.run / name, name, np.dtype(variable.dtype))
        write_file(self.folder / _PLAN, plan.encode())

    def resume(self, plan: str) -> dict[Piece, set[str]] | None:
        """Take up an interrupted run.

        Returns
        -------
        dict or None
            The committed pieces that are whole, each with the names of its wide variables. None when nothing is there,
            or it was laid out for another plan.
        """
        try:
            if (self.folder / _PLAN).read_text(encoding="ascii") != plan:
                return None
        except FileNotFoundError:
            return None
        for name in self._variables:
            narrow = self._aside(name, _NARROW)
            if narrow.exists():  # widening was interrupted; what it started from is still whole
                shutil.rmtree(self.run / name, ignore_errors=True)
                narrow.replace(self.run / name)
            shutil.rmtree(self._aside(name, _PROMOTED), ignore_errors=True)
        for rest in self.folder.rglob(f"*{UNFINISHED}"):
            rest.unlink()
        committed = self._read_journal()
        known = {self._chunk(name, piece, name in wide) for piece, wide in committed.items() for name in self._pieced}
        for file in [path for name in self._pieced for path in (self.run / name).glob("c.*")]:
            if file not in known:
                file.unlink()
        for file in (self.folder / _WIDE).iterdir():
            if file not in known:
                file.unlink()
        return committed

    def write(self, name: str, piece: Piece, array: Array) -> None:
        """Write one variable of a piece, narrow or wide."""
        # The chunk is what zarr would write; zarr's own machinery takes several times as long as the compression.
        stored = array.dtype.newbyteorder("<")
        data = self._codec.encode(np.ascontiguousarray(array, stored))
        wide = array.dtype != np.dtype(self._variables[name].dtype)
        self.digests[piece, name] = write_file(self._chunk(name, piece, wide), data)
        self._chunk(name, piece, not wide).unlink(missing_ok=True)

    def put(self, name: str, array: Array) -> None:
        """Write a variable that does not come in pieces."""
        zarr.open_array(self.run / name, mode="r+", zarr_format=3)[...] = array

    def erase(self, piece: Piece) -> None:
        """Remove a piece that turned out not to exist."""
        for name in self._pieced:
            self._chunk(name, piece, False).unlink(missing_ok=True)
            self._chunk(name, piece, True).unlink(missing_ok=True)
            self.digests.pop((piece, name), None)

    def commit(self, pieces: Iterable[Piece], wide: Mapping[str, set[Piece]]) -> None:
        """Enter pieces into the journal."""
        lines = []
        for piece in pieces:
            files = {name: self.digests[piece, name] for name in self._pieced}
            wide_here = [name for name in self._pieced if piece in wide.get(name, ())]
            lines.append(json.dumps([piece, files, wide_here], separators=(",", ":")) + "\n")
        append(self.folder / _JOURNAL, "".join(lines).encode())

    def widen(self, name: str, pieces: Iterable[Piece]) -> None:
        """Give a variable of which some pieces are wide the wider type, so that a kill on the way loses nothing."""
        wider, narrow = self._aside(name, _PROMOTED), self._aside(name, _NARROW)
        self._create(wider, name, np.dtype("float32"))
        for piece in pieces:
            overflowing = self._chunk(name, piece, True)
            if overflowing.exists():
                data = overflowing.read_bytes()
            else:
                raw = self._codec.decode(self._chunk(name, piece, False).read_bytes())
                values = np.frombuffer(raw, np.dtype(self._variables[name].dtype).newbyteorder("<"))
                data = self._codec.encode(values.astype("<f4"))
            self.digests[piece, name] = write_file(wider / self._key(name, piece), data)
        (self.run / name).replace(narrow)
        wider.replace(self.run / name)

    def chunks(self) -> dict[str, Digest]:
        """Sizes and checksums of the pieces' files, by their names in the finished run."""
        return {f"{name}/{self._key(name, piece)}": entry for (piece, name), entry in self.digests.items()}

    @property
    def _pieced(self) -> list[str]:
        return [name for name, variable in self._variables.items() if variable.in_pieces]

    def _aside(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{suffix}"

    def _key(self, name: str, piece: Piece) -> str:
        inner = len(self._shapes[name]) - len(PIECE_DIMS)
        return ".".join(["c", *map(str, piece), *["0"] * inner])

    def _chunk(self, name: str, piece: Piece, wide: bool) -> Path:
        key = self._key(name, piece)
        return self.folder / _WIDE / f"{name}.{key}" if wide else self.run / name / key

    def _create(self, path: Path, name: str, dtype: np.dtype[Any]) -> None:
        shape, variable = self._shapes[name], self._variables[name]
        lead = len(PIECE_DIMS) if variable.in_pieces else 0
        zarr.create_array(
            path,
            shape=shape,
            chunks=(1,) * lead + shape[lead:],
            dtype=dtype,
            fill_value=np.nan if dtype.kind == "f" else 0,
            compressors=ZstdCodec(level=_LEVEL, checksum=True),  # damage is noticed when a chunk is read
            dimension_names=variable.dims,
            chunk_key_encoding={"name": "default", "separator": "."},  # one folder for all chunks, not one each
            zarr_format=3,
        )

    def _read_journal(self) -> dict[Piece, set[str]]:
        """The committed pieces whose files are what the journal says; the journal is written anew with those."""
        path = self.folder / _JOURNAL
        if not path.exists():
            return {}
        # A line that a kill cut short has no end; its piece is written again.
        whole = path.read_text(encoding="ascii").rpartition("\n")[0]
        found: dict[Piece, set[str]] = {}
        lines: dict[Piece, str] = {}
        for line in whole.splitlines():
            at, files, wide = json.loads(line)
            piece = Piece(*at)
            entries = {(piece, name): Digest(*entry) for name, entry in files.items()}
            chunks = {name: self._chunk(name, piece, name in wide) for name in files}
            if all(path.is_file() and digest(path) == entries[piece, name] for name, path in chunks.items()):
                self.digests |= entries
                found[piece] = set(wide)
                lines[piece] = f"{line}\n"
            else:
                found.pop(piece, None)
                lines.pop(piece, None)
        write_file(path, "".join(lines.values()).encode())
        return found
