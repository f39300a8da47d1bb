"""Warnings of text that does not reach the model as it was written: unknown, cut off, or the same as other text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from workbench.images import shown
from workbench.models.pipeline import PipelineAdapter
from workbench.models.pipeline_records import EncodedConcept
from workbench.models.readers import TextReader
from workbench.schema import warn


def warn_of_text(adapter: PipelineAdapter, concepts: Sequence[str], prompts: Sequence[str], *, made: bool) -> None:
    """Warn of words that no text encoder has a token for, of text beyond its length, and of concepts it reads alike.

    Only the tokenizers are asked: nothing is encoded.

    Parameters
    ----------
    adapter : PipelineAdapter
        Of the model that reads the text.
    concepts, prompts : sequence of str
        The text.
    made : bool
        Whether an image is made, whose prompt further text encoders may read.
    """
    first, *others = adapter.readers(made)
    for message in (
        *_unknown(first, concepts, "concept"),
        *_cut(first, concepts, "concept"),
        *_alike(first, concepts),
        *(
            message
            for reader in (first, *others)
            for find in (_unknown, _cut)
            for message in find(reader, prompts, "prompt")
        ),
    ):
        warn(message, stacklevel=3)


def warn_of_embeddings(
    adapter: PipelineAdapter, concepts: Sequence[str], found: Sequence[EncodedConcept], pool: str
) -> None:
    """Warn of concepts whose embedding leaves part of them out, or equals another's.

    Parameters
    ----------
    adapter : PipelineAdapter
        Of the model that encoded them.
    concepts : sequence of str
        The concepts.
    found : sequence of EncodedConcept
        What the model is given of them.
    pool : {"first", "last", "mean"}
        How the tokens of one became one vector.
    """
    long = [f"{word!r} ({each.count})" for word, each in zip(concepts, found, strict=True) if each.count > 1]
    if long and pool == "first":
        warn(
            f"these concepts have several tokens, of which only the first one's embedding is used: {', '.join(long)}. "
            'Choose shorter words, or pool="mean" or "last".',
            stacklevel=5,
        )
    reader = adapter.readers(made=False)[0]
    equal: dict[int, list[str]] = {}
    for index, word in enumerate(concepts):
        first = next(other for other in range(index + 1) if _same(found[other], found[index]))
        equal.setdefault(first, []).append(word)
    for words in equal.values():
        # Those read as the same tokens are warned of without encoding them.
        if len({tuple(reader.tokens(word)) for word in words}) > 1:
            warn(
                f"the concepts {', '.join(shown(repr(word)) for word in words)} have the same embedding: their maps "
                "are the same, and share what one of them would have. Keep one of them, or choose other words.",
                stacklevel=5,
            )


def _same(one: EncodedConcept, other: EncodedConcept) -> bool:
    """Whether two concepts are the same to the model; where text is refined, the rest of a word's text counts too."""
    if not torch.equal(one.vector, other.vector):
        return False
    if one.text is None or other.text is None:
        return True
    return one.text.tokens == other.text.tokens and torch.equal(one.text.embeddings, other.text.embeddings)


def word_remarks(adapter: PipelineAdapter, word: str, pool: str) -> list[str]:
    """What is to be said of one concept before anything is encoded.

    Parameters
    ----------
    adapter : PipelineAdapter
        Of the model that would read it.
    word : str
        The concept.
    pool : {"first", "last", "mean"}
        How its tokens would become one vector.

    Raises
    ------
    InputError
        If it has no token that can be used.
    """
    adapter.own_positions([word], pool)
    reader, *_ = adapter.readers(made=False)
    found = [*_unknown(reader, [word], "concept"), *_cut(reader, [word], "concept")]
    pieces = reader.words(word)[: len(adapter.concept_tokens(word))]
    if len(pieces) > 1 and pool == "first" and not found:
        found.append(
            f"{shown(repr(word))} has {len(pieces)} tokens ({', '.join(pieces)}), of which only the first one's "
            'embedding is used. Choose a shorter word, or pool="last" or "mean".'
        )
    return found


def text_remarks(adapter: PipelineAdapter, concepts: Sequence[str], prompt: str, *, made: bool) -> list[str]:
    """What is to be said of concepts together, and of a prompt, before anything is encoded."""
    first, *others = adapter.readers(made)
    found = list(_alike(first, concepts))
    for reader in (first, *others) if prompt else ():
        found += [*_unknown(reader, [prompt], "prompt"), *_cut(reader, [prompt], "prompt")]
    return found


def _unknown(reader: TextReader, texts: Sequence[str], kind: str) -> Iterator[str]:
    strange = {text: pieces for text in texts if (pieces := reader.unknown(text))}
    if strange:
        parts = shown(", ".join(dict.fromkeys(repr(piece) for found in strange.values() for piece in found)))
        named = f"the concepts {', '.join(shown(repr(text)) for text in strange)}"
        yield (
            f"{reader.name} has no token for {parts} of {'the prompt' if kind == 'prompt' else named}, and reads an "
            "unknown one in place of each, whatever it is. Choose words it knows."
        )


def _cut(reader: TextReader, texts: Sequence[str], kind: str) -> Iterator[str]:
    for text in texts:
        if (length := reader.count(text)) > reader.length:
            named = "the prompt" if kind == "prompt" else f"the concept {shown(repr(text))}"
            yield (
                f"{named} has {length} tokens, and {reader.name} reads {reader.length} with those it adds: what "
                f"follows {' '.join(reader.words(text)[-3:])!r} is cut off. Shorten the {kind}."
            )


def _alike(reader: TextReader, concepts: Sequence[str]) -> Iterator[str]:
    groups: dict[tuple[int, ...], list[str]] = {}
    for concept in concepts:
        groups.setdefault(tuple(reader.tokens(concept)), []).append(concept)
    for words in groups.values():
        if len(words) > 1:
            yield (
                f"{reader.name} reads the concepts {', '.join(shown(repr(word)) for word in words)} as the same "
                "tokens: their maps are the same, and share what one of them would have. Keep one of them, or choose "
                "other words."
            )
