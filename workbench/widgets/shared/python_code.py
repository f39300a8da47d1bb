"""Values as Python code, for "copy as code"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def code(value: Any) -> str:
    """Write a plain value: slices without their step, whole floats without their point."""
    if isinstance(value, slice):
        return f"slice({code(value.start)}, {code(value.stop)})"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list):
        return f"[{', '.join(map(code, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(code, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def arguments(options: Mapping[str, Any]) -> str:
    """Keyword arguments of a call, each with a comma before it."""
    return "".join(f", {name}={code(value)}" for name, value in options.items())


def continued(source: str, written: str) -> str:
    """Code behind the code that opens what it is about; the package is imported once."""
    if not source:
        return written
    imported = "import workbench as wb\n"
    return f"{source}\n\n{written.replace(imported, '', 1).lstrip() if imported in source else written}"
