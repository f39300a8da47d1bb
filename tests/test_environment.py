"""What the installation brings is what the package imports, whichever file installs it."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WITH_TORCH = {"triton"}
"""What torch brings where it supports CUDA, and the package does without elsewhere."""
MODULES = sorted((ROOT / "workbench").rglob("*.py"))


def _names(requirements: list[str]) -> set[str]:
    """Normalised names of distributions, without versions and extras."""
    return {_normal(re.match(r"[\w.-]+", one)[0]) for one in requirements}  # type: ignore[index]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


PLAIN = _names(PROJECT["dependencies"])
EXTRAS = {extra: _names(some) for extra, some in PROJECT["optional-dependencies"].items()}
FOR_USERS = EXTRAS["lab"] | EXTRAS["perceptual"] | EXTRAS["cloud"] | EXTRAS["evaluation"]


def _imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Top-level names that a module imports, and whether only a call does."""
    late = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            modules = [node.module or ""]
        else:
            continue
        yield from ((module.partition(".")[0], id(node) in late) for module in modules)


def test_conda_installs_what_pip_does() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, by_pip = environment["dependencies"]
    assert (python, pip) == (f"python {PROJECT['requires-python']}", "pip")
    ((option, target),) = [shlex.split(line) for line in by_pip["pip"]]
    extras = re.fullmatch(r"\.\[([\w,]+)\]", target)
    assert (option, extras and extras[1].split(",")) == ("-e", ["lab"])
    assert environment["name"] == PROJECT["name"]


def test_the_views_come_with_a_plain_installation_and_jupyterlab_with_the_extra() -> None:
    assert {"anywidget", "ipywidgets", "plotly", "traitlets"} <= PLAIN
    assert {"jupyterlab", "ipykernel"} <= EXTRAS["lab"]
    assert not PLAIN & (EXTRAS["lab"] | EXTRAS["test"])


@pytest.mark.slow
def test_everything_that_is_imported_is_declared() -> None:
    """A library of an extra is imported by the call that needs it."""
    distributions = packages_distributions()
    undeclared = []
    for path in MODULES:
        for module, late in _imports(ast.parse(path.read_text())):
            if module == "workbench" or module in WITH_TORCH or module in sys.stdlib_module_names:
                continue
            names = {_normal(name) for name in distributions.get(module, [module])}
            if not names & (PLAIN | FOR_USERS if late else PLAIN):
                undeclared.append(f"{path.relative_to(ROOT)}: {module}")
    assert undeclared == []
