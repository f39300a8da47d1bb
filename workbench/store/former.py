"""Former names of public functions, kept for one version; each warns of its new name."""

from __future__ import annotations

import os
from pathlib import Path

from workbench.schema import warn
from workbench.store.archives import export_runs, import_runs
from workbench.store.listing import Run

_GOING = "the old name will go with the next version."


def export_run(
    key_or_path: str | os.PathLike[str], file: str | os.PathLike[str], home: str | os.PathLike[str] | None = None
) -> Path:
    """Former name of :func:`workbench.store.export_runs`, for one run."""
    warn(f"export_run is called export_runs now; {_GOING}")
    return export_runs(key_or_path, file, home)


def import_run(file: str | os.PathLike[str], home: str | os.PathLike[str] | None = None) -> Run:
    """Former name of :func:`workbench.store.import_runs`; the first run of the file."""
    warn(f"import_run is called import_runs now, and gives a list; {_GOING}")
    return import_runs(file, home)[0]
