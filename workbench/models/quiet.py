"""Importing pipelines without what libraries report then of things they lack for purposes of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, libraries log no warnings.

    When pipelines are imported, transformers reports torchvision, and torchao its CUDA kernels. What concerns a model
    is reported when the model is loaded.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def imported(module: str, name: str) -> Any:
    """What a module has under a name."""
    with quiet():
        return getattr(import_module(module), name)
