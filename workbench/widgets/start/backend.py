"""What the start panel needs of the rest of the package: the callables that know models, handed over from outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Event
from typing import Any, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Watcher:
    """Told, in the thread of a run, how it gets on.

    Attributes
    ----------
    stage
        What is done now, in words.
    passed
        Forward passes that are done, and all of them.
    grown
        A dataset of what is there already.
    """

    stage: Callable[[str], None]
    passed: Callable[[int, int], None]
    grown: Callable[[xr.Dataset], None]


class Remark(Protocol):
    """A sentence about a word, or about everything where ``word`` is empty; ``refused``: no run would take it."""

    @property
    def word(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def refused(self) -> bool: ...


class Backend(Protocol):
    """What knows models. ``model`` is a name, a path, or a loaded pipeline."""

    def pipelines(self) -> Mapping[str, Any]:
        """Loaded pipelines that the user has in variables, by their names."""
        ...

    def read(self, file: Any) -> Pixels:
        """The image (pixel_y, pixel_x, channel) in an open file or at a path, as a run takes it."""
        ...

    def facts(self, model: Any) -> dict[str, Any]:
        """``words`` and ``fillers`` of a closed vocabulary, ``blocks`` of each kind; as far as they are known."""
        ...

    def at_hand(self, model: Any) -> bool:
        """Whether its tokenizers can be asked at once."""
        ...

    def remarks(self, model: Any, concepts: Sequence[str], prompt: str, *, made: bool, pool: str) -> Sequence[Remark]:
        """What is to be said of words before they are run."""
        ...

    def run(
        self,
        subject: Any,
        concepts: Sequence[str],
        model: Any,
        options: Mapping[str, Any],
        *,
        prompted: bool,
        watcher: Watcher,
        cancel: Event,
    ) -> xr.Dataset:
        """Capture an image, or generate from a prompt."""
        ...

    def close(self) -> None:
        """Let go of models."""
        ...
