"""A Jupyter server of its own, that leaves no process behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

ROOT: Final = Path(__file__).parents[2]
_START: Final = 60.0
"""Seconds a server may take to come up."""
_SETTINGS: Final = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    "@jupyter-widgets/jupyterlab-manager/plugin": {"saveState": True},
}
"""JupyterLab asks nothing of the internet, saves only when told to, and then with the state of the widgets."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes
    ----------
    url
        Address, with a slash at its end.
    token
        What it wants to see.
    folder
        The folder of its notebooks.
    pid
        Its process.
    """

    url: str
    token: str
    folder: Path
    pid: int

    def write(self, name: str, cells: Mapping[str, Any] | list[str] = ()) -> Path:
        """A notebook of code cells in the server's folder."""
        code = {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": []}
        notebook = {
            "cells": [code | {"id": str(index), "source": source} for index, source in enumerate(cells)],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        path = self.folder / f"{name}.ipynb"
        path.write_text(json.dumps(notebook))
        return path

    def kernels(self) -> list[dict[str, Any]]:
        """The running kernels."""
        return list(self._call("GET", "api/kernels"))

    def start_kernel(self) -> str:
        """Start a kernel that no notebook uses, and give back its identifier."""
        return str(self._call("POST", "api/kernels")["id"])

    def stop_kernel(self, identifier: str) -> None:
        """End one kernel."""
        self._call("DELETE", f"api/kernels/{identifier}")

    def _call(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Run JupyterLab and Notebook 7 on a free port, with settings, runtime files and kernels of their own."""
    notebooks = folder / "notebooks"
    notebooks.mkdir(parents=True)
    own = {
        "HOME": folder / "home",
        "JUPYTER_CONFIG_DIR": folder / "config",
        "JUPYTER_DATA_DIR": folder / "data",
        "JUPYTER_RUNTIME_DIR": folder / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
        "IPYTHONDIR": folder / "ipython",
        "WORKBENCH_HOME": folder / "runs",
    }
    for path in own.values():
        path.mkdir()
    for name, settings in _SETTINGS.items():
        target = folder / "settings" / f"{name}.jupyterlab-settings"
        target.parent.mkdir(parents=True)
        target.write_text(json.dumps(settings))
    # The kernels import the made-up datasets of these tests.
    environment = {**os.environ, **{name: str(path) for name, path in own.items()}, "PYTHONPATH": str(ROOT)}
    # A test run that is killed outright takes its server along; the kernels follow their server.
    leash = ["setpriv", "--pdeathsig", "TERM"] if shutil.which("setpriv") else []
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0"]
    command += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={notebooks}", "--LabApp.news_url=None"]
    command += ["--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [*leash, *command], env=environment, cwd=notebooks, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield _wait(process, folder, notebooks)
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], folder: Path, notebooks: Path) -> Server:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline and process.poll() is None:
        for path in (folder / "runtime").glob("jpserver-*.json"):
            try:
                said = json.loads(path.read_text())
                server = Server(said["url"], said["token"], notebooks, said["pid"])
                server.kernels()
            except (OSError, ValueError):  # half written, or not answering yet
                continue
            return server
        time.sleep(0.1)
    raise RuntimeError(f"the Jupyter server did not come up; it said:\n{(folder / 'server.log').read_text()[-3000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and whatever it started, kernels in sessions of their own included."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(family, timeout=3)
    for child in alive:
        child.kill()
