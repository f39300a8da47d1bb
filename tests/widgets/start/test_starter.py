from __future__ import annotations

import gc
import io
import time
import weakref
from collections.abc import Iterator
from queue import Queue
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.widgets.start.fakes import Backend
from workbench.schema import InputError
from workbench.widgets.shared.drawing import draw
from workbench.widgets.shared.static_output import RUN_THE_CELL
from workbench.widgets.start.starter import Start
from workbench.widgets.start.subjects import examples

WORDS = ["dog", "grass"]


class Heard:
    """A panel, and what it sends."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.sent: Queue[tuple[Any, Any]] = Queue()
        self.all: list[Any] = []
        start.panel.send = lambda content, buffers=None: self.sent.put((content, buffers))

    def ask(self, kind: str, buffers: Any = (), **content: Any) -> None:
        self.start.panel._handle_custom_msg({"type": kind, **content}, list(buffers))

    def hear(self, kind: str) -> tuple[Any, Any]:
        """The next message of that kind."""
        while True:
            content, buffers = self.sent.get(timeout=20)
            self.all.append(content)
            if content["type"] == kind:
                return content, buffers

    def run(self, **form: Any) -> Any:
        """Run a form, and what came of it."""
        self.ask("run", form={"concepts": WORDS, **form})
        return self.hear("done")[0]["row"]


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def heard(backend: Backend) -> Iterator[Heard]:
    panel = Heard(Start(backend))
    yield panel
    panel.start._worker.stop()
    panel.start._worker.join(20)
    panel.start.close()


def _file(mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def test_an_example_is_run_shown_and_given_as_code(heard: Heard, backend: Backend) -> None:
    heard.ask("ready")
    content, buffers = heard.hear("ready")
    assert content["rows"] == []
    assert len(buffers) == len(examples()) > 8
    heard.ask("example", name="scene-08")
    content, buffers = heard.hear("picture")
    assert (content["name"], content["size"], content["words"]) == (
        "scene-08",
        [128, 128],
        ["boat", "moon", "brick", "night"],
    )
    assert Image.open(io.BytesIO(buffers[0])).size == (128, 128)
    row = heard.run(timesteps="900, 500", samples=2)
    path = str(examples()[8].path)
    assert backend.calls == [(path, WORDS, "tiny-flux", {"timesteps": [900.0, 500.0], "samples": 2})]
    assert row["what"] == "dog, grass in scene-08"
    assert row["notes"] == ["a warning of the run."]
    assert row["stored"] is False
    call = f"wb.capture({path!r}, ['dog', 'grass'], timesteps=[900, 500], samples=2)"
    assert row["code"] == f"import workbench as wb\n\nds = {call}\nwb.explore(ds)"
    assert heard.start.code == row["code"]
    assert heard.start.ds is heard.start.results[0]
    assert heard.start.view is heard.start.children[1]
    assert heard.start.view.error == ""
    assert [one["type"] for one in heard.all if one["type"] in ("started", "stage", "progress", "swap")][:3] == [
        "started",
        "stage",
        "progress",
    ]


def test_a_file_arrives_in_parts_and_goes_to_the_run_as_pixels(heard: Heard, backend: Backend) -> None:
    whole = _file("L")
    for part in range(2):
        piece = whole[part * 50 : (part + 1) * 50] if part == 0 else whole[50:]
        heard.ask("take", [memoryview(piece)], number=1, part=part, parts=2, name="dog.png")
    content, _ = heard.hear("picture")
    assert (content["name"], content["size"], content["notes"]) == ("dog.png", [12, 20], ["converted to RGB."])
    row = heard.run()
    np.testing.assert_array_equal(backend.calls[0][0], np.asarray(Image.open(io.BytesIO(whole)).convert("RGB")))
    assert 'image = wb.open("00000000000000000001")'.replace('"', "'") in row["code"]
    assert "# dog.png, at the size" in row["code"]


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([{"number": 1, "part": 0, "parts": 1, "data": b"no picture"}], "no image that can be read"),
        ([{"number": 1, "part": 1, "parts": 2, "data": b"x"}], "pieces that do not fit"),
        ([{"number": 1, "part": 0, "parts": None, "data": b"x"}], "pieces that do not fit"),
        (
            [{"number": 1, "part": 0, "parts": 3, "data": b"x"}, {"number": 2, "part": 1, "parts": 3, "data": b"x"}],
            "fit",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_said(heard: Heard, messages: list[dict[str, Any]], sentence: str) -> None:
    for message in messages:
        data = message.pop("data")
        heard.ask("take", [data], **message)
    content, _ = heard.hear("failed")
    assert content["of"] == "take"
    assert sentence in content["error"]
    assert heard.start.panel.picture is None


def test_a_growing_run_is_looked_at_and_keeps_what_the_user_changed(backend: Backend, heard: Heard) -> None:
    backend.passes = type(backend.passes)(1)
    heard.ask("run", form={"concepts": WORDS, "source": "prompt", "prompt": "a dog"})
    assert heard.hear("swap")[0]["growing"] is True
    while len(heard.start.children) < 2:
        time.sleep(0.01)
    first = heard.start.view
    first._handle_custom_msg({"type": "ready"}, [])  # as a browser says
    first.state = {**first.state, "opacity": 0.25, "space": "output"}
    backend.passes.release(10)
    heard.hear("done")
    last = heard.start.view
    assert last is not first
    assert first._ds is None, "the former view is closed"
    assert last.state["opacity"] == 0.25
    assert len(last.meta["timesteps"]) == heard.start.ds.sizes["timestep"] > 1
    assert last.state["timesteps"] == [max(last.meta["timesteps"]), min(last.meta["timesteps"])]
    row = heard.run(source="prompt", prompt="a dog", concepts=["dog", "grass", "sky"])
    assert heard.start.view.state["opacity"] == 0.25
    assert row["what"] == "dog, grass, sky in “a dog”"


def test_a_run_is_stopped_inside_and_another_refused_meanwhile(backend: Backend, heard: Heard) -> None:
    backend.passes = type(backend.passes)(2)
    heard.ask("example", name="scene-08")
    heard.ask("run", form={"concepts": WORDS})
    heard.hear("progress")
    heard.ask("run", form={"concepts": WORDS})
    assert "a run is under way" in heard.hear("failed")[0]["error"]
    heard.ask("stop")
    assert heard.hear("stopped")[0]["passes"] == 2
    assert heard.start.results == []
    backend.passes.release(10)
    assert heard.run()["number"] == 1


def test_the_history_shows_a_run_again_with_its_picture(backend: Backend, heard: Heard) -> None:
    heard.ask("example", name="scene-08")
    heard.run()
    heard.ask("example", name="scene-02")
    heard.run(concepts=["boat", "sky"])
    heard.ask("show", number=1)
    heard.hear("picture")
    assert heard.hear("showing")[0]["number"] == 1
    assert heard.start.panel.picture is not None
    assert heard.start.panel.picture.name == "scene-08"
    assert heard.start.ds.concept.to_numpy().tolist() == WORDS
    assert heard.start.view.meta["spaces"]["output"]["names"] == WORDS
    heard.ask("ready")
    content, _ = heard.hear("ready")
    assert ([row["number"] for row in content["rows"]], content["shown"]) == ([1, 2], 1)
    heard.ask("show", number=3)
    assert "no run 3 among the 2" in heard.hear("failed")[0]["error"]


def test_a_stored_run_says_so() -> None:
    heard = Heard(Start(Backend(stored=True)))
    heard.ask("example", name="scene-08")
    assert heard.run()["stored"] is True
    heard.start.close()


def test_an_example_brings_its_masks_where_it_shows_every_word(heard: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.synthetic import dataset

    heard.ask("example", name="scene-08")
    found = dataset(concepts=("moon", "boat"), grid=(8, 8), patch=16)
    monkeypatch.setattr(heard.start._backend, "run", lambda *args, **options: found)
    row = heard.run(concepts=["moon", "boat"])
    assert "truth" in heard.start.ds
    labels = str(examples()[8].folder / "scene-08-labels.png")
    assert f"ds = ds.wb.with_truth({labels!r}, labels={{'moon': 1, 'boat': 0}})" in row["code"]
    made = np.asarray(Image.open(labels)) == 1
    np.testing.assert_array_equal(heard.start.ds.truth.sel(concept="moon"), made)
    assert "with_truth" not in heard.run(concepts=["moon", "zebra"])["code"]


def test_words_are_looked_at_for_the_newest_question(heard: Heard) -> None:
    heard.ask("words", form={"concepts": ["dog", "zebra"]})
    content, _ = heard.hear("words")
    assert content["remarks"] == [{"word": "zebra", "text": "'zebra' is unknown.", "refused": True}]
    assert content["facts"] == {"words": [], "fillers": [], "blocks": [5, 2], "at_hand": True}
    heard.ask("words", form={"model": "nowhere"})
    assert heard.hear("words")[0]["error"] == "unknown model 'nowhere'."
    heard.ask("words", form={"model": "far/away"})
    assert heard.hear("words")[0]["facts"]["at_hand"] is False
    heard.ask("words", form={"concepts": 3})
    assert heard.hear("words")[0]["error"]


def test_pipelines_of_the_kernel_are_offered_and_their_names_go_into_code(heard: Heard, backend: Backend) -> None:
    pipe = object()
    backend.kernel["pipe"] = pipe
    heard.ask("models")
    assert heard.hear("models")[0]["kernel"] == {"pipe": "object"}
    heard.ask("example", name="scene-08")
    row = heard.run(model="pipe", kernel=True)
    assert backend.calls[0][2] is pipe
    assert "model=pipe)" in row["code"]
    del backend.kernel["pipe"]
    heard.ask("run", form={"concepts": WORDS, "model": "pipe", "kernel": True})
    assert "no pipeline pipe any more (it has none)" in heard.hear("failed")[0]["error"]


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"concepts": []}, "there is no word"),
        ({}, "there is no picture"),
        ({"source": "prompt"}, "there is no prompt"),
        ({"model": " "}, "there is no model"),
        ({"timesteps": "many"}, "timesteps is 'many'"),
        ({"size": "12"}, "size is '12'"),
        ({"layers": "x"}, "layers holds 'x'"),
        ({"poem": 1}, "the form has no 'poem'"),
        ({"seed": "1"}, "seed is '1'"),
    ],
)
def test_what_cannot_be_run_is_said(heard: Heard, backend: Backend, form: dict[str, Any], sentence: str) -> None:
    heard.ask("run", form={"concepts": WORDS, **form})
    content, _ = heard.hear("failed")
    assert sentence in content["error"]
    assert backend.calls == []


def test_errors_of_a_run_are_sentences_and_the_panel_goes_on(heard: Heard, backend: Backend) -> None:
    heard.ask("example", name="scene-08")
    for error, sentence in ((InputError("it is too large."), "it is too large."), (KeyError("x"), "could not be")):
        backend.error = error
        heard.ask("run", form={"concepts": WORDS})
        content, _ = heard.hear("failed")
        assert (content["of"], sentence in content["error"]) == ("run", True)
    backend.error = None
    assert heard.run()["number"] == 1


def test_without_a_run_there_is_no_dataset(heard: Heard) -> None:
    assert heard.start.code == ""
    with pytest.raises(InputError, match="nothing was run"):
        _ = heard.start.ds


def test_before_a_run_it_says_what_it_is_and_what_is_chosen(heard: Heard) -> None:
    start = heard.start
    assert "to concept maps of a diffusion transformer" in start.description
    assert "No picture is chosen yet. No concepts are typed yet. Model: tiny-flux. Nothing was" in start.description
    assert start.description.endswith(RUN_THE_CELL)
    empty = draw(start.still().blocks)
    heard.ask("example", name="scene-08")
    start.panel.state = {**start.panel.state, "concepts": WORDS}
    assert "Picture: scene-08. Concepts: dog, grass. Model: tiny-flux." in start.description
    chosen = np.asarray(draw(start.still().blocks))
    scene = np.asarray(Image.open(examples()[8].path).convert("RGB"))
    rows = range(len(chosen) - len(scene))
    assert any(np.array_equal(chosen[row : row + 128, 12:140], scene) for row in rows)
    assert len(chosen) > empty.height + 128
    start.panel.state = {**start.panel.state, "source": "prompt", "prompt": "a <b>dog</b>\n" * 150}
    assert "Prompt: “a <b>dog</b> a" in start.description
    assert "scene-08" not in start.description
    assert len(start.description) < 600


def test_after_a_run_it_is_the_picture_of_its_view_with_the_words_of_the_run(heard: Heard, backend: Backend) -> None:
    heard.ask("example", name="scene-08")
    heard.run()
    taken, shown = heard.start.still(), heard.start.view.still()
    assert taken.words == f"Start panel, run 1: dog, grass in scene-08. {shown.words}"
    assert taken.facts == shown.facts
    whole, part = np.asarray(draw(taken.blocks)), np.asarray(draw(shown.blocks))[12:]
    np.testing.assert_array_equal(whole[-len(part) :], part)
    assert len(whole) > len(part) + 12
    backend.error = InputError("it is too large.")
    heard.ask("run", form={"concepts": WORDS})
    heard.hear("failed")
    assert "run 1: dog, grass in scene-08. The last run failed: it is too large. " in heard.start.description
    heard.ask("show", number=1)
    assert "failed" not in heard.start.description


def test_a_picture_of_a_run_that_grows_or_was_stopped_says_so(backend: Backend, heard: Heard) -> None:
    heard.ask("example", name="scene-08")
    heard.run()
    backend.passes = type(backend.passes)(1)
    heard.ask("run", form={"concepts": ["dog", "sky"]})
    heard.hear("started")
    heard.hear("swap")
    while heard.start._what.startswith("run 1"):
        time.sleep(0.01)
    said = heard.start.description
    assert said.startswith("Start panel, a run that is not finished: dog, sky in scene-08. A run is under way. ")
    with pytest.raises(InputError, match="not finished, its run is under way"):
        _ = heard.start.ds
    assert heard.start.code == ""
    heard.ask("ready")
    assert heard.hear("ready")[0]["shown"] == 0, "a page that is drawn again shows no finished run either"
    heard.ask("stop")
    assert heard.hear("stopped")[0]["back"] == heard.start.panel.shown == 1
    assert heard.start.description.startswith("Start panel, run 1: dog, grass in scene-08. The last run was stopped. ")
    assert heard.start.view._ds.concept.values.tolist() == heard.start.ds.concept.values.tolist() == WORDS
    assert WORDS[1] in heard.start.code


def test_what_there_is_of_a_first_run_that_was_stopped_is_shown_and_is_no_result(
    backend: Backend, heard: Heard
) -> None:
    backend.passes = type(backend.passes)(1)
    heard.ask("example", name="scene-08")
    heard.ask("run", form={"concepts": WORDS})
    heard.hear("swap")
    heard.ask("stop")
    told = heard.hear("stopped")[0]
    assert (told["back"], told["part"]) == (0, True)
    assert heard.start.description.startswith("Start panel, a run that is not finished: ")
    with pytest.raises(InputError, match="not finished, its run was stopped: press Run to go on"):
        _ = heard.start.ds
    backend.passes.release(10)
    heard.run()
    assert heard.start.ds.concept.values.tolist() == WORDS


def test_a_run_that_fails_inside_gives_the_one_before_back(backend: Backend, heard: Heard) -> None:
    heard.ask("example", name="scene-08")
    heard.run()
    backend.passes = type(backend.passes)(1)
    heard.ask("run", form={"concepts": ["dog", "sky"]})
    heard.hear("swap")
    backend.error = InputError("it is too large.")
    backend.passes.release()
    assert heard.hear("failed")[0]["back"] == 1
    assert heard.start.description.startswith("Start panel, run 1: dog, grass in scene-08. The last run failed: ")


def test_the_picture_is_made_again_of_a_view_that_was_replaced_while_it_was_drawn(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.ask("example", name="scene-08")
    heard.run()
    first, drawn = heard.start.view, type(heard.start.view).still

    def still(view: Any) -> Any:
        if view is first and heard.start.view is first:
            heard.run(concepts=["dog", "sky"])
            view.close()
        return drawn(view)

    monkeypatch.setattr(type(first), "still", still)
    assert heard.start.description.startswith("Start panel, run 2: dog, sky in scene-08. Concept maps: dog, sky")


def test_what_changes_the_panel_or_its_view_renews_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[Any] = []
    monkeypatch.setattr(Start, "renew", lambda start, change=None: renewed.append(change))
    heard = Heard(Start(Backend()))

    def count(act: Any) -> int:
        renewed.clear()
        act()
        heard.start._worker.join(20)
        return len(renewed)

    assert count(lambda: setattr(heard.start.panel, "state", {**heard.start.panel.state, "concepts": WORDS}))
    assert count(lambda: heard.ask("example", name="scene-08"))
    assert count(lambda: heard.ask("example", name="scene-02"))
    assert count(heard.run) > 2, "it begins, is shown, and ends"
    assert count(lambda: setattr(heard.start.view, "state", {**heard.start.view.state, "opacity": 0.25}))
    assert count(lambda: heard.ask("show", number=1))
    assert count(lambda: heard.ask("forget"))
    heard.start.close()


def test_closing_lets_go_of_everything(backend: Backend) -> None:
    heard = Heard(Start(backend))
    heard.ask("example", name="scene-08")
    heard.run()
    heard.start._worker.join(20)
    held = weakref.ref(heard.start.ds)
    heard.start.close()
    heard.ask("ready")
    assert backend.closed
    heard.sent.queue.clear()
    gc.collect()
    assert held() is None


def test_a_finished_run_that_cannot_be_shown_leaves_the_run_before(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard.ask("example", name="scene-08")
    heard.run()
    look = Start._look_at_run

    def fail(start: Start, entry: Any) -> None:
        if entry.number == 2:
            raise ValueError("no")
        look(start, entry)

    monkeypatch.setattr(Start, "_look_at_run", fail)
    heard.ask("run", form={"concepts": ["dog", "sky"]})
    assert heard.hear("failed")[0]["back"] == heard.start.panel.shown == 1
    assert heard.start.ds.concept.values.tolist() == heard.start.view._ds.concept.values.tolist() == WORDS
