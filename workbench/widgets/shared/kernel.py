"""The notebook that a view is made in."""

from __future__ import annotations

import sys
from typing import Any


def variable_of(value: Any, usual: str) -> str:
    """The variable of the notebook that holds this very object, for copied code; ``usual`` where none does."""
    return held_as(value, usual) or usual


def held_as(value: Any, usual: str = "") -> str:
    """The variable of the notebook that holds this very object, rather ``usual`` than others; empty for none."""
    if "IPython" not in sys.modules:
        return ""
    shell = sys.modules["IPython"].get_ipython()
    variables = {} if shell is None else dict(shell.user_ns)
    names = [name for name, held in variables.items() if held is value and not name.startswith("_")]
    return usual if usual in names else next(iter(names), "")
