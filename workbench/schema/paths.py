"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.schema.errors import InputError


def is_folder(path: object) -> bool:
    """Whether something is the path of a folder; a path that cannot be one, being too long for example, is none."""
    try:
        return isinstance(path, str | os.PathLike) and Path(path).expanduser().is_dir()
    except (OSError, ValueError, RuntimeError):
        return False


def check_path(path: object, name: str) -> None:
    """Refuse what is no path.

    Raises
    ------
    InputError
        If it is anything but a string or an object that stands for one; ``name`` says what it is of.
    """
    try:
        written = os.fspath(path)  # type: ignore[call-overload]
    except TypeError:
        written = None
    if not isinstance(written, str):
        raise InputError(f"{name} is {path!r:.200}; expected a path: a string, or a pathlib.Path.")
    if "\0" in written:
        raise InputError(f"{name} is {written!r}, which holds a null character; expected a path without one.")


def expanded(path: str | os.PathLike[str], name: str) -> Path:
    """A path with ``~`` as the folder of a user.

    Raises
    ------
    InputError
        If it is no path, or there is no such user; ``name`` says what the path is.
    """
    check_path(path, name)
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{name} is {os.fspath(path)!r}, and no user of that name has a folder here; write ./ before the name of a "
            "folder that begins with ~"
        ) from error
