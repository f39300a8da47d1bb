"""Calls on one pipeline, or on pipelines that share a component, take turns and give what they give alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from diffusers import FluxPipeline
from torch import nn

import workbench as wb
from tests.tiny_random import concept_embeddings, flux_pipeline
from workbench import store
from workbench.recording import turns
from workbench.recording.capturing import capture
from workbench.recording.generating import generate
from workbench.recording.sessions import session
from workbench.recording.turns import holder, turn
from workbench.schema import CancelledError, ModelError, TraceError

CAPTURES = int(os.environ.get("WORKBENCH_CAPTURES", "40"))
"""Captures from four threads; `make soak` makes many more."""
SIZE = (32, 32)
PICTURE = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def pipe_of(**components: Any) -> Any:
    return SimpleNamespace(components=components)


def in_thread(call: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


# --- the queue --------------------------------------------------------------------------------------------------------
def test_calls_on_one_pipeline_come_in_the_order_of_asking() -> None:
    pipe = pipe_of(model=nn.Linear(1, 1))
    order: list[int] = []
    waiting = []
    with turn(pipe, "the first"):
        for index in range(5):
            before = len(turns._queue)
            waiting.append(in_thread(lambda index=index: _note(pipe, order, index)))
            while len(turns._queue) == before:
                pass
    for thread in waiting:
        thread.join(30)
    assert order == list(range(5))
    assert turns._queue == []


def _note(pipe: Any, order: list[int], index: int) -> None:
    with turn(pipe, f"call {index}"):
        order.append(index)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ({"model": "a"}, {"model": "b"}, False),
        ({"model": "a", "text": "t"}, {"model": "b", "text": "t"}, True),
        ({"model": "outer"}, {"model": "inner"}, True),
        ({"model": "a", "nothing": None}, {"model": "b", "nothing": None}, False),
    ],
)
def test_what_shares_a_part_waits_and_nothing_else_does(
    one: dict[str, Any], other: dict[str, Any], shared: bool
) -> None:
    inner = nn.Linear(1, 1)
    known: dict[Any, Any] = {"inner": inner, "outer": nn.Sequential(inner), "t": object(), None: None}
    made = [pipe_of(**{k: known.setdefault(v, object()) for k, v in parts.items()}) for parts in (one, other)]
    ran = threading.Event()
    with turn(made[0], "the first"):
        thread = in_thread(lambda: _set(made[1], ran))
        assert ran.wait(0.3) is not shared
    thread.join(30)
    assert ran.is_set()


def _set(pipe: Any, event: threading.Event) -> None:
    with turn(pipe, "the second"):
        event.set()


def test_a_call_that_waits_says_for_what(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(turns, "PATIENCE", 0.0)
    pipe = pipe_of(model=nn.Linear(1, 1))

    def wait() -> None:
        with turn(pipe, "a capture of 'cat'", progress=True):
            pass

    with turn(pipe, "a capture of 'dog'"):
        thread = in_thread(wait)
        thread.join(0.5)
        assert thread.is_alive()
    thread.join(30)
    assert "a capture of 'cat' waits for a capture of 'dog' (in thread MainThread" in capsys.readouterr().out


def test_a_call_that_waits_can_be_cancelled() -> None:
    pipe = pipe_of(model=nn.Linear(1, 1))
    cancel, caught = threading.Event(), []

    def wait() -> None:
        try:
            with session(cancel), turn(pipe, "the second"):
                pass
        except CancelledError as error:
            caught.append(error)

    with turn(pipe, "the first"):
        thread = in_thread(wait)
        cancel.set()
        thread.join(30)
        assert not thread.is_alive()
        assert len(caught) == 1
        assert len(turns._queue) == 1, "its place is given up"


def test_an_error_ends_a_turn() -> None:
    pipe = pipe_of(model=nn.Linear(1, 1))
    with pytest.raises(ZeroDivisionError), turn(pipe, "the first"):
        raise ZeroDivisionError
    assert turns._queue == []


def test_a_turn_inside_a_turn_of_the_same_thread() -> None:
    text = object()
    pipe, other = pipe_of(model=nn.Linear(1, 1), text=text), pipe_of(model=nn.Linear(1, 1), text=text)
    with turn(pipe, "the first"):
        with turn(pipe, "the second"):
            assert len(turns._queue) == 1
        with pytest.raises(TraceError, match="the third was called inside the first"), turn(other, "the third"):
            pass


def test_who_uses_a_module() -> None:
    pipe = pipe_of(model=nn.Linear(1, 1))
    model = pipe.components["model"]
    assert holder(model) is None
    with turn(pipe, "a capture of 'dog'"):
        assert holder(model) is None, "this thread itself does"
        found: list[str | None] = []
        in_thread(lambda: found.append(holder(model))).join(30)
        assert str(found[0]).startswith("a capture of 'dog' (in thread MainThread")


# --- whole calls ------------------------------------------------------------------------------------------------------
def sharing(pipe: FluxPipeline) -> FluxPipeline:
    """A pipeline of its own with the text encoders and tokenizers of another."""
    other = flux_pipeline(1)
    names = ("tokenizer", "tokenizer_2", "text_encoder", "text_encoder_2")
    parts = other.components | {name: pipe.components[name] for name in names}
    return FluxPipeline(**{name: part for name, part in parts.items() if part is not None})


def values_of(ds: xr.Dataset) -> dict[str, np.ndarray]:
    return {name: ds[name].to_numpy() for name in ("output", "output_total", "cross", "image")}


@pytest.mark.slow
@pytest.mark.parametrize("shared", ["everything", "encoders"])
def test_calls_from_four_threads_give_what_they_give_alone(shared: str, home: Path) -> None:
    first = flux_pipeline()
    pipes = [first, first if shared == "everything" else sharing(first)]
    prompts = ("", "a dog", "a cat")

    def call(index: int, home: Path) -> dict[str, np.ndarray]:
        options: dict[str, Any] = {"model": pipes[index % 2], "seed": index % 8, "size": SIZE}
        options |= {"home": home, "progress": False}
        if index % 5 == 4:
            return values_of(generate(prompts[index % 2 + 1], ["dog", "sky"], steps=2, **options))
        return values_of(capture(PICTURE, ["dog", "sky"][: 1 + index % 2], prompt=prompts[index % 3], **options))

    kinds = min(CAPTURES, 120)  # all there are
    alone = [call(index, home / "alone") for index in range(kinds)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda index: call(index, home / "together"), range(CAPTURES)))
    for index, found in enumerate(together):
        expected = alone[index % kinds]
        assert all(np.array_equal(found[name], expected[name], equal_nan=True) for name in expected), index
    assert not [run for run in store.runs(home / "together") if store.damage(run.key, home / "together")]
    assert {run.key for run in store.runs(home / "together")} == {run.key for run in store.runs(home / "alone")}


@pytest.mark.slow
def test_an_experiment_and_a_capture_both_finish(home: Path) -> None:
    pipe = flux_pipeline()
    options: dict[str, Any] = {"model": pipe, "home": home, "size": SIZE}
    expected = capture(PICTURE, ["dog"], seed=7, **options, progress=False, store=False)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(
            wb.intervene, PICTURE, ["dog", "sky"], wb.SkipBlock.each(), repeats=1, progress=False, **options
        )
        for _ in range(5):
            found = capture(PICTURE, ["dog"], seed=7, **options, progress=False, store=False)
            assert np.array_equal(found.output, expected.output)
        result = running.result(120)
    again = wb.intervene(PICTURE, ["dog", "sky"], wb.SkipBlock.each(), repeats=1, progress=False, **options)
    xr.testing.assert_identical(result.drop_attrs(), again.drop_attrs())


def test_a_trace_that_is_open_is_named(home: Path) -> None:
    pipe = flux_pipeline()
    with (
        pytest.raises(TraceError, match="close the first trace"),
        wb.trace(pipe.transformer, concept_embeddings(), on_record=lambda piece: None),
    ):
        capture(PICTURE, ["dog"], model=pipe, size=SIZE, home=home, progress=False)
    assert store.runs(home) == []
    found: list[BaseException] = []

    def traced() -> None:
        try:
            with wb.trace(pipe.transformer, concept_embeddings()):
                pass
        except TraceError as error:
            found.append(error)

    with turn(pipe, "a capture of 'dog'"):
        in_thread(traced).join(30)
    assert "traced already by a capture of 'dog' (in thread MainThread" in str(found[0])


# --- a pipeline that is changed meanwhile -----------------------------------------------------------------------------
def _change_after(pipe: FluxPipeline, monkeypatch: pytest.MonkeyPatch, calls: int = 1) -> None:
    """Edit a weight in place, unseen, when the transformer has run so many times."""
    original, seen = type(pipe.transformer).forward, []

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(1)
        if len(seen) == calls:
            self.proj_out.weight.data.mul_(2)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(pipe.transformer), "forward", forward)
    monkeypatch.setattr("workbench.models.runtime.foreign_code", lambda classes: [])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["capture", "generate"])
def test_nothing_is_stored_of_a_pipeline_that_changed_meanwhile(
    kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = flux_pipeline()
    options: dict[str, Any] = {"model": pipe, "size": SIZE, "home": home, "progress": False}

    def call() -> xr.Dataset:
        if kind == "capture":
            return capture(PICTURE, ["dog"], timesteps=[900, 500, 100], **options)
        return generate("a dog", ["dog"], steps=3, **options)

    with monkeypatch.context() as patched:
        _change_after(pipe, patched, calls=2)
        with pytest.raises(ModelError, match=r"the pipeline was changed .*transformer.* while its run was computed"):
            call()
    assert store.runs(home) == []
    assert not list(home.glob("partial/*/")), "the next call does not go on from there"
    found = call()
    pipe.transformer.proj_out.weight.data.div_(2)
    assert call().attrs["key"] != found.attrs["key"]
    assert len(store.runs(home)) == 2


@pytest.mark.slow
def test_runs_of_an_experiment_are_discarded_with_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = flux_pipeline()
    options: dict[str, Any] = {"model": pipe, "size": SIZE, "home": home, "progress": False}
    own = capture(PICTURE, ["dog"], **options)
    _change_after(pipe, monkeypatch, calls=3)
    with pytest.raises(ModelError, match=r"while \d+ runs were computed"):
        wb.intervene(PICTURE, ["dog"], wb.SkipBlock.each(), repeats=1, **options)
    assert [run.key for run in store.runs(home)] == [own.attrs["key"]], "what was there before stays"


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_keeps_no_turns_of_threads_that_it_lacks() -> None:
    inside, go_on = threading.Event(), threading.Event()
    other, own = pipe_of(model=nn.Linear(1, 1)), pipe_of(model=nn.Linear(1, 1))

    def hold() -> None:
        with turn(other, "another"):
            inside.set()
            go_on.wait(30)

    thread = in_thread(hold)
    assert inside.wait(30)
    with turn(own, "the one that forks"):
        child = os.fork()
        if child == 0:
            os._exit(int([each.what for each in turns._queue] != ["the one that forks"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    go_on.set()
    thread.join(30)
    assert turns._queue == []
