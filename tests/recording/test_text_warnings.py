"""Text that does not reach the model as it was written is warned of by name; ordinary words stay silent."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from tests.tiny_random import WORDS, clip_tokenizer, flux_pipeline, t5_tokenizer
from workbench.models.block_records import ConceptText
from workbench.models.flux import FluxPipelineAdapter
from workbench.models.pipeline_records import EncodedConcept
from workbench.models.readers import TextReader
from workbench.recording.capturing import capture
from workbench.recording.generating import generate
from workbench.recording.text_warnings import warn_of_embeddings, warn_of_text
from workbench.schema import WorkbenchWarning
from workbench.schema.notes import noted

SIZE = (24, 32)
ALIKE = "T5 reads the concepts {} as the same tokens: their maps are the same"


@pytest.fixture(scope="module")
def adapter() -> FluxPipelineAdapter:
    return FluxPipelineAdapter(flux_pipeline())


def told(adapter: FluxPipelineAdapter, concepts: Any = (), prompts: Any = (), made: bool = False) -> list[str]:
    with noted() as notes:
        warn_of_text(adapter, concepts, prompts, made=made)
    return notes


def test_ordinary_words_are_silent(adapter: FluxPipelineAdapter) -> None:
    assert told(adapter, [*WORDS, "skyscraper", "hot dog"], ["a red dog on grass", ""]) == []
    assert told(adapter, ["dog"], ["a dog on grass", ""], made=True) == []


def test_words_without_a_token(adapter: FluxPipelineAdapter) -> None:
    unknown, alike = told(adapter, ["dog", "犬", "猫", "a 7"])
    assert unknown.startswith(
        "T5 has no token for '犬', '猫', '7' of the concepts '犬', '猫', 'a 7', and reads an unknown"
    )
    assert unknown.endswith("Choose words it knows.")
    assert alike.startswith(ALIKE.format("'犬', '猫'"))


def test_prompts_without_a_token(adapter: FluxPipelineAdapter) -> None:
    assert [note[:35] for note in told(adapter, prompts=["a 犬"])] == ["T5 has no token for '犬' of the prom"]
    names = [note.partition(" has")[0] for note in told(adapter, prompts=["a 犬"], made=True)]
    assert names == ["T5", "CLIP"]


def test_white_space_that_changes_nothing(adapter: FluxPipelineAdapter) -> None:
    (alike,) = told(adapter, ["hot dog", "sky", "hot  dog"])
    assert alike.startswith(ALIKE.format("'hot dog', 'hot  dog'"))


def test_concepts_beyond_the_text(adapter: FluxPipelineAdapter) -> None:
    long = " ".join(["dog"] * 1200)
    (cut,) = told(adapter, ["sky", long])
    assert re.match(r"the concept 'dog dog .*dog' has 1201 tokens, and T5 reads 256 .* follows 'dog dog dog' is", cut)
    assert cut.endswith("Shorten the concept.")
    assert len(cut) < 350
    messages = told(adapter, [long, long + " sky"])
    assert [message[:2] for message in messages] == ["th", "th", "T5"], "what differs is cut off"


def test_prompts_beyond_each_text(adapter: FluxPipelineAdapter) -> None:
    assert told(adapter, prompts=["dog " * 7]) == []
    (clip,) = told(adapter, prompts=["dog " * 7], made=True)
    assert clip.startswith(
        "the prompt has 23 tokens, and CLIP reads 16 with those it adds: what follows 'g d o' is cut"
    )
    t5, clip = told(adapter, prompts=["dog " * 300], made=True)
    assert t5.startswith("the prompt has 301 tokens, and T5 reads 256")
    assert clip.startswith("the prompt has 902 tokens, and CLIP reads 16")


def test_embeddings_that_are_equal_for_other_reasons(adapter: FluxPipelineAdapter) -> None:
    dog, sky, sun = (EncodedConcept(vector[None, None], 1) for vector in torch.arange(12.0).reshape(3, 4))
    with noted() as notes:
        warn_of_embeddings(adapter, ["dog", "sky", "sun"], [dog, sky, sun], "first")
    assert notes == []
    sun = replace(sun, vector=dog.vector.clone())
    with noted() as notes:
        warn_of_embeddings(adapter, ["dog", "sky", "sun"], [dog, sky, sun], "first")
    assert [note[:52] for note in notes] == ["the concepts 'dog', 'sun' have the same embedding: t"]
    with noted() as notes:
        warn_of_embeddings(adapter, ["犬", "sky", "猫"], [dog, sky, sun], "mean")
    assert notes == [], "their tokens are the same: said before they were encoded"


def test_concepts_whose_texts_differ_are_apart_where_text_is_refined(adapter: FluxPipelineAdapter) -> None:
    text = torch.arange(12.0).reshape(1, 3, 4)
    one, same = (EncodedConcept(text[:, :1], 1, ConceptText(text.clone(), (0,))) for _ in range(2))
    longer = EncodedConcept(text[:, :1], 1, ConceptText(text[:, :2], (0,)))
    other = EncodedConcept(text[:, :1], 1, ConceptText(text, (0, 1)))
    with noted() as notes:
        warn_of_embeddings(adapter, ["dog", "sky", "sun", "cat"], [one, same, longer, other], "mean")
    assert [note[:52] for note in notes] == ["the concepts 'dog', 'sky' have the same embedding: t"]


def test_readers() -> None:
    slow = t5_tokenizer()
    reader = TextReader("T5", slow, 4)
    assert reader.count("a dog on grass") == 5
    assert reader.words("a dog on grass") == ["a", "dog", "on"]
    assert reader.unknown("a x7 dog 犬 7") == ["7", "犬"]

    class WithoutOffsets:
        unk_token_id, is_fast = slow.unk_token_id, False

        def __call__(self, text: str, return_offsets_mapping: bool = False, **options: Any) -> Any:
            assert not return_offsets_mapping
            return slow(text, **options)

    assert TextReader("T5", WithoutOffsets(), 4).unknown("a 7") == ["a 7"]
    assert TextReader("CLIP", clip_tokenizer(), 16).words("dog") == ["d", "o", "g"]


# --- where users meet them --------------------------------------------------------------------------------------
@pytest.fixture
def pipe(adapter: FluxPipelineAdapter) -> FluxPipeline:
    return adapter.pipe


def test_capture_warns(pipe: FluxPipeline) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    options: dict[str, Any] = {"model": pipe, "store": False, "size": SIZE, "progress": False, "pool": "mean"}
    with pytest.warns(WorkbenchWarning) as caught:
        ds = capture(image, ["犬", "猫"], layers=0, **options)
    messages = [str(warning.message) for warning in caught]
    assert [message.partition(" ")[2][:12] for message in messages] == ["has no token", "reads the co"]
    assert {warning.filename for warning in caught} == {__file__}
    np.testing.assert_array_equal(*(ds["output_total"].sel(concept=word) for word in ("犬", "猫")))


def test_generate_warns(pipe: FluxPipeline) -> None:
    options: dict[str, Any] = {"model": pipe, "store": False, "size": SIZE, "progress": False, "steps": 1, "layers": 0}
    with pytest.warns(WorkbenchWarning, match="the prompt has 20 tokens, and CLIP reads 16") as caught:
        generate("a red dog on blue grass", ["dog"], negative_prompt="a", **options)
    assert [warning.filename for warning in caught] == [__file__]
