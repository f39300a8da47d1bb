"""Text that a language model reads inside a template: which of its tokens are the prompt's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.models.pipeline import PipelineAdapter
from workbench.models.readers import TextReader

_MARK = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Placed:
    """A prompt as the text encoder reads it, template included.

    Attributes
    ----------
    positions : tuple of int
        Positions of the prompt's own tokens in the text the transformer is given.
    tokens : tuple of int
        Their ids.
    padding : tuple of bool
        Which positions of that text are padding.
    """

    positions: tuple[int, ...]
    tokens: tuple[int, ...]
    padding: tuple[bool, ...]


@dataclass(frozen=True)
class TemplateReader(TextReader):
    """A tokenizer that is given a text inside a template.

    Attributes
    ----------
    template : callable
        Puts a text into the template.
    padded : bool
        Whether texts are padded to :attr:`length`.
    dropped : int
        Leading tokens of the template that do not reach the transformer; they do not count.
    special : bool
        Whether the tokenizer adds its special tokens, which then are not in the template.
    """

    template: Callable[[str], str]
    padded: bool = True
    dropped: int = 0
    special: bool = False

    def count(self, text: str) -> int:
        return len(self._encode(self.template(text)).input_ids) - self.dropped

    def tokens(self, text: str) -> list[int]:
        return list(self.place(text).tokens)

    def words(self, text: str) -> list[str]:
        # Pieces are bytes of UTF-8 under other names; only decoding makes them readable.
        pieces = ((token, self.tokenizer.decode([token])) for token in self.tokens(text))
        return [word.strip() or str(self.tokenizer.convert_ids_to_tokens(token)) for token, word in pieces]

    def place(self, text: str) -> Placed:
        """Where the tokens of a text are; those that its encoder does not read are missing.

        A token that holds characters of text and template alike counts as the text's.
        """
        head, _, tail = self.template(_MARK).partition(_MARK)
        whole = self.template(text)
        start, stop = len(head), len(whole) - len(tail)
        read = self._encode(
            whole,
            padding="max_length" if self.padded else False,
            truncation=True,
            max_length=self.length + self.dropped,
            return_offsets_mapping=True,
        )
        found = [
            (index - self.dropped, token)
            for index, (token, (first, last)) in enumerate(zip(read.input_ids, read.offset_mapping, strict=True))
            if index >= self.dropped and first < stop and last > start and read.attention_mask[index]
        ]
        return Placed(
            tuple(position for position, _ in found),
            tuple(token for _, token in found),
            tuple(not mask for mask in read.attention_mask[self.dropped :]),
        )

    def _encode(self, text: str, **options: Any) -> Any:
        # Templates of chats hold the special tokens themselves.
        return self.tokenizer(text, add_special_tokens=self.special, **options)


class TemplatePipeline(PipelineAdapter):
    """A pipeline whose only reader of text is a language model, which is given a template around it."""

    @property
    @abstractmethod
    def reader(self) -> TemplateReader:
        """How the language model reads a text."""

    def readers(self, made: bool) -> tuple[TextReader, ...]:
        return (self.reader,)

    def concept_positions(self, concepts: Sequence[str], pool: str = "first") -> tuple[int, ...] | None:
        return self.own_positions(concepts, pool)

    def prompt_tokens(self, prompt: str) -> tuple[list[int], list[str]]:
        return list(self.reader.place(prompt).positions), self.reader.words(prompt)

    def padding(self, prompt: str) -> list[bool]:
        return list(self.reader.place(prompt).padding)
