from __future__ import annotations

import inspect

import pytest

import workbench.evaluation


@pytest.mark.slow
def test_a_method_of_ones_own_as_the_documentation_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Run what the package's documentation shows: no more than twenty lines of a class."""
    text = inspect.getdoc(workbench.evaluation) or ""
    code = inspect.cleandoc(text.partition("::\n")[2])
    lines = code[code.index("class ") : code.index("print(")].strip().splitlines()
    assert 5 < len(lines) <= 20
    exec(compile(code.replace("limit=10", "limit=3"), "documentation", "exec"), {})
    printed = capsys.readouterr().out
    assert "\ndark " in printed
    assert "floor: random" in printed
