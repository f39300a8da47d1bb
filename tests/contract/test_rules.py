"""Each rule of the contract catches what it is for: an adapter with one thing wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.families import FAMILIES, Sample
from tests.tiny_pipelines.qwen import qwen_inputs, qwen_transformer
from tests.tiny_random import flux_inputs, flux_transformer
from workbench.contract import RULES, Case, check, tried
from workbench.models.flux import FluxAdapter
from workbench.models.joint import JointAdapter
from workbench.models.qwen import QwenAdapter
from workbench.schema import ContractError, InputError


@pytest.fixture
def case() -> Case:
    model = flux_transformer()
    return Case(model, flux_inputs(model))


def masked() -> Case:
    model = qwen_transformer()
    return Case(model, qwen_inputs(model, batch=2, masked=2))


def changed_result(patch: Any) -> None:
    """Hooks that return what they are not asked for."""
    watch = FluxAdapter.watch_start

    def wrong(self: Any, hooks: Any, *given: Any) -> None:
        watch(self, hooks, *given)
        handle = self.transformer.context_embedder.register_forward_hook(lambda module, args, output: output * 1.001)
        hooks._handles.append(handle)

    patch.setattr(FluxAdapter, "watch_start", wrong)


def kept_attribute(patch: Any) -> None:
    begin = FluxAdapter.begin

    def wrong(self: Any, given: Any) -> None:
        begin(self, given)
        self.transformer.transformer_blocks[1].seen = object()

    patch.setattr(FluxAdapter, "begin", wrong)


def without_position(patch: Any) -> None:
    patch.setattr(FluxAdapter, "rotary_at", lambda self, rotary, positions: None)


def without_gate(patch: Any) -> None:
    finish = JointAdapter.finish_text

    def wrong(self: Any, block: Any, hidden: Tensor, attended: Tensor, modulation: Any) -> Tensor:
        gate, *rest = modulation
        return finish(self, block, hidden, attended, (torch.ones_like(gate), *rest))

    patch.setattr(JointAdapter, "finish_text", wrong)


def other_scale(patch: Any) -> None:
    patch.setattr(FluxAdapter, "scale", lambda self, call: 0.3)


def image_first(patch: Any) -> None:
    patch.setattr(FluxAdapter, "text_first", False)


def without_mask(patch: Any) -> None:
    patch.setattr(QwenAdapter, "mask", lambda self, given: None)


def seen_by_its_place(patch: Any) -> None:
    """Concepts that are told apart by their places."""
    project = FluxAdapter.project

    def wrong(self: Any, layer: Any, stream: Any, call: Any) -> Any:
        found = project(self, layer, stream, call)
        places = torch.arange(1, found.query.shape[2] + 1)[:, None]
        return replace(found, query=found.query * places)

    patch.setattr(FluxAdapter, "project", wrong)


def one_reads_all(patch: Any) -> None:
    """Concepts that read each other outside attention."""
    project = FluxAdapter.project

    def wrong(self: Any, layer: Any, stream: Any, call: Any) -> Any:
        found = project(self, layer, stream, call)
        return replace(found, query=found.query.mean(dim=2, keepdim=True).expand_as(found.query))

    patch.setattr(FluxAdapter, "project", wrong)


def other_heads(patch: Any) -> None:
    """Heads of the concepts in another order than those of the image."""
    from workbench.recording import block_reading

    head_scores = block_reading.head_scores
    patch.setattr("workbench.recording.block_reading.head_scores", lambda one, other: head_scores(one.flip(1), other))


def shallow_numbers(patch: Any) -> None:
    layers = FluxAdapter.__init__

    def wrong(self: Any, transformer: Any) -> None:
        layers(self, transformer)
        self.layers = tuple(replace(layer, index=layer.index + 1) for layer in self.layers)

    patch.setattr(FluxAdapter, "__init__", wrong)


def kept_from_before(patch: Any) -> None:
    """A stream that depends on how many blocks ran before it in all."""
    project = FluxAdapter.project
    calls: list[int] = []

    def wrong(self: Any, layer: Any, stream: Any, call: Any) -> Any:
        calls.append(layer.index)
        found = project(self, layer, stream, call)
        return replace(found, query=found.query * len(calls))

    patch.setattr(FluxAdapter, "project", wrong)


def edited_elsewhere(patch: Any) -> None:
    """Edits of heads that land in the block before."""
    change = JointAdapter.change_heads

    def wrong(self: Any, changes: Any, layer: Any, *given: Any) -> None:
        change(self, changes, self.layers[max(layer.index - 1, 0)], *given)

    patch.setattr(JointAdapter, "change_heads", wrong)


def rounded_edits(patch: Any) -> None:
    """Edits that change a little what they leave as it is."""
    merge = JointAdapter.merge
    patch.setattr(JointAdapter, "merge", staticmethod(lambda heads, like: merge(heads, like).bfloat16().to(like.dtype)))


@pytest.mark.parametrize(
    ("rule", "broken", "why"),
    [
        ("picture_is_untouched", changed_result, "the output of Flux.* changes under a trace with attend='both'"),
        ("model_is_left_as_it_was", kept_attribute, r"after a trace, the part 'transformer_blocks\.1' of Flux"),
        ("prompt_is_its_own_concepts", without_gate, r"differ by .* in layer 1 \(transformer_blocks\.1\)"),
        ("attention_is_rebuilt", other_scale, r"attention of transformer_blocks\.0 that follows .* differs"),
        ("attention_is_rebuilt", image_first, "attention of single_transformer_blocks"),
        ("heads_make_the_whole", other_heads, "do not sum to those of whole vectors"),
        ("order_of_concepts_is_free", seen_by_its_place, "scores of reordered concepts .* differ"),
        ("concepts_are_apart", one_reads_all, "scores of a concept alone .* differ"),
        ("layers_are_all_there", shallow_numbers, r"layers of FluxAdapter are \[1, 2, 3, 4, 5\]; expected 0, 1, 2"),
        ("layers_are_all_there", kept_from_before, "has other scores .* alone"),
        ("edits_land_where_they_say", edited_elsewhere, "which it does not reach"),
        ("edits_land_where_they_say", rounded_edits, r"was given what is there already, and yet the output"),
    ],
)
def test_what_is_wrong_is_told(
    case: Case, rule: str, broken: Callable[[Any], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tried(RULES[rule], replace(case)).passed
    broken(monkeypatch)
    # The check at the first meeting would tell of the same before; see test_selfcheck.py.
    monkeypatch.setattr("workbench.recording.selfcheck.TOLERANCE", {torch.float32: 1e9})
    with pytest.raises(ContractError, match=why):
        RULES[rule](replace(case))


def test_masks_and_positions_that_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.recording.selfcheck.TOLERANCE", {torch.float32: 1e9})
    with monkeypatch.context() as patched:
        without_mask(patched)
        with pytest.raises(ContractError, match="masks has some of the image's attention"):
            RULES["masked_text_is_unseen"](masked())
    with monkeypatch.context() as patched:
        patched.setattr(QwenAdapter, "rotary_at", lambda self, rotary, positions: rotary[[0] * len(positions)])
        with pytest.raises(ContractError, match=r"differ by .* from the first block on"):
            RULES["prompt_is_its_own_concepts"](masked())


def test_a_model_that_is_never_the_same(case: Case) -> None:
    """Dropout, for example: nothing is said against the adapter."""
    case.transformer.proj_out.register_forward_hook(lambda module, args, output: output + torch.rand(1))
    with pytest.raises(ContractError, match="two plain passes of FluxTransformer2DModel with the same inputs differ"):
        RULES["picture_is_untouched"](case)


def test_inputs_that_do_not_say_what_the_text_is(case: Case) -> None:
    named = Case(case.transformer, {"x": torch.zeros(1)})
    with pytest.raises(ContractError, match=r"give Case\(…, prompt=\)"):
        _ = named.text


@pytest.mark.slow
def test_all_rules_at_once(case: Case) -> None:
    check(case)
    with pytest.raises(KeyError):
        check(case, ["no_rule"])


def test_what_comes_of_a_rule(case: Case) -> None:
    def bad(given: Case) -> str:
        raise InputError("a sentence.")

    def worse(given: Case) -> str:
        raise RuntimeError("shapes\ndo not match")

    assert (tried(bad, case).rule, tried(bad, case).told, tried(bad, case).passed) == ("bad", "a sentence.", False)
    assert tried(worse, case).told == "RuntimeError: shapes do not match"
    good = tried(RULES["heads_make_the_whole"], case)
    assert good.passed
    assert good.told.startswith("off by ")


def test_rounding_grows_with_depth() -> None:
    shallow, deep = (
        Case(model, flux_inputs(model)).tolerance
        for model in (flux_transformer(), flux_transformer(num_layers=20, num_single_layers=12))
    )
    assert shallow == 1e-5
    assert deep == pytest.approx(2e-5)


def test_a_case_of_a_sample_is_as_the_sample_says() -> None:
    sample = Sample.of("qwen-masked-batch")
    case = Case(sample.model, sample.inputs)
    assert torch.equal(case.text, sample.prompt)
    assert case.masked == (5, 6)
    assert "qwen-masked-batch" in FAMILIES
