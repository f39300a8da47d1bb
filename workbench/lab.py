"""``workbench lab``: JupyterLab on the notebooks that come with the package, the start panel first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import quote

import typer

from workbench.schema import InputError

START: Final = "00_start.ipynb"
"""The notebook that is opened: its first cell is the start panel."""


def lab(
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENT...]", help="Passed on to JupyterLab.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the notebooks are, or are copied to.")] = Path("notebooks"),
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
) -> None:
    """Start JupyterLab on a panel that makes maps from a picture and words; notebooks are beside it.

    Notebooks that the folder lacks are copied into it first.
    """
    if find_spec("jupyterlab") is None:
        raise InputError("JupyterLab is not installed: pip install 'concept-workbench[lab]', then call again.")
    folder.mkdir(parents=True, exist_ok=True)
    for notebook in _notebooks():
        target = folder / notebook.name
        if not target.exists():
            shutil.copyfile(notebook, target)
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.absolute()}"]
    command += [f"--LabApp.default_url=/lab/tree/{quote(START)}", *(arguments or [])]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0 and "--allow-root" not in command:
        # As in a container, where JupyterLab would refuse to start.
        typer.echo("Warning: this is root: JupyterLab is started with --allow-root.", err=True)
        command.append("--allow-root")
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def _notebooks() -> list[Path]:
    """The notebooks that come with the package: inside it, or beside it in a checkout."""
    package = Path(str(resources.files("workbench")))
    return sorted([*(package / "data" / "notebooks").glob("*.ipynb"), *(package.parent / "notebooks").glob("*.ipynb")])
