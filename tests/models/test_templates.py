"""Which tokens of a template are the prompt's own: they decode to it, and are those the text encoder is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.tiny_pipelines.flux2 import flux2_pipeline, klein_pipeline
from tests.tiny_pipelines.flux_like import ovis_pipeline
from tests.tiny_pipelines.hunyuan_image import hunyuan_image_pipeline
from tests.tiny_pipelines.lumina2 import lumina2_pipeline
from tests.tiny_pipelines.qwen import qwen_pipeline
from tests.tiny_pipelines.z_image import z_image_pipeline
from workbench.models.family import pipeline_adapter_for
from workbench.models.templates import TemplateReader
from workbench.schema import InputError

LENGTH = 64


def _hunyuan_image() -> Any:
    """With less text than the 1000 tokens that no call changes."""
    pipe = hunyuan_image_pipeline()
    pipe.tokenizer_max_length = LENGTH
    return pipe


PIPELINES: dict[str, Callable[[], Any]] = {
    "dev": flux2_pipeline,
    "klein": klein_pipeline,
    "qwen": qwen_pipeline,
    "ovis": ovis_pipeline,
    "z-image": z_image_pipeline,
    "hunyuan-image": _hunyuan_image,
    "lumina2": lumina2_pipeline,
}
PROMPTS = ("a dog on grass", "skyscraper", "user", "\n\na dog", "dog <|im_end|> [/INST] cat", "")


@pytest.fixture(scope="module", params=PIPELINES)
def adapter(request: pytest.FixtureRequest) -> Any:
    return pipeline_adapter_for(PIPELINES[request.param](), {"text_length": LENGTH})


def encoded(adapter: Any, prompt: str) -> tuple[list[int], list[int], int]:
    """Tokens and mask that the text encoder is given for a prompt, and how many of the first the pipeline drops."""
    seen: dict[str, Any] = {}
    handle = adapter.pipe.text_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs, **({"input_ids": args[0]} if args else {})), with_kwargs=True
    )
    adapter.encode_prompt(prompt)
    handle.remove()
    drops = ("prompt_template_encode_start_idx", "user_prompt_begin_id")
    dropped = sum(getattr(adapter.pipe, name, 0) for name in drops)
    tokens, mask = seen["input_ids"][0].tolist(), seen["attention_mask"][0].tolist()
    if not adapter.reader.padded:
        tokens, mask = ([value for value, kept in zip(each, mask, strict=True) if kept] for each in (tokens, mask))
    return tokens, mask, dropped


@pytest.mark.parametrize("prompt", PROMPTS)
def test_own_tokens_are_where_the_encoder_reads_them(adapter: Any, prompt: str) -> None:
    placed = adapter.reader.place(prompt)
    tokens, mask, dropped = encoded(adapter, prompt)
    assert [tokens[dropped + position] for position in placed.positions] == list(placed.tokens)
    assert placed.padding == tuple(not seen for seen in mask[dropped:])
    assert not any(placed.padding[position] for position in placed.positions)
    assert list(placed.positions) == sorted(set(placed.positions))
    # White space before it may be one token with it.
    text = adapter.reader.tokenizer.decode(placed.tokens)
    assert text.lstrip() == prompt.lstrip()


def test_a_template_adds_nothing_to_the_words(adapter: Any) -> None:
    assert adapter.prompt_tokens("a dog on grass")[1] == ["a", "dog", "on", "grass"]
    assert adapter.reader.words("skyscraper") == ["sky", "scraper"]
    assert len(adapter.padding("a dog on grass")) == adapter.length_of("a dog on grass")


def test_what_is_cut_off_is_not_placed(adapter: Any) -> None:
    long = " ".join(["dog"] * 100)
    placed = adapter.reader.place(long)
    tokens, _, dropped = encoded(adapter, long)
    assert 0 < len(placed.positions) < 100
    assert adapter.encode_prompt(long).embeddings.shape[1] == LENGTH == len(placed.padding)
    assert [tokens[dropped + position] for position in placed.positions] == list(placed.tokens)
    assert adapter.reader.count(long) > LENGTH >= adapter.reader.count("a dog")


def test_a_concept_without_a_token_is_refused(adapter: Any) -> None:
    with pytest.raises(InputError, match="reads no token of the concept ''"):
        adapter.encode_concepts([""])


@pytest.mark.parametrize("pool", ["first", "last", "mean"])
def test_the_token_a_concept_takes_decodes_to_its_word(adapter: Any, pool: str) -> None:
    words = ["dog", "skyscraper"]
    embeddings, counts = adapter.encode_concepts(words, pool)
    assert counts == [1, 2]
    positions = adapter.own_positions(words, pool)
    used = {"first": ["dog", "sky"], "last": ["dog", "scraper"], "mean": ["dog", "scraper"]}[pool]
    for index, word in enumerate(words):
        tokens, _, dropped = encoded(adapter, word)
        text = adapter.encode_prompt(word).embeddings
        assert adapter.reader.tokenizer.decode([tokens[dropped + positions[index]]]).lstrip() == used[index]
        own = adapter.reader.place(word).positions if pool == "mean" else [positions[index]]
        torch.testing.assert_close(embeddings[0, index], text[0, list(own)].mean(dim=0))


def test_a_reader_of_a_template_in_the_middle_of_words() -> None:
    tokenizer = klein_pipeline().tokenizer
    reader = TemplateReader("Qwen3", tokenizer, 12, "a dog {} on grass".format, padded=False, dropped=1)
    placed = reader.place("cat sky")
    assert [tokenizer.decode([token]) for token in placed.tokens] == [" cat", " sky"]
    assert placed.positions == (1, 2)
    assert placed.padding == (False,) * 5
