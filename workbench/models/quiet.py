"""Importing pipelines without what libraries report then of things they lack for purposes of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any

_lock = Lock()
_inside, _before = 0, 0
"""How many threads are inside, and what was disabled before the first of them."""


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, in all threads, libraries log no warnings.

    When pipelines are imported, transformers reports torchvision, and torchao its CUDA kernels. What concerns a model
    is reported when the model is loaded.
    """
    global _inside, _before
    with _lock:
        if not _inside:
            _before = logging.root.manager.disable
            logging.disable(max(_before, logging.WARNING))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                logging.disable(_before)


def imported(module: str, name: str) -> Any:
    """What a module has under a name."""
    with quiet():
        return getattr(import_module(module), name)
