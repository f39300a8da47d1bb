"""Which runs are the user's own, and which were made for an experiment.

A run that was made for an experiment says so in its manifest and its attributes, which never change. When the user asks
for the same run himself, an empty file ``runs/<key>.own`` beside it makes it his own: it can be written while the run
is being read, and no checksum covers it.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from workbench.schema import ROLE, StoreError
from workbench.store import remote
from workbench.store.catalogue import find_contents
from workbench.store.contents import Contents
from workbench.store.files import write_file
from workbench.store.locations import claim_path, partial_path, run_path
from workbench.store.locations import home as home_of
from workbench.store.locks import exclusively
from workbench.store.manifest import read_manifest
from workbench.store.metadata import ROOT
from workbench.store.remote import RemoteRun
from workbench.store.verifying import discard

log = logging.getLogger(__name__)


def claim(key: str, home: str | os.PathLike[str] | None = None) -> None:
    """Make a run the user's own that was made for an experiment; any other stays as it is.

    A run that cannot be marked, in a folder that is read-only for example, stays what it was, without an error.

    Parameters
    ----------
    key
        Of a finished run. Nothing happens when there is none.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.

    Raises
    ------
    InputError
        When the key is not one.
    """
    place = home_of(home)
    contents = find_contents(key, place)
    if contents is None or not is_derived(contents):
        return
    if isinstance(place, str):
        _mark(key, place)
        return
    try:
        with exclusively(key, place):  # nobody removes it meanwhile
            if run_path(key, place).exists():
                _mark(key, place)
    except (OSError, StoreError) as error:
        log.info("the run %s stays among those of experiments: %s", key, error)


def keep_ownership(key: str, derived: bool, home: str | os.PathLike[str] | None = None) -> None:
    """Before an interrupted run is taken up: it stays the user's own if he began it, and becomes so if he goes on.

    Parameters
    ----------
    key
        Of a run that is about to be written.
    derived
        Whether it is for an experiment this time.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.
    """
    place = home_of(home)
    folder = place if isinstance(place, Path) else remote.staging(place)
    try:
        begun = json.loads((partial_path(key, folder) / "run.zarr" / ROOT).read_bytes())
        was_derived = bool(begun["attributes"].get(ROLE))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # nothing was begun that could be taken up
    if derived != was_derived:
        _mark(key, place)


def discard_for_anew(key: str, derived: bool, home: str | os.PathLike[str] | None = None) -> None:
    """Remove a damaged run that is about to be computed anew; the user's own stays his own.

    Parameters
    ----------
    key
        Of a finished run.
    derived
        Whether it is computed for an experiment this time.
    home
        The folder of the runs, or a URL; see :func:`workbench.store.home`.

    Raises
    ------
    StoreError
        When it cannot be removed.
    """
    place = home_of(home)
    contents = find_contents(key, place)
    own = contents is not None and not is_derived(contents)
    discard(key, place)
    if own and derived:
        _mark(key, place)


def _mark(key: str, place: Path | str) -> None:
    try:
        if isinstance(place, str):
            RemoteRun(key, place, b"").claim()
        else:
            claim_path(key, place).parent.mkdir(parents=True, exist_ok=True)
            write_file(claim_path(key, place), b"")
    except (OSError, StoreError) as error:
        log.info("the run %s is listed among those of experiments: %s", key, error)


def is_derived(contents: Contents) -> bool:
    """Whether a run was made for an experiment and nobody asked for it since; not so when that cannot be read."""
    try:
        record = contents.record if isinstance(contents, RemoteRun) else read_manifest(contents).record
        return bool(record.get(ROLE)) and not contents.claimed()
    except StoreError:
        return False
