from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.test_cli import run
from workbench import lab


def test_lab_copies_the_notebooks_it_starts_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    started: list[list[str]] = []

    class Done:
        returncode = 0

    def start(command: list[str], check: bool) -> Done:
        started.append(command)
        return Done()

    monkeypatch.setattr(lab.subprocess, "run", start)
    monkeypatch.setattr(lab, "find_spec", lambda name: object())
    (tmp_path / "01_quickstart.ipynb").write_text("mine")
    code, _, err = run(monkeypatch, capsys, "lab", "--folder", tmp_path, "--no-browser", "--", "--port", 9999, "-y")
    assert code == 0
    assert (tmp_path / "01_quickstart.ipynb").read_text() == "mine", "a user's own copy is never overwritten"
    assert "wb.start()" in (tmp_path / lab.START).read_text()
    assert "--LabApp.default_url=/lab/tree/00_start.ipynb" in started[0]
    assert "--no-browser" in started[0]
    assert f"--ServerApp.root_dir={tmp_path}" in started[0]
    assert started[0][started[0].index("--port") :][:3] == ["--port", "9999", "-y"]
    assert ("--allow-root" in started[0], "--allow-root" in err) == (os.geteuid() == 0,) * 2

    monkeypatch.setattr(lab.os, "geteuid", lambda: 0)
    assert run(monkeypatch, capsys, "lab", "--folder", tmp_path, "--", "--allow-root")[0] == 0
    assert started[1].count("--allow-root") == 1
    code, _, err = run(monkeypatch, capsys, "lab", "--folder", tmp_path)
    assert "--allow-root" in started[2]
    assert "this is root" in err
    monkeypatch.setattr(lab.os, "geteuid", lambda: 1000)
    assert run(monkeypatch, capsys, "lab", "--folder", tmp_path)[2] == ""
    assert "--allow-root" not in started[3]

    monkeypatch.setattr(lab, "find_spec", lambda name: None)
    code, _, err = run(monkeypatch, capsys, "lab", "--folder", tmp_path)
    assert (code, "concept-workbench[lab]" in err) == (2, True)


def test_the_first_cell_of_the_first_notebook_is_the_panel() -> None:
    (notebook,) = (path for path in lab._notebooks() if path.name == lab.START)
    first, *_ = json.loads(notebook.read_text())["cells"]
    made: dict[str, object] = {}
    exec("".join(first["source"]), made)
    assert type(made["panel"]).__name__ == "Start"
