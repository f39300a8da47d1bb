"""Finding damage in a stored run, and removing what is damaged."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from workbench.schema import StoreError
from workbench.store import remote
from workbench.store.catalogue import all_contents, check_writable, find, find_contents, hide
from workbench.store.contents import Archive, Contents
from workbench.store.locations import check_key, is_key, run_path
from workbench.store.locations import home as home_of
from workbench.store.locks import exclusively
from workbench.store.manifest import NewerError, damage_of, damaged
from workbench.store.many import Register, find_register
from workbench.store.packed import others_damaged
from workbench.store.reading import locate


def damage(key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> list[str]:
    """Read every file of a run and compare it with the manifest.

    Parameters
    ----------
    key_or_path
        A run, as :func:`workbench.open` takes it.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.

    Returns
    -------
    list of str
        A line for each file that is missing, added or changed, the manifest included; empty for a sound run.

    Raises
    ------
    StoreError
        When there is no such run, or a newer version of the package wrote it.
    """
    return _damage(locate(key_or_path, home))


def verify(key_or_path: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> None:
    """Raise when :func:`damage` finds any.

    Raises
    ------
    StoreError
        When there is no such run, or a file is missing, added or changed; the message names the files.
    """
    contents = locate(key_or_path, home)
    if problems := _damage(contents):
        raise damaged(contents, problems)


def _damage(contents: Contents, items: bool = True) -> list[str]:
    """What is damaged in a run; in one of many images also in the runs of its items, unless these are looked at too.

    Of an exported file it is what is damaged in any of its runs.
    """
    problems = damage_of(contents)
    if isinstance(contents, Archive):
        return problems + others_damaged(contents.location)
    if not isinstance(contents, Register):
        return problems
    problems += contents.problems()
    for item in contents.items()[0] if items else ():
        run = find_contents(item.run, contents.home)
        found = ["the run was removed"] if run is None else damage_of(run)
        problems += [f"{item.name} ({item.run}): {problem}" for problem in found]
    return problems


@dataclass(frozen=True)
class Checked:
    """What :func:`check` found out about a run.

    Attributes
    ----------
    key : str
        Its key.
    path : pathlib.Path or str
        Its folder or URL.
    problems : list of str
        What is damaged; empty for a sound run.
    stored : bool
        Whether it is in the store, so that :func:`discard` removes it.
    note : str
        Why it could not be checked; empty when it could.
    """

    key: str
    path: Path | str
    problems: list[str]
    stored: bool
    note: str = ""


def check(
    runs: Iterable[str | os.PathLike[str]] | None = None, home: str | os.PathLike[str] | None = None
) -> Iterator[Checked]:
    """Verify several runs, by default all that are stored.

    Parameters
    ----------
    runs
        Runs as :func:`workbench.open` takes them.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.

    Yields
    ------
    Checked
        For each run, as soon as it is verified.

    Raises
    ------
    StoreError
        When given runs do not exist; the message names each.
    """
    chosen = all_contents(home) if runs is None else _located(runs, home)
    for contents in chosen:
        stored = is_key(contents.key) and find(contents.key, home) == contents.location
        try:
            yield Checked(contents.key, contents.location, _damage(contents, runs is not None), stored)
        except NewerError as error:
            yield Checked(contents.key, contents.location, [], stored, str(error))


def _located(runs: Iterable[str | os.PathLike[str]], home: str | os.PathLike[str] | None) -> list[Contents]:
    found, unknown = [], []
    for run in runs:
        try:
            found.append(locate(run, home))
        except StoreError as error:
            unknown.append(str(error))
    if unknown:
        raise StoreError("\n".join(unknown))
    return found


def discard(key: str, home: str | os.PathLike[str] | None = None) -> None:
    """Remove a finished run, damaged or not, so that the next call computes it again. Nothing to remove is no error.

    Of a run of many images the runs of its items stay, and are found again by that call.

    It waits while another process writes the run. A dataset that is open reports an error when it is read further.

    Raises
    ------
    InputError
        When the key is not one.
    StoreError
        When it cannot be removed.
    """
    check_key(key)
    place = home_of(home)
    if isinstance(place, str):
        if run := remote.find(key, place):
            remote.remove(run)
        return
    check_writable(place)
    with exclusively(key, place):
        register = find_register(key, place)
        run_folder: Path = run_path(key, place) if register is None else register.location
        if run_folder.exists():
            hidden = hide(run_folder, place)
            try:
                shutil.rmtree(hidden)
            except OSError as error:
                raise StoreError(f"cannot remove {hidden}: {error.strerror or error}; remove it by hand") from error
