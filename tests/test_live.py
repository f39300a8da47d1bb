from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from diffusers import FluxImg2ImgPipeline
from PIL import Image

import workbench as wb
from tests.synthetic import dataset
from tests.tiny_random import flux_pipeline
from workbench.live import _from_subject
from workbench.schema import noted, read_attributes
from workbench.tiny.scenes import SPLITS, render
from workbench.widgets.ablate.ablation import Ablation
from workbench.widgets.ablate.edit_form import EDITS

SCENE = render(SPLITS["gallery"][8])
WORDS = SCENE.words[:3]


class Panel:
    """A panel whose messages are kept."""

    def __init__(self, view: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
        self.view = view
        self.sent: list[tuple[Any, Any]] = []
        self.each: Callable[[Any], None] = lambda content: None
        monkeypatch.setattr(view, "send", self._send)

    def _send(self, content: Any, buffers: Any = None) -> None:
        self.sent.append((content, buffers))
        self.each(content)

    def ask(self, **question: Any) -> tuple[Any, Any]:
        """The last message that follows, when all work is over."""
        self.view._handle_custom_msg(question, [])
        self.view._worker.join(60)
        for _ in range(1000):
            if self.sent[-1][0]["type"] not in ("started", "progress"):
                break
            time.sleep(0.01)
        return self.sent[-1]


def _run(panel: Panel, **form: Any) -> tuple[Any, Any]:
    return panel.ask(type="run", mode="intervention", form=form)


@pytest.mark.slow
def test_an_experiment_from_a_dataset_and_its_code_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = wb.capture(SCENE.image, WORDS, timesteps=[400, 200], progress=False)
    view = wb.ablate(ds)
    panel = Panel(view, monkeypatch)
    done, _ = _run(panel, layers=[1, 2], repeats=1)
    assert done["type"] == "done", done
    (found,) = view.results["intervention"]
    shown, _ = panel.ask(type="plot", mode="intervention", number=1)
    made: dict[str, Any] = {"ds": ds}
    exec(shown["code"].replace("model=", "progress=False, model="), made)
    xr.testing.assert_identical(made["found"], found)
    assert found.attrs["layers"] == ds.attrs["default_layers"]
    assert [run.key for run in wb.runs() if run.own] == [ds.attrs["key"]]
    assert {run.parent for run in wb.runs() if not run.own} == {ds.attrs["key"]}

    pair, buffers = panel.ask(type="maps", mode="intervention", number=1, at=[1])
    assert pair["titles"] == ["without an edit", "SkipBlock(2)"]
    assert found.attrs["readout"] == "[3, 4]"
    before = ds.wb.heatmap(layers=[3, 4]).transpose("concept", "y", "x").to_numpy()
    first, second = (np.frombuffer(buffer, np.float32).reshape(before.shape) for buffer in buffers[:2])
    np.testing.assert_allclose(first, before, atol=1e-4)
    distance = float(found.mean_map_distance.sel(intervention="SkipBlock(2)"))
    assert abs(second - first).mean() == pytest.approx(distance, rel=1e-4)
    pair, buffers = panel.ask(type="maps", mode="intervention", number=1, at=[1, 3], measure="map_distance_by_layer")
    assert pair["titles"] == ["without an edit, read in layer 3", "SkipBlock(2), read in layer 3"]
    first, second = (np.frombuffer(buffer, np.float32).reshape(before.shape) for buffer in buffers[:2])
    cell = float(found.mean_map_distance_by_layer.sel(intervention="SkipBlock(2)", read_layer=3))
    assert abs(second - first).mean() == pytest.approx(cell, rel=1e-4)
    view.close()


@pytest.mark.slow
def test_the_code_of_a_stored_run_is_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    wb.capture(SCENE.image, WORDS, timesteps=300, progress=False)
    (run,) = (one for one in wb.runs() if one.own)
    view = wb.ablate(run)
    assert view.meta["uses"] == []
    panel = Panel(view, monkeypatch)
    for mode, form in (("sweep", {}), ("intervention", {"layers": [1, 1], "control": "none"})):
        assert panel.ask(type="run", mode=mode, form=form)[0]["type"] == "done"
        code = panel.ask(type="plot", mode=mode, number=1)[0]["code"]
        exec(code.replace("model=", "progress=False, model="), made := {})
        xr.testing.assert_identical(made["found"], view.results[mode][0])
    view.close()


QUICK = ("SkipBlock", "MaskText", "Patch")
"""Kinds of edits that are not left to the slow tests: of blocks, of attention, and with a run to take from."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "edit", [pytest.param(edit, marks=() if edit in QUICK else pytest.mark.slow) for edit in EDITS]
)
def test_every_kind_of_edit_runs_and_its_code_does_the_same(edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    view = wb.ablate(SCENE.image, WORDS, timesteps=300, prompt="a red heart")
    panel = Panel(view, monkeypatch)
    over = list(EDITS[edit].over[0])
    form = {"layers": [1, 1], "heads": "0", "prompt": "a blue house", "tokens": "red", "timesteps": [200, 400]}
    done, _ = _run(panel, edit=edit, over=over, control="none", **form)
    assert done["type"] == "done", done
    (found,) = view.results["intervention"]
    assert bool((found.map_distance.max("concept") > 0).all())
    shown, _ = panel.ask(type="plot", mode="intervention", number=1)
    assert shown["notes"] == []
    made: dict[str, Any] = {"image": SCENE.image}
    exec(shown["code"].replace("model=", "progress=False, model="), made)
    xr.testing.assert_identical(made["found"], found)
    view.close()


@pytest.mark.slow
def test_prompts_of_stored_runs_are_offered_as_other_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for prompt in ("a red heart", "a blue house"):
        wb.capture(SCENE.image, WORDS, timesteps=300, layers=[1], prompt=prompt, progress=False)
    view = wb.ablate(SCENE.image, WORDS, timesteps=300, prompt="a red heart")
    assert Panel(view, monkeypatch).ask(type="prompts", mode="intervention")[0]["prompts"] == ["a blue house"]
    view.close()


@pytest.mark.slow
def test_warnings_of_an_experiment_are_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    view = wb.ablate(SCENE.image, WORDS, timesteps=300)
    panel = Panel(view, monkeypatch)
    assert _run(panel, control="none", layers=[1, 1], timesteps=[800, 1000])[0]["type"] == "done"
    (note,) = panel.ask(type="plot", mode="intervention", number=1)[0]["notes"]
    assert "SkipBlock(1, timesteps=[800, 1000]) changes nothing" in note
    view.close()


@pytest.mark.slow
def test_a_stopped_experiment_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    view = wb.ablate(SCENE.image, WORDS, timesteps=300)
    panel = Panel(view, monkeypatch)
    panel.each = lambda content: view._worker.stop() if content.get("done") == 2 else None
    asked = {"repeats": 1, "layers": view.state["intervention"]["layers"]}
    assert asked["layers"] == [0, 4], "the usual ones of seven that are offered"
    assert _run(panel, **asked)[0]["type"] == "stopped"
    assert view.results["intervention"] == []
    stored = {run.key for run in wb.runs()}
    assert len(stored) >= 2
    panel.each = lambda content: None
    assert _run(panel, **asked)[0]["type"] == "done"
    (found,) = view.results["intervention"]
    assert stored <= set(read_attributes(found.attrs)["keys"].values())
    fresh = wb.intervene(SCENE.image, WORDS, wb.SkipBlock.each(), repeats=1, timesteps=300, progress=False)
    np.testing.assert_array_equal(fresh.mean_map_distance, found.mean_map_distance)
    view.close()


@pytest.mark.slow
def test_pictures_of_a_prompt_are_shown_without_and_with_the_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    ds = wb.generate(SCENE.caption, WORDS, steps=2, progress=False)
    view = wb.ablate(ds)
    panel = Panel(view, monkeypatch)
    done, _ = _run(panel, edit="ScaleHeads", over=["layer", "head"], layers=[0, 0], control="none")
    assert done["type"] == "done", done
    assert "psnr" in [name for name, _ in done["row"]["measures"]]
    (found,) = view.results["intervention"]
    assert found.sizes["intervention"] == ds.sizes["head"]
    _, buffers = panel.ask(type="maps", mode="intervention", number=1, at=[0, 1])
    assert buffers[2] != buffers[3]
    view.close()


def test_errors_of_a_run_are_sentences_in_the_panel(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    view = wb.ablate(dataset(), model=tmp_path / "nothing")
    failed, _ = _run(Panel(view, monkeypatch), repeats=1)
    assert failed["type"] == "failed"
    assert failed["error"].endswith(".")
    assert "nothing" in failed["error"]
    view.close()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((3,), "ablate takes"),
        ((dataset().output_total,), "one variable"),
        (("a dog on grass",), "needs concepts"),
        ((dataset(), ["dog"]), "has its concepts already"),
        ((SCENE.image, ["", "b"]), "concept"),
        ((SCENE.image,), "needs concepts"),
        ((SCENE.image, "sky"), "single string"),
        ((SCENE.image, ["zebra", "sky"]), "does not know 'zebra'"),
    ],
)
def test_what_cannot_be_used_gives_a_sentence(given: Any, sentence: str) -> None:
    view = wb.ablate(*given)
    assert sentence in view.error
    assert view.meta["modes"] == {}


@pytest.mark.slow
def test_a_panel_for_sweeps_needs_no_torch() -> None:
    code = (
        "import sys, workbench\nfrom tests.synthetic import dataset\n"
        "assert not workbench.ablate(dataset()).error\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_options_that_the_panel_decides_are_refused() -> None:
    assert "takes no store" in wb.ablate(SCENE.image, WORDS, store=False).error
    for view in (wb.ablate(SCENE.image, WORDS, step=3), wb.ablate(dataset(), step=3)):
        assert "takes no step" in view.error
        assert "timesteps" in view.error


def test_a_mode_that_cannot_be_had_says_why() -> None:
    assert "pass a dataset" in wb.ablate(SCENE.image, WORDS).meta["lacks"]["sweep"]
    edited = dataset().assign_attrs(interventions=[{"edit": "SkipBlock", "layers": [1]}])
    assert "was edited itself (SkipBlock(1))" in wb.ablate(edited).meta["lacks"]["intervention"]
    inputs = {"image": {"image": "abc", "size": [64, 64]}, "strength": 0.6}
    lacks = wb.ablate(dataset().assign_attrs(inputs=inputs)).meta["lacks"]["intervention"]
    assert "were made with image, strength, of which the dataset keeps hashes at most. Give them again" in lacks
    assert wb.ablate(edited).meta["title"].endswith("edited: SkipBlock(1)")
    for origin in ("folder", "pipeline"):
        named = dataset().assign_attrs(model="tiny-flux", model_from=origin)
        assert f"recorded from a {origin}, tiny-flux, which cannot" in wb.ablate(named).meta["lacks"]["intervention"]
        assert "intervention" in wb.ablate(named, model="tiny-flux").meta["modes"]
    apart = dataset(samples=3).isel(sample=[0, 2])
    assert "its samples have the seeds 0, 2" in wb.ablate(apart).meta["lacks"]["intervention"]
    assert "has no picture" in wb.ablate(dataset().drop_vars("image")).meta["lacks"]["intervention"]
    assert (
        "different prompts"
        in (
            wb.ablate(dataset(kind="generate", samples=2).assign_attrs(prompt=["a", "b"])).meta["lacks"]["intervention"]
        )
    )


def test_the_code_of_a_panel_with_images_among_its_inputs_runs() -> None:
    """As of a prompt to a pipeline that begins with a picture."""
    image, pipe = Image.new("RGB", (24, 24)), FluxImg2ImgPipeline.from_pipe(flux_pipeline())
    inputs = {"image": image, "strength": 0.6}
    backend = _from_subject("a dog", ["dog"], pipe, {"inputs": inputs, "steps": 2})
    assert backend.uses == ["pipe", "image"]
    told: dict[str, Any] = {}
    held = {"wb": SimpleNamespace(intervene=lambda *given, **options: told.update(options)), "pipe": pipe}
    code = backend.call("None", "").replace("import workbench as wb", "")
    exec(code, held | {"image": image})
    assert told["inputs"] == inputs
    assert told["model"] is pipe


class Started:
    """A start panel whose last message is kept."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start = wb.start()
        self.said: list[Any] = []
        monkeypatch.setattr(self.start.panel, "send", lambda content, buffers=None: self.said.append(content))

    def ask(self, kind: str, buffers: Any = (), **content: Any) -> None:
        self.start.panel._handle_custom_msg({"type": kind, **content}, list(buffers))

    def run(self, **form: Any) -> xr.Dataset:
        """Run, and execute the code of the run."""
        self.ask("run", form=form)
        self.start._worker.join(60)
        for _ in range(1000):
            if self.said[-1]["type"] not in ("started", "stage", "progress", "swap"):
                break
            time.sleep(0.01)
        assert self.said[-1]["type"] == "done", self.said[-1]
        made: dict[str, Any] = {}
        with noted():
            exec(self.start.code.replace("wb.explore(ds)", ""), made)
        return made["ds"]


@pytest.mark.slow
def test_the_code_of_each_kind_of_start_run_makes_the_same_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    panel = Started(monkeypatch)
    panel.ask("example", name="scene-08")
    for words in (["boat", "moon", "brick", "night"], ["moon", "sky"]):
        found = panel.run(concepts=words, layers="0-1", timesteps="700, 300")
        xr.testing.assert_identical(found, panel.start.ds)
        assert ("truth" in found) == (words[0] == "boat")
    buffer = io.BytesIO()
    Image.fromarray(SCENE.image[:80]).save(buffer, "PNG")
    panel.ask("take", [buffer.getvalue()], number=1, part=0, parts=1, name="my\nscene.png")
    xr.testing.assert_identical(panel.run(concepts=["boat", "moon"], layers="1"), panel.start.ds)
    assert panel.start.ds.attrs["size"][0] < panel.start.ds.attrs["size"][1]
    found = panel.run(source="prompt", prompt="a red heart on grass", concepts=["heart"], steps=2, seed=3)
    xr.testing.assert_identical(found, panel.start.ds)
    assert found.attrs["kind"] == "generate"
    panel.run(source="prompt", prompt="a red heart on grass", concepts=["heart"], steps=2, seed=3)
    assert panel.said[-1]["row"]["stored"] is True
    panel.ask("run", form={"source": "prompt", "prompt": "a dog", "concepts": ["heart"]})
    panel.start._worker.join(60)
    assert "tiny-flux does not know 'dog'" in panel.said[-1]["error"]
    panel.start.close()


def test_pipelines_of_the_kernel_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = flux_pipeline()
    shell = SimpleNamespace(user_ns={"pipe": pipe, "_hidden": pipe, "number": 3, "ds": dataset()})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    panel = Started(monkeypatch)
    panel.ask("models")
    assert panel.said[-1]["kernel"] == {"pipe": "FluxPipeline"}
    panel.ask("example", name="scene-08")
    panel.ask("run", form={"concepts": ["dog", "sky"], "model": "pipe", "kernel": True, "size": "24 x 32"})
    panel.start._worker.join(60)
    assert panel.start.code.splitlines()[2].endswith("['dog', 'sky'], model=pipe, size=(24, 32))")
    made: dict[str, Any] = {"pipe": pipe}
    exec(panel.start.code.replace("wb.explore(ds)", ""), made)
    xr.testing.assert_identical(made["ds"], panel.start.ds)
    panel.start.close()


@pytest.mark.slow
def test_a_start_panel_needs_no_torch() -> None:
    code = "import sys, workbench\nworkbench.start()\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


@pytest.mark.slow
def test_what_files_say_of_a_model_comes_before_torch() -> None:
    code = (
        "import sys, workbench\npanel = workbench.start().panel\nsaid = []\n"
        "panel.send = lambda content, buffers=None: said.append((content, 'torch' in sys.modules))\n"
        "panel._look({'concepts': ['zebra']})\n"
        "(facts, early), (words, _) = said\nassert not early\n"
        "assert (facts['type'], facts['facts']['blocks'], len(facts['facts']['words'])) == ('facts', [5, 2], 20)\n"
        "assert words['remarks'][0]['refused'], words"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])
