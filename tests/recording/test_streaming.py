"""Pieces leave the trace without waiting, in order, bounded in number, and errors come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.synthetic import dataset
from workbench import store
from workbench.recording import streaming
from workbench.recording.block_reading import Record
from workbench.recording.streaming import MOST_PIECES, Stream
from workbench.schema import LAYER, SAMPLE, TIMESTEP, StoreError, residual, score_dims, total, total_dims
from workbench.store import residuals

GRID = (2, 3)
POSITIONS = {1: 0, 4: 1}


class Recorder:
    """A writer that notes what it is told, and can be made to wait or to fail."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.threads: set[str] = set()
        self.go = threading.Event()
        self.go.set()
        self.fail: Exception | None = None

    def write(self, at: Mapping[str, int], values: Mapping[str, Any]) -> None:
        self.go.wait(30)
        if self.fail is not None:
            raise self.fail
        self.threads.add(threading.current_thread().name)
        self.told.append(("write", at[SAMPLE], at[TIMESTEP], at[LAYER], {name: a.copy() for name, a in values.items()}))

    def put(self, name: str, values: Any, sample: int) -> None:
        self.told.append(("put", name, sample, values))

    def commit(self) -> None:
        self.told.append(("commit",))


def piece(step: int = 0, layer: int = 1, value: float = 0.0) -> Record:
    scores = torch.arange(2 * 2 * 6, dtype=torch.float32).reshape(1, 2, 2, 6) + value
    return Record(step=step, layer=layer, scores={"output": scores}, lse={"lse_image": torch.full((1, 2, 2), value)})


def stream_to(run: Recorder, **options: Any) -> Stream:
    return Stream(run, GRID, POSITIONS, **options)  # type: ignore[arg-type]


def test_everything_is_written_in_order_by_another_thread() -> None:
    run = Recorder()
    with stream_to(run) as stream:
        stream.write(piece(value=1), 0, 0)
        stream.write(piece(layer=4, value=2), 0, 0)
        stream.commit()
        stream.write(piece(value=3), 2, 5)
        stream.put("image", np.ones(3), 2)
        stream.commit()
    assert [entry[0] for entry in run.told] == ["write", "write", "commit", "write", "put", "commit"]
    assert {entry[1:4] for entry in run.told[:2]} == {(0, 0, 0), (0, 0, 1)}
    assert run.told[3][1:4] == (2, 5, 0)
    assert run.told[3][4]["lse_image"].tolist() == [[3, 3], [3, 3]]
    assert all(name.startswith("workbench-writer") for name in run.threads)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("workbench-writer")]


@pytest.mark.parametrize(("buffered", "depth"), [(0, 2), (5 * 128, 5), (2**30, MOST_PIECES)])
def test_a_slow_writer_holds_the_model_back(buffered: int, depth: int) -> None:
    run = Recorder()
    run.go.clear()
    sent = threading.Semaphore(0)
    size = sum(tensor.nbytes for tensor in (*piece().scores.values(), *piece().lse.values()))

    def produce() -> None:
        with stream_to(run, buffered=buffered * size // 128) as stream:
            for step in range(depth + 10):
                stream.write(piece(), 0, step)
                sent.release()

    producer = threading.Thread(target=produce)
    producer.start()
    for _ in range(depth):
        assert sent.acquire(timeout=10), f"{depth} pieces have room"
    assert not sent.acquire(timeout=0.2), "no more than that"
    run.go.set()
    producer.join(30)
    assert {entry[2] for entry in run.told} == set(range(depth + 10))


def test_an_error_of_the_writer_reaches_the_model() -> None:
    run = Recorder()
    run.fail = StoreError("disk full")
    written = 0
    with pytest.raises(StoreError, match="disk full"), stream_to(run, buffered=0) as stream:
        for step in range(100):
            stream.write(piece(), 0, step)
            written += 1
    assert written < 10, "soon"
    assert run.told == [], "nothing counts after an error"


def test_an_error_of_the_writer_at_the_very_end() -> None:
    run = Recorder()
    run.go.clear()
    run.fail = StoreError("disk full")
    with pytest.raises(StoreError, match="disk full"), stream_to(run) as stream:
        stream.write(piece(), 0, 0)
        run.go.set()
    with pytest.raises(StoreError, match="disk full"):
        stream.commit()


def _failing_start(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let threads of these names fail to start, as they do when a limit of the machine is reached."""
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)


def _error_of_the_model(run: Recorder, pieces: int = 2 * MOST_PIECES) -> BaseException:
    """The error that the model's thread meets, which must not wait for ever."""
    met: list[BaseException] = []

    def produce() -> None:
        try:
            with stream_to(run, buffered=0) as stream:
                for step in range(pieces):
                    stream.write(piece(), 0, step)
        except BaseException as error:
            met.append(error)

    model = threading.Thread(target=produce, daemon=True)
    model.start()
    model.join(60)
    assert not model.is_alive(), "the model waits for ever"
    assert met, "the model was not told"
    return met[0]


@pytest.mark.parametrize("name", ["workbench-writer", "workbench-writer_0", "workbench-writer_1"])
@pytest.mark.parametrize("pieces", [2, 100])
def test_a_thread_that_cannot_start_is_an_error_of_the_model(
    name: str, pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Recorder()
    # A pool starts its second thread when its first is busy.
    monkeypatch.setattr(run, "write", lambda *_: time.sleep(0.02))
    monkeypatch.setattr(streaming, "WRITERS", 2)
    _failing_start(monkeypatch, name)
    error = _error_of_the_model(run, pieces)
    assert isinstance(error, StoreError)
    assert "no thread can be started to write the run (can't start new thread)" in str(error)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("workbench-writer")]


@pytest.mark.parametrize("pieces", [1, 100])
def test_a_writer_that_is_gone_is_an_error_of_the_model(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "_work", lambda stream: None)
    error = _error_of_the_model(Recorder(), pieces)
    assert isinstance(error, StoreError)
    assert "has ended" in str(error)


@pytest.mark.parametrize("pieces", [1, 100])
def test_whatever_ends_the_writer_is_an_error_of_the_model(pieces: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(stream: Stream, _pool: Any) -> None:
        stream._queue.get()
        raise MemoryError

    monkeypatch.setattr(Stream, "_handle", handle)
    assert isinstance(_error_of_the_model(Recorder(), pieces), MemoryError)


def test_nothing_is_sent_to_a_stream_that_was_left() -> None:
    with stream_to(Recorder()) as stream:
        stream.write(piece(), 0, 0)
    for _ in range(3):
        with pytest.raises(StoreError, match="has ended"):
            stream.write(piece(), 0, 1)


def test_what_arrived_before_an_exception_is_written(caplog: pytest.LogCaptureFixture) -> None:
    run = Recorder()
    with pytest.raises(KeyboardInterrupt), stream_to(run) as stream:
        stream.write(piece(), 0, 0)
        stream.commit()
        stream.write(piece(), 0, 1)
        raise KeyboardInterrupt
    assert [entry[0] for entry in run.told] == ["write", "commit", "write"], "what was not complete is not committed"
    run.fail = StoreError("disk full")
    with pytest.raises(KeyboardInterrupt), stream_to(run) as stream:
        stream.write(piece(), 0, 0)
        raise KeyboardInterrupt
    assert "disk full" in caplog.text


def test_an_interrupt_while_the_rest_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Recorder()
    run.go.clear()
    stream = stream_to(run)
    join = stream._thread.join

    def interrupted() -> None:
        monkeypatch.setattr(stream._thread, "join", join)
        run.go.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(stream._thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt), stream:
        for step in range(20):
            stream.write(piece(), 0, step)
    assert not stream._thread.is_alive(), "nothing writes to a run that was given up"


@pytest.mark.parametrize("stored", [True, False])
def test_several_threads_write_what_one_would(stored: bool, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One piece of many overflows float16, so that the variable is promoted while other threads write to it."""
    timesteps, layers, heads, words = 20, 4, 3, 2
    template = dataset(
        concepts=["dog", "sky"],
        timesteps=np.linspace(1000, 100, timesteps).tolist(),
        dual=layers,
        single=0,
        heads=heads,
        spaces=("output",),
    )
    grid = (template.sizes["y"], template.sizes["x"])
    variables = {
        "output": (score_dims("output"), "float16"),
        residual("output"): (score_dims("output"), residuals.DTYPE),
        total("output"): (total_dims("output"), "float32"),
    }
    scores = torch.randn(timesteps, layers, 1, heads, words, grid[0] * grid[1])
    scores[7, 2] *= 1e6
    monkeypatch.setattr(streaming, "WRITERS", 4)
    bare = template.drop_vars(list(variables), errors="ignore")
    target = store.writer("0a", bare, variables, home) if stored else store.in_memory(bare, variables)
    with target as run, Stream(run, grid, {layer: layer for layer in range(layers)}) as stream:
        for step in range(timesteps):
            for layer in range(layers):
                stream.write(Record(step, layer, {"output": scores[step, layer]}), 0, step)
            stream.commit()
    found = run.dataset()
    given = scores[:, :, 0].numpy().reshape(timesteps, layers, heads, words, *grid)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = residuals.join(*residuals.split(given, np))
    expected[7, 2] = given[7, 2]
    assert np.array_equal(found["output"][0].values, expected)
    assert np.abs(found["output"][0].values - given).max() <= residuals.FINEST / 2
    assert np.array_equal(found["output_total"][0].values, given.sum(axis=2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("on_device", [True, False])
def test_pieces_leave_a_gpu_on_a_side_stream(on_device: bool) -> None:
    run = Recorder()
    run.go.clear()
    given = [piece(step, value=float(step)) for step in range(40)]

    def sent(one: Record) -> Record:
        scores, lse = ({name: tensor.cuda() for name, tensor in part.items()} for part in (one.scores, one.lse))
        return Record(one.step, one.layer, scores, lse)

    with stream_to(run, on_device=on_device) as stream:
        for step, one in enumerate(given):
            stream.write(sent(one), 0, step)
            # Takes the piece's memory if it was given back before the copy was done.
            torch.full((1, 2, 2, 6), -1.0, device="cuda")
        run.go.set()
    assert len(run.told) == 40
    for entry in run.told:
        step = entry[2]
        assert np.array_equal(entry[4]["output"].reshape(2, 2, 6), given[step].scores["output"][0].numpy())
        assert np.array_equal(entry[4]["lse_image"], given[step].lse["lse_image"][0].numpy())
