"""What stands between a stored run and the process that reads it.

A dataset may come from anywhere, so nothing in it decides what code runs: its metadata may name only the few data types
and codecs that runs are made of, and zarr never sees others. And a chunk that its manifest lists is never read as
missing, which zarr would fill with NaN.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from zarr.abc.store import Store
from zarr.storage import WrapperStore

from workbench.schema import StoreError
from workbench.store import reader_locks
from workbench.store.contents import Contents, Folder
from workbench.store.files import Digest
from workbench.store.manifest import Manifest

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

ROOT: Final = "zarr.json"
"""Name of the metadata of a zarr group, which in a run describe its arrays as well."""

_CODECS: Final = {"bytes", "vlen-utf8", "zstd", "blosc", "gzip", "crc32c"}
_TYPES: Final = {"bool", "string", "float16", "float32", "float64"} | {
    f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_LONGEST_COORDINATE: Final = 1 << 24


class RunStore(WrapperStore[Store]):
    """A zarr store that reads a finished run, and keeps it from being removed while it is in use."""

    def __init__(self, contents: Contents) -> None:
        super().__init__(contents.zarr())
        self._contents = contents
        self._files: Mapping[str, Digest] = {}
        if isinstance(contents, Folder) and contents.location.parent.name == "runs":
            reader_locks.hold(self, contents.location.absolute())

    def expect(self, manifest: Manifest) -> None:
        """Refuse from now on to take a file of the manifest for one that was never written."""
        self._files = manifest.files

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self._contents, self._files)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Read a file, or part of it; None when there is none and there should be none."""
        data = await super().get(key, prototype, byte_range)
        if key in self._files and (data is None or (byte_range is None and len(data) != self._files[key].size)):
            state = "missing" if data is None else f"{len(data)} bytes, expected {self._files[key].size}"
            raise StoreError(
                f"the run {self._contents.location} was removed or damaged while it was open ({key}: {state}); "
                "make the same call again to compute it anew"
            )
        return data


def _reopened(contents: Contents, files: Mapping[str, Digest]) -> RunStore:
    store = RunStore(contents)
    store.expect(Manifest({}, dict(files)))
    return store


def check_metadata(text: bytes, location: Path | str) -> None:
    """Refuse a group whose metadata ask for anything but the plain arrays that runs are made of.

    Parameters
    ----------
    text
        The group's ``zarr.json``, with the metadata of its arrays.
    location
        The run, for the error.

    Raises
    ------
    StoreError
        When an array has another type, codec or size.
    ValueError, KeyError, TypeError, AttributeError
        When the text is not laid out like such metadata.
    """
    group = json.loads(text)
    for name, array in group["consolidated_metadata"]["metadata"].items():
        codecs = [codec["name"] for codec in array["codecs"]] if array["node_type"] == "array" else []
        wrong = ""
        if array["node_type"] != "array" or array["zarr_format"] != 3 or "/" in name:
            wrong = "it is no array of zarr format 3"
        elif array["data_type"] not in list(_TYPES):
            wrong = f"its type is {array['data_type']!r}"
        elif unknown := [codec for codec in codecs if codec not in _CODECS]:
            wrong = f"its codec is {unknown[0]!r}"
        elif array.get("storage_transformers"):
            wrong = "it has storage transformers"
        elif len(array["shape"]) < 2 and math.prod(array["shape"]) > _LONGEST_COORDINATE:
            wrong = f"it has {math.prod(array['shape']):,} values"
        if wrong:
            raise StoreError(
                f"the run {location} holds {name!r}, which is not loaded: {wrong}; expected arrays of numbers and "
                f"strings with the codecs {', '.join(sorted(_CODECS))} only, so that nothing in a dataset runs code"
            )
