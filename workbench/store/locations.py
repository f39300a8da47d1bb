"""Where runs are and what they are called."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import platformdirs

from workbench.schema import CAPTURE_VERSION, InputError
from workbench.schema.paths import check_path, expanded

KEY_LENGTH: Final = 20
"""Characters of a content key: 80 bits of the hash."""
MANIFEST: Final = "manifest.json"
CLAIMED: Final = ".own"
"""What the name of the empty file beside a run ends in that was made for an experiment and is the user's own now."""

_KEY: Final = re.compile(r"[0-9a-z][0-9a-z_-]*")
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://")
_SPOILT: Final = re.compile(r"[a-z][a-z0-9+.-]+:/[^/]")


def home(path: str | os.PathLike[str] | None = None) -> Path | str:
    """The folder, or the URL, that holds the runs.

    Parameters
    ----------
    path
        A folder, or an fsspec URL such as ``s3://bucket/runs``; without it the environment variable
        ``WORKBENCH_HOME``, and without that the user's cache folder.

    Returns
    -------
    pathlib.Path or str
        An absolute path, which may not exist yet, or the URL.

    Raises
    ------
    InputError
        When it is no path, a URL was made a :class:`pathlib.Path`, which spoils it, or it begins with ``~`` and an
        unknown user.
    """
    if path is not None:
        check_path(path, "home")
    chosen = path or os.environ.get("WORKBENCH_HOME") or platformdirs.user_cache_path("concept-workbench")
    if is_url(chosen):
        url = str(chosen).rstrip("/")
        return url if not url.startswith("file://") else Path(url.removeprefix("file://"))
    if not isinstance(chosen, str) and _SPOILT.match(os.fspath(chosen)):
        raise InputError(f"home is the path {os.fspath(chosen)!r}; expected a URL as a string, with ://")
    return expanded(chosen, "home").absolute()


def local_home() -> Path:
    """The folder of the runs on this machine, whatever URL ``WORKBENCH_HOME`` may be."""
    chosen = os.environ.get("WORKBENCH_HOME", "")
    folder = home(chosen if chosen and not is_url(chosen) else platformdirs.user_cache_path("concept-workbench"))
    assert isinstance(folder, Path)
    return folder


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether a home is an fsspec URL."""
    return isinstance(path, str) and bool(_URL.match(path))


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, NumPy scalars and arrays as plain values, no NaN.

    Raises
    ------
    InputError
        When the value holds something JSON cannot.
    """
    try:
        return json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    except ValueError as error:
        raise InputError(f"cannot be written as JSON: {error}; NaN and infinity have no place in a recipe") from error


def plain(value: Any) -> Any:
    """A copy of the value with NumPy scalars and arrays, tuples and other mappings as JSON holds them.

    Raises
    ------
    InputError
        When the value holds something of another kind.
    """
    if isinstance(value, Mapping):
        if wrong := [key for key in value if not isinstance(key, str)]:
            raise InputError(f"a mapping has the key {wrong[0]!r}; expected strings only")
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InputError(
        f"a value is {value!r}, a {type(value).__name__}; expected strings, numbers, booleans, None, "
        "and lists and mappings of those"
    )


def content_key(recipe: Mapping[str, Any]) -> str:
    """The name of a run: a hash of everything that determines its result.

    Parameters
    ----------
    recipe
        Plain values (strings, numbers, booleans, None, NumPy scalars and arrays, and lists and mappings of those).
        Their order in a mapping does not matter; ``1`` and ``1.0`` differ. The version of the capture code is added.

    Returns
    -------
    str
        :data:`KEY_LENGTH` hexadecimal characters of a SHA-256.

    Raises
    ------
    InputError
        When the recipe holds NaN, infinity, or a value of another kind.
    """
    text = canonical_json({"capture_version": CAPTURE_VERSION, "recipe": recipe})
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def check_key(key: str) -> str:
    """The key itself, when it can name a run inside the store.

    Raises
    ------
    InputError
        When it holds anything but lower-case letters, digits, ``-`` and ``_``, as a path would.
    """
    if not is_key(key):
        raise InputError(
            f"the key is {key!r}; expected letters a-z, digits, '-' and '_' only, as workbench.runs() lists"
        )
    return key


def is_key(key: str) -> bool:
    """Whether this can name a run inside the store."""
    return isinstance(key, str) and bool(_KEY.fullmatch(key))


def run_path(key: str, home_: Path) -> Path:
    """Where a finished run is."""
    return home_ / "runs" / f"{check_key(key)}.zarr"


def partial_path(key: str, home_: Path) -> Path:
    """Where a run grows until it is complete."""
    return home_ / "partial" / check_key(key)


def claim_path(key: str, home_: Path) -> Path:
    """The empty file that makes a run the user's own which was made for an experiment."""
    return run_path(key, home_).with_suffix(CLAIMED)


def lock_path(key: str, home_: Path) -> Path:
    """The file that a process locks while it writes the run."""
    return home_ / "locks" / f"{check_key(key)}.lock"
