"""Values as Python code, for "copy as code"."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from workbench.widgets.shared.kernel import variable_of


def code(value: Any, name: str = "value") -> str:
    """Write a value: slices without their step, whole floats without their point.

    Parameters
    ----------
    value
        Anything. What cannot be written down, such as an image, is written as the notebook's variable that holds it.
    name
        What such a variable is called where the notebook has none.
    """
    if isinstance(value, np.generic):
        return code(value.item())
    if isinstance(value, slice):
        return f"slice({code(value.start)}, {code(value.stop)})"
    if isinstance(value, float) and not math.isfinite(value):
        return f"float({str(value)!r})"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(code(item, name) for item in value)}]"
    if isinstance(value, tuple):
        return f"({', '.join(code(item, name) for item in value)}{',' if len(value) == 1 else ''})"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key!r}: {code(item, str(key))}' for key, item in value.items())}}}"
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))
    return repr(value) if _is_written(value) else variable_of(value, name)


def variables(value: Any, name: str = "value") -> Iterator[str]:
    """The variables that :func:`code` writes."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from variables(item, str(key))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from variables(item, name)
    elif not isinstance(value, slice | float | np.generic | os.PathLike) and not _is_written(value):
        yield variable_of(value, name)


def _is_written(value: Any) -> bool:
    """Whether what Python writes for a value is code that makes it: of plain values, and of this package's own."""
    if type(value).__module__.partition(".")[0] == "workbench":
        return True
    try:
        ast.literal_eval(repr(value))
    except (ValueError, SyntaxError):
        return False
    return True


def arguments(options: Mapping[str, Any]) -> str:
    """Keyword arguments of a call, each with a comma before it."""
    return "".join(f", {name}={code(value, name)}" for name, value in options.items())


def continued(source: str, written: str) -> str:
    """Code behind the code that opens what it is about; the package is imported once."""
    if not source:
        return written
    imported = "import workbench as wb\n"
    return f"{source}\n\n{written.replace(imported, '', 1).lstrip() if imported in source else written}"
