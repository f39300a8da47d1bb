"""Runs as they lie in an exported file, and what is wrong with one."""

from __future__ import annotations

import stat
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from workbench.schema import MANY, StoreError
from workbench.store import many
from workbench.store.catalogue import find_contents
from workbench.store.contents import MANY_FOLDER, OTHERS, Contents
from workbench.store.files import Digest
from workbench.store.locations import MANIFEST, check_key
from workbench.store.manifest import (
    FORMAT,
    Manifest,
    damaged,
    is_system_file,
    parse_manifest,
    read_manifest,
    sealed,
)
from workbench.store.metadata import ROOT, check_metadata

if TYPE_CHECKING:
    from zarr.abc.store import Store


class RegisterCopy(Contents):
    """The register of a run of many images as it is now, with a checksum over all of its lines.

    It names the items that are complete, and those that failed. While it is alive the register is not removed.

    Attributes
    ----------
    runs : dict
        The runs of its items, by key.

    Raises
    ------
    StoreError
        When lines of it are damaged, or it has no items.
    """

    def __init__(self, register: many.Register) -> None:
        many.keep(self, register)
        self.key, self.location = register.key, register.location
        if problems := register.problems():
            raise damaged(register, problems)
        items, failed = register.present()
        self._lines = many.lines([*items, *failed])
        files = {many.ITEMS: Digest(len(self._lines), sha256(self._lines).hexdigest())._asdict()}
        self._manifest = sealed({"format": FORMAT, "record": read_manifest(register).record, "files": files})
        self.runs: dict[str, Contents] = {}
        for item in items:
            if (run := find_contents(item.run, register.home)) is not None:
                self.runs[item.run] = run

    def sizes(self) -> dict[str, int]:
        return {many.ITEMS: len(self._lines)}

    def read(self, name: str) -> bytes:
        try:
            return {many.ITEMS: self._lines, MANIFEST: self._manifest}[name]
        except KeyError:
            raise FileNotFoundError(name) from None

    def zarr(self) -> Store:
        raise StoreError(f"{self.location} holds no arrays of its own: they are in the runs of its items")

    def claimed(self) -> bool:
        return True


class Packed(NamedTuple):
    """One run of a file.

    Attributes
    ----------
    key
        Its key.
    own
        Whether it is the user's own.
    manifest
        What it consists of.
    members
        By their names in the run.
    """

    key: str
    own: bool
    manifest: Manifest
    members: dict[str, zipfile.ZipInfo]

    @property
    def is_many(self) -> bool:
        """Whether it is one of many images, which names other runs of the file."""
        return self.manifest.record.get("kind") == MANY

    def items(self, archive: zipfile.ZipFile) -> list[many.Item]:
        """Its items, and those that failed.

        Raises
        ------
        ValueError
            When it is damaged.
        """
        return many.read_lines(read_member(archive, self, many.ITEMS))


def checked(source: Path) -> list[Packed]:
    """The runs in a file, with the members that their manifests list, as they list them, and no others.

    Raises
    ------
    OSError, ValueError, zipfile.BadZipFile
        When it is anything else, or damaged.
    """
    with zipfile.ZipFile(source) as archive:
        infos = archive.infolist()
        members = {info.filename: info for info in infos}
        if len(members) != len(infos):
            raise ValueError("it holds two members of one name")
        for info in infos:
            # What is not compressed cannot grow beyond the file's own size when it is unpacked.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"its member {info.filename!r} is compressed")
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG) or info.is_dir():
                raise ValueError(f"its member {info.filename!r} is no plain file")
        if sum(info.file_size for info in infos) > source.stat().st_size:
            raise ValueError("its members are larger than the file")
        found = [_packed(archive, prefix, group) for prefix, group in _grouped(members).items()]
        keys = {run.key for run in found}
        if len(keys) != len(found):
            raise ValueError("it holds two runs of one key")
        for run in found:
            if run.is_many and (absent := [item for item in run.items(archive) if item.run and item.run not in keys]):
                raise ValueError(f"it lacks the run {absent[0].run} of the item {absent[0].name!r}")
        if len(found) > 1:  # nothing of a file is taken in of which a part is damaged
            for run in found:
                _check_contents(archive, run)
    return found


def others_damaged(source: Path) -> list[str]:
    """What is damaged in the runs of a file beside the one at its root, a line for each member.

    Raises
    ------
    OSError, zipfile.BadZipFile
        When it cannot be read.
    """
    problems: list[str] = []
    with zipfile.ZipFile(source) as archive:
        groups = _grouped({info.filename: info for info in archive.infolist() if not info.is_dir()})
        del groups[""]
        for prefix, members in groups.items():
            try:
                run = _packed(archive, prefix, members)
            except (ValueError, zipfile.BadZipFile) as error:
                problems.append(f"{prefix}: {error}")
                continue
            for name in run.manifest.files:
                try:
                    read_member(archive, run, name)
                except (ValueError, zipfile.BadZipFile) as error:
                    problems.append(f"{prefix}{name}: {error}")
    return problems


def read_member(archive: zipfile.ZipFile, run: Packed, name: str) -> bytes:
    """What a member holds.

    Raises
    ------
    ValueError
        When its checksum is another one.
    """
    data = archive.read(run.members[name])
    if name != MANIFEST and sha256(data).hexdigest() != run.manifest.files[name].sha256:
        raise ValueError(f"{run.members[name].filename} differs from its checksum in the manifest")
    return data


def _grouped(members: dict[str, zipfile.ZipInfo]) -> dict[str, dict[str, zipfile.ZipInfo]]:
    """Members by the folder of their run, and by their names in it."""
    grouped: dict[str, dict[str, zipfile.ZipInfo]] = {"": {}}
    for name, info in members.items():
        prefix = "/".join([*name.split("/", 2)[:2], ""]) if name.startswith(tuple(OTHERS)) else ""
        grouped.setdefault(prefix, {})[name.removeprefix(prefix)] = info
    return grouped


def _packed(archive: zipfile.ZipFile, prefix: str, members: dict[str, zipfile.ZipInfo]) -> Packed:
    if MANIFEST not in members:
        raise ValueError(f"it holds no {prefix}{MANIFEST}")
    manifest = parse_manifest(archive.read(members[MANIFEST]))
    members = {name: info for name, info in members.items() if not is_system_file(name)}
    if different := members.keys() ^ {MANIFEST} ^ manifest.files.keys():
        raise ValueError(f"{prefix + min(different)!r} is in the file or in its manifest, but not in both")
    for name, entry in manifest.files.items():
        if members[name].file_size != entry.size:
            raise ValueError(
                f"{prefix}{name} has {members[name].file_size:,} bytes, and {entry.size:,} in the manifest"
            )
    key = check_key(manifest.record.get("key", ""))
    run = Packed(key, not prefix or OTHERS[prefix.split("/")[0] + "/"], manifest, members)
    if run.is_many and set(manifest.files) != {many.ITEMS}:
        raise ValueError(f"{prefix}{MANIFEST} is of many images, and lists other files than {many.ITEMS}")
    if prefix and prefix not in (
        [f"{MANY_FOLDER}{key}/"] if run.is_many else [f"runs/{key}.zarr/", f"derived/{key}.zarr/"]
    ):
        raise ValueError(f"{prefix} holds the run {key}")
    return run


def _check_contents(archive: zipfile.ZipFile, run: Packed) -> None:
    for name in run.manifest.files:
        read_member(archive, run, name)
    if not run.is_many:
        check_metadata(archive.read(run.members[ROOT]), run.key)
