"""The descriptions, one class for each kind of edit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, cast, overload

from workbench.interventions.fields import (
    CHECKS,
    ITSELF,
    LIMITS,
    STREAMS,
    Numbers,
    Range,
    Source,
    Stream,
    Streams,
    Tokens,
)
from workbench.schema import InputError

_ROUNDING: Final = 1e-3
"""Of timesteps, which samplers keep in float32."""


@dataclass(frozen=True)
class Intervention:
    """What every description has; not one itself.

    Attributes
    ----------
    of_prompt : bool
        Whether it leaves unconditional passes alone.
    of_concepts : bool
        Whether it changes only what concept tokens do, and the model's own tensors not at all.
    """

    of_prompt: ClassVar[bool] = False
    of_concepts: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in fields(self):
            given = getattr(self, field.name)
            object.__setattr__(self, field.name, CHECKS[field.name](f"{field.name} of {type(self).__name__}", given))

    @overload
    def __getitem__(self, name: Literal["layers", "heads"]) -> tuple[int, ...] | None: ...
    @overload
    def __getitem__(self, name: Literal["tokens", "concepts"]) -> tuple[Any, ...] | None: ...
    @overload
    def __getitem__(self, name: Literal["timesteps"]) -> tuple[float, float] | None: ...
    @overload
    def __getitem__(self, name: Literal["streams"]) -> tuple[Stream, ...] | None: ...
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
        """Whether a noise level (1000 x sigma) is in its range, up to the rounding of float32."""
        low, high = self["timesteps"] or (0.0, 1000.0)
        return low - _ROUNDING <= timestep <= high + _ROUNDING

    def acts_in(self, layer: int) -> bool:
        """Whether it edits a block."""
        layers = self["layers"]
        return layers is None or layer in layers

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

    A skipped block has no map: it is NaN, and listed in ``attrs["missing"]``.
    """

    layers: Numbers
    timesteps: Range = None


@dataclass(frozen=True)
class ScaleHeads(Intervention):
    """Multiply the output of heads, before the output projection; 0 knocks them out.

    The concepts' own head output stays as it is, so the ``output`` score of the block scales by the factor.
    ``streams`` narrows it to the ``"image"`` patches or to the ``"text"`` tokens of the prompt.
    """

    layers: Numbers
    heads: Numbers = None
    factor: float = 0.0
    streams: Streams = STREAMS
    timesteps: Range = None


@dataclass(frozen=True)
class MeanHeads(Intervention):
    """Replace the output of heads, before the output projection, by its mean over patches in other runs.

    ``references`` are those runs; by default the run itself without any edit. With ``"text"`` among ``streams`` the
    prompt's tokens get the mean over the prompt's tokens.
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers
    heads: Numbers = None
    references: Source | Iterable[Source] = (ITSELF,)
    streams: Streams = ("image",)
    timesteps: Range = None

    def sources(self) -> tuple[Source, ...]:
        return cast(tuple[Source, ...], self.references)


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

    of_concepts: ClassVar[bool] = True

    mode: str
    layers: Numbers = None
    timesteps: Range = None


@dataclass(frozen=True)
class DropConcept(Intervention):
    """Hide concepts, by name or position, from the other concepts.

    Over all blocks, the others' scores are those of a run without them. They still see themselves and the image, and
    keep maps of their own, so the dataset keeps its shape.
    """

    of_concepts: ClassVar[bool] = True

    concepts: int | str | Iterable[int | str]
    layers: Numbers = None
    timesteps: Range = None

    def units(self) -> tuple[str, tuple[Any, ...]]:
        return "concept", cast(tuple[Any, ...], self.concepts)


@dataclass(frozen=True)
class Patch(Intervention):
    """Put activations of another run in place: the output of blocks or, with ``heads``, that of their heads.

    ``source`` is that run, at the same noise levels and without any edit. ``streams`` narrows it to the ``"image"``
    patches or to the ``"text"`` tokens. The concepts go through the block as they would otherwise.
    """

    of_prompt: ClassVar[bool] = True

    layers: Numbers
    heads: Numbers = None
    source: Source = ITSELF
    streams: Streams = STREAMS
    timesteps: Range = None

    def sources(self) -> tuple[Source, ...]:
        return (self.source,)


@dataclass(frozen=True)
class RandomDirection(Intervention):
    """In place of an edit's change, a random one of the same L2 norm at the same place, for each token.

    The control of an edit that leaves no other unit to edit. Where the edit changes heads, the norm is kept for each
    head of each token. Directions are drawn anew for each picture, prompt and seed of the noise, and for each concept
    by its name; with ``shared=True`` all pictures, prompts and noise samples get the same ones, as in early versions.
    """

    of: Intervention
    seed: int = 0
    shared: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.of, Intervention) or isinstance(self.of, RandomDirection):
            raise InputError(f"RandomDirection is of {self.of!r}; expected an edit such as SkipBlock(3).")
        Source(seed=self.seed)
        if not isinstance(self.shared, bool):
            raise InputError(f"shared of a random direction is {self.shared!r}; expected True or False.")

    def as_dict(self) -> dict[str, Any]:
        # Early versions, whose draws were shared, wrote no such field: their runs keep keys of their own.
        return super().as_dict() | {"shared": self.shared}

    def __getitem__(self, name: Any) -> Any:
        return getattr(self, name) if name in ("of", "seed", "shared") else self.of[name]

    def sources(self) -> tuple[Source, ...]:
        return self.of.sources()


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


Given: TypeAlias = Intervention | Mapping[str, Any]
"""A description, or what its :meth:`Intervention.as_dict` gave."""


def read(given: Given | Iterable[Given], name: str = "interventions") -> tuple[Intervention, ...]:
    """Read one or several descriptions.

    Parameters
    ----------
    given
        A description, a mapping such as ``attrs["interventions"]`` holds, or an iterable of those.
    name
        What errors call it.

    Raises
    ------
    InputError
        If something else is given, or a mapping describes no edit.
    """
    if isinstance(given, Each) or given is None:
        raise InputError(
            f"{name} is a plan for wb.intervene, which runs its members one after the other; expected edits such as "
            "SkipBlock(3) here."
            if given is not None
            else f"{name} is None; expected edits such as SkipBlock(3), or () for none."
        )
    if isinstance(given, Intervention | Mapping):
        return (_read_one(given, name),)
    kind = getattr(given, "__self__", given)
    if isinstance(kind, type) and issubclass(kind, Intervention):
        raise InputError(
            f"{name} is {kind.__name__} itself; expected one of its kind such as {kind.__name__}(3), or a plan of all, "
            f"{kind.__name__}.each(), with parentheses."
        )
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"{name} is {given!r}; expected edits such as SkipBlock(3).")
    return tuple(_read_one(one, name) for one in given)


def _read_one(given: Any, name: str = "interventions") -> Intervention:
    if isinstance(given, Intervention) and type(given) is not Intervention:
        return given
    kinds = {kind.__name__: kind for kind in Intervention.__subclasses__()}
    if not isinstance(given, Mapping) or given.get("edit") not in kinds:
        raise InputError(f"{name} holds {given!r}; expected edits such as SkipBlock(3): {', '.join(kinds)}.")
    kind, options = kinds[given["edit"]], {name: value for name, value in given.items() if name != "edit"}
    try:
        if isinstance(options.get("source"), Mapping):
            options["source"] = Source(**options["source"])
        if "references" in options:
            options["references"] = [Source(**one) for one in options["references"]]
        if kind is RandomDirection:
            options.setdefault("shared", True)
            options["of"] = _read_one(options.get("of"))
        return kind(**options)
    except TypeError as error:
        raise InputError(f"{name} holds {dict(given)!r}, which is no {kind.__name__}: {error}.") from error


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
