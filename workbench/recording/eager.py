"""While a trace is open, torch.compile is off: compiled code does not run hooks placed after it was compiled.

This holds for the whole process, because a model may be compiled under any name, or only while the trace is open.
What was compiled stays compiled, and is used again once the last trace is closed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_lock = threading.Lock()
_holders = 0
_held: Any = None


@contextmanager
def eager() -> Iterator[None]:
    """Run what torch.compile compiled as plain Python; contexts may overlap in any order and in several threads."""
    global _holders, _held
    with _lock:
        if not _holders:
            _held = torch.compiler.set_stance("force_eager")
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if not _holders:
                _held.__exit__(None, None, None)


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile was applied to a model or to a part of it, as a wrapper or in place."""
    return any("_orig_mod" in module._modules or module._compiled_call_impl is not None for module in model.modules())
