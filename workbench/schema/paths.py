"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.schema.errors import InputError


def expanded(path: str | os.PathLike[str], name: str) -> Path:
    """A path with ``~`` as the folder of a user.

    Raises
    ------
    InputError
        When there is no such user; ``name`` says what the path is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{name} is {os.fspath(path)!r}, and no user of that name has a folder here; write ./ before the name of a "
            "folder that begins with ~"
        ) from error
