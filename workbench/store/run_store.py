"""The zarr store of an open run: it holds the reader lock, and never takes a chunk of the manifest for one left out.

zarr would fill what is missing with NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
