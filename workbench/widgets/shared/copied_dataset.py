"""How copied code comes by the dataset of a view: from a variable of the notebook, or from the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workbench import store
from workbench.store.opened import opened_from
from workbench.store.reading import Run
from workbench.widgets.shared.kernel import held_as


def opening(run: Run, variable: str = "ds") -> str:
    """Code that opens a stored run into a variable: by its key in the usual place, else by its path."""
    return _opening(run.path, run.key, variable)


def reopening(ds: Any, variable: str = "ds") -> str:
    """Code that opens the stored run that a dataset was opened from; empty for one that was not, or was changed."""
    location = opened_from(ds)
    return "" if location is None else _opening(location, str(ds.attrs.get("key", "")), variable)


def named(ds: Any, usual: str = "ds") -> tuple[str, str]:
    """What copied code calls a dataset, and the code it begins with.

    Parameters
    ----------
    ds
        What a view was given.
    usual
        The variable where no variable of the notebook holds it.

    Returns
    -------
    The variable; and code that opens the stored run, where no variable holds it and it was opened from one.
    """
    variable = held_as(ds, usual)
    return (variable, "") if variable else (usual, reopening(ds, usual))


def begun(source: str, written: str) -> str:
    """Code behind the code that opens its dataset, where that is known."""
    return f"{source}\n\n{written}" if source else written


def _opening(path: Path | str, key: str, variable: str) -> str:
    usual = isinstance(path, Path) and path.parent.parent == store.home() and path.name.startswith(key) and key
    return f"import workbench as wb\n\n{variable} = wb.open({key if usual else str(path)!r})"
