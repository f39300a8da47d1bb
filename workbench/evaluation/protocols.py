"""Every knob of an evaluation in one frozen record: presets, changes by name, and a hash."""

from __future__ import annotations

import hashlib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal, get_args, get_origin

from workbench.evaluation.datasets import DataSet, Discovery, Task
from workbench.evaluation.vocabulary import Vocabulary
from workbench.numerics.average_precision import Scaling
from workbench.schema import InputError
from workbench.store.locations import canonical_json

Preset = Literal["default", "paper", "public-release", "public-head"]
PRESETS: Final = get_args(Preset)
IMAGENET_BACKGROUNDS: Final = ("background", "floor", "tree", "person", "grass", "face")
VOC_BACKGROUNDS: Final = ("background", "floor", "grass", "tree", "sky")


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is measured, and how.

    Attributes
    ----------
    name
        Of the preset it began as; not hashed.
    task
        ``"single"``: one foreground against everything else; ``"multi"``: all classes of an image.
    layers
        Blocks by depth; None for the model's default layers.
    timestep
        1000 x sigma; None for the model's own choice.
    samples, seed
        Noise samples, and the seed of the first one; the VAE's posterior uses the same seeds.
    concept_norm
        ``"linear"``: concept vectors are normalised across concepts, channel by channel, before the product.
    reduce
        How scores become a map: the paper's ``"softmax_mean"``, ``"mean_softmax"``, or no softmax: ``"mean"``,
        ``"sum"`` (the same map at another scale, which average precision without scaling depends on).
    heads
        ``"sum"`` of the scores, or ``"softmax"`` in every head and then the mean.
    attend, pool
        As :func:`workbench.capture` takes them.
    blur
        Standard deviation of a Gaussian over 3 x 3 cells of the finished map; 0 for none.
    backgrounds
        Words for what is no class of the data set.
    targets
        Whether the classes' words come before the background words or after them; the first of equals wins.
    vocabulary
        ``"corrected"``, the ``"public"`` code's words, or the data set's ``"own"`` names.
    caption
        The model's prompt, ``{}`` for each class, joined by commas; empty for none.
    mask
        ``"mean"``: above the map's own mean; ``"argmax"``: where a class beats every other concept.
    mask_at
        Over what the mean is taken: the ``"grid"`` of the map, or all ``"pixels"``.
    image_resize
        ``"antialiased"`` to the model's native area, the aspect kept; or steps to squares, such as
        ``"bicubic 512, nearest 1024"``.
    label_size
        Side of the square that labels are resized to, by nearest neighbour; None for none.
    nearest
        Which cell a pixel takes: that at its ``"centre"``, or at its ``"corner"`` as torch's interpolation.
    discovery
        In which label map the classes are looked for: the ``"full"`` or the ``"resized"`` one.
    void
        ``"excluded"`` everywhere, or ``"public"``: counted as the public scripts count it.
    ap_scaling
        What the stacked average precision does to maps first: ``"minmax"`` or ``"none"``.
    compared
        Which mIoU stands beside published ones: ``"set"`` or ``"stacked"``. All are always given.
    """

    name: str = "default"
    task: Task = "single"
    layers: tuple[int, ...] | None = None
    timestep: float | None = None
    samples: int = 5
    seed: int = 0
    concept_norm: Literal["none", "linear"] = "none"
    reduce: Literal["softmax_mean", "mean_softmax", "mean", "sum"] = "softmax_mean"
    heads: Literal["sum", "softmax"] = "sum"
    attend: Literal["both", "image", "concepts", "none"] = "both"
    pool: Literal["first", "mean"] = "first"
    blur: float = 0.0
    backgrounds: tuple[str, ...] = ()
    targets: Literal["first", "last"] = "first"
    vocabulary: Vocabulary = "corrected"
    caption: str = "a {}"
    mask: Literal["mean", "argmax"] = "mean"
    mask_at: Literal["grid", "pixels"] = "grid"
    image_resize: str = "antialiased"
    label_size: int | None = None
    nearest: Literal["centre", "corner"] = "centre"
    discovery: Discovery = "full"
    void: Literal["excluded", "public"] = "excluded"
    ap_scaling: Scaling = "minmax"
    compared: Literal["set", "stacked"] = "set"

    def __post_init__(self) -> None:
        """Check each knob and what they ask of one another."""
        for knob in fields(self):
            _check(knob.name, getattr(self, knob.name), _HINTS[knob.name])
        for name, sound in (("samples", 1 <= self.samples <= 64), ("seed", self.seed >= 0), ("blur", self.blur >= 0)):
            if not sound:
                raise InputError(f"{name} is {getattr(self, name)}; expected a number that makes sense there.")
        if self.timestep is not None and not 0 < self.timestep <= 1000:
            raise InputError(f"timestep is {self.timestep}; expected 1000 x sigma, above 0 and up to 1000.")
        if self.label_size is not None and not 8 <= self.label_size <= 4096:
            raise InputError(f"label_size is {self.label_size}; expected 8 to 4096 pixels, or none.")
        if self.task == "multi" and (self.mask != "argmax" or self.compared != "set"):
            raise InputError(
                "with several classes mask is 'argmax' and compared 'set': a mean or a pair is of one map."
            )
        if self.heads == "softmax" and self.reduce != "softmax_mean":
            raise InputError("heads='softmax' takes a softmax in every head: it goes with reduce='softmax_mean' alone.")
        if self.caption and "{}" not in self.caption:
            raise InputError(f"caption is {self.caption!r}; expected {{}} for the class, such as 'a {{}}', or nothing.")
        if self.discovery == "resized" and self.label_size is None:
            raise InputError("discovery='resized' looks for classes in resized labels: give label_size too.")
        resize_steps(self.image_resize)

    def record(self) -> dict[str, Any]:
        """All knobs as plain values; not the name."""
        found = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        del found["name"]
        return found

    @property
    def hash(self) -> str:
        """Twelve characters that differ whenever a knob does."""
        return hashlib.sha256(canonical_json(self.record()).encode()).hexdigest()[:12]

    def changed(self, **knobs: Any) -> Protocol:
        """The same with other values, which the name then says."""
        different = {key: value for key, value in knobs.items() if getattr(self, key) != value}
        if not different:
            return self
        said = ", ".join(f"{key}={shown(value)}" for key, value in different.items())
        return replace(
            self, name=f"{self.name} with {said}" if " with " not in self.name else f"{self.name}, {said}", **different
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any], name: str = "stored") -> Protocol:
        """A protocol from what :meth:`record` gave."""
        knobs: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        return cls(name=name, **knobs)


def preset(name: str, data: DataSet) -> Protocol:
    """A preset for a data set.

    Parameters
    ----------
    name
        ``"default"``, which leaves layers and timestep to the model where the data set is none of the paper's;
        ``"paper"``: what the paper says, and the default where it is silent; ``"public-release"`` and
        ``"public-head"``: the public code of 2025-01-30 (9c69fd5) and the newest read (db30c4d). The last three are for
        the data sets of the paper; on drawn scenes they are the same with the layers, timestep, size, words (and no
        caption) that the bundled model has, and one sample.

    Raises
    ------
    InputError
        If there is no such preset for the data set.
    """
    if name not in PRESETS:
        raise InputError(f"protocol is {name!r}; expected one of {', '.join(PRESETS)}.")
    kind = str(data.source.get("data", ""))
    like = {"scenes-single": "imagenet", "scenes-multi": "voc-multi"}.get(kind, kind)
    knobs: dict[str, Any] = _default(data.task)
    if name != "default":
        if like not in _PUBLIC:
            raise InputError(
                f"protocol {name!r} is for the data sets of the paper ({', '.join(_PUBLIC)}); for {data.name} take "
                "'default', and change knobs by name."
            )
        knobs |= _PAPER if name == "paper" else _PUBLIC[like] | (_RELEASE if name == "public-release" else {})
        knobs |= {"compared": "stacked"} if like == "imagenet" else {}
    if kind.startswith("scenes-"):
        knobs |= _scenes(data.task)
    elif like == "imagenet":
        knobs["backgrounds"] = IMAGENET_BACKGROUNDS
    elif data.background is not None:
        knobs["backgrounds"] = VOC_BACKGROUNDS
    if like not in _PUBLIC or kind.startswith("scenes-"):
        knobs |= {"vocabulary": "own", "layers": None, "timestep": None}
    said = f"{name}, fitted to drawn scenes" if kind.startswith("scenes-") and name != "default" else name
    return Protocol(name=said, **knobs)


def _default(task: Task) -> dict[str, Any]:
    return {
        "task": task,
        "mask": "mean" if task == "single" else "argmax",
        "layers": tuple(range(9, 19)),
        "timestep": 500.0,
    }


def _scenes(task: Task) -> dict[str, Any]:
    """What the bundled model needs: its own layers, timestep, size and words; one sample, as in its model card."""
    from workbench.evaluation.drawn_scenes import GROUND_WORDS

    return {
        "layers": None,
        "timestep": None,
        "samples": 1,
        "seed": 0,
        "backgrounds": GROUND_WORDS if task == "single" else (),
        "caption": "",
        "image_resize": "antialiased",
        "label_size": None,
        "discovery": "full",
    }


_PAPER: Final[dict[str, Any]] = {"vocabulary": "public"}
_RELEASE: Final[dict[str, Any]] = {"concept_norm": "linear"}
_ALWAYS: Final[dict[str, Any]] = {"vocabulary": "public", "nearest": "corner", "discovery": "resized", "void": "public"}
_PUBLIC: Final[dict[str, dict[str, Any]]] = {
    "imagenet": _ALWAYS
    | {
        "layers": (14, 15, 16, 17),
        "seed": 4,
        "blur": 1.0,
        "image_resize": "bicubic 512, nearest 1024",
        "label_size": 224,
    },
    "voc-single": _ALWAYS
    | {
        "layers": (14, 15, 16, 17, 18),
        "timestep": 513.0,
        "samples": 1,
        "concept_norm": "linear",
        "reduce": "sum",
        "blur": 1.0,
        "targets": "last",
        "mask": "argmax",
        "image_resize": "nearest 512, nearest 1024",
        "label_size": 224,
        "ap_scaling": "none",
    },
    "voc-multi": _ALWAYS
    | {
        "layers": (14, 15, 16, 17),
        "timestep": 513.0,
        "samples": 1,
        "concept_norm": "linear",
        "reduce": "sum",
        "targets": "last",
        "image_resize": "nearest 1024",
        "label_size": 64,
        "ap_scaling": "none",
    },
}


def set_knobs(protocol: Protocol, settings: Iterable[str]) -> Protocol:
    """Change knobs as the command line names them: ``"layers=14-17"``, ``"blur=1"``, ``"backgrounds=sky,grass"``.

    Raises
    ------
    InputError
        If one is no ``knob=value``, or a knob or value is unknown; lists what there is.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in _HINTS or name in ("name", "task"):
            known = ", ".join(key for key in _HINTS if key not in ("name", "task"))
            raise InputError(f"--set {setting!r} is no knob=value; the knobs are {known}.")
        changes[name] = _parsed(name, text.strip())
    return protocol.changed(**changes)


def resize_steps(text: str) -> list[tuple[str, int]]:
    """The steps of ``image_resize``: (filter, side); none for ``"antialiased"``.

    Raises
    ------
    InputError
        If it is neither.
    """
    if text == "antialiased":
        return []
    steps = []
    for part in text.split(","):
        how, _, side = part.strip().partition(" ")
        if how not in ("nearest", "bilinear", "bicubic") or not side.isdecimal() or not 8 <= int(side) <= 4096:
            raise InputError(
                f"image_resize is {text!r}; expected 'antialiased', or steps such as 'bicubic 512, nearest 1024' with "
                "nearest, bilinear or bicubic."
            )
        steps.append((how, int(side)))
    return steps


def shown(value: Any) -> str:
    """A knob's value for people."""
    if value is None:
        return "none"
    if isinstance(value, tuple) and value and all(isinstance(one, int) for one in value):
        return spans(value)
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if value != "" else "nothing"


def value_of(protocol: Protocol, name: str) -> str:
    """A knob's value for people; None of a layer or timestep is the model's own."""
    value = getattr(protocol, name)
    return "the model's own" if value is None and name in ("layers", "timestep") else shown(value)


def spans(numbers: Sequence[int]) -> str:
    """Whole numbers with runs drawn together: 9-18."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in found)


def _parsed(name: str, text: str) -> Any:
    kinds = _kinds(_HINTS[name])
    if type(None) in kinds and text.lower() in ("none", "default", ""):
        return None
    try:
        if tuple in kinds and name == "layers":
            found: list[int] = []
            for part in text.split(","):
                low, _, high = part.strip().partition("-")
                found += range(int(low), int(high or low) + 1)
            return tuple(found)
        if tuple in kinds:
            return (
                () if text.lower() in ("none", "") else tuple(part.strip() for part in text.split(",") if part.strip())
            )
        if int in kinds:
            return int(text)
        if float in kinds:
            return float(text)
    except ValueError as error:
        raise InputError(f"--set {name}={text!r} cannot be read; expected {_expected(_HINTS[name])}.") from error
    return text


def _check(name: str, value: Any, hint: Any) -> None:
    kinds = _kinds(hint)
    options = [one for one in kinds if isinstance(one, str)]
    if options:
        sound = isinstance(value, str) and value in options
    elif isinstance(value, tuple):
        inner = int if name == "layers" else str
        sound = tuple in kinds and all(type(one) is inner and one not in ("", -1) for one in value)
        sound = sound and len(set(value)) == len(value) and (name != "layers" or (bool(value) and min(value) >= 0))
    else:
        sound = type(value) in kinds or (type(value) is int and float in kinds)
    if not sound:
        raise InputError(f"{name} is {value!r}; expected {_expected(hint)}.")


def _kinds(hint: Any) -> list[Any]:
    """What a value of a type hint may be: types, and strings of a Literal."""
    origin = get_origin(hint)
    if origin is Literal:
        return list(get_args(hint))
    if origin in (typing.Union, types.UnionType):
        return [kind for part in get_args(hint) for kind in _kinds(part)]
    return [origin or hint]


def _expected(hint: Any) -> str:
    kinds = _kinds(hint)
    names = {
        int: "a whole number",
        float: "a number",
        str: "text",
        tuple: "different ones, by commas",
        type(None): "none",
    }
    return " or ".join(repr(kind) if isinstance(kind, str) else names[kind] for kind in kinds)


_HINTS: Final[dict[str, Any]] = typing.get_type_hints(Protocol)
