"""A backend that runs nothing: what it gives is made up, and what it was asked is kept."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from tests.synthetic import dataset
from workbench.schema import CancelledError, InputError, warn
from workbench.widgets.start.backend import Watcher


class Remark(NamedTuple):
    word: str
    text: str
    refused: bool


class Backend:
    """Four passes, each of which waits to be let go where ``held`` is set."""

    def __init__(self, *, held: bool = False, stored: bool = False) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.kernel: dict[str, Any] = {}
        self.closed = False
        self.passes = threading.Semaphore(0 if held else 1000)
        self.began = threading.Event()
        self.stored = stored
        self.error: Exception | None = None

    def pipelines(self) -> Mapping[str, Any]:
        return self.kernel

    def read(self, file: Any) -> Any:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(file) as image:
                if image.mode != "RGB":
                    warn("converted to RGB.")
                return np.asarray(image.convert("RGB"))
        except UnidentifiedImageError as error:
            raise InputError("this is no image that can be read.") from error

    def at_hand(self, model: Any) -> bool:
        return model != "far/away"

    def facts(self, model: Any) -> dict[str, Any]:
        if model == "nowhere":
            raise InputError("unknown model 'nowhere'.")
        return {"words": [], "fillers": [], "blocks": [5, 2]}

    def remarks(self, model: Any, concepts: Sequence[str], prompt: str, *, made: bool, pool: str) -> list[Remark]:
        return [Remark(word, f"{word!r} is unknown.", True) for word in concepts if word == "zebra"]

    def run(
        self,
        subject: Any,
        concepts: Sequence[str],
        model: Any,
        options: Mapping[str, Any],
        *,
        prompted: bool,
        watcher: Watcher,
        cancel: threading.Event,
    ) -> xr.Dataset:
        self.calls.append((subject, list(concepts), model, dict(options)))
        watcher.stage("Running…")
        if self.error is not None:
            raise self.error
        kind = "generate" if prompted else "capture"
        ds = dataset(concepts=tuple(concepts), kind=kind, grid=(4, 4)).assign_attrs(key=f"{len(self.calls):020x}")
        for done in range(0 if self.stored else 4):
            self.began.set()
            while not self.passes.acquire(timeout=0.01):
                if cancel.is_set():
                    raise CancelledError("it was cancelled.")
            if self.error is not None:
                raise self.error
            watcher.passed(done + 1, 4)
            if done < ds.sizes["timestep"]:
                watcher.grown(ds.isel(timestep=slice(0, done + 1)))
        warn("a warning of the run.")
        return ds

    def close(self) -> None:
        self.closed = True
