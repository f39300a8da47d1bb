"""The descriptions, one class for each kind of edit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, InitVar, dataclass, fields
from typing import Any, ClassVar, Final, Literal, Self, cast, overload

from workbench.interventions.fields import (
    CHECKS,
    ITSELF,
    LIMITS,
    STREAMS,
    HeadStream,
    HeadStreams,
    Numbers,
    Range,
    Reference,
    Source,
    Streams,
    Tokens,
    head_streams,
)
from workbench.schema import InputError, warn

_ROUNDING: Final = 1e-3
"""Of timesteps, which samplers keep in float32."""


@dataclass(frozen=True)
class Intervention:
    """What every description has; not one itself.

    Attributes
    ----------
    of_prompt : bool
        Whether it leaves unconditional passes alone.
    checks : mapping
        What checks and unifies fields of its own way, before :data:`workbench.interventions.fields.CHECKS`.
    """

    of_prompt: ClassVar[bool] = False
    checks: ClassVar[Mapping[str, Any]] = {}

    @property
    def of_concepts(self) -> bool:
        """Whether it changes only what concept tokens do, and the model's own tensors not at all."""
        return False

    def lag(self, space: str) -> float:
        """How many layers behind the one that it edits its effect first shows in a space; inf where it never does.

        0 is inside the layer itself. Without more said, an edit changes what the image or the concepts of a block put
        out: the ``output`` there, and everything behind it.
        """
        return 0 if space == "output" else math.inf if space == "prompt" and self.of_concepts else 1

    def __post_init__(self) -> None:
        for field in fields(self):
            given, check = getattr(self, field.name), self.checks.get(field.name, CHECKS[field.name])
            object.__setattr__(self, field.name, check(f"{field.name} of {type(self).__name__}", given))

    @overload
    def __getitem__(self, name: Literal["layers", "heads"]) -> tuple[int, ...] | None: ...
    @overload
    def __getitem__(self, name: Literal["tokens", "concepts"]) -> tuple[Any, ...] | None: ...
    @overload
    def __getitem__(self, name: Literal["timesteps"]) -> tuple[float, float] | None: ...
    @overload
    def __getitem__(self, name: Literal["streams"]) -> tuple[HeadStream, ...] | None: ...
    def __getitem__(self, name: str) -> Any:
        """What it is limited to along ``layers``, ``heads`` and so on; None for a limit that it does not have.

        Raises
        ------
        InputError
            If no edit has such a limit, and this one no such field.
        """
        own = [field.name for field in fields(self)]
        if name not in own and name not in LIMITS:
            raise InputError(
                f"{type(self).__name__} has no field {name!r}; it has {', '.join(own)}, and any edit can be asked for "
                f"{', '.join(LIMITS)}."
            )
        return getattr(self, name, None)

    def __str__(self) -> str:
        """As short as it can be: what has no default, then what differs from its default."""
        parts = []
        for field in fields(self):
            value, required = getattr(self, field.name), field.default is MISSING
            if required or value != field.default:
                parts.append(_short(value) if required else f"{field.name}={_short(value)}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold, with the name of the class as ``edit``; :func:`read` reads them."""
        given = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) != field.default}
        return {"edit": type(self).__name__} | {name: _plain(value) for name, value in given.items()}

    @classmethod
    def each(cls, layer: Numbers = None, **options: Any) -> Each:
        """Every one of its kind, one at a time: an exhaustive plan, whose members are known once there is a model.

        Parameters
        ----------
        layer
            Blocks to go through; all by default.
        **options
            What all members share, such as ``factor=`` or ``timesteps=``.

        Returns
        -------
        Each
            One member per block; per block and head for :class:`ScaleHeads` and :class:`MeanHeads`; per concept for
            :class:`DropConcept`.

        Raises
        ------
        InputError
            If members have no such options, or ``layer`` are no blocks.
        """
        varied = {"layers", "concepts"} | ({"heads"} if issubclass(cls, ScaleHeads | MeanHeads) else set())
        shared = [field.name for field in fields(cls) if field.name not in varied]
        if unknown := [name for name in options if name not in shared]:
            raise InputError(
                f"{cls.__name__}.each cannot be made with {', '.join(unknown)}; its members can share "
                f"{', '.join(shared)}."
            )
        return Each(cls, CHECKS["layers"](f"layer of {cls.__name__}.each", layer), options)

    def acts_at(self, timestep: float) -> bool:
        """Whether a timestep is in its range, up to the rounding of float32."""
        low, high = self["timesteps"] or (0.0, 1000.0)
        return low - _ROUNDING <= timestep <= high + _ROUNDING

    def acts_in(self, layer: int) -> bool:
        """Whether it edits a block."""
        layers = self["layers"]
        return layers is None or layer in layers

    def reaches(self, layer: int, space: str = "output") -> bool:
        """Whether it can change the scores of a layer within a forward pass.

        An edit inside a block acts from its own layer on, one of what a block gives strictly behind it: see
        :meth:`lag`.

        Parameters
        ----------
        layer
            The layer that is read.
        space
            The space that is read.
        """
        first = 0 if self["layers"] is None else min(self["layers"])
        return layer >= first + self.lag(space)

    def sources(self) -> tuple[Source, ...]:
        """Other runs it needs."""
        return ()

    def units(self) -> tuple[str, tuple[Any, ...]] | None:
        """What it picks: a kind (``layer``, ``head``, ``token``, ``concept``) and which; None when it picks all."""
        tokens, layers, heads = self["tokens"], self["layers"], self["heads"]
        if tokens is not None:
            return "token", tokens
        if layers is None:
            return None
        if heads is not None:
            return "head", tuple((layer, head) for layer in layers for head in heads)
        return "layer", layers

    def with_units(self, kind: str, chosen: Sequence[Any]) -> tuple[Intervention, ...]:
        """The same edit of other units of the kind that :meth:`units` tells."""
        if kind != "head":
            return (self._but(**{f"{kind}s": tuple(chosen)}),)
        by_layer: dict[int, list[int]] = {}
        for layer, head in chosen:
            by_layer.setdefault(layer, []).append(head)
        return tuple(self._but(layers=(layer,), heads=tuple(heads)) for layer, heads in sorted(by_layer.items()))

    def _but(self, **changes: Any) -> Self:
        return type(self)(**{field.name: getattr(self, field.name) for field in fields(self)} | changes)


@dataclass(frozen=True)
class SkipBlock(Intervention):
    """Leave blocks out: image and text pass unchanged, and so do the concepts.

    A skipped block has no map: it is NaN, and listed in ``attrs["missing"]``. What changes is read behind it.
    """

    layers: Numbers
    timesteps: Range = None

    def lag(self, space: str) -> float:
        return 1


@dataclass(frozen=True)
class ScaleHeads(Intervention):
    """Multiply the output of heads, before the output projection; 0 knocks them out.

    ``streams`` are whose output it is: that of the ``"image"`` patches and of the ``"text"`` tokens of the prompt,
    unless others are named; with ``"concepts"`` the concepts' own is scaled too, or alone. The ``output`` score of the
    block scales by the factor once for the image and once for the concepts.
    """

    checks: ClassVar[Mapping[str, Any]] = {"streams": head_streams}

    layers: Numbers
    heads: Numbers = None
    factor: float = 0.0
    streams: HeadStreams = STREAMS
    timesteps: Range = None

    @property
    def of_concepts(self) -> bool:
        return self.streams == ("concepts",)

    def lag(self, space: str) -> float:
        return _lag_of_text(space) if self.streams == ("text",) else super().lag(space)


@dataclass(frozen=True)
class MeanHeads(Intervention):
    """Replace the output of heads, before the output projection, by a mean over patches.

    Without ``reference`` it is the image's own **spatial mean**: what the heads put out on average over the patches of
    the same run without any edit, so that only the differences between its patches are lost. ``reference`` is a set of
    other runs, sources or paths of images, over all of whose patches the mean then goes. With ``"text"`` among
    ``streams`` the prompt's tokens get the mean over the prompt's tokens. The former name of ``reference``,
    ``references``, is taken with a warning.
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers
    heads: Numbers = None
    reference: Reference | Iterable[Reference] = (ITSELF,)
    streams: Streams = ("image",)
    timesteps: Range = None
    references: InitVar[Any] = None

    def __post_init__(self, references: Any) -> None:
        if references is not None:
            if self.reference != (ITSELF,):
                raise InputError("MeanHeads was given reference and references, which is its former name: give one.")
            warn("references of MeanHeads is called reference now; the former name goes with the next version.")
            object.__setattr__(self, "reference", references)
        super().__post_init__()

    def lag(self, space: str) -> float:
        return super().lag(space) if "image" in self.streams else _lag_of_text(space)

    def sources(self) -> tuple[Source, ...]:
        return cast(tuple[Source, ...], self.reference)


@dataclass(frozen=True)
class NullText(Intervention):
    """Null prompt tokens where they enter the attention of blocks, after modulation.

    Only the biases of queries, keys and values are left of them there; the text's residual stream is kept (Li et al.
    2026, arXiv 2601.02211, "disabling").
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers = None
    tokens: Tokens = None
    timesteps: Range = None

    def lag(self, space: str) -> float:
        return 0 if space in ("output", "prompt") else 1


@dataclass(frozen=True)
class Amplify(Intervention):
    """Multiply prompt tokens where they enter the attention of blocks, after modulation.

    Li et al. 2026 (arXiv 2601.02211), "enhancing", with a factor of 2; a factor of 0 is :class:`NullText`. Keys are
    normalised behind it, values are not.
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers = None
    factor: float = 2.0
    tokens: Tokens = None
    timesteps: Range = None

    def lag(self, space: str) -> float:
        return 0 if space in ("output", "prompt") else 1


@dataclass(frozen=True)
class MaskText(Intervention):
    """Hide prompt tokens from the image: its patches attend to everything else.

    What the prompt's own tokens see stays as it is.
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers = None
    tokens: Tokens = None
    heads: Numbers = None
    timesteps: Range = None


@dataclass(frozen=True)
class BlurAttention(Intervention):
    """Blur over the picture how the image attends to prompt tokens.

    A Gaussian of standard deviation ``width``, in patches, over the logits of each token's map, before the softmax
    over all keys; patches beyond the border count as their nearest one.
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers = None
    width: float = 1.0
    tokens: Tokens = None
    heads: Numbers = None
    timesteps: Range = None


@dataclass(frozen=True)
class AttendMode(Intervention):
    """Choose what the concepts attend to in blocks: ``both``, ``image``, ``concepts`` or ``none``.

    Helbling et al. 2025 (arXiv 2502.04320), Table 4.
    """

    mode: str
    layers: Numbers = None
    timesteps: Range = None

    @property
    def of_concepts(self) -> bool:
        return True


@dataclass(frozen=True)
class DropConcept(Intervention):
    """Hide concepts, by name or position, from the other concepts.

    Over all blocks, the others' scores are those of a run without them. They still see themselves and the image, and
    keep maps of their own, so the dataset keeps its shape.
    """

    concepts: int | str | Iterable[int | str]
    layers: Numbers = None
    timesteps: Range = None

    @property
    def of_concepts(self) -> bool:
        return True

    def units(self) -> tuple[str, tuple[Any, ...]]:
        return "concept", cast(tuple[Any, ...], self.concepts)


@dataclass(frozen=True)
class Patch(Intervention):
    """Put activations of another run in place: the output of blocks or, with ``heads``, that of their heads.

    ``source`` is that run, at the same timesteps and without any edit. ``streams`` narrows it to the ``"image"``
    patches or to the ``"text"`` tokens. The concepts go through the block as they would otherwise.
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers
    heads: Numbers = None
    source: Source = ITSELF
    streams: Streams = STREAMS
    timesteps: Range = None

    def lag(self, space: str) -> float:
        if "image" not in self.streams:
            return _lag_of_text(space)
        return 1 if self.heads is None else super().lag(space)

    def sources(self) -> tuple[Source, ...]:
        return (self.source,)


@dataclass(frozen=True)
class Each:
    """An exhaustive plan: every one of a kind, one at a time; made by ``each()`` of a description."""

    kind: type[Intervention]
    layers: tuple[int, ...] | None
    options: Mapping[str, Any]

    def resolve(self, depth: int, heads: int, concepts: Sequence[str]) -> tuple[Intervention, ...]:
        """Its members for a model of so many blocks and heads, and for these concepts.

        Raises
        ------
        InputError
            If a block is outside the model, or the options do not fit.
        """
        chosen = range(depth) if self.layers is None else self.layers
        if beyond := [layer for layer in chosen if layer >= depth]:
            raise InputError(f"{self.kind.__name__}.each goes through layers {beyond}; expected 0 to {depth - 1}.")
        try:
            if self.kind is DropConcept:
                return tuple(DropConcept(word, layers=self.layers, **self.options) for word in concepts)
            if self.kind in (ScaleHeads, MeanHeads):
                kind: Any = self.kind
                return tuple(kind(layer, head, **self.options) for layer in chosen for head in range(heads))
            make: Any = self.kind
            return tuple(make(layers=layer, **self.options) for layer in chosen)
        except TypeError as error:
            raise InputError(f"{self.kind.__name__}.each cannot be made with {dict(self.options)}: {error}.") from error


def _lag_of_text(space: str) -> int:
    """That of an edit of what the text puts out: the image sees it in the next block, and hands it on behind that."""
    return 1 if space in ("output", "prompt") else 2


def _plain(value: Any) -> Any:
    if isinstance(value, Source):
        return {f.name: getattr(value, f.name) for f in fields(value) if getattr(value, f.name) is not None}
    if isinstance(value, Intervention):
        return value.as_dict()
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _short(value: Any) -> str:
    if isinstance(value, tuple) and len(value) == 1:
        return _short(value[0])
    if isinstance(value, tuple):
        whole = len(value) > 2 and all(isinstance(item, int) for item in value)
        if whole and value == tuple(range(value[0], value[-1] + 1)):
            return f"{value[0]}–{value[-1]}"
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, Source):
        return f"Source({', '.join(f'{name}={text!r}' for name, text in _plain(value).items())})"
    return f"{value:g}" if isinstance(value, float) else repr(value) if isinstance(value, str) else str(value)
