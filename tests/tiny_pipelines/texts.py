"""Tokenizers of the real classes with tiny vocabularies, learnt in code in a few milliseconds."""

from __future__ import annotations

import json
from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from tests.tiny_random import LETTERS, WORDS

QWEN3_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
"""What Qwen3's own template makes of one message of a user."""

MISTRAL_CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{% set opened = 'SYSTEM_PROMPT' if message.role == 'system' else 'INST' %}"
    "[{{ opened }}]{% for part in message.content %}{{ part.text }}{% endfor %}[/{{ opened }}]{% endfor %}"
)
"""What the template of Mistral Small 3 makes of a system prompt and one message of a user."""


@cache
def _byte_pairs(texts: tuple[str, ...]) -> str:
    """Byte-level pairs, learnt until each word of the texts is one token, as JSON."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        [*(text for word in WORDS for text in (word, f" {word}")), "scraper", *texts], trainer
    )
    return tokenizer.to_str()


def clip_tokenizer(length: int) -> CLIPTokenizer:
    """CLIP's tokenizer, padded to a length; words of `WORDS` are one token each, others several."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=10_000,
        min_frequency=1,
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
        initial_alphabet=[*LETTERS, *(f"{letter}</w>" for letter in LETTERS)],
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator([*WORDS, "scraper"], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return CLIPTokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], model_max_length=length
    )


def qwen_tokenizer(*texts: str, chat_template: str | None = None) -> Qwen2Tokenizer:
    """Qwen's tokenizer; words of `WORDS` and of the texts are one token each, "skyscraper" two, others more."""
    model = json.loads(_byte_pairs(texts))["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]], chat_template=chat_template
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(["<think>", "</think>"])
    return tokenizer


def mistral_tokenizer(*texts: str) -> PreTrainedTokenizerFast:
    """Mistral's tokenizer with its chat template, padded on the left; words as in :func:`qwen_tokenizer`."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_byte_pairs(texts)),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        padding_side="left",
        chat_template=MISTRAL_CHAT,
    )
    marks = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    return tokenizer


def framed_tokenizer(before: str, padding_side: str, *texts: str) -> PreTrainedTokenizerFast:
    """A tokenizer that puts special tokens, named with spaces between, before each text; words as above.

    As those of Gemma and GLM do.
    """
    marks = before.split()
    inner = Tokenizer.from_str(_byte_pairs(texts))
    inner.add_special_tokens(["<pad>", "<eos>", *marks])
    inner.post_processor = processors.TemplateProcessing(
        single=" ".join([*marks, "$A"]), special_tokens=[(mark, inner.token_to_id(mark)) for mark in marks]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", bos_token=marks[0], padding_side=padding_side
    )
