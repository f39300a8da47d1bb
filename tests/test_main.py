"""The command line as a module."""

from __future__ import annotations

import runpy
import sys

import pytest

import workbench


def test_the_package_is_run_as_the_command_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["workbench", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("workbench", run_name="__main__", alter_sys=True)
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"workbench {workbench.__version__}\n"
