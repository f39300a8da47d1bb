"""The manifest of a run: the size and checksum of every file, and what ``runs()`` lists."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.schema import StoreError
from workbench.store.files import Digest, digest, write_file
from workbench.store.locations import MANIFEST, canonical_json


def _files(run: Path) -> list[Path]:
    return sorted(path for path in run.rglob("*") if path.is_file() and path != run / MANIFEST)


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
    for path in _files(run):
        name = path.relative_to(run).as_posix()
        files[name] = ((known or {}).get(name) or digest(path))._asdict()
    content = {"record": record, "files": files}
    text = canonical_json({**content, "sha256": _hash(content)})
    write_file(run / MANIFEST, text.encode(), sync=True)


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run, checked against its own checksum.

    Raises
    ------
    StoreError
        When there is none, or it is damaged.
    """
    path = run / MANIFEST
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        raise StoreError(
            f"{run} has no {MANIFEST}, so it is no finished run; expected the folder of one, as workbench.runs() lists"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(run, [f"{MANIFEST}: {error}"]) from error
    try:
        manifest = json.loads(text)
        content = {name: manifest[name] for name in ("record", "files")}
        intact = text == canonical_json({**content, "sha256": _hash(content)})
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(run, [f"{MANIFEST}: cannot be read"]) from error
    if not intact:
        raise _damaged(run, [f"{MANIFEST}: differs from its own checksum"])
    return content


def verify(path: str | os.PathLike[str]) -> None:
    """Read every file of a run and compare it with the manifest.

    Parameters
    ----------
    path
        Folder of a finished run.

    Raises
    ------
    StoreError
        When there is no manifest, or a file is missing, added or changed; the message names the files.
    """
    run = Path(path)
    recorded = read_manifest(run)["files"]
    found = {file.relative_to(run).as_posix(): file for file in _files(run)}
    problems = [f"{name}: missing" for name in recorded if name not in found]
    problems += [f"{name}: not in the manifest" for name in found if name not in recorded]
    for name in recorded.keys() & found.keys():
        size = found[name].stat().st_size
        if size != recorded[name]["size"]:
            problems.append(f"{name}: {size} bytes, expected {recorded[name]['size']}")
        elif digest(found[name]).sha256 != recorded[name]["sha256"]:
            problems.append(f"{name}: changed since it was written")
    if problems:
        raise _damaged(run, sorted(problems))


def _damaged(run: Path, problems: list[str]) -> StoreError:
    shown = "\n".join(f"- {problem}" for problem in problems[:10])
    more = f"\n- and {len(problems) - 10} more" if len(problems) > 10 else ""
    return StoreError(
        f"the run {run} is damaged; delete that folder and make the same call again to compute it anew:\n{shown}{more}"
    )
