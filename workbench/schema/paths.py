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


def expanded(path: str | os.PathLike[str], name: str) -> Path:
    """A path with ``~`` as the folder of a user.

    Raises
    ------
    InputError
        When there is no such user, or no path is like that; ``name`` says what the path is.
    """
    if "\0" in os.fspath(path):
        raise InputError(f"{name} is {os.fspath(path)!r}; expected a path, which holds no null character")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{name} is {os.fspath(path)!r}, and no user of that name has a folder here; write ./ before the name of a "
            "folder that begins with ~"
        ) from error
