"""Removing stored runs by age, number and size, and what interrupted processes left behind."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from workbench.schema import OF_MANY, InputError, StoreError
from workbench.store import durability, remote
from workbench.store.catalogue import REMOVED, check_writable, find_contents, hide
from workbench.store.listing import Run, families, readable
from workbench.store.locations import CLAIMED, claim_path, is_key, lock_path, run_path
from workbench.store.locations import home as home_of
from workbench.store.locks import unwritten
from workbench.store.many import registers
from workbench.store.reader_locks import unread
from workbench.store.reading import runs
from workbench.store.remote import RemoteRun

_AGES: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZES: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SUPERSEDED: Final = "superseded: no call finds it any more"
_LONGEST: Final = timedelta(days=700_000)
"""No run is that old, and no date lies much further back."""
_ABANDONED: Final = timedelta(days=7)
"""Age from which an unfinished run counts as abandoned, when no other is given."""
_UPLOADING: Final = timedelta(days=1)
"""An upload to which a file came within this time may still be on its way: there is no lock to tell."""


@dataclass(frozen=True)
class Pruned:
    """One thing that :func:`prune` removed, would remove, or had to leave.

    Attributes
    ----------
    what : str
        ``"run"``, ``"unfinished run"`` or ``"lock"``.
    key : str
        Key of the run.
    size : int
        Bytes.
    modified : str
        When the run was made, or the rest last written; ISO 8601.
    reason : str
        Why it is removed.
    kept : str
        Why it was left all the same; empty when it is removed.
    role : str
        What it is in the experiment that it was made for; empty for the user's own run.
    """

    what: str
    key: str
    size: int
    modified: str
    reason: str
    kept: str = ""
    role: str = ""


def prune(
    home: str | os.PathLike[str] | None = None,
    *,
    older_than: str | timedelta | None = None,
    keep: int | None = None,
    max_size: str | int | None = None,
    superseded: bool = False,
    dry_run: bool = False,
    force: bool = False,
) -> list[Pruned]:
    """Remove stored runs, oldest first, and what interrupted processes left behind.

    A run goes when it is older than ``older_than``, or when the runs newer than it fill ``max_size``; with ``keep``
    alone, all but the newest go. The newest ``keep`` of the user's own runs stay in any case, and so does a run that a
    process is writing, or reading: while a dataset opened from it is alive. Runs that were made for experiments count
    as older than all of the user's own for ``keep`` and ``max_size``, are removed before them, and go with the run that
    they belong to. The items of a run of many images count with it and go with it alone, unless another such run that
    stays names them, or the user asked for them himself. Unfinished runs go when nobody writes them and they were last
    written before ``older_than``, or 7 days ago; so do the files of locks that nobody holds.

    Parameters
    ----------
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.
    older_than
        Age, by the time at which a run was made: such as ``"30d"`` (m, h, d and w are known), or a timedelta.
    keep
        Number of the user's own runs, 0 or more.
    max_size
        Size of all runs together: such as ``"20GB"``, or bytes.
    superseded
        Remove the runs that :func:`runs` marks so: no call finds them again. Alone, it removes no other run.
    dry_run
        Say what would be removed, and remove nothing.
    force
        Also remove where nobody can tell whether a run is being read: at a URL, and on a file system without locks.

    Returns
    -------
    list of Pruned
        What was removed, and what was left although it should go.

    Raises
    ------
    InputError
        When a limit cannot be understood, or there is none.
    StoreError
        When nobody can tell whether a run is being read, and when the folder cannot be written.
    """
    age, bytes_ = _age(older_than), _size(max_size)
    if keep is not None and (isinstance(keep, bool) or not isinstance(keep, int) or keep < 0):
        raise InputError(f"keep is {keep!r}; expected a number of runs, 0 or more")
    if age is None and bytes_ is None and keep is None and not superseded:
        raise InputError("no limit is given; expected one or more of older_than, keep, max_size and superseded")
    place = home_of(home)
    if isinstance(place, str) and not (force or dry_run):
        raise StoreError(
            f"nobody can tell whether runs at {place} are being read, because there are no locks there; make sure that "
            "they are not, and say so with force=True (--force)"
        )
    now = datetime.now(UTC)
    found = list(runs(place))
    named = {} if isinstance(place, str) else {each.key: each.runs() for each in registers(place)}
    chosen = _chosen(found, named, now, age, keep, bytes_, superseded)
    limit = now - min(_ABANDONED if age is None else age, _LONGEST)
    if isinstance(place, str):
        uploads = _prune_uploads(place, min(limit, now - _UPLOADING), dry_run)
        staged = _prune_partial(remote.staging(place), limit, dry_run)
        following = [(one.run, one.reason) for one in _following(chosen, found, named)]
        return [*_prune_remote([*chosen, *following], place, dry_run), *uploads, *staged]
    if not place.exists():
        return []
    check_writable(place)
    removed = [_prune_run(run, reason, place, dry_run, force) for run, reason in chosen]
    left = {item.key for item in removed if item.kept}
    going = [one for one in _following(chosen, found, named) if not one.heads & left]
    removed += [_prune_run(one.run, one.reason, place, dry_run, force) for one in going]
    rest = [*_prune_partial(place, limit, dry_run), *_prune_locks(place, dry_run)]
    if not dry_run:
        _prune_claims(place)
    return [*removed, *rest]


def _chosen(
    found: list[Run],
    named: Mapping[str, set[str]],
    now: datetime,
    age: timedelta | None,
    keep: int | None,
    limit: int | None,
    superseded: bool,
) -> list[tuple[Run, str]]:
    """The runs that go by themselves, each with the reason; those of experiments first."""
    bound = {run.key: run for run in found if run.role == OF_MANY and any(run.key in keys for keys in named.values())}
    derived = [run for run in found if not run.own and run.key not in bound]
    derived.sort(key=lambda run: run.created, reverse=True)
    own = [_with_items(run, bound, named.get(run.key, set())) for run in found if run.own]
    chosen, total = [], 0
    for index, run in enumerate([*own, *derived]):  # the newest first
        stays = bool(run.note) or (keep is not None and run.own and index < keep)
        if superseded and run.superseded and not stays:
            chosen.append((run, _SUPERSEDED))
            continue
        total += run.size
        if stays:
            continue
        made = _time(run.created)
        if age is not None and made is not None and now - made > age:
            chosen.append((run, f"older than {_days(age)}"))
        elif limit is not None and total > limit:
            chosen.append((run, f"beyond {readable(limit)}"))
        elif age is None and limit is None and not superseded:
            chosen.append((run, f"not among the newest {keep}" if run.own else "made for an experiment"))
    return sorted(chosen, key=lambda item: item[0].own)


def _with_items(run: Run, items: dict[str, Run], keys: set[str]) -> Run:
    """A run with the size of those of its items that no run before it counts, which are taken out."""
    return replace(run, size=run.size + sum(items.pop(key).size for key in keys & items.keys()))


class _Following(NamedTuple):
    """A run that goes with the runs that it belongs to."""

    heads: frozenset[str]
    run: Run
    reason: str


def _following(chosen: list[tuple[Run, str]], found: list[Run], named: Mapping[str, set[str]]) -> list[_Following]:
    """The runs that go because what they belong to goes: an experiment with its run, items with all that name them."""
    going = {run.key for run, reason in chosen if reason != _SUPERSEDED}
    needed = set().union(*(keys for key, keys in named.items() if key not in going))
    heads: dict[str, set[str]] = {}
    for family in families(found):
        for run in family.derived:
            heads.setdefault(run.key, set()).add(family.head.key)
    for head, keys in named.items():
        for key in keys:
            heads.setdefault(key, set()).add(head)
    following = []
    for run in found:
        gone = heads.get(run.key, set()) & going
        if run.own or run.note or not gone or run.key in going | needed:
            continue
        reason = f"{'an item of' if run.role == OF_MANY else 'made for'} {min(gone)}, which goes"
        following.append(_Following(frozenset(gone), run, reason))
    return following


def _prune_run(run: Run, reason: str, home: Path, dry_run: bool, force: bool) -> Pruned:
    entry = Pruned("run", run.key, run.size, run.created, reason, role=run.role)
    path = Path(run.path)
    with unwritten(run.key, home) as idle, unread(path, force) as unused:
        if not idle:
            return _left(entry, "being written")
        if not unused:
            return _left(entry, "being read")
        if not run.own and claim_path(run.key, home).exists():
            return _left(entry, "asked for meanwhile")
        if dry_run or not path.exists():
            return entry
        try:
            hidden = hide(path, home)
        except PermissionError:  # Windows, where an open file keeps its folder in place
            return _left(entry, "being read")
        claim_path(run.key, home).unlink(missing_ok=True)
    durability.delete(hidden, as_far_as_possible=True)
    return entry


def _prune_partial(home: Path, limit: datetime, dry_run: bool) -> list[Pruned]:
    """Unfinished runs that nobody writes, and runs whose removal was cut short."""
    removed = []
    for folder in sorted((home / "partial").glob("*")):
        files = [path for path in [folder, *folder.rglob("*")] if not path.is_dir() or path == folder]
        stats = []
        for path in files:
            with suppress(OSError):
                stats.append(path.stat())
        if not stats or not is_key(folder.name.partition(".")[0]):
            continue
        modified = datetime.fromtimestamp(max(stat.st_mtime for stat in stats), UTC)
        size = sum(stat.st_size for stat in stats[1:])
        key = folder.name.partition(".")[0]
        if folder.name.endswith(REMOVED):
            reason = "its removal was cut short"
        elif modified < limit:
            reason = "unfinished, and not written since"
        else:
            continue
        entry = Pruned("unfinished run", key, size, modified.isoformat(timespec="seconds"), reason)
        with unwritten(key, home) as idle:
            if not idle:
                entry = _left(entry, "being written")
            elif not dry_run:
                durability.delete(folder, as_far_as_possible=True)
        removed.append(entry)
    return removed


def _prune_locks(home: Path, dry_run: bool) -> list[Pruned]:
    """Files of locks that nobody holds, for runs that nobody has begun."""
    removed = []
    for path in sorted((home / "locks").glob("*.lock")):
        if (home / "partial" / path.stem).exists() or not is_key(path.stem):
            continue
        with suppress(OSError):
            modified = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat(timespec="seconds")
            with unwritten(path.stem, home) as idle:
                if idle:
                    if not dry_run:
                        lock_path(path.stem, home).unlink()
                    removed.append(Pruned("lock", path.stem, 0, modified, "held by nobody"))
    return removed


def _prune_claims(home: Path) -> None:
    """Marks of the user's own runs that are gone."""
    for path in (home / "runs").glob(f"*{CLAIMED}"):
        if is_key(path.stem) and not (home / "partial" / path.stem).exists():
            with unwritten(path.stem, home) as idle:
                if idle and not run_path(path.stem, home).exists():
                    path.unlink(missing_ok=True)


def _prune_remote(chosen: list[tuple[Run, str]], url: str, dry_run: bool) -> list[Pruned]:
    removed = []
    for run, reason in chosen:
        contents = find_contents(run.key, url)
        if isinstance(contents, RemoteRun) and not dry_run:
            remote.remove(contents)
        removed.append(Pruned("run", run.key, run.size, run.created, reason, role=run.role))
    return removed


def _prune_uploads(url: str, limit: datetime, dry_run: bool) -> list[Pruned]:
    removed = []
    for rest in remote.leftovers(url):
        if rest.modified < limit:
            if not dry_run:
                remote.delete(url, rest.path)
            written = rest.modified.isoformat(timespec="seconds")
            removed.append(Pruned("unfinished run", rest.key, rest.size, written, "an upload that was cut short"))
    return removed


def _left(entry: Pruned, kept: str) -> Pruned:
    return replace(entry, kept=kept)


def _time(text: str) -> datetime | None:
    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        return None
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def _age(given: str | timedelta | None) -> timedelta | None:
    if given is None or (isinstance(given, timedelta) and given >= timedelta(0)):
        return given
    if isinstance(given, str) and (parts := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([mhdw])\s*", given)):
        with suppress(OverflowError):
            return timedelta(**{_AGES[parts[2]]: float(parts[1])})
    raise InputError(f"older_than is {given!r}; expected an age such as 45m, 12h, 30d or 2w")


def _size(given: str | int | None) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    if isinstance(given, str) and (parts := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", given, re.IGNORECASE)):
        with suppress(OverflowError):
            return int(float(parts[1]) * _SIZES[parts[2].upper()])
    raise InputError(f"max_size is {given!r}; expected a size such as 500MB or 20GB, or bytes")


def _days(age: timedelta) -> str:
    return f"{age / timedelta(days=1):g} days"
