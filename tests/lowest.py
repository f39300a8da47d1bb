"""What the tests at the lowest versions import beside the package: ``python -m tests.lowest`` prints requirements."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

IMPORTED: Final = ("pytest", "pytest-xdist", "hypothesis", "peft", "dask")
"""Of the ``test`` extra."""


def requirements() -> list[str]:
    """As ``pyproject.toml`` has them."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    named = {re.split(r"[\[><=~! ]", each)[0]: each for each in project["optional-dependencies"]["test"]}
    return [named[name] for name in IMPORTED]


if __name__ == "__main__":
    print("\n".join(requirements()))
