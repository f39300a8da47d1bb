"""An adapter's word against the model's own attention."""

from __future__ import annotations

import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor

from tests.families import LONE, Sample, every
from tests.tiny_random import concept_embeddings, flux_inputs, flux_transformer
from tests.traced import snapshot
from workbench.interventions import MaskText, NullText, ScaleHeads, SkipBlock
from workbench.models import tested
from workbench.models.block_records import BlockCall
from workbench.models.family import adapter_for
from workbench.models.flux import FluxAdapter
from workbench.recording import selfcheck
from workbench.recording.tracing import trace
from workbench.schema import ModelError, WorkbenchWarning


def passed(model: Any) -> set[str]:
    """Names of the blocks that have passed."""
    return {layer.name for _, layer, _ in selfcheck._passed.get(model, ())}


def run(model: Any, inputs: dict[str, Any], width: int, **options: Any) -> Any:
    with torch.no_grad(), trace(model, concept_embeddings(width=width), **options):
        output: Any = model(**inputs).sample
    return output


@pytest.mark.filterwarnings(LONE)
@pytest.mark.parametrize("name", every())
def test_every_family_passes_and_is_not_asked_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = Sample.of(name)
    run(sample.model, sample.inputs, sample.concepts.shape[-1], layers=sample.layers)
    kinds = {name.partition(".")[0] for name in passed(sample.model)}
    assert kinds
    assert kinds == {layer.name.partition(".")[0] for layer in adapter_for(sample.model).layers}
    monkeypatch.setattr(selfcheck, "attended", lambda *_: pytest.fail("asked again"))
    run(sample.model, sample.inputs, sample.concepts.shape[-1], layers=sample.layers)


def test_blocks_that_do_not_run_are_checked_when_they_do() -> None:
    model = flux_transformer()
    run(model, flux_inputs(model), 40, layers=[0])
    assert passed(model) == {"transformer_blocks.0"}
    run(model, flux_inputs(model), 40, layers=[4])
    assert passed(model) == {"transformer_blocks.0", "single_transformer_blocks.0"}


def test_edits_do_not_disturb_it() -> None:
    model = flux_transformer()
    edits = (MaskText(0, tokens=[1]), NullText(3), ScaleHeads(0, heads=0), SkipBlock(1))
    run(model, flux_inputs(model), 40, layers=range(5), interventions=edits)
    assert len(passed(model)) == 2


class Doubled(FluxAttnProcessor):
    """Gives twice what attention gives, as a processor with something of its own does."""

    def __call__(self, attn: Any, hidden_states: Tensor, *given: Any, **named: Any) -> Any:
        projection = attn.to_out[0]
        handle = projection.register_forward_pre_hook(lambda module, args: (2 * args[0],), prepend=True)
        try:
            return super().__call__(attn, hidden_states, *given, **named)
        finally:
            handle.remove()


def test_a_processor_that_does_more_than_attend_is_named() -> None:
    model = flux_transformer()
    run(model, flux_inputs(model), 40)
    model.transformer_blocks[0].attn.set_processor(Doubled())
    before = snapshot(model)
    with pytest.raises(ModelError, match=r"attention of transformer_blocks\.0 .*by 50\.0%.*its Doubled does something"):
        run(model, flux_inputs(model), 40)
    assert snapshot(model) == before
    with pytest.raises(ModelError, match=r"maps would be wrong"):
        run(model, flux_inputs(model), 40)


@pytest.mark.parametrize("fault", ["scale", "rotary", "order"])
def test_what_an_adapter_may_get_wrong_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Weights that make attention sharp enough to tell.
    model = flux_transformer()
    sharpen(model)
    inputs = flux_inputs(model)
    if fault == "scale":
        monkeypatch.setattr(FluxAdapter, "scale", lambda self, call: 1.0)
    elif fault == "rotary":
        original = FluxAdapter.call

        def call(self: FluxAdapter, *given: Any) -> BlockCall:
            right = original(self, *given)
            cos, sin = right.rotary
            return BlockCall(right.given, right.text, rotary=(cos, -sin), text_rotary=right.text_rotary)

        monkeypatch.setattr(FluxAdapter, "call", call)
    else:
        monkeypatch.setattr(FluxAdapter, "text_first", False)
    before = snapshot(model)
    with pytest.raises(ModelError, match="maps would be wrong"):
        run(model, inputs, 40, layers=range(5))
    assert snapshot(model) == before


def sharpen(model: FluxTransformer2DModel) -> None:
    with torch.no_grad():
        for block in [*model.transformer_blocks, *model.single_transformer_blocks]:
            for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
                if (norm := getattr(block.attn, name, None)) is not None:
                    norm.weight.mul_(3)


def test_it_looks_while_nothing_is_recorded_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that fails is not judged; the next one is."""
    model = flux_transformer()
    inputs = flux_inputs(model)
    with trace(model, concept_embeddings()) as seen:
        with pytest.raises(RuntimeError):
            model(**{**inputs, "hidden_states": inputs["hidden_states"][..., :3]})
        with torch.no_grad():
            seen.run(**inputs)
    assert passed(model) == {"transformer_blocks.0"}


# --- versions ----------------------------------------------------------------------------------------------------
def test_another_version_of_diffusers_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tested, "_told", set())
    with monkeypatch.context() as patched:
        patched.setattr(tested, "version", lambda name: "0.99.0")
        with pytest.warns(
            WorkbenchWarning, match=r"diffusers 0\.99\.0 is installed.* tested with 0\.42.*most likely right"
        ):
            run(flux_transformer(), flux_inputs(flux_transformer()), 40)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(flux_transformer(), flux_inputs(flux_transformer()), 40)
        patched.setattr(FluxAdapter, "scale", lambda self, call: 1.0)
        with pytest.raises(ModelError, match=r"maps would be wrong.*diffusers 0\.99\.0 is installed.*tested with"):
            run(flux_transformer(), flux_inputs(flux_transformer()), 40)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tested, "version", lambda name: tested.TESTED[0])
        assert tested.untested() == ""


def test_the_lowest_version_that_is_allowed_was_tested() -> None:
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["dependencies"]
    (lowest,) = (each.partition(">=")[2] for each in declared if each.startswith("diffusers"))
    assert tested.TESTED[0].startswith(lowest)
