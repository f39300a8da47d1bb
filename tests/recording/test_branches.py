"""Branches of classifier-free guidance: only what was asked for is recorded and edited, wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor

from tests.tiny_random import concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from workbench.interventions import (
    ITSELF,
    BlurAttention,
    Intervention,
    MaskText,
    MeanHeads,
    NullText,
    Patch,
    RandomDirection,
    ScaleHeads,
)
from workbench.models.guidance import Branch, BranchName, alone, in_batch, in_passes
from workbench.recording.block_reading import Record
from workbench.recording.generating import generate
from workbench.recording.tracing import trace
from workbench.schema import InputError, TraceError, validate

SIZE = (16, 16)
NAMES: tuple[BranchName, BranchName] = ("conditional", "unconditional")


@pytest.fixture(scope="module")
def model() -> FluxTransformer2DModel:
    return flux_transformer()


def item(inputs: dict[str, Any], index: int) -> dict[str, Any]:
    """One item of a batch."""
    batched = ("hidden_states", "encoder_hidden_states", "pooled_projections", "timestep")
    return inputs | {name: inputs[name][index : index + 1] for name in batched}


@pytest.fixture(scope="module")
def batch(model: FluxTransformer2DModel) -> dict[str, Any]:
    """Two items of one noise level, as guidance makes them."""
    inputs = flux_inputs(model, batch=2)
    return inputs | {"timestep": torch.full((2,), 0.5)}


def run(
    model: Any, calls: Sequence[tuple[str | None, dict[str, Any]]], branches: dict[str, Branch], **options: Any
) -> tuple[list[Record], list[Tensor]]:
    """Records and outputs of named passes."""
    records: list[Record] = []
    outputs = []
    with (
        torch.no_grad(),
        trace(
            model,
            concept_embeddings(),
            layers=range(5),
            branches=list(branches.values()),
            on_record=records.append,
            **options,
        ) as seen,
    ):
        for source in seen.editing.sources():
            with seen.collecting(source):
                for name, inputs in calls:
                    call(model, name, inputs)
        for name, inputs in calls:
            outputs.append(call(model, name, inputs))
    return records, outputs


def call(model: Any, name: str | None, inputs: dict[str, Any]) -> Tensor:
    if name is None:
        output: Tensor = model(**inputs).sample
        return output
    with model.cache_context(name):
        return call(model, None, inputs)


def only(name: BranchName, branches: dict[str, Branch]) -> dict[str, Branch]:
    return {name: branches[name]}


def same(some: Sequence[Record], others: Sequence[Record]) -> bool:
    return len(some) == len(others) and all(
        one.layer == other.layer
        and one.step == other.step
        and torch.allclose(one.scores["output"], other.scores["output"], rtol=1e-4, atol=1e-5)
        for one, other in zip(some, others, strict=True)
    )


# --- what is recorded -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("name", [None, "cond_uncond"])
def test_of_a_batch_the_item_that_was_asked_for(
    model: FluxTransformer2DModel, batch: dict[str, Any], first: BranchName, name: str | None
) -> None:
    branches = in_batch(first)
    plain = {branch: run(model, [(None, item(batch, place))], alone())[0] for place, branch in enumerate(branches)}
    assert not same(*plain.values())
    for branch in NAMES:
        records, _ = run(model, [(name, batch)], only(branch, branches))
        assert same(records, plain[branch])
        assert {record.branch for record in records} == {branch}
        assert {len(record.scores["output"]) for record in records} == {1}
    both, _ = run(model, [(name, batch)], branches)
    for branch in NAMES:
        assert same([record for record in both if record.branch == branch], plain[branch])


@pytest.mark.parametrize("named", [True, False])
def test_of_two_passes_the_one_that_was_asked_for(
    model: FluxTransformer2DModel, batch: dict[str, Any], named: bool
) -> None:
    calls = [("cond", item(batch, 0)), ("uncond", item(batch, 1))] * 2
    calls = calls if named else [(None, inputs) for _, inputs in calls]  # type: ignore[misc]
    expected = {branch: run(model, [(None, item(batch, place))] * 2, alone())[0] for place, branch in enumerate(NAMES)}
    announced: list[int] = []
    for branch in NAMES:
        assert same(run(model, calls, only(branch, in_passes()))[0], expected[branch])
    both, _ = run(model, calls, in_passes(), on_pass=announced.append)
    assert announced == [0, 1], "once for each step, when both passes are complete"
    for branch in NAMES:
        assert same([record for record in both if record.branch == branch], expected[branch])


def test_a_batch_without_the_expected_item_is_refused(model: FluxTransformer2DModel, batch: dict[str, Any]) -> None:
    with pytest.raises(TraceError, match=r"batch 1, but the conditional branch .* items 1 to 1"):
        run(model, [(None, item(batch, 0))], only("conditional", in_batch()))


def test_a_trace_that_met_other_branches_only_says_so(model: FluxTransformer2DModel, batch: dict[str, Any]) -> None:
    with pytest.raises(TraceError, match="another branch of guidance than unconditional"):
        run(model, [("cond", item(batch, 0))], only("unconditional", in_passes()))


# --- what is edited ---------------------------------------------------------------------------------------------
OF_THE_PROMPT: tuple[Intervention, ...] = (
    NullText(1, tokens=[0, 3]),
    NullText(4, tokens=[0, 3]),
    MaskText(1, tokens=[1]),
    MaskText(4, tokens=[1]),
    BlurAttention(2),
    MeanHeads(1, heads=1, streams=("image", "text")),
    Patch(0),
    Patch(4, heads=0),
    RandomDirection(NullText(1, tokens=[0, 3])),
    RandomDirection(MaskText(4, tokens=[1])),
)


@pytest.mark.slow
@pytest.mark.parametrize("first", NAMES)
@pytest.mark.parametrize("edit", OF_THE_PROMPT, ids=str)
def test_edits_of_the_prompt_reach_the_asked_item_only(
    model: FluxTransformer2DModel, batch: dict[str, Any], edit: Intervention, first: BranchName
) -> None:
    branches = in_batch(first)
    place, other = branches["conditional"].items.start, branches["unconditional"].items.start
    records, (output,) = run(model, [(None, batch)], only("conditional", branches), interventions=edit)
    alone_records, (expected,) = run(model, [(None, item(batch, place))], alone(), interventions=edit)
    _, (plain,) = run(model, [(None, batch)], only("conditional", branches))
    assert same(records, alone_records)
    torch.testing.assert_close(output[place], expected[0], rtol=1e-4, atol=1e-5)
    assert torch.equal(output[other], plain[other])


@pytest.mark.parametrize("edit", [ScaleHeads(1, heads=1), RandomDirection(ScaleHeads(1, heads=1))], ids=str)
def test_edits_of_the_network_reach_both_alike(
    model: FluxTransformer2DModel, batch: dict[str, Any], edit: Intervention
) -> None:
    """In one batch as in two passes, random directions included."""
    branches = in_batch()
    records, (output,) = run(model, [(None, batch)], only("conditional", branches), interventions=edit)
    apart, outputs = run(
        model,
        [("uncond", item(batch, 0)), ("cond", item(batch, 1))],
        only("conditional", in_passes("unconditional")),
        interventions=edit,
    )
    assert same(records, apart)
    torch.testing.assert_close(output, torch.cat(outputs), rtol=1e-4, atol=1e-5)


def test_what_is_collected_is_of_the_asked_item(model: FluxTransformer2DModel, batch: dict[str, Any]) -> None:
    """A batch takes the activations of another run's item in, not those of its other branch."""
    edit = Patch(4)
    branches = only("conditional", in_batch())
    other = batch | {"encoder_hidden_states": batch["encoder_hidden_states"].flip(1)}
    outputs = []
    for source, target in ((other, batch), (item(other, 1), item(batch, 1))):
        taken = branches if len(target["timestep"]) == 2 else alone()
        with (
            torch.no_grad(),
            trace(model, concept_embeddings(), interventions=edit, branches=list(taken.values())) as seen,
        ):
            with seen.collecting(ITSELF):
                model(**source)
            outputs.append(model(**target).sample[-1])
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)


# --- generate ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return flux_pipeline()


@pytest.fixture
def make(pipe: FluxPipeline, home: Path, tests_code: None) -> Callable[..., xr.Dataset]:
    def call(**options: Any) -> xr.Dataset:
        known: dict[str, Any] = {"model": pipe, "steps": 2, "size": SIZE, "home": home, "progress": False}
        guided: dict[str, Any] = {"negative_prompt": "a red house", "true_guidance": 3.0}
        return generate("a dog on grass", ["dog", "grass"], **(known | guided | options))

    return call


@pytest.mark.slow
def test_both_branches_are_those_recorded_apart(make: Callable[..., xr.Dataset]) -> None:
    both, *each = (make(branch=branch) for branch in ("both", *NAMES))
    validate(both, values=True)
    assert both["output"].dims == ("sample", "timestep", "layer", "branch", "head", "concept", "y", "x")
    assert both["branch"].values.tolist() == list(NAMES)
    assert [ds.attrs["branch"] for ds in (both, *each)] == ["both", *NAMES]
    assert len({ds.attrs["key"] for ds in (both, *each)}) == 3
    for branch, ds in zip(NAMES, each, strict=True):
        validate(ds, values=True)
        chosen = both.sel(branch=branch)
        for name in ("output", "output_total", "cross_total"):
            np.testing.assert_array_equal(chosen[name], ds[name])
        np.testing.assert_array_equal(both["image"], ds["image"])
        np.testing.assert_array_equal(chosen.wb.heatmap(), ds.wb.heatmap())
        np.testing.assert_array_equal(both.wb.heatmap().sel(branch=branch), ds.wb.heatmap())
        np.testing.assert_array_equal(both.wb.segment().sel(branch=branch), ds.wb.segment())
        np.testing.assert_array_equal(
            both.wb.mask("dog", rule="argmax").sel(branch=branch), ds.wb.mask("dog", rule="argmax")
        )
    assert not np.array_equal(*(ds["output"] for ds in each))
    assert "conditional and the unconditional" in repr(both.wb)
    assert "of the unconditional branch" in repr(each[1].wb)
    assert "branch" not in repr(each[0].wb)
    with pytest.raises(InputError, match=r"both branches of guidance: choose one, ds\.sel\(branch='conditional'\)"):
        both.wb.rank_heads()


def test_the_conditional_branch_keeps_its_key(make: Callable[..., xr.Dataset]) -> None:
    assert make(branch="conditional").attrs["key"] == make().attrs["key"]


@pytest.mark.slow
def test_tokens_are_those_of_the_text_that_is_read(make: Callable[..., xr.Dataset]) -> None:
    ds = make(branch="unconditional", spaces="prompt", text_mass=True, layers=1)
    assert ds["token"].values.tolist() == ["a", "red", "house"]
    assert ds["padding"].values.tolist().index(True) == 4
    validate(ds, values=True)
    edited = make(branch="unconditional", layers=1, interventions=MaskText(0, tokens=["red"]))
    picture = make(branch="unconditional", layers=1)["image"]
    assert not np.array_equal(edited["image"], picture)
    assert not np.array_equal(make(layers=1, interventions=MaskText(0, tokens=["dog"]))["image"], edited["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branch": "negative"}, "branch is 'negative'; expected one of conditional, unconditional, both"),
        ({"branch": "both", "spaces": ["prompt"]}, "prompt go along the tokens of one text"),
        ({"branch": "both", "text_mass": True}, "text_mass go along the tokens of one text"),
        ({"branch": "unconditional", "true_guidance": 1.0}, "runs no unconditional branch with guidance None"),
        ({"branch": "both", "negative_prompt": None, "true_guidance": 1.0}, "turn its classifier-free guidance on"),
        ({"branch": "unconditional", "negative_prompt": "", "spaces": ["prompt"]}, "needs a negative_prompt"),
    ],
)
def test_branches_that_cannot_be_recorded(
    make: Callable[..., xr.Dataset], home: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)
    assert not [path for path in home.rglob("*") if path.is_file()]
