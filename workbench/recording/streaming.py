"""From the model to the writer: scores leave the device and reach the disk while the next layers compute.

On a CUDA device a piece is copied by a stream of its own into pinned memory. Background threads wait for the copy, sum
over heads, round, and hand the piece to the writer. The number of pieces under way is bounded, so memory on both sides
stays flat however long a run is; when the disk is slower than the model, the model waits.
"""

from __future__ import annotations

import enum
import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import torch
from torch import Tensor

from workbench.recording.checks import not_finite
from workbench.recording.reading import Piece
from workbench.schema import LAYER, SAMPLE, TIMESTEP, TraceError, total
from workbench.store.pieces import Writer

log = logging.getLogger(__name__)

BUFFERED_BYTES: Final = 128 * 2**20
"""Host memory that pieces may take between the model and the disk."""
MOST_PIECES: Final = 64
"""Pieces under way at most, however small they are."""
WRITERS: Final = min(4, max(1, (os.cpu_count() or 1) // 2))
"""Threads that round, compress and write: one takes about 5 ms for a piece of FLUX.1, which a large GPU outruns."""
_HALF_LIMIT: Final = 65520.0
"""What does not stay below this rounds to infinity in float16."""


class _Mark(enum.Enum):
    """Signals that travel between the pieces."""

    COMMIT = enum.auto()
    END = enum.auto()


@dataclass(frozen=True)
class _Whole:
    """One sample of a variable that does not come in pieces, such as a picture."""

    name: str
    values: np.ndarray[Any, Any]
    sample: int


@dataclass(frozen=True)
class _Transfer:
    """A piece on its way to the host."""

    piece: Piece
    at: Mapping[str, int]
    tensors: Mapping[str, Tensor]
    wait: Callable[[], None]
    buffer: Tensor | None


class Stream:
    """A context between a trace and a writer: takes pieces without waiting for the disk, and commits them in order.

    Parameters
    ----------
    run : Writer
        Where the pieces go; inside the context only the stream's own threads write to it.
    grid : tuple of int
        Patches per column and row.
    positions : mapping of int to int
        Position along ``layer`` of every recorded layer.
    buffered : int
        Bytes that pieces under way may take.

    Raises
    ------
    StoreError, TraceError
        From any of its methods: the first error a background thread met, such as a full disk.
    """

    def __init__(
        self, run: Writer, grid: tuple[int, int], positions: Mapping[int, int], buffered: int = BUFFERED_BYTES
    ) -> None:
        self._run = run
        self._grid = grid
        self._positions = positions
        self._buffered = buffered
        self._queue: queue.Queue[_Transfer | _Whole | _Mark] = queue.Queue()
        self._room: threading.Semaphore | None = None
        self._free: list[Tensor] = []
        self._sides: dict[torch.device, torch.cuda.Stream] = {}
        self._thread = threading.Thread(target=self._work, name="workbench-writer", daemon=True)
        self._error: BaseException | None = None
        self._abandoned = False

    def write(self, piece: Piece, sample: int, timestep: int) -> None:
        """Send a piece of batch 1 on its way; waits only while too many are under way.

        Parameters
        ----------
        piece : Piece
            Scores (batch 1, head, concept, patch), log-sum-exps (batch 1, head, concept), mass (batch 1, head, text).
        sample, timestep : int
            Positions along those dimensions.
        """
        self._raise_error()
        tensors = {name: tensor[0] for name, tensor in (*piece.scores.items(), *piece.lse.items(), *piece.mass.items())}
        if self._room is None:
            size = sum(tensor.nbytes for tensor in tensors.values())
            self._room = threading.Semaphore(min(max(self._buffered // size, 2), MOST_PIECES))
        self._room.acquire()
        at = {SAMPLE: sample, TIMESTEP: timestep, LAYER: self._positions[piece.layer]}
        self._queue.put(self._transfer(piece, at, tensors))

    def put(self, name: str, values: np.ndarray[Any, Any], sample: int) -> None:
        """Send one sample of a variable that does not come in pieces."""
        self._raise_error()
        self._queue.put(_Whole(name, values, sample))

    def commit(self) -> None:
        """Let the pieces sent so far count once they are written: the forward pass they belong to was complete."""
        self._raise_error()
        self._queue.put(_Mark.COMMIT)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._queue.put(_Mark.END)
        try:
            self._thread.join()
        except KeyboardInterrupt:
            self._abandoned = True
            self._thread.join()
            raise
        if kind is None:
            self._raise_error()
        elif self._error is not None and self._error is not error:
            log.warning("the run's writer failed as well: %s", self._error)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    # --- the model's side ---------------------------------------------------------------------------------------
    def _transfer(self, piece: Piece, at: Mapping[str, int], tensors: Mapping[str, Tensor]) -> _Transfer:
        device = next(iter(tensors.values())).device
        if device.type != "cuda":
            return _Transfer(piece, at, {name: tensor.cpu() for name, tensor in tensors.items()}, lambda: None, None)
        if device not in self._sides:
            self._sides[device] = torch.cuda.Stream(device)
        side = self._sides[device]
        side.wait_stream(torch.cuda.current_stream(device))
        buffer = self._buffer(sum(tensor.numel() for tensor in tensors.values()))
        copies, start = {}, 0
        with torch.cuda.stream(side):
            for name, tensor in tensors.items():
                copies[name] = buffer[start : start + tensor.numel()].view(tensor.shape)
                copies[name].copy_(tensor, non_blocking=True)
                # Its memory is not used again before the copy is done.
                tensor.record_stream(side)
                start += tensor.numel()
            copied = torch.cuda.Event()
            copied.record(side)
        return _Transfer(piece, at, copies, copied.synchronize, buffer)

    def _buffer(self, elements: int) -> Tensor:
        """Pinned memory that no copy uses."""
        if self._free:
            return self._free.pop()
        return torch.empty(elements, dtype=torch.float32, pin_memory=True)

    # --- the writer's side --------------------------------------------------------------------------------------
    def _work(self) -> None:
        """Handle what comes until the end; after an error only make room, so that the model never waits for ever."""
        pending: list[Future[None]] = []
        with ThreadPoolExecutor(WRITERS, thread_name_prefix="workbench-writer") as pool:
            while (item := self._queue.get()) is not _Mark.END:
                if isinstance(item, _Transfer):
                    pending.append(pool.submit(self._write, item))
                    continue
                wait(pending)
                pending.clear()
                if isinstance(item, _Whole):
                    self._attempt(partial(self._run.put, item.name, item.values, item.sample))
                else:
                    self._attempt(self._run.commit)

    def _write(self, item: _Transfer) -> None:
        def write() -> None:
            item.wait()
            self._run.write(item.at, piece_values(item.piece, item.tensors, self._grid))

        self._attempt(write)
        if item.buffer is not None:
            self._free.append(item.buffer)
        assert self._room is not None
        self._room.release()

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do it unless something went wrong before; keep the first error for the model's side."""
        if self._error is None and not self._abandoned:
            try:
                action()
            except BaseException as error:
                self._error = self._error or error


def piece_values(piece: Piece, tensors: Mapping[str, Tensor], grid: tuple[int, int]) -> dict[str, Any]:
    """What the store takes of a piece: per-head maps (head, concept, y, x), their sums, and the rest as it is.

    Parameters
    ----------
    piece : Piece
        Says which of the tensors are scores.
    tensors : mapping of str to Tensor
        Scores (head, concept, patch), log-sum-exps (head, concept) and mass (head, text), float32 on the host, by name.
    grid : tuple of int
        Patches per column and row.

    Returns
    -------
    dict of str to ndarray
        ``<space>`` in float16, or in float32 when a value would overflow; ``<space>_total``, summed over heads in
        float32 before anything is rounded; log-sum-exps and mass in float32 where there are any.

    Raises
    ------
    TraceError
        If a value is NaN or infinite.
    """
    values: dict[str, Any] = {}
    for name, tensor in tensors.items():
        array = tensor.numpy()
        if name in piece.scores:
            array = array.reshape(*array.shape[:-1], *grid)
            values[total(name)] = array.sum(axis=0)
        # torch rounds twenty times as fast as NumPy.
        low, high = (bound.item() for bound in tensor.aminmax())
        fits = max(-low, high) < _HALF_LIMIT
        values[name] = tensor.half().numpy().reshape(array.shape) if name in piece.scores and fits else array
        if not np.isfinite(values.get(total(name), array)).all():
            raise TraceError(not_finite([f"layer {piece.layer} {name}"]) + ".")
    return values
