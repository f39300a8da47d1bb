"""Rows of an evaluation on disk: one Parquet file a batch, whole or absent; what is missing is a difference of sets."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from workbench.evaluation.examples import Figures
from workbench.numerics.confusion import Counts
from workbench.schema import InputError, StoreError, warn
from workbench.store.files import disk_errors, write_file
from workbench.store.locations import canonical_json

RECORD: Final = "record.json"
_PARTS: Final = "parts"
_COLUMNS: Final = (
    "name",
    "message",
    "targets",
    "notes",
    "classes",
    "places",
    "counts",
    "ap",
    "ap_stacked",
    "edges",
    "grid",
    "preview",
)


@dataclass(frozen=True)
class Row:
    """What is kept of one image.

    Attributes
    ----------
    name
        Of the image.
    message
        Why it could not be evaluated; empty when it was.
    targets
        Words that were looked for.
    figures
        What was counted; None for a failure.
    notes
        Warnings about it.
    """

    name: str
    message: str = ""
    targets: tuple[str, ...] = ()
    figures: Figures | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parts:
    """The rows of one method under one protocol on one data set.

    Attributes
    ----------
    folder
        Where they are.
    """

    folder: Path
    _damaged: set[Path] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def open(cls, folder: Path, record: Mapping[str, Any], about: Mapping[str, Any] | None = None) -> Parts:
        """Take up, or begin, a folder of rows.

        Parameters
        ----------
        folder
            Where they are.
        record
            What decides the numbers.
        about
            What else there is to know of them; the newest is kept.

        Raises
        ------
        InputError
            If the folder holds rows of another record.
        StoreError
            If it cannot be written.
        """
        (folder / _PARTS).mkdir(parents=True, exist_ok=True)
        path = folder / RECORD
        wanted = json.loads(canonical_json(record))
        if path.is_file() and cls.find(folder)[1] != wanted:
            raise InputError(f"{folder} holds an evaluation of another record: give another folder.")
        text = json.dumps({"record": wanted, "about": about or {}}, indent=2, sort_keys=True, ensure_ascii=False)
        with disk_errors(folder, lambda: len(text), "Make room and call again."):
            write_file(path, text.encode("utf-8"), sync=True)
        return cls(folder)

    @classmethod
    def find(cls, folder: Path) -> tuple[Parts, dict[str, Any], dict[str, Any]]:
        """A folder of rows, its record, and what else there is to know of them.

        Raises
        ------
        StoreError
            If it is none, or its record is damaged.
        """
        try:
            held = json.loads((folder / RECORD).read_text("utf-8"))
            return cls(folder), dict(held["record"]), dict(held["about"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{folder} holds no evaluation ({error}): give a folder that `workbench evaluate` names."
            ) from error

    def write(self, rows: Sequence[Row]) -> None:
        """Keep a batch; it is there as a whole, or not at all."""
        pa, parquet = arrow()
        table = pa.Table.from_pylist([_plain(row) for row in rows], schema=_schema(pa))
        # No stream of Python's: pyarrow would call it from threads of its own.
        stream = pa.BufferOutputStream()
        parquet.write_table(table, stream, compression="zstd")
        buffer = stream.getvalue()
        stem = hashlib.sha256("\n".join(row.name for row in rows).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        path = self.folder / _PARTS / f"{stem}-{uuid.uuid4().hex[:8]}.parquet"
        with disk_errors(
            self.folder, lambda: buffer.size, "What was evaluated before is kept: make room and call again."
        ):
            write_file(path, buffer, sync=True)

    def done(self) -> set[str]:
        """Names of the images that have figures; what failed is tried again."""
        rows = (row for table in self._tables(["name", "message"]) for row in table.to_pylist())
        return {str(row["name"]) for row in rows if not row["message"]}

    def every(self) -> set[str]:
        """Names of all images that have a row, failures too."""
        return {str(name) for table in self._tables(["name"]) for name in table.column("name").to_pylist()}

    def rows(self, names: Iterable[str], previews: bool = False) -> Iterator[Row]:
        """The rows of these images in this order, each once, failures only of those that have no figures."""
        wanted = {name: place for place, name in enumerate(names)}
        found: dict[str, Row] = {}
        columns = None if previews else [name for name in _COLUMNS if name not in ("grid", "preview")]
        for table in self._tables(columns):
            for held in table.to_pylist():
                name = held["name"]
                if name in wanted and (name not in found or (found[name].message and not held["message"])):
                    found[name] = _row(held)
        yield from (found[name] for name in wanted if name in found)

    def _tables(self, columns: list[str] | None) -> Iterator[Any]:
        pa, parquet = arrow()
        for path in sorted((self.folder / _PARTS).glob("*.parquet")):
            if path in self._damaged:
                continue
            try:
                held = parquet.ParquetFile(pa.BufferReader(path.read_bytes()))
                yield held.read(columns=columns, use_threads=False)
            except (pa.ArrowInvalid, pa.ArrowKeyError, OSError) as error:
                self._damaged.add(path)
                warn(f"{path} is damaged ({error}): the images in it are evaluated anew.", stacklevel=4)


def arrow() -> tuple[Any, Any]:
    """The library that reads and writes rows, and its part for Parquet files.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError("evaluating needs pyarrow: pip install 'concept-workbench[evaluation]'.") from error
    return pyarrow, parquet


def _schema(pa: Any) -> Any:
    text, number = pa.string(), pa.int64()
    texts, numbers = pa.list_(text), pa.list_(number)
    kinds = (
        text,
        text,
        texts,
        texts,
        number,
        numbers,
        numbers,
        pa.float64(),
        pa.float64(),
        numbers,
        numbers,
        pa.binary(),
    )
    return pa.schema(list(zip(_COLUMNS, kinds, strict=True)))


def _plain(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": row.name,
        "message": row.message,
        "targets": list(row.targets),
        "notes": list(row.notes),
    }
    if row.figures is not None:
        counts = row.figures.counts
        places = np.flatnonzero(counts)
        found |= {
            "classes": len(counts),
            "places": places.tolist(),
            "counts": counts.ravel()[places].tolist(),
            "ap": row.figures.ap,
            "ap_stacked": row.figures.ap_stacked,
            "edges": list(row.figures.edges),
            "grid": list(row.figures.preview.shape),
            "preview": row.figures.preview.tobytes(),
        }
    return found


def _row(held: Mapping[str, Any]) -> Row:
    figures = None
    if held["classes"] is not None:
        from workbench.numerics.boundaries import Edges

        counts: Counts = np.zeros(held["classes"] ** 2, dtype=np.int64)
        counts[held["places"]] = held["counts"]
        preview = np.frombuffer(held.get("preview", b""), dtype=np.uint8).reshape(held.get("grid", (0, 0)))
        figures = Figures(
            counts.reshape(held["classes"], -1), held["ap"], held["ap_stacked"], Edges(*held["edges"]), preview
        )
    return Row(held["name"], held["message"], tuple(held["targets"]), figures, tuple(held["notes"]))
