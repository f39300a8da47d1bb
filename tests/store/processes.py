"""Processes that start in a few milliseconds, because they are forked from one that has imported the store."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
# xarray imports dask when it first writes or opens a run.
_CONTEXT.set_forkserver_preload(["tests.store.replay", "dask.array"])
_ROOT = str(Path(__file__).parents[2])


def start(target: Callable[..., Any], *arguments: Any) -> BaseProcess:
    """Start a function of an importable module in a new process."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_ROOT, before]))
    try:
        process = _CONTEXT.Process(target=target, args=arguments, daemon=True)
        process.start()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return process


def barrier(parties: int) -> Any:
    """A barrier between processes."""
    return _CONTEXT.Barrier(parties)


def event() -> Any:
    """An event between processes."""
    return _CONTEXT.Event()
