"""Each knob beside the paper's words and the public code's value: where they disagree, where the paper is silent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Final, NamedTuple

from workbench.evaluation.datasets import DataSet
from workbench.evaluation.protocols import Protocol, preset, shown, value_of

_SAID: Final[Mapping[str, str]] = {
    "layers": '"the last 10 of the 18 MMATTN layers" (FLUX.1 has 19 dual blocks)',
    "timestep": '"500 of 1000"',
    "reduce": "softmax over the concepts in every layer, then the mean (eq. 11)",
    "heads": "one inner product over all heads",
    "attend": "to concepts and image",
    "pool": "one token a concept",
    "concept_norm": "inner products of the vectors as they are",
    "vocabulary": '"simple" words',
    "backgrounds": '"background", "grass", "sky" as examples',
}
_MASK: Final = {"single": "above the mean of the map", "multi": "the strongest concept"}
_CROSS: Final = (
    "cross attention: the public code multiplies the image's queries with the concepts' keys, before the rotary "
    "embedding and without the scale. Here cross is of the concepts' queries and the image's keys, and reverse_cross "
    "of the public code's pair, both as the model has them: rotated and scaled."
)
_NOTES: Final[Mapping[str, tuple[str, ...]]] = {
    "imagenet": (
        "mIoU: the public script compares the pair (1 - mask, mask) without an argmax: mIoU = acc / (2 - acc). "
        "Every row of the method obeys it but SD3.5 Turbo (81.92 / 67.47; the identity gives 69.38). The rows of LRP "
        "and its kin come from other code and are true two-class mIoUs: the table mixes two figures.",
        "AP: of the stacked pair after scaling to 0 .. 1; a constant map is 0 / 0 and counts as 0.",
        "cross attention and value: the public code takes the softmax in every head (heads=softmax).",
        _CROSS,
        "cross attention has concept_norm=none in the tables of the public presets: the public code fails where "
        "it is asked to normalise these concepts.",
        "Table 3's script: 1 sample, timestep 750, no blur; yet its row with softmax is the headline's.",
        "the VAE's posterior is drawn from an unseeded generator there, and from the seed of each sample here.",
    ),
    "voc-single": (
        "accuracy: void counts as labelled in one half of the stacked pair, and is never right: a perfect mask of an "
        "image with 6 % void has 0.969.",
        "class discovery: at most two labels at 224 x 224, the background counted: an image of two classes without "
        "background passes, and both are its foreground.",
        "AP: of unscaled products, so that the scale of the scores decides.",
        "mask: argmax for the method and for cross attention, the mean for the other baselines beside them.",
        _CROSS,
        "the VAE's posterior is drawn from an unseeded generator there, and from the seed of each sample here.",
    ),
    "voc-multi": (
        "mIoU: void pixels that were given a class count in its union.",
        "labels, and the classes that are looked for, are read at 64 x 64.",
        _CROSS,
        "the VAE's posterior is drawn from an unseeded generator there, and from the seed of each sample here.",
    ),
}


class Knob(NamedTuple):
    """A knob beside its sources.

    Attributes
    ----------
    name
        Of the knob.
    here
        Its value.
    paper
        What the paper says; empty where it is silent.
    release, head
        The public code's values of 2025-01-30 and of the newest read; empty for data sets that it does not read.
    verdict
        ``"conflict"``: the paper says something else than the code, or the code changed; ``"unsaid"``: the paper is
        silent where the code chose; empty otherwise.
    """

    name: str
    here: str
    paper: str
    release: str
    head: str
    verdict: str


def knobs(protocol: Protocol, data: DataSet) -> list[Knob]:
    """Every knob of a protocol beside its sources."""
    kind = str(data.source.get("data", ""))
    known = kind in _NOTES
    paper, release, head = (
        preset(name, data) if known else None for name in ("paper", "public-release", "public-head")
    )
    found = []
    for one in fields(Protocol):
        name = one.name
        if name in ("name", "task"):
            continue
        here = value_of(protocol, name)
        if paper is None or release is None or head is None:
            found.append(Knob(name, here, "", "", "", ""))
            continue
        said = _MASK[protocol.task] if name == "mask" else _SAID.get(name, "")
        values = [getattr(record, name) for record in (release, head)]
        if values[0] != values[1] or (said and values[1] != getattr(paper, name)):
            verdict = "conflict"
        else:
            verdict = "" if said else "unsaid"
        found.append(Knob(name, here, said, shown(values[0]), shown(values[1]), verdict))
    return found


def notes(data: DataSet) -> tuple[str, ...]:
    """What no knob says of the published figures of a data set."""
    return _NOTES.get(str(data.source.get("data", "")), ())


def explain(protocol: Protocol, data: DataSet) -> str:
    """A table of every knob beside its sources, and what else there is to know."""
    found = knobs(protocol, data)
    head = ["knob", "here", "the paper", "code, 2025-01", "code, newest", ""]
    if not any(one.release for one in found):
        rows = [[one.name, one.here] for one in found]
        return "\n".join([f"protocol {protocol.name} ({protocol.hash})", *_aligned([head[:2], *rows])])
    rows = [[one.name, one.here, one.paper or "-", one.release, one.head, one.verdict] for one in found]
    lines = [f"protocol {protocol.name} ({protocol.hash}) for {data.name}", *_aligned([head, *rows])]
    conflicts = [one.name for one in found if one.verdict == "conflict"]
    unsaid = [one.name for one in found if one.verdict == "unsaid"]
    lines += ["", f"paper and code, or two states of the code, disagree on: {', '.join(conflicts)}"]
    lines += [f"the paper does not say, and the code chose: {', '.join(unsaid)}"]
    return "\n".join([*lines, *(f"- {note}" for note in notes(data))])


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip() for row in rows]
