"""A model checked as a whole, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
import xarray as xr

from tests.test_cli import run
from tests.tiny_pipelines.auraflow import auraflow_pipeline
from tests.tiny_pipelines.cogview4 import cogview4_pipeline
from tests.tiny_pipelines.flux2 import flux2_pipeline, klein_pipeline
from tests.tiny_pipelines.flux_like import bria_pipeline, chroma_pipeline, longcat_pipeline, ovis_pipeline
from tests.tiny_pipelines.hunyuan_image import hunyuan_image_pipeline
from tests.tiny_pipelines.lumina2 import lumina2_pipeline
from tests.tiny_pipelines.qwen import qwen_pipeline
from tests.tiny_pipelines.sd3 import sd3_pipeline
from tests.tiny_pipelines.z_image import z_image_pipeline
from tests.tiny_random import flux_pipeline
from workbench.contract import RULES, Report, check_model
from workbench.contract.maps import MAP_RULES, layers_agree, maps_are_finite, maps_are_not_uniform
from workbench.contract.model_check import SCENE
from workbench.contract.pipeline_case import PipelineCase
from workbench.contract.pipelines import PIPELINE_RULES
from workbench.contract.trying import Tried
from workbench.models.flux import FluxAdapter, FluxPipelineAdapter
from workbench.models.guidance import alone, in_passes
from workbench.recording.opening import open_adapter
from workbench.schema import UNCONDITIONAL, ContractError, InputError
from workbench.tiny import scenes

WORDS = ("dog", "sky")
PROMPT = "a dog on grass"


@pytest.fixture
def case() -> PipelineCase:
    return case_of(flux_pipeline())


def case_of(pipe: Any) -> PipelineCase:
    return PipelineCase(open_adapter(pipe), scenes.render(SCENE).image, WORDS, PROMPT)


def told(report: Report) -> dict[str, str]:
    return {one.rule: one.told for one in report.tried}


# --- pipelines ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        *(flux_pipeline, sd3_pipeline, flux2_pipeline, klein_pipeline, qwen_pipeline, chroma_pipeline),
        *(longcat_pipeline, ovis_pipeline, bria_pipeline, z_image_pipeline, hunyuan_image_pipeline),
        *(auraflow_pipeline, lumina2_pipeline, cogview4_pipeline),
    ],
)
def test_every_family_keeps_the_rules_about_pipelines(make: Callable[[], Any]) -> None:
    case = case_of(make())
    found = {name: rule(case) for name, rule in PIPELINE_RULES.items()}
    guided = "no classifier-free guidance" not in found["branch_is_the_conditional_one"]
    assert guided == (make is not flux2_pipeline)
    assert not guided or found["branch_is_the_conditional_one"].startswith("off by ")
    for name, rule in RULES.items():
        assert rule(case.case()), name


def test_times_are_those_that_the_transformer_is_told(case: PipelineCase, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = PIPELINE_RULES["transformer_is_told_the_time"]
    assert rule(case) == "timesteps 250, 500, 750; 6 x 8 patches"
    with monkeypatch.context() as patched:
        patched.setattr(FluxAdapter, "timesteps", lambda self, given: 1000 - given["timestep"].double() * 1000)
        with pytest.raises(ContractError, match="noised to timestep 250 reaches the transformer as one of 750"):
            rule(case)
    monkeypatch.setattr(FluxAdapter, "grid", lambda self, given: (8, 6))
    with pytest.raises(ContractError, match=r"a picture of 6 x 8 patches reaches the transformer as \(8, 6\)"):
        rule(case)


def test_pictures_that_come_back_otherwise(case: PipelineCase, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = FluxPipelineAdapter.decode
    monkeypatch.setattr(FluxPipelineAdapter, "decode", lambda self, latents: decode(self, latents).transpose(1, 0, 2))
    with pytest.raises(ContractError, match="comes back from the autoencoder as uint8"):
        PIPELINE_RULES["pictures_go_there_and_back"](case)


def test_another_picture_than_the_pipelines(case: PipelineCase, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, steps = PIPELINE_RULES["picture_is_the_pipelines"], case.adapter.pipe.transformer
    monkeypatch.setattr("workbench.contract.pipelines.wb.generate", lambda *given, **options: other(rule))

    def other(_: Any) -> xr.Dataset:
        return xr.Dataset({"image": (("sample", "y", "x", "channel"), np.zeros((1, *case.size, 3), np.uint8))})

    with pytest.raises(ContractError, match="generate makes another picture than FluxPipeline alone"):
        rule(case)
    steps.register_forward_hook(lambda module, args, output: (output[0] + 20 * torch.rand(1),))
    with pytest.raises(ContractError, match="two calls of the pipeline with one seed make different pictures"):
        rule(case)


def test_the_unconditional_branch_in_place_of_the_other(case: PipelineCase, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = PIPELINE_RULES["branch_is_the_conditional_one"]
    assert rule(case).startswith("off by ")
    monkeypatch.setattr(
        FluxPipelineAdapter,
        "guidance",
        lambda self, options: in_passes(UNCONDITIONAL) if options["true_guidance"] > 1 else alone(),
    )
    # The names that the pipeline gives its passes would tell.
    monkeypatch.setattr("workbench.models.guidance.Branch.takes", lambda self, name, index: index % 2 == self.place)
    with pytest.raises(ContractError, match="records the unconditional branch"):
        rule(case)


# --- maps --------------------------------------------------------------------------------------------------------
def dataset(change: Callable[[np.ndarray[Any, Any]], None] | None = None) -> xr.Dataset:
    from tests.synthetic import dataset as made

    ds = made().load().copy(deep=True)
    if change is not None:
        for space in ds.attrs["spaces"]:
            change(ds[space].values)
            ds[f"{space}_total"].values[...] = ds[space].sum("head", skipna=False)
    return ds


def test_maps_that_are_no_maps() -> None:
    def broken(values: np.ndarray[Any, Any]) -> None:
        values[..., 0, 0] = np.nan

    def flat(values: np.ndarray[Any, Any]) -> None:
        values[...] = 1

    def noise(values: np.ndarray[Any, Any]) -> None:
        values[...] = np.random.default_rng(0).normal(size=values.shape)

    with pytest.raises(ContractError, match="values that are no numbers"):
        maps_are_finite(dataset(broken))
    with pytest.raises(ContractError, match="are the same everywhere"):
        maps_are_not_uniform(dataset(flat))
    for change in (flat, noise):
        with pytest.raises(ContractError, match="those of shuffled patches by up to"):
            layers_agree(dataset(change))


# --- all of it ---------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_the_bundled_model_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    code, out, err = run(monkeypatch, capsys, "check-model", "--output", page)
    assert code == 0
    assert "workbench on its bundled model, tiny-flux\nAll 18 checks passed." in out
    assert "contract: prompt is its own concepts" in err
    written = page.read_text()
    assert "data:image/png;base64," in written
    assert "http" not in written.replace("http-equiv", "")
    assert all(name.replace("_", " ") in written for name in (*RULES, *PIPELINE_RULES, *MAP_RULES))


@pytest.mark.slow
def test_a_report_of_a_pipeline(tmp_path: Path) -> None:
    said: list[str] = []
    report = check_model(flux_pipeline(), concepts=WORDS, progress=said.append)
    assert set(told(report)) == {*RULES, *PIPELINE_RULES, *MAP_RULES}
    # Random weights: maps of one layer need not be like those of the next.
    assert {one.rule for one in report.tried if not one.passed} <= set(MAP_RULES)
    assert report.title == "First run of workbench on real weights: FluxPipeline"
    assert {"diffusers", "torch"} <= set(report.versions)
    assert [part.name for part in report.parts] == ["load", "contract", "capture", "maps"]
    assert all(part.seconds > 0 and part.host_bytes > 1e7 for part in report.parts)
    assert "2 of 32" in report.facts["heads"]
    assert "capture" in said
    saved = json.loads(report.save(tmp_path / "report.json").read_text())
    assert saved["versions"] == dict(report.versions)
    assert [one["rule"] for one in saved["tried"]] == [one.rule for one in report.tried]
    assert str(report) in report.save(tmp_path / "report.txt").read_text()


@pytest.mark.slow
def test_an_offloaded_model() -> None:
    pipe = flux_pipeline()
    accelerate.cpu_offload(pipe.transformer, execution_device=torch.device("cpu"))
    case = case_of(pipe).case()
    for name, rule in RULES.items():
        assert rule(case), name


@pytest.mark.slow
def test_what_is_broken_is_told_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(FluxAdapter, "scale", lambda self, call: 0.3)
    report = check_model(flux_pipeline(), concepts=WORDS)
    broken = {one.rule for one in report.tried if not one.passed}
    assert {"attention_is_rebuilt", "capture"} <= broken
    assert "Do not trust its maps." in report.verdict
    assert "pictures_go_there_and_back" not in broken
    assert "<td class=bad>failed" in report.save(tmp_path / "page.html").read_text()


def test_what_is_told_is_escaped() -> None:
    report = Report("<m>", "", False, "f", "o", (Tried("a", False, "<b>", 0.0),), (), {}, ("<w>",), {}, {}, "now")
    assert not {"<m>", "<b>", "<w>"} & set(report.to_html().replace(">", ">\n").split())
    assert "&lt;b&gt;" in report.to_html()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["nowhere"], 1, "unknown model 'nowhere'"),
        (["--output", "report.pdf"], 2, "ends in '.pdf'; expected one of .html, .json, .txt"),
        (["--output", "nowhere/report.html"], 2, "the folder of the report 'nowhere/report.html' does not exist"),
        (["--photo", "nothing.jpg"], 2, "the photo 'nothing.jpg' does not exist"),
        (["--concept", "dog"], 2, "one concept was given; expected at least two"),
        (["--offload", "model", "--device", "cpu"], 2, "moves weights to an accelerator"),
    ],
)
def test_wrong_calls_end_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    ended, out, err = run(monkeypatch, capsys, "check-model", *arguments)
    assert (ended, out) == (code, "")
    assert sentence in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_too_few_words() -> None:
    for few in ("dog", ["dog"], ["dog", "dog"]):
        with pytest.raises(InputError, match="expected at least two words"):
            check_model(object(), concepts=few)  # type: ignore[arg-type]
