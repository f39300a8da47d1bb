"""The tokenizers of a pipeline: what of a text reaches its text encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TextReader:
    """A tokenizer of the pipeline, and how much of a text reaches its encoder.

    Attributes
    ----------
    name : str
        The text encoder's, for messages.
    tokenizer : PreTrainedTokenizerBase
        As the pipeline calls it.
    length : int
        Tokens that are read, with those the tokenizer adds.
    """

    name: str
    tokenizer: Any
    length: int

    def count(self, text: str) -> int:
        """Tokens of a whole text, with those the tokenizer adds."""
        return len(self.tokenizer(text).input_ids)

    def tokens(self, text: str) -> list[int]:
        """A text's own tokens that are read."""
        own: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return own[: self.length - (self.count(text) - len(own))]

    def words(self, text: str) -> list[str]:
        """The strings of :meth:`tokens`."""
        pieces = map(str, self.tokenizer.convert_ids_to_tokens(self.tokens(text)))
        return [piece.strip("▁").removesuffix("</w>") or piece for piece in pieces]

    def unknown(self, text: str) -> list[str]:
        """Parts of a text that no token stands for, each once; the whole text where the tokenizer cannot say which."""
        strange = self.tokenizer.unk_token_id
        own = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=self.tokenizer.is_fast)
        if strange is None or strange not in own.input_ids:
            return []
        if not self.tokenizer.is_fast:
            return [text]
        spans = zip(own.input_ids, own.offset_mapping, strict=True)
        return list(dict.fromkeys(text[start:stop] for token, (start, stop) in spans if token == strange))
