"""Checks of what users pass to capture and generate, before any model runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Final

from workbench.models.layers import usual_layers
from workbench.schema import ATTEND_MODES, BOTH, BRANCHES, POOLS, PROMPT, SPACES, UNCONDITIONAL, InputError, warn
from workbench.schema.given_options import check_count, is_number

if TYPE_CHECKING:
    from workbench.models.block_records import ConceptText
    from workbench.models.layers import Layer
    from workbench.models.pipeline import PipelineAdapter
    from workbench.models.transformer import TransformerAdapter

MOST_CONCEPTS: Final = 64
MOST_SAMPLES: Final = 1000
MOST_STEPS: Final = 1000


def check_concepts(concepts: Iterable[str]) -> tuple[str, ...]:
    """Concepts as stripped strings.

    Raises
    ------
    InputError
        If they are one string, none, blank, repeated, not strings, or more than :data:`MOST_CONCEPTS`.
    """
    if isinstance(concepts, str):
        raise InputError(
            f"concepts is the single string {concepts!r}; expected a list of words, such as [{concepts!r}]."
        )
    # A set has no order, which would differ from one process to the next, and the run's key with it.
    if not isinstance(concepts, Iterable) or isinstance(concepts, Mapping | set | frozenset):
        raise InputError(f"concepts is a {type(concepts).__name__}; expected a list of words, such as ['dog', 'sky'].")
    given: list[Any] = list(concepts)
    if not given:
        raise InputError("concepts is empty; expected one or more words, such as ['dog', 'sky'].")
    for word in given:
        if not isinstance(word, str):
            raise InputError(f"concepts holds {word!r:.80}; expected words that are not blank.")
        check_text("a concept", word)
    if blank := [word for word in given if not word.strip()]:
        raise InputError(f"concepts holds {', '.join(map(repr, blank))}; expected words that are not blank.")
    words = tuple(word.strip() for word in given)
    if twice := sorted({word for word in words if words.count(word) > 1}):
        raise InputError(f"concepts holds {', '.join(map(repr, twice))} more than once; expected each word once.")
    if len(words) > MOST_CONCEPTS:
        raise InputError(
            f"there are {len(words)} concepts; expected at most {MOST_CONCEPTS}: split them into two runs."
        )
    return words


def check_timesteps(timesteps: float | Iterable[float]) -> tuple[float, ...]:
    """Timesteps (1000 x sigma) in decreasing order.

    Raises
    ------
    InputError
        If one is not a number in (0, 1000], or given twice.
    """
    given = as_list(timesteps)
    if not given:
        raise InputError("timesteps is empty; expected one or more numbers above 0, up to 1000, such as [250, 500].")
    if wrong := [value for value in given if not is_number(value) or not 0 < value <= 1000]:
        raise InputError(
            f"timesteps holds {', '.join(map(repr, wrong))}; expected numbers above 0, up to 1000 (1000 x sigma)."
        )
    values = sorted({float(value) for value in given}, reverse=True)
    if len(values) < len(given):
        raise InputError(f"timesteps is {given}, with one of them twice; expected each once.")
    return tuple(values)


def check_seed(seed: Any) -> int:
    """A seed: a whole number from 0 to 2**63 - 1001 (each sample adds its index)."""
    return check_count("seed", seed, 0, 2**63 - 1 - MOST_SAMPLES)


def check_scale(name: str, value: Any) -> float:
    """A finite number that is not negative.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not is_number(value) or value < 0:
        raise InputError(f"{name} is {value!r}; expected a number, 0 or above.")
    return float(value)


def check_text(name: str, text: Any) -> str:
    """A string that UTF-8 can hold.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not isinstance(text, str):
        raise InputError(f"{name} is a {type(text).__name__}; expected a string.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} is {text!r}, which holds half a character at position {error.start}; expected text that is whole "
            "in UTF-8."
        ) from error
    return text


def check_prompt(prompt: str, spaces: Sequence[str], needed: bool) -> str:
    """A prompt; not blank where it is needed, to generate from or because its tokens are recorded.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not check_text("prompt", prompt).strip():
        if needed:
            raise InputError("prompt is blank; expected what to draw, such as 'a dog on grass'.")
        if PROMPT in spaces:
            raise InputError(
                'the space "prompt" needs a prompt, but prompt is empty: give one, or leave that space out.'
            )
    return prompt


def check_negative(negative_prompt: str | None, true_guidance: float) -> None:
    """A negative prompt, without which there is no true guidance.

    Raises
    ------
    InputError
        If it is no string, or lacking.
    """
    check_scale("true_guidance", true_guidance)
    if negative_prompt is not None:
        check_text("negative_prompt", negative_prompt)
    elif true_guidance != 1.0:
        raise InputError(f'true_guidance is {true_guidance} without a negative_prompt: give one (it may be "").')


def check_branch(branch: str, spaces: Sequence[str], text_mass: bool, negative_prompt: str | None) -> None:
    """A branch of guidance that exists, with what can be recorded of it.

    Raises
    ------
    InputError
        If it does not, or something is asked of it that needs one text.
    """
    if branch not in (*BRANCHES, BOTH):
        raise InputError(f"branch is {branch!r}; expected one of {', '.join((*BRANCHES, BOTH))}.")
    of_text = [name for name, asked in ((PROMPT, PROMPT in spaces), ("text_mass", text_mass)) if asked]
    if branch == BOTH and of_text:
        raise InputError(
            f"{' and '.join(of_text)} go along the tokens of one text, and branch={BOTH!r} reads two: leave them out, "
            "or record one branch at a time."
        )
    if branch == UNCONDITIONAL and PROMPT in spaces and not (negative_prompt or "").strip():
        raise InputError(
            f'the space "prompt" of the {UNCONDITIONAL} branch needs a negative_prompt: give one, or leave it out.'
        )


def check_spaces(spaces: str | Sequence[str]) -> tuple[str, ...]:
    """Names of spaces, each once.

    Raises
    ------
    InputError
        If one is unknown or repeated, or there is none.
    """
    given = tuple(as_list(spaces))
    unknown = [space for space in given if space not in SPACES]
    if unknown or not given or len(set(given)) < len(given):
        raise InputError(f"spaces is {given}; expected one or more of {', '.join(SPACES)}, each once.")
    return given


def check_options(attend: str, pool: str) -> None:
    """``attend`` and ``pool`` are names that exist.

    Raises
    ------
    InputError
        If one is not.
    """
    chosen = (("attend", attend, ATTEND_MODES), ("pool", pool, POOLS))
    wrong = [(name, value, known) for name, value, known in chosen if value not in known]
    if wrong:
        told = [f"{name} is {value!r}; expected one of {', '.join(known)}." for name, value, known in wrong]
        raise InputError("\n".join(told))


def check_layers(layers: int | Iterable[int] | None, existing: Sequence[Layer]) -> tuple[Layer, ...]:
    """The chosen blocks by depth; the usual ones by default.

    Raises
    ------
    InputError
        If one is no whole number, is outside the model or is given twice.
    """
    if layers is None:
        return usual_layers(existing)
    return tuple(existing[index] for index in check_depths(layers, *_counts(existing)))


def check_depths(layers: int | Iterable[int], duals: int, singles: int) -> list[int]:
    """Blocks by depth, in order, of a model with so many of either kind.

    Raises
    ------
    InputError
        If one is no whole number, is outside the model or is given twice.
    """
    given, depth = as_list(layers), duals + singles
    right = all(isinstance(i, Integral) and not isinstance(i, bool) and 0 <= int(i) < depth for i in given)
    if not given or not right or len(set(given)) < len(given):
        raise InputError(
            f"layers is {given}; expected whole numbers from 0 to {depth - 1}, each once "
            f"(this model has {_blocks(duals, singles)})."
        )
    return sorted(int(index) for index in given)


def check_steps(record: int | Iterable[int], steps: int) -> tuple[int, ...]:
    """Steps of a schedule of that length, in order.

    Raises
    ------
    InputError
        If one is no whole number, is outside the schedule or is given twice, or there is none.
    """
    given = as_list(record)
    for step in given:
        check_count("a step in record", step, 0, steps - 1)
    if not given or len(set(given)) < len(given):
        raise InputError(f"record is {given}; expected one or more step indices from 0 to {steps - 1}, each once.")
    return tuple(sorted(int(step) for step in given))


def check_positions(positions: Sequence[int], concepts: int) -> None:
    """Positions in the text, one for each concept.

    Raises
    ------
    InputError
        If there are more or fewer, or one is no whole number from 0, or is there twice.
    """
    given = check_own_positions(positions, concepts, "positions")
    if len(set(given)) < concepts:
        raise InputError(f"positions is {given}; expected another for each concept: they are one text.")


def check_own_positions(positions: Sequence[int], concepts: int, name: str = "own_positions") -> list[int]:
    """Position of each concept in a text of its own.

    Raises
    ------
    InputError
        If there are more or fewer than concepts, or one is no whole number from 0.
    """
    given = as_list(positions)
    right = all(isinstance(p, Integral) and not isinstance(p, bool) and int(p) >= 0 for p in given)
    if not right or len(given) != concepts:
        raise InputError(f"{name} is {given}; expected a whole number from 0 for each of the {concepts} concepts.")
    return [int(p) for p in given]


def check_own_texts(
    adapter: TransformerAdapter, texts: Sequence[ConceptText] | None, concepts: int, *, one_text: bool
) -> tuple[ConceptText, ...] | None:
    """The text of each concept, for a family that refines its text; with a warning where it is needed and lacking.

    Parameters
    ----------
    adapter
        Of the transformer.
    texts
        As given to a trace.
    concepts
        How many there are.
    one_text
        Whether the concepts are one text.

    Raises
    ------
    InputError
        If the family does not, there are more or fewer than concepts, or one has another shape or other tokens.
    """
    if texts is None:
        if adapter.refines and not one_text:
            warn(
                f"{type(adapter.transformer).__name__} refines its text before its blocks, so a concept needs the text "
                "it is a word of, and here each is a text of one token: give own_texts, or use workbench.capture.",
                stacklevel=3,
            )
        return None
    if not adapter.refines:
        raise InputError(
            f"{type(adapter.transformer).__name__} does not refine its text: leave own_texts out, its concepts are "
            "given as embeddings."
        )
    if len(texts) != concepts:
        raise InputError(f"own_texts has {len(texts)} texts; expected one for each of the {concepts} concepts.")
    for text in texts:
        shape = "(batch or 1, token, {})"
        check_embeddings("a text in own_texts", text.embeddings, 3, shape, adapter.embedding_dim)
        if not text.tokens or not all(0 <= token < text.embeddings.shape[1] for token in text.tokens):
            raise InputError(
                f"a text in own_texts of {text.embeddings.shape[1]} tokens takes the tokens {list(text.tokens)}; "
                "expected one or more of them, from 0."
            )
    return tuple(texts)


def check_offered(adapter: TransformerAdapter, model: str, spaces: Sequence[str], attend: str) -> None:
    """What is to be read from a model's blocks, and what concepts attend to, exists in its family.

    Raises
    ------
    InputError
        If it does not.
    """
    for name, chosen, offered in (("spaces", spaces, adapter.spaces), ("attend", (attend,), adapter.attends)):
        if lacking := [value for value in chosen if value not in offered]:
            raise InputError(
                f"{name} holds {', '.join(lacking)}, which {model} does not have; expected {', '.join(offered)}."
            )


def traced_layers(layers: Iterable[int] | None, existing: Sequence[Layer]) -> tuple[int, ...]:
    """The chosen blocks of a trace by depth; the usual ones by default.

    Raises
    ------
    InputError
        If one is outside the model, or there is none.
    """
    if layers is None:
        return tuple(layer.index for layer in usual_layers(existing))
    given: list[Any] = list(layers)
    if not given or not all(isinstance(index, Integral) and int(index) in range(len(existing)) for index in given):
        raise InputError(
            f"layers is {given}; expected one or more of 0 to {len(existing) - 1} "
            f"(this model has {_blocks(*_counts(existing))})."
        )
    return tuple(sorted({int(index) for index in given}))


def check_embeddings(name: str, given: object, rank: int, shape: str, width: int) -> None:
    """A finite floating-point tensor of this rank and width.

    Raises
    ------
    InputError
        If it is anything else; ``shape`` says what is expected, with ``{}`` for the width.
    """
    import torch

    expected = shape.format(width)
    if not isinstance(given, torch.Tensor) or not given.is_floating_point():
        raise InputError(f"{name} is a {type(given).__name__}; expected a floating-point tensor {expected}.")
    if given.ndim != rank or given.shape[-1] != width or 0 in given.shape:
        raise InputError(f"{name} has shape {tuple(given.shape)}; expected {expected}, with no empty dimension.")
    if not bool(torch.isfinite(given).all()):
        raise InputError(f"{name} holds NaN or infinite values.")


def check_vocabulary(concepts: Sequence[str], prompt: str, model: str, info: Mapping[str, Any]) -> None:
    """A model with a closed vocabulary is asked only for words it knows.

    Raises
    ------
    InputError
        If a concept or the prompt holds another word; the message lists the vocabulary.
    """
    known = info.get("vocabulary")
    if known is None:
        return
    of_prompts = [*known, *info.get("fillers", ())]
    unknown = [word for concept in concepts for word in concept.split() if word not in known]
    strange = [word for word in prompt.split() if word not in of_prompts]
    if unknown or strange:
        raise InputError(
            f"{model} does not know {', '.join(map(repr, dict.fromkeys([*unknown, *strange])))}. "
            f"Its words: {', '.join(of_prompts if strange else known)}. "
            'For other words load a larger model, for example model="black-forest-labs/FLUX.1-schnell".'
        )


def warn_beyond_training(adapter: PipelineAdapter, name: str, size: tuple[int, int] | None) -> None:
    """Warn of a given size unlike those of the model's training."""
    sides = adapter.info.get("sides")
    if size is not None and sides and not (sides[0] <= min(size) and max(size) <= sides[1]):
        height, width = adapter.native
        warn(
            f"{size[0]} x {size[1]} pixels are outside of what {name} was trained on, sides of {sides[0]} to "
            f"{sides[1]} pixels: maps and pictures mean little there. Leave size out for its own {height} x {width}.",
            stacklevel=3,
        )


def as_list(given: Any) -> list[Any]:
    """The items of an iterable; anything else, a string too, as the only item."""
    if isinstance(given, str):
        return [given]
    try:
        return list(given)
    except TypeError:  # an array without dimensions has __iter__ and refuses it
        return [given]


def _counts(layers: Sequence[Layer]) -> tuple[int, int]:
    """Blocks of dual and of single streams."""
    duals = sum(layer.kind == "dual" for layer in layers)
    return duals, len(layers) - duals


def _blocks(duals: int, singles: int) -> str:
    """How many blocks of each kind a model has, in words."""
    kinds = [f"{count} {kind}-stream blocks" for kind, count in (("dual", duals), ("single", singles)) if count]
    return ", then ".join(kinds)
