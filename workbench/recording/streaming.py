"""From the model to the writer: scores leave the device and reach the disk while the next layers compute.

On a CUDA device a piece is summed over heads and rounded by a stream of its own, which then copies the result into
pinned memory; on the CPU the background threads do that. They hand the piece to the writer. The number of pieces under
way is bounded, so memory on both sides stays flat however long a run is; when the disk is slower than the model, the
model waits.
"""

from __future__ import annotations

import enum
import logging
import os
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import torch

from workbench.recording.block_reading import Record
from workbench.recording.reducing import Layout, reduce_into, stored_values
from workbench.schema import CONDITIONAL, LAYER, SAMPLE, TIMESTEP, StoreError, TraceError
from workbench.store.pieces import Writer

log = logging.getLogger(__name__)

BUFFERED_BYTES: Final = 128 * 2**20
"""Host memory that pieces may take between the model and the disk."""
MOST_PIECES: Final = 64
"""Pieces under way at most, however small they are."""
WRITERS: Final = min(4, max(1, (os.cpu_count() or 1) // 2))
"""Threads that round, compress and write: one takes about 5 ms for a piece of FLUX.1, which a large GPU outruns."""
_PATIENCE: Final = 0.5
"""Seconds the model waits for room before it looks whether the writer is still there."""


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


class _Buffers:
    """Memory for one reduced piece: on the host, and on a CUDA device as well for pieces that are reduced there."""

    def __init__(self, layout: Layout, device: torch.device) -> None:
        self.layout = layout
        self.device = device
        self.host = torch.empty(layout.size, dtype=torch.uint8, device="cpu", pin_memory=device.type == "cuda")
        self.on_host = layout.views(self.host)
        if device.type == "cuda":
            self.there = torch.empty(layout.size, dtype=torch.uint8, device=device)
            self.on_device = layout.views(self.there)


@dataclass(frozen=True)
class _Transfer:
    """A piece on its way to the host."""

    piece: Record
    at: Mapping[str, int]
    arrive: Callable[[], _Buffers]
    """Waits until the reduced piece is on the host, and says where."""


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
    on_device : bool
        Whether a GPU sums and rounds before the copy; otherwise the host does, behind a copy a third longer.
    branches : sequence of str
        Branches of guidance whose pieces come. Those of several are written together, once all have come.

    Raises
    ------
    StoreError, TraceError
        From any of its methods: the first error a background thread met, such as a full disk, or that there is no such
        thread (any more). The model's thread is never left waiting for one.
    """

    def __init__(
        self,
        run: Writer,
        grid: tuple[int, int],
        positions: Mapping[int, int],
        buffered: int = BUFFERED_BYTES,
        *,
        on_device: bool = True,
        branches: Sequence[str] = (CONDITIONAL,),
    ) -> None:
        self._run = run
        self._grid = grid
        self._positions = positions
        self._branches = tuple(branches)
        self._waiting: dict[tuple[int, ...], dict[str, dict[str, Any]]] = {}
        self._waiting_lock = threading.Lock()
        self._buffered = buffered
        self._on_device = on_device
        self._queue: queue.Queue[_Transfer | _Whole | _Mark] = queue.Queue()
        self._room: threading.Semaphore | None = None
        self._layouts: dict[tuple[tuple[str, tuple[int, ...]], ...], Layout] = {}
        self._free: list[_Buffers] = []
        self._sides: dict[torch.device, torch.cuda.Stream] = {}
        self._thread = threading.Thread(target=self._work, name="workbench-writer", daemon=True)
        self._error: BaseException | None = None
        self._abandoned = False
        self._complete = False

    def write(self, piece: Record, sample: int, timestep: int) -> None:
        """Send a piece of batch 1 on its way; waits only while too many are under way.

        Parameters
        ----------
        piece : Record
            Scores (batch 1, head, concept, patch), log-sum-exps (batch 1, head, concept), mass (batch 1, head, text).
        sample, timestep : int
            Positions along those dimensions.

        Raises
        ------
        TraceError
            If it is of several items of a batch.
        """
        self._raise_error()
        batch = len(next(iter(piece.tensors.values())))
        if batch != 1:
            raise TraceError(
                f"a {piece.branch} pass has {batch} items in its batch, and one is to be recorded: the model's adapter "
                "does not say which."
            )
        if self._room is None:
            size = sum(tensor.nbytes for tensor in piece.tensors.values())
            self._room = threading.Semaphore(min(max(self._buffered // size, 2), MOST_PIECES))
        while not self._room.acquire(timeout=_PATIENCE):
            self._raise_error()
        at = {SAMPLE: sample, TIMESTEP: timestep, LAYER: self._positions[piece.layer]}
        self._queue.put(self._transfer(piece, at))

    def put(self, name: str, values: np.ndarray[Any, Any], sample: int) -> None:
        """Send one sample of a variable that does not come in pieces."""
        self._raise_error()
        self._queue.put(_Whole(name, values, sample))

    def commit(self) -> None:
        """Let the pieces sent so far count once they are written: the forward pass they belong to was complete."""
        self._raise_error()
        self._queue.put(_Mark.COMMIT)

    def __enter__(self) -> Self:
        with _starting():
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
            self._raise_error(ended=self._complete)
        elif self._error is not None and self._error is not error:
            log.warning("the run's writer failed as well: %s", self._error)

    def _raise_error(self, ended: bool = False) -> None:
        if self._error is not None:
            raise self._error
        if not ended and not self._thread.is_alive():
            raise StoreError(
                "the thread that writes the run has ended, and nothing more can be written: make the same call again; "
                "it goes on from what was written."
            )

    # --- the model's side ---------------------------------------------------------------------------------------
    def _transfer(self, piece: Record, at: Mapping[str, int]) -> _Transfer:
        device = next(iter(piece.tensors.values())).device
        if device.type != "cuda":
            here = piece if device.type == "cpu" else piece.to_host()
            return _Transfer(here, at, partial(self._reduced_here, here))
        if device not in self._sides:
            self._sides[device] = torch.cuda.Stream(device)
        side = self._sides[device]
        side.wait_stream(torch.cuda.current_stream(device))
        done = torch.cuda.Event()
        with torch.cuda.stream(side):
            for tensor in piece.tensors.values():
                # Its memory is not used again before the side stream is done with it.
                tensor.record_stream(side)
            if not self._on_device:
                copied = piece.to_host(pinned=True)
                done.record(side)
                return _Transfer(copied, at, partial(self._reduced_here, copied, done))
            buffers = self._buffers(piece, device)
            reduce_into(buffers.on_device, piece)
            buffers.host.copy_(buffers.there, non_blocking=True)
            done.record(side)

        def arrive() -> _Buffers:
            done.synchronize()
            return buffers

        return _Transfer(piece, at, arrive)

    def _reduced_here(self, piece: Record, copied: torch.cuda.Event | None = None) -> _Buffers:
        if copied is not None:
            copied.synchronize()
        buffers = self._buffers(piece, torch.device("cpu"))
        reduce_into(buffers.on_host, piece)
        return buffers

    def _buffers(self, piece: Record, device: torch.device) -> _Buffers:
        """Memory that no piece uses."""
        shapes = tuple((name, tuple(tensor.shape)) for name, tensor in piece.tensors.items())
        layout = self._layouts.get(shapes) or self._layouts.setdefault(shapes, Layout(piece))
        with suppress(IndexError):
            buffers = self._free.pop()
            if buffers.layout is layout and buffers.device == device:
                return buffers
        return _Buffers(layout, device)

    # --- the writer's side --------------------------------------------------------------------------------------
    def _work(self) -> None:
        """Handle what comes until the end; after an error only make room."""
        try:
            with ThreadPoolExecutor(WRITERS, thread_name_prefix="workbench-writer") as pool:
                self._handle(pool)
            self._complete = True
        except BaseException as error:
            self._error = self._error or error

    def _handle(self, pool: ThreadPoolExecutor) -> None:
        pending: list[Future[None]] = []
        while (item := self._queue.get()) is not _Mark.END:
            if isinstance(item, _Transfer):
                with _starting():
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
            buffers = item.arrive()
            values = self._of_all(item, stored_values(buffers.on_host, item.piece, self._grid))
            if values is not None:
                self._run.write(item.at, values)
            self._free.append(buffers)

        self._attempt(write)
        assert self._room is not None
        self._room.release()

    def _of_all(self, item: _Transfer, values: dict[str, Any]) -> dict[str, Any] | None:
        """The values of all branches, along their first dimension; None while one is still to come."""
        if len(self._branches) == 1:
            return values
        at = tuple(item.at.values())
        # The memory that they are in is used again.
        copied = {name: np.array(array) for name, array in values.items()}
        with self._waiting_lock:
            parts = self._waiting.setdefault(at, {})
            parts[item.piece.branch] = copied
            if len(parts) < len(self._branches):
                return None
            del self._waiting[at]
        return {name: np.stack([parts[branch][name] for branch in self._branches]) for name in copied}

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do it unless something went wrong before; keep the first error for the model's side."""
        if self._error is None and not self._abandoned:
            try:
                action()
            except BaseException as error:
                self._error = self._error or error


@contextmanager
def _starting() -> Iterator[None]:
    """Say what it means when a thread cannot start; a pool starts one when it is given work."""
    try:
        yield
    except RuntimeError as error:
        raise StoreError(
            f"no thread can be started to write the run ({error}): end other programs, or raise the limit of processes "
            "and threads (ulimit -u), then make the same call again."
        ) from error
