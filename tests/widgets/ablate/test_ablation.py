from __future__ import annotations

import gc
import json
import threading
import weakref
from collections.abc import Callable
from queue import Queue
from typing import Any

import ipywidgets
import pytest

import workbench as wb
from tests.synthetic import dataset
from workbench.schema import InputError
from workbench.widgets.ablate.ablation import Ablation
from workbench.widgets.ablate.tasks import Sweeps, Task


class Listening(Ablation):
    """Keeps what it would send to the browser."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.sent: Queue[tuple[Any, Any]] = Queue()
        super().__init__(*args, **options)

    def send(self, content: Any, buffers: Any = None) -> None:
        self.sent.put((content, buffers))

    def ask(self, **question: Any) -> None:
        self._handle_custom_msg(question, [])

    def hear(self, kind: str) -> tuple[Any, Any]:
        """The next message of that kind."""
        while True:
            content, buffers = self.sent.get(timeout=20)
            if content["type"] == kind:
                return content, buffers


class Waiting:
    """A mode whose work waits until it is told to go on or to stop."""

    def __init__(self, sweeps: Sweeps) -> None:
        self.sweeps = sweeps
        self.begun, self.going = threading.Event(), threading.Event()

    def describe(self) -> dict[str, Any]:
        return self.sweeps.describe()

    def task(self, form: Any) -> Task:
        task = self.sweeps.task(form)

        def work(progress: Callable[[int, int], None], cancel: threading.Event) -> Any:
            progress(1, 4)
            self.begun.set()
            while not self.going.wait(0.01):
                if cancel.is_set():
                    raise InputError("it was cancelled.")
            return task.work(progress, cancel)

        return Task(work, task.finish)


@pytest.fixture
def panel() -> Listening:
    return Listening({"sweep": Sweeps(dataset(truth=True, samples=2))}, title="dogs", picture=("image/png", b"file"))


def test_results_accumulate_and_are_asked_for_by_number(panel: Listening) -> None:
    panel.ask(type="ready")
    content, buffers = panel.hear("ready")
    assert content["rows"] == {"sweep": [], "intervention": []}
    assert buffers == [b"file"]
    for form in ({}, {"over": ["timestep"], "metric": "entropy"}):
        panel.ask(type="run", mode="sweep", form=form)
        panel.hear("started")
        panel.hear("done")
    assert [next(iter(found.dims)) for found in panel.results["sweep"]] == ["layer", "timestep"]
    assert panel.results["intervention"] == []
    panel.ask(type="plot", mode="sweep", number=2)
    content, _ = panel.hear("plot")
    assert content["plot"]["dims"] == ["timestep"]
    assert content["code"] == "found = ds.wb.sweep('timestep', metric='entropy')"
    panel.ask(type="maps", mode="sweep", number=1, at=[3])
    content, buffers = panel.hear("maps")
    assert content["titles"] == ["all together", "layer 3 alone"]
    assert len(buffers) == 4
    for what, name in (("csv", "sweep-2.csv"), ("table", "sweeps.csv"), ("dataset", "sweep-2.nc")):
        panel.ask(type="export", mode="sweep", number=2, what=what)
        content, buffers = panel.hear("file")
        assert content["name"] == name
        assert buffers[0]
    panel.ask(type="ready")
    assert len(panel.hear("ready")[0]["rows"]["sweep"]) == 2


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"type": "run", "mode": "sweep", "form": {"how": "bad"}}, "how is 'bad'"),
        ({"type": "run", "mode": "both"}, "mode is 'both'"),
        ({"type": "run", "mode": "intervention", "form": {}}, "runs no interventions"),
        ({"type": "plot", "mode": "sweep", "number": 1}, "there is no result 1"),
        ({"type": "maps", "mode": "sweep", "number": "1"}, "there is no result '1'"),
        ({"type": "export", "mode": "sweep", "number": 1, "what": "poem"}, "no file of 'poem'"),
    ],
)
def test_what_cannot_be_answered_is_said(panel: Listening, question: dict[str, Any], sentence: str) -> None:
    panel.ask(**question)
    assert sentence in panel.hear("failed")[0]["error"]


def test_a_run_that_cannot_start_is_said_and_another_may(panel: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        panel.ask(type="run", mode="sweep", form={})
        assert "no thread can be started" in panel.hear("failed")[0]["error"]
    panel.ask(type="ready")
    assert panel.hear("ready")[0]["running"] == ""
    panel.ask(type="run", mode="sweep", form={})
    assert panel.hear("done")[0]["mode"] == "sweep"


def test_an_internal_failure_is_said_and_leaves_the_rest_working(
    panel: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.widgets.ablate.tasks.sweep_plot", lambda *_: {}["lines"])
    panel.ask(type="run", mode="sweep", form={})
    assert "could not be shown (KeyError" in panel.hear("failed")[0]["error"]
    monkeypatch.undo()
    panel.ask(type="run", mode="sweep", form={})
    assert panel.hear("done")[0]["row"]["number"] == 1


def test_a_run_can_be_stopped_and_run_again() -> None:
    mode = Waiting(Sweeps(dataset()))
    panel = Listening({"sweep": mode})
    panel.ask(type="run", mode="sweep", form={})
    assert panel.hear("progress")[0]["total"] == 4
    assert mode.begun.wait(10)
    panel.ask(type="run", mode="sweep", form={})
    assert "under way" in panel.hear("failed")[0]["error"]
    panel.ask(type="stop")
    assert panel.hear("stopped")[0]["mode"] == "sweep"
    assert panel.results["sweep"] == []
    mode.going.set()
    panel.ask(type="run", mode="sweep", form={})
    assert panel.hear("done")[0]["row"]["number"] == 1


def test_a_sweep_is_stopped_inside_and_tells_how_far_it_is() -> None:
    panel = Listening({"sweep": Sweeps(dataset(truth=True, samples=2))})
    send, stopping = panel.send, [True]

    def stop(content: Any, buffers: Any = None) -> None:
        send(content, buffers)
        if stopping and content["type"] == "progress":
            panel.ask(type="stop")

    panel.send = stop  # type: ignore[method-assign]
    panel.ask(type="run", mode="sweep", form={"over": ["layer", "head"], "metric": "silhouette"})
    content, _ = panel.hear("progress")
    assert content["done"] < content["total"]
    assert panel.hear("stopped")[0]["mode"] == "sweep"
    assert panel.results["sweep"] == []
    stopping.clear()
    panel.ask(type="run", mode="sweep", form={})
    assert panel.hear("done")[0]["row"]["number"] == 1


def test_warnings_of_a_run_are_shown_beside_its_result() -> None:
    panel = Listening({"sweep": Sweeps(dataset(concepts=("dog",)))})
    form = {"metric": "total_variation"}
    panel.ask(type="run", mode="sweep", form=form)
    panel.hear("done")
    panel.ask(type="plot", mode="sweep", number=1)
    assert panel.hear("plot")[0]["notes"] == []
    panel = Listening({"sweep": Sweeps(dataset().assign_attrs(default_layers=[77]))})
    panel.ask(type="run", mode="sweep", form={"over": ["timestep"]})
    panel.hear("done")
    panel.ask(type="plot", mode="sweep", number=1)
    (note,) = panel.hear("plot")[0]["notes"]
    assert "default layers (77)" in note


def test_closing_stops_the_run_and_frees_the_dataset() -> None:
    ds = dataset()
    mode = Waiting(Sweeps(ds))
    panel = Listening({"sweep": mode})
    panel.ask(type="run", mode="sweep", form={})
    assert mode.begun.wait(10)
    panel.close()
    panel._worker.join(10)
    assert panel.results == {"sweep": [], "intervention": []}
    kept = weakref.ref(ds)
    del ds, mode
    gc.collect()
    assert kept() is None


def test_what_a_notebook_keeps_is_small(panel: Listening) -> None:
    assert len(json.dumps(panel.get_state())) < 150_000


def test_ablate_gives_a_widget() -> None:
    view = wb.ablate(dataset())
    assert isinstance(view, ipywidgets.DOMWidget)
    assert view.error == ""
    view.close()
