"""The manifest of a run: the size and checksum of every file, and what ``runs()`` lists."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

from workbench.schema import StoreError
from workbench.store.contents import Contents, is_of_system
from workbench.store.files import Digest, digest, write_file
from workbench.store.locations import MANIFEST, canonical_json

FORMAT: Final = 1
"""Version of the manifest. Whatever else changes, the text ends in a checksum of what is before it."""
_THREADS: Final = 8


class Manifest(NamedTuple):
    """What a manifest says.

    Attributes
    ----------
    record : dict
        What ``runs()`` shows.
    files : dict
        Size and checksum of every file, by its path in the run.
    length : int
        Bytes of the manifest itself.
    """

    record: dict[str, Any]
    files: dict[str, Digest]
    length: int = 0

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest's own included."""
        return self.length + sum(entry.size for entry in self.files.values())


class NewerError(StoreError):
    """A newer version of the package wrote it."""


def sealed(content: Mapping[str, Any]) -> bytes:
    """JSON text that ends in its own checksum."""
    text = canonical_json(content)
    return (text[:-1] + _seal(text)).encode()


def _seal(text: str) -> str:
    return f',"sha256":"{hashlib.sha256(text.encode()).hexdigest()}"}}'


def unsealed(data: bytes, name: str) -> dict[str, Any]:
    """The content of such a text.

    Raises
    ------
    ValueError
        When it is damaged; the message begins with the given name.
    NewerError
        When a newer version of the package wrote it.
    """
    length = len(_seal(""))
    try:
        text = data.decode("ascii")
        body = text[:-length] + "}"
        content = json.loads(body)
    except ValueError:
        raise ValueError(f"{name}: cannot be read") from None
    if not isinstance(content, dict) or text[-length:] != _seal(body):
        raise ValueError(f"{name}: differs from its own checksum")
    if content.get("format") != FORMAT:
        raise NewerError(
            f"it has the manifest format {content.get('format')!r}, and this version of the package reads {FORMAT}: "
            "upgrade concept-workbench"
        )
    return content


def write_manifest(run: Path, record: Mapping[str, Any], known: Mapping[str, Digest] | None = None) -> None:
    """Describe every file of a complete run; from here on it is valid.

    Parameters
    ----------
    run
        Folder of the zarr group.
    record
        What ``runs()`` shows, as plain values.
    known
        Sizes and checksums of files whose contents were at hand when they were written; the others are read.
    """
    files = {}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.is_file() and name != MANIFEST and not is_of_system(path.name):
            files[name] = ((known or {}).get(name) or digest(path))._asdict()
    write_file(run / MANIFEST, sealed({"format": FORMAT, "record": record, "files": files}), sync=True)


def read_manifest(contents: Contents) -> Manifest:
    """The manifest of a run, checked against its own checksum.

    Raises
    ------
    StoreError
        When there is none, it is damaged, or a newer version of the package wrote it.
    """
    try:
        return parse_manifest(contents.read(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        if isinstance(contents.location, Path) and not contents.location.exists():
            raise StoreError(
                f"{contents.location} is no finished run: nothing has that name; expected a key or a path that "
                "workbench.runs() lists"
            ) from None
        raise StoreError(
            f"{contents.location} has no {MANIFEST}, so it is no finished run; expected one that workbench.runs() lists"
        ) from None
    except NewerError as error:
        raise NewerError(f"the run {contents.location} cannot be opened: {error}") from None
    except OSError as error:
        raise damaged(contents, [f"{MANIFEST}: {error}"]) from error
    except ValueError as error:
        raise damaged(contents, [str(error)]) from error


def parse_manifest(data: bytes) -> Manifest:
    """What a manifest's text says; of files of systems, which older ones may list, nothing.

    Raises
    ------
    ValueError
        When it is damaged, or names files outside the run.
    NewerError
        When a newer version of the package wrote it.
    """
    content = unsealed(data, MANIFEST)
    try:
        record, files = dict(content["record"]), {}
        for name, entry in content["files"].items():
            files[name] = Digest(int(entry["size"]), str(entry["sha256"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{MANIFEST}: is not laid out like one") from None
    if outside := [name for name in files if not is_inside(name)]:
        raise ValueError(f"{MANIFEST}: names {outside[0]!r}, which is no file inside the run")
    return Manifest(record, {name: entry for name, entry in files.items() if not is_system_file(name)}, len(data))


def without_system_files(data: bytes) -> bytes:
    """A manifest's text, in which no file of a system is listed; the same text where none was.

    Raises
    ------
    ValueError, NewerError
        As from :func:`parse_manifest`.
    """
    content = unsealed(data, MANIFEST)
    files = {name: entry for name, entry in content["files"].items() if not is_system_file(name)}
    if len(files) == len(content["files"]):
        return data
    return sealed({"format": FORMAT, "record": content["record"], "files": files})


def is_system_file(name: str) -> bool:
    """Whether a path in a run is that of a file that systems leave there, which older manifests may list."""
    return is_of_system(name.rpartition("/")[2])


def is_inside(name: str) -> bool:
    """Whether a path with ``/`` stays inside the folder it is relative to, on every system."""
    return not re.search(r"[\\:\0]", name) and not {"", ".", ".."} & set(name.split("/"))


def damage_of(contents: Contents) -> list[str]:
    """Read every file of a run and compare it with the manifest.

    Returns
    -------
    list of str
        A line for each file that is missing, added or changed, the manifest included.

    Raises
    ------
    StoreError
        When there is no manifest, or a newer version of the package wrote it.
    """
    try:
        recorded = parse_manifest(contents.read(MANIFEST)).files
    except NewerError:
        raise
    except FileNotFoundError:
        read_manifest(contents)
        raise
    except ValueError as error:
        return [str(error)]
    found = {name: size for name, size in contents.sizes().items() if not is_system_file(name)}
    problems = [f"{name}: missing" for name in recorded if name not in found]
    problems += [f"{name}: not in the manifest" for name in found if name not in recorded]

    def changed(name: str) -> str:
        expected = recorded[name]
        if found[name] != expected.size:
            return f"{name}: {found[name]} bytes, expected {expected.size}" if found[name] >= 0 else f"{name}: no file"
        try:
            data = contents.read(name)
        except StoreError:  # a network that fails says nothing about the run
            raise
        except Exception as error:
            return f"{name}: cannot be read ({error})"
        intact = hashlib.sha256(data).hexdigest() == expected.sha256
        return "" if intact else f"{name}: changed since it was written"

    with ThreadPoolExecutor(_THREADS) as pool:
        problems += filter(None, pool.map(changed, sorted(recorded.keys() & found.keys())))
    return sorted(problems)


def damaged(contents: Contents, problems: list[str]) -> StoreError:
    """The error that names what is wrong with a run."""
    shown = "\n".join(f"- {problem}" for problem in problems[:10])
    more = f"\n- and {len(problems) - 10} more" if len(problems) > 10 else ""
    return StoreError(
        f"the run {contents.location} is damaged; remove it with `workbench verify {contents.key} --delete` and make "
        f"the same call again to compute it anew:\n{shown}{more}"
    )
