"""The trace as an instrument: spaces, layers, streaming, early stop, guidance, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor
from torch import Tensor, nn

from tests.families import LONE, Sample, params
from tests.tiny_random import POOLED_DIM, concept_embeddings, flux_inputs, flux_pipeline, flux_transformer
from workbench.models.family import adapter_for
from workbench.recording import block_reading
from workbench.recording.block_reading import Record
from workbench.recording.traced_passes import Trace
from workbench.recording.tracing import trace
from workbench.schema import SPACES, InputError, ModelError, TraceError, WorkbenchWarning

ALL_LAYERS = range(5)


@pytest.fixture
def model() -> FluxTransformer2DModel:
    return flux_transformer()


@pytest.fixture
def inputs(model: FluxTransformer2DModel) -> dict[str, Any]:
    return flux_inputs(model)


@pytest.fixture
def concepts() -> Tensor:
    return concept_embeddings()


def record(model: nn.Module, inputs: dict[str, Any], concepts: Tensor, **options: Any) -> Trace:
    with torch.no_grad(), trace(model, concepts, **options) as seen:
        model(**inputs)
    return seen


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# --- what is recorded -------------------------------------------------------------------------------------------


def first_block_by_hand(model: Any, inputs: dict[str, Any], concepts: Tensor) -> dict[str, Tensor]:
    """Every space of block 0, written out from the definitions, with the joint attention in full."""
    block, attention = model.transformer_blocks[0], model.transformer_blocks[0].attn
    times = inputs["timestep"] * 1000

    def heads(tokens: Tensor) -> Tensor:
        return tokens.reshape(*tokens.shape[:2], 2, 32).transpose(1, 2)

    def side(
        tokens: Tensor, norm: nn.Module, pooled: Tensor, query: Any, key: Any, value: Any, names: str
    ) -> list[Tensor]:
        normed = norm(tokens, emb=model.time_text_embed(times, pooled))[0]
        norm_query, norm_key = (getattr(attention, f"norm_{names}{letter}") for letter in "qk")
        return [norm_query(heads(query(normed))), norm_key(heads(key(normed))), heads(value(normed))]

    text_side = (attention.add_q_proj, attention.add_k_proj, attention.add_v_proj, "added_")
    pooled = inputs["pooled_projections"]
    qc, kc, vc = side(model.context_embedder(concepts), block.norm1_context, torch.zeros_like(pooled), *text_side)
    qp, kp, vp = side(model.context_embedder(inputs["encoder_hidden_states"]), block.norm1_context, pooled, *text_side)
    image_side = (attention.to_q, attention.to_k, attention.to_v, "")
    qx, kx, vx = side(model.x_embedder(inputs["hidden_states"]), block.norm1, pooled, *image_side)

    rotary = model.pos_embed(inputs["img_ids"])
    rotated_query, rotated_key = apply_rotary_emb(qx, rotary), apply_rotary_emb(kx, rotary)
    root = math.sqrt(32)

    def attend(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        joint = torch.cat(keys, dim=2)
        return (query @ joint.mT / root).softmax(dim=-1) @ torch.cat(values, dim=2)

    over_image, over_concepts = qc @ rotated_key.mT / root, qc @ kc.mT / root
    return {
        "output": attend(qc, [kc, rotated_key], [vc, vx]) @ attend(rotated_query, [kp, rotated_key], [vp, vx]).mT,
        "cross": over_image,
        "reverse_cross": kc @ rotated_query.mT / root,
        "value": vc @ vx.mT,
        "query": qc @ qx.mT,
        "prompt": qp @ rotated_key.mT / root,
        "lse_image": over_image.exp().sum(dim=-1).log(),
        "lse_concept": over_concepts.exp().sum(dim=-1).log(),
    }


@torch.no_grad()
def test_every_space_follows_its_definition(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    expected = first_block_by_hand(model, inputs, concepts)
    seen = record(model, inputs, concepts, layers=[0], spaces=SPACES, lse=True)
    for name, values in (seen.scores | seen.lse).items():
        torch.testing.assert_close(values[0], expected[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}")
    assert {*seen.scores, *seen.lse} == set(expected)


def test_layers_are_numbered_by_depth(model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor) -> None:
    everything = record(model, inputs, concepts, layers=ALL_LAYERS)
    assert everything.layers == (0, 1, 2, 3, 4)
    assert record(model, inputs, concepts).layers == (0, 1, 2), "dual-stream blocks by default"
    some = record(model, inputs, concepts, layers=[4, 1, 1])
    assert some.layers == (1, 4)
    assert torch.equal(some.scores["output"], everything.scores["output"][[1, 4]])


def test_chosen_prompt_tokens(model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor) -> None:
    full = record(model, inputs, concepts, layers=ALL_LAYERS, spaces=["prompt"])
    chosen = record(model, inputs, concepts, layers=ALL_LAYERS, spaces=["prompt"], tokens=[5, 0])
    torch.testing.assert_close(chosen.scores["prompt"], full.scores["prompt"][:, :, :, [5, 0]])
    with pytest.raises(InputError, match="position 7 is outside the prompt's 7 tokens"):
        record(model, inputs, concepts, spaces=["prompt"], tokens=[7])


def test_concepts_at_positions_of_the_text(model: FluxTransformer2DModel, inputs: dict[str, Any]) -> None:
    """Where text is rotated by position, the prompt given as concepts is the model's own text at its own positions."""
    places = torch.stack([torch.zeros(7), torch.arange(7.0), torch.arange(7.0) % 3], dim=1)
    rotated, prompt = inputs | {"txt_ids": places}, inputs["encoder_hidden_states"]
    options: dict[str, Any] = {
        "layers": ALL_LAYERS,
        "spaces": ("cross", "query", "prompt"),
        "pooled": inputs["pooled_projections"],
    }
    at_own = record(model, rotated, prompt, positions=range(7), **options).scores
    torch.testing.assert_close(at_own["cross"], at_own["prompt"], rtol=1e-4, atol=1e-5)
    elsewhere = record(model, rotated, prompt, positions=[1, 0, *range(2, 7)], **options).scores
    assert not torch.allclose(elsewhere["cross"][0], elsewhere["prompt"][0], rtol=1e-2, atol=1e-2)
    # Queries are compared before they are rotated; in the first block they know nothing of positions.
    torch.testing.assert_close(elsewhere["query"][0], at_own["query"][0])
    # FLUX.1 has all of its text at one position: saying so changes nothing.
    plain = record(model, inputs, prompt, **options).scores["cross"]
    assert torch.equal(record(model, inputs, prompt, positions=range(7), **options).scores["cross"], plain)
    with pytest.raises(InputError, match="position 7 is outside the text's 7 tokens"):
        record(model, rotated, prompt[:, :1], positions=[7], **options)


def test_passes_may_differ_in_batch_and_size(model: FluxTransformer2DModel, concepts: Tensor) -> None:
    calls = [flux_inputs(model), flux_inputs(model, batch=2), flux_inputs(model, grid=(3, 5), text=4)]
    seen: list[Tensor] = []
    with (
        torch.no_grad(),
        trace(model, concepts, layers=ALL_LAYERS, on_record=lambda p: seen.append(p.scores["output"])),
    ):
        for inputs in calls:
            model(**inputs)
    for index, inputs in enumerate(calls):
        alone = record(model, inputs, concepts, layers=ALL_LAYERS).scores["output"]
        assert torch.equal(torch.stack(seen[5 * index : 5 * index + 5]), alone)


def test_a_cache_context_of_the_instance_is_left_in_place(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    names: list[str] = []
    original = model.cache_context
    model.cache_context = own = lambda name: (names.append(name), original(name))[1]
    with torch.no_grad(), trace(model, concepts) as seen, model.cache_context("cond"):
        model(**inputs)
    assert model.__dict__["cache_context"] is own
    assert names == ["cond"]
    assert seen.passes == 1


def test_concepts_may_differ_within_a_batch(model: FluxTransformer2DModel) -> None:
    inputs, concepts = flux_inputs(model, batch=2), concept_embeddings().repeat(2, 1, 1)
    concepts[1] = concepts[1].flip(0)
    each = record(model, inputs, concepts).scores["output"]
    shared = record(model, inputs, concepts[:1]).scores["output"]
    torch.testing.assert_close(each[:, 0], shared[:, 0])
    torch.testing.assert_close(each[:, 1], shared[:, 1].flip(2), rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="concepts has batch 3 but the forward pass has batch 2"):
        record(model, inputs, concept_embeddings().repeat(3, 1, 1))
    with pytest.raises(InputError, match="pooled has batch 3"):
        record(model, inputs, concepts, pooled=torch.zeros(3, POOLED_DIM))


def test_what_was_given_is_copied(model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor) -> None:
    given, pooled = concepts.clone(), torch.ones(1, POOLED_DIM)
    with torch.no_grad(), trace(model, given, pooled=pooled) as seen:
        model(**inputs)
        expected = seen.scores["output"]
        given.zero_()
        pooled.zero_()
        model(**inputs)
    assert torch.equal(seen.scores["output"], expected)


def test_pooled_text_conditions_the_concepts_only(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    zeros = record(model, inputs, concepts, pooled=torch.zeros(1, POOLED_DIM), vectors=True)
    ones = record(model, inputs, concepts, pooled=torch.ones(1, POOLED_DIM), vectors=True)
    assert torch.equal(zeros.scores["output"], record(model, inputs, concepts).scores["output"])
    assert torch.equal(zeros.vectors["image_output"], ones.vectors["image_output"])
    assert not torch.allclose(zeros.scores["output"], ones.scores["output"], rtol=1e-2)


@pytest.mark.filterwarnings(LONE)
@pytest.mark.parametrize("name", params())
def test_the_product_of_vectors_is_the_score_in_every_space(name: str) -> None:
    """Whatever the family rotates and scales; and what was always kept is the same, whatever is asked for."""
    sample = Sample.of(name)
    spaces = adapter_for(sample.model).spaces
    options: dict[str, Any] = {"layers": sample.layers[:3], "vectors": True}
    seen = record(sample.model, sample.inputs, sample.concepts, spaces=spaces, **options)
    for space in spaces:
        mine, image = (seen.vectors[f"{one}_{space}"] for one in ("token" if space == "prompt" else "concept", "image"))
        product = mine.float() @ image.float().transpose(-1, -2)
        lengths = mine.float().norm(dim=-1).amax() * image.float().norm(dim=-1).amax()
        assert product.shape == seen.scores[space].shape, space
        assert float((product - seen.scores[space]).abs().max() / lengths) < 1e-6, space
    alone = record(sample.model, sample.inputs, sample.concepts, spaces=("output",), **options)
    assert set(alone.vectors) == {f"{one}_{space}" for one in ("concept", "image") for space in ("output", "query")}
    assert all(torch.equal(values, seen.vectors[key]) for key, values in alone.vectors.items())


# torch's remark on the model's own norms, whose weights stay in float32 under autocast.
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_scores_are_float32_under_autocast_and_carry_no_graph(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16), trace(model, concepts, spaces=("output", "cross")) as seen:
        model(**inputs)
    for scores in seen.scores.values():
        assert scores.dtype == torch.float32
        assert not scores.requires_grad


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("rows", [1, 5, 1000])
def test_attention_to_text_is_the_models_own(
    model: FluxTransformer2DModel, concepts: Tensor, monkeypatch: pytest.MonkeyPatch, rows: int, fused: bool
) -> None:
    """Against the full matrix of the queries and keys that the model hands to its attention."""
    inputs = flux_inputs(model, batch=2)
    if fused:
        model.fuse_qkv_projections()
    text, matrices = inputs["encoder_hidden_states"].shape[1], []
    attention = torch.nn.functional.scaled_dot_product_attention

    def watched(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        matrices.append((query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(dim=-1))
        return attention(query, key, value, **options)

    keys = text + inputs["hidden_states"].shape[1]
    monkeypatch.setattr(block_reading, "_BLOCK_BYTES", rows * 4 * 2 * 2 * keys)
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    seen = record(model, inputs, concepts, layers=range(5), text_mass=True)
    expected = torch.stack(matrices)[..., text:, :text].mean(dim=-2)
    assert len(matrices) == 5
    torch.testing.assert_close(seen.mass["text_mass"], expected, rtol=1e-5, atol=1e-7)
    assert not record(model, inputs, concepts).mass


# --- streaming, steps, early stop -------------------------------------------------------------------------------


def test_pieces_are_streamed_and_not_kept(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    kept = record(model, inputs, concepts, layers=[1, 3], spaces=("output", "prompt"))
    pieces: list[Record] = []
    with (
        torch.no_grad(),
        trace(model, concepts, layers=[1, 3], spaces=("output", "prompt"), on_record=pieces.append) as seen,
    ):
        model(**inputs)
        model(**inputs)
    assert [(piece.step, piece.layer) for piece in pieces] == [(0, 1), (0, 3), (1, 1), (1, 3)]
    assert seen.passes == 2
    for space in ("output", "prompt"):
        assert torch.equal(torch.stack([piece.scores[space] for piece in pieces[2:]]), kept.scores[space])
    with pytest.raises(TraceError, match="on_record"):
        _ = seen.scores


def test_a_pass_is_announced_after_its_checks_only(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    happened: list[str] = []
    with (
        torch.no_grad(),
        pytest.raises(TraceError, match="NaN or infinite values in layer 0 output"),
        trace(
            model,
            concepts,
            layers=[0, 1],
            on_record=lambda piece: happened.append(f"piece {piece.step} {piece.layer}"),
            on_pass=lambda step: happened.append(f"pass {step}"),
        ) as seen,
    ):
        model(**inputs)
        seen.run(**inputs)
        model(**{**inputs, "hidden_states": inputs["hidden_states"] * math.nan})
    pieces = [f"piece {step} {layer}" for step in range(3) for layer in range(2)]
    assert happened == [*pieces[:2], "pass 0", *pieces[2:4], "pass 1", *pieces[4:]]
    assert seen.passes == 2


def test_run_stops_after_the_last_wanted_block(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    ran: list[str] = []
    for name, module in model.named_modules():
        if name.count(".") == 1 or name == "proj_out":
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
    with trace(model, concepts, layers=[1]) as seen:
        seen.run(**inputs)
        assert [name for name in ran if "blocks" in name] == ["transformer_blocks.0", "transformer_blocks.1"]
        stopped = seen.scores["output"]
        with torch.no_grad():
            assert model(**inputs).sample.shape == inputs["hidden_states"].shape, "other passes go to their end"
        assert seen.passes == 2
    assert torch.equal(stopped, seen.scores["output"])
    assert "proj_out" in ran


def test_only_conditional_passes_are_recorded(concepts: Tensor) -> None:
    pipe = flux_pipeline()

    def generate(**options: Any) -> Tensor:
        images: Tensor = pipe(
            "a dog on grass",
            height=16,
            width=16,
            num_inference_steps=3,
            max_sequence_length=12,
            generator=torch.Generator().manual_seed(0),
            output_type="pt",
            **options,
        ).images
        return images

    guided = {"negative_prompt": "water", "true_cfg_scale": 4.0}
    plain = generate(**guided)
    texts: list[Tensor] = []
    pieces: list[Record] = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: texts.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    with trace(pipe.transformer, concepts, layers=[0], on_record=pieces.append) as seen:
        traced = generate(**guided)
    handle.remove()
    assert torch.equal(plain, traced)
    assert len(texts) == 6
    assert not torch.equal(texts[0], texts[1])
    assert [piece.step for piece in pieces] == [0, 1, 2]
    assert seen.passes == 3
    with trace(pipe.transformer, concepts, layers=[0]) as seen:
        generate(**guided)
    # The last pass of all was an unconditional one; the scores are those of the pass before it.
    assert torch.equal(seen.scores["output"][0], pieces[-1].scores["output"])


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spaces": ("attention",)}, "expected one or more of output, cross"),
        ({"spaces": ()}, "expected one or more of output, cross"),
        ({"spaces": ("cross", "cross")}, "each once"),
        ({"attend": "text"}, "both, image, concepts, none"),
        ({"layers": [5]}, "0 to 4"),
        ({"layers": [-1]}, "3 dual-stream blocks, then 2 single-stream"),
        ({"layers": []}, "0 to 4"),
        ({"layers": [1.5]}, "0 to 4"),
        ({"concepts": torch.zeros(1, 3, 41)}, r"\(1, 3, 41\); expected \(batch or 1, concept, 40\)"),
        ({"concepts": torch.zeros(3, 40)}, r"\(batch or 1, concept, 40\)"),
        ({"concepts": torch.zeros(1, 0, 40)}, "no empty dimension"),
        ({"concepts": torch.full((1, 3, 40), math.nan)}, "NaN"),
        ({"concepts": torch.zeros(1, 3, 40, dtype=torch.int64)}, "floating-point"),
        ({"concepts": ["dog"]}, "concepts is a list; expected a floating-point tensor"),
        ({"pooled": torch.zeros(1, 5)}, r"pooled has shape \(1, 5\); expected \(batch or 1, 24\)"),
        ({"tokens": []}, "positions from 0"),
        ({"tokens": [-1]}, "positions from 0"),
        ({"positions": [0, 1]}, r"positions is \[0, 1\]; expected a whole number from 0 for each of the 3 concepts"),
        ({"positions": [0, 1, 1]}, r"positions is \[0, 1, 1\]; expected another for each concept"),
        ({"positions": [0, 1, -2]}, "a whole number from 0"),
    ],
)
def test_wrong_arguments_are_refused_before_any_hook(
    model: FluxTransformer2DModel, concepts: Tensor, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        trace(model, **({"concepts": concepts} | options))
    assert not hooks(model)


def test_other_classes_are_refused(concepts: Tensor) -> None:
    with pytest.raises(ModelError, match=r"class Linear is not supported.*FluxTransformer2DModel"):
        trace(nn.Linear(2, 2), concepts)


def test_nested_traces_are_refused(model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor) -> None:
    other = flux_transformer(seed=5)
    with torch.no_grad(), trace(model, concepts) as outer:
        with pytest.raises(TraceError, match="being traced already"), trace(model, concepts):
            pass
        with trace(other, concepts) as inner:
            other(**inputs)
        model(**inputs)
    assert outer.passes == inner.passes == 1
    assert not hooks(model)
    record(model, inputs, concepts)


def test_a_trace_without_a_pass_says_so(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    with pytest.raises(TraceError, match="no forward pass was seen"), trace(model, concepts) as seen:
        pass
    with pytest.raises(TraceError, match="no complete forward pass"):
        _ = seen.scores
    with pytest.raises(TraceError, match="uncond"), trace(model, concepts), model.cache_context("uncond"):
        model(**inputs)


def test_missing_layers_are_named(model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor) -> None:
    model.transformer_blocks[1].forward = lambda hidden_states, encoder_hidden_states, **_: (
        encoder_hidden_states,
        hidden_states,
    )
    with pytest.raises(
        TraceError, match=r"layers 1 \(trans.*, 2 \(transformer_blocks\.2\).*block 1 did not run"
    ) as raised:
        record(model, inputs, concepts)
    assert "0 (transformer_blocks.0)" not in str(raised.value)


def test_a_forward_that_skips_all_blocks_is_named(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TeaCache and other caches from outside diffusers do: they replace the class's forward."""
    forward = FluxTransformer2DModel.forward
    outputs: list[Any] = []

    def cached(self: Any, *args: Any, **kwargs: Any) -> Any:
        if outputs:
            self.time_text_embed(kwargs["timestep"], kwargs["pooled_projections"])
            self.context_embedder(kwargs["encoder_hidden_states"])
        else:
            outputs.append(forward(self, *args, **kwargs))
        return outputs[0]

    monkeypatch.setattr(FluxTransformer2DModel, "forward", cached)
    with torch.no_grad(), trace(model, concepts) as seen:
        model(**inputs)
        first = seen.scores["output"]
        with pytest.raises(
            TraceError, match=r"pass 1 .* 0 \(trans.* 1 \(trans.* 2 \(trans.*block 0 did not run.*restore"
        ):
            model(**inputs)
    monkeypatch.undo()
    assert torch.equal(first, record(model, inputs, concepts).scores["output"])


def test_a_forward_that_never_starts_the_stream_is_named(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    model.forward = lambda **_: None
    with pytest.raises(TraceError, match="does not call its text and time embedders: restore it"):
        record(model, inputs, concepts)


def test_an_attention_processor_that_bypasses_the_norms_is_named(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    class Bypassing(FluxAttnProcessor):
        def __call__(self, attn: Any, *args: Any, **kwargs: Any) -> Any:
            norm, attn.norm_k = attn.norm_k, nn.Identity()
            try:
                return super().__call__(attn, *args, **kwargs)
            finally:
                attn.norm_k = norm

    model.transformer_blocks[1].attn.set_processor(Bypassing())
    with pytest.raises(TraceError, match=r"layers 1 .*block 1 ran without its key being seen.*set_attn_processor"):
        record(model, inputs, concepts)


def test_a_block_that_runs_twice_is_named(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    block = model.transformer_blocks[1]
    forward = block.forward

    def twice(*args: Any, **kwargs: Any) -> Any:
        forward(*args, **kwargs)
        return forward(*args, **kwargs)

    block.forward = twice
    with pytest.raises(TraceError, match=r"layers \[1\] arrived more than once"):
        record(model, inputs, concepts)


def test_scores_that_are_not_finite_are_named(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    inputs["hidden_states"][0, 3] = math.inf
    with pytest.raises(TraceError, match=r"NaN or infinite values in layer 0 output.*bfloat16"):
        record(model, inputs, concepts)


def test_a_module_replaced_under_the_trace_is_named(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    with torch.no_grad(), trace(model, concepts):
        model(**inputs)
        model.transformer_blocks[2].attn.to_v = nn.Sequential(model.transformer_blocks[2].attn.to_v)
        with pytest.raises(TraceError, match=r"transformer_blocks\.2\.attn\.to_v was replaced"):
            model(**inputs)


def test_projections_fused_under_the_trace_are_not_missed(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    with torch.no_grad(), trace(model, concepts):
        model(**inputs)
        model.fuse_qkv_projections()
        with pytest.raises(TraceError, match="projections were fused or unfused"):
            model(**inputs)


def test_projections_unfused_under_the_trace_are_not_missed(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    model.fuse_qkv_projections()
    with torch.no_grad(), trace(model, concepts):
        model(**inputs)
        model.unfuse_qkv_projections()
        with pytest.raises(TraceError, match=r"attn\.to_qkv was removed .* unfusing"):
            model(**inputs)
    assert not hooks(model)


def test_a_failed_pass_leaves_the_trace_usable(
    model: FluxTransformer2DModel, inputs: dict[str, Any], concepts: Tensor
) -> None:
    with torch.no_grad(), trace(model, concepts) as seen:
        with pytest.raises(RuntimeError):
            model(**(inputs | {"img_ids": inputs["img_ids"][:3]}))
        model(**inputs)
    assert torch.equal(seen.scores["output"], record(model, inputs, concepts).scores["output"])


def test_the_former_name_of_on_record_warns_and_works() -> None:
    model, seen = flux_transformer(), []
    with pytest.warns(WorkbenchWarning, match="on_piece is called on_record now") as said:
        opened = trace(model, concept_embeddings(), on_piece=seen.append)
    assert said[0].filename == __file__
    with torch.no_grad(), opened:
        model(**flux_inputs(model))
    assert [record.layer for record in seen] == [0, 1, 2]
