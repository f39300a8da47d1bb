"""The concept step beside the model: on a CUDA device it runs on a stream of its own, while the next block computes.

The model's stream does not begin a block before the concept step of the block before the last is over, so what a step
reads is kept for one block only, and none of it is written again too early.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import nn

from workbench.models.block_records import BlockTensors, ConceptStream

_PRIORITY: Final = -1
"""High: the few small kernels of a step are not to wait until the model's no longer fill the device."""
_MOVES_WEIGHTS: Final = ("_hf_hook", "_diffusers_hook")
"""Where accelerate and diffusers keep what loads and unloads a module's weights around its forward pass."""


class _Side:
    """A side stream, and the events at which it begins and at which it is waited for.

    An event is recorded again and again: making one takes longer, and who waits for a later record waits for all.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device, priority=_PRIORITY)
        self.begins = torch.cuda.Event()
        self.over = torch.cuda.Event()


_sides: dict[tuple[torch.device, int], _Side] = {}
"""By device and the model's stream, for all traces: memory that a stream has used is not given to another."""


class Aside:
    """The steps of one trace."""

    def __init__(self) -> None:
        self._allowed = False
        self._over: torch.cuda.Event | None = None
        self._device: torch.device | None = None
        self._kept: tuple[object, ...] = ()

    def begin(self, parts: Iterable[nn.Module]) -> None:
        """A forward pass begins.

        Parameters
        ----------
        parts : iterable of nn.Module
            All modules of the model: steps stay on its own stream where weights are moved during a pass, or are of a
            kind whose modules may keep something between calls, as quantised ones do.
        """
        self.join()
        self._allowed = torch.cuda.is_available() and all(map(_stays, parts))

    @contextmanager
    def step(self, block: BlockTensors, stream: ConceptStream) -> Iterator[None]:
        """Launch what is launched inside beside the model; it waits for what the model was given before.

        Parameters
        ----------
        block, stream : BlockTensors, ConceptStream
            What the step reads; on a device other than CUDA nothing changes.
        """
        device = block.output.device
        if device.type != "cuda" or not self._allowed:
            yield
            return
        self.join()
        main = torch.cuda.current_stream(device)
        key = (device, main.cuda_stream)
        side = _sides.get(key) or _sides.setdefault(key, _Side(device))
        side.begins.record(main)
        side.stream.wait_event(side.begins)
        self._device, self._kept = device, (block, stream)
        try:
            with torch.cuda.stream(side.stream):
                yield
        finally:
            side.over.record(side.stream)
            self._over = side.over

    def join(self) -> None:
        """Let what the model's stream is given from now on wait for the last step."""
        if self._over is not None:
            torch.cuda.current_stream(self._device).wait_event(self._over)
        self._over, self._kept = None, ()


def _stays(module: nn.Module) -> bool:
    """Whether the weights of a module (not of those inside it) are plain, and where they are for a whole pass."""
    attributes = module.__dict__
    return not any(name in attributes for name in _MOVES_WEIGHTS) and all(
        parameter is None or type(parameter) is nn.Parameter for parameter in module._parameters.values()
    )
