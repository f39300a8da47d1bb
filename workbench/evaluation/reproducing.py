"""The paper's tables again: each row as an entry, beside what was published."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from workbench.evaluation.captured import Captures
from workbench.evaluation.datasets import DataSet
from workbench.evaluation.entries import Entry, entry
from workbench.evaluation.harness import Evaluation, run
from workbench.evaluation.methods import floors
from workbench.evaluation.printing import table
from workbench.evaluation.protocols import Protocol, preset, set_knobs
from workbench.evaluation.published import Published, row
from workbench.evaluation.sources import open_data
from workbench.models.layers import usual_layers
from workbench.schema import InputError

Table = Literal["table1", "table2", "table3", "table4", "figure7"]
TIMESTEPS: Final = (900.0, 800.0, 700.0, 600.0, 500.0, 400.0, 300.0, 200.0, 100.0)
BUNDLED_LIMIT: Final = 100
"""Drawn scenes of a table, unless another number is asked for."""
SCHNELL: Final = "black-forest-labs/FLUX.1-schnell"


@dataclass(frozen=True)
class _Line:
    """A row of a table: its title, the method, how the protocol differs, and the published row it stands beside."""

    title: str
    method: str
    changes: Mapping[str, Any]
    published: str


_OURS: Final = "ConceptAttention, FLUX.1-schnell"
_CROSS: Final = "cross attention, FLUX.1-schnell"
_BOTH: Final = (
    _Line("output (ConceptAttention)", "output", {}, _OURS),
    _Line("cross attention", "cross", {}, _CROSS),
)
_LINES: Final[dict[str, tuple[_Line, ...]]] = {
    "table1": _BOTH,
    "table2": _BOTH,
    "table3": tuple(
        _Line(
            f"{'cross attention' if space == 'cross' else space}, {'softmax' if soft else 'no softmax'}",
            space,
            {"reduce": "softmax_mean" if soft else "mean"},
            f"{'cross attention' if space == 'cross' else space}, {'softmax' if soft else 'no softmax'}",
        )
        for space in ("cross", "value", "output")
        for soft in (False, True)
    ),
    "table4": tuple(
        _Line(title, "output", {"attend": attend}, title)
        for title, attend in (
            ("attends to neither", "none"),
            ("attends to concepts", "concepts"),
            ("attends to the image", "image"),
            ("attends to both", "both"),
        )
    ),
}
TITLES: Final = {
    "table1": "Table 1: one class an image",
    "table2": "Table 2: all classes of an image",
    "table3": "Table 3: which space, with softmax over the concepts and without",
    "table4": "Table 4: what concepts attend to",
    "figure7": "Figure 7: by layer, and by timestep",
}
_DATA: Final[dict[str, tuple[str, ...]]] = {
    "table1": ("imagenet", "voc-single"),
    "table2": ("voc-multi",),
    "table3": ("imagenet",),
    "table4": ("imagenet",),
    "figure7": ("imagenet",),
}


@dataclass(frozen=True)
class Reproduction:
    """A table of the paper, made again.

    Attributes
    ----------
    table
        Which one.
    evaluations
        One for each data set.
    published
        Published rows by the title of the entry, one mapping for each evaluation.
    head
        What has to be said before anything else.
    """

    table: str
    evaluations: tuple[Evaluation, ...]
    published: tuple[Mapping[str, Published], ...]
    head: tuple[str, ...]

    def __str__(self) -> str:
        parts = [
            table(one, rows, self.head if number == 0 else ())
            for number, (one, rows) in enumerate(zip(self.evaluations, self.published, strict=True))
        ]
        return "\n\n".join(parts)


def reproduce(
    name: str,
    *,
    imagenet: str | os.PathLike[str] | None = None,
    voc: str | os.PathLike[str] | None = None,
    model: Any = None,
    protocol: str = "paper",
    knobs: Sequence[str] = (),
    limit: int | None = None,
    batch: int = 8,
    any_count: bool = False,
    split: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Reproduction:
    """Make a table of Helbling et al. 2025 again.

    Parameters
    ----------
    name
        ``"table1"`` to ``"table4"``, or ``"figure7"``.
    imagenet, voc
        Where ImageNet-Segmentation and PascalVOC 2012 are. Without either, drawn scenes take their place.
    model
        As :func:`workbench.capture` takes it. By default FLUX.1-schnell for the paper's data, and the bundled model for
        drawn scenes.
    protocol, knobs, limit, batch, any_count, split, folder, progress
        As for :func:`workbench.evaluate`. Of drawn scenes 100 are taken by default.

    Returns
    -------
    Reproduction
        ``print`` it.

    Raises
    ------
    InputError
        If there is no such table, or data set.
    ModelError
        If the model cannot be loaded.
    """
    if name not in TITLES:
        raise InputError(f"there is no {name!r}; expected one of {', '.join(TITLES)}.")
    sets = _sets(name, imagenet, voc, any_count, split)
    drawn = sets[0].source["data"].startswith("scenes-")
    chosen = model if model is not None else "tiny-flux" if drawn else SCHNELL
    captures = Captures(chosen)
    done, beside = [], []
    for data in sets:
        rules = set_knobs(preset(protocol, data), knobs)
        entries, published = _entries(name, data, rules, captures)
        count = limit if limit is not None else BUNDLED_LIMIT if drawn else None
        done.append(
            run(
                data,
                entries,
                captures,
                limit=count,
                batch=batch,
                any_count=any_count,
                folder=folder,
                progress=progress,
            )
        )
        beside.append(published)
        captures = Captures(captures.pipe())
    return Reproduction(name, tuple(done), tuple(beside), _head(name, sets, drawn, chosen))


def _sets(name: str, imagenet: Any, voc: Any, any_count: bool, split: str | None) -> list[DataSet]:
    given = {"imagenet": imagenet, "voc-single": voc, "voc-multi": voc}
    wanted = _DATA[name]
    unused = [key for key, path in (("imagenet", imagenet), ("voc", voc)) if path is not None]
    unused = [key for key in unused if not any(one.startswith(key) for one in wanted)]
    if unused:
        raise InputError(f"{name} is of {' and '.join(wanted)}, and has no use for {', '.join(unused)}: leave it out.")
    found = [open_data(one, path=Path(given[one]), any_count=any_count) for one in wanted if given[one] is not None]
    if found and split is not None:
        raise InputError("split names seeds of drawn scenes, and a data set was given: leave one out.")
    kind = "scenes-multi" if name == "table2" else "scenes-single"
    return list(found) or [open_data(kind, split=split)]


def _entries(name: str, data: DataSet, rules: Protocol, captures: Captures) -> tuple[list[Entry], dict[str, Published]]:
    entries, published = [], {}
    if name == "figure7":
        whole, layers = captures.resolved(rules), captures.adapter().layers
        blocks = [one.index for one in usual_layers(layers)]
        lines = [_Line(f"layer {block}", "output", {"layers": (block,)}, "") for block in blocks]
        lines.append(_Line("all of these layers", "output", {"layers": tuple(blocks)}, ""))
        lines += [_Line(f"timestep {time:g}", "output", {"timestep": time}, "") for time in TIMESTEPS]
        rules = replace(whole, name=rules.name)
    else:
        lines = list(_LINES[name])
    source = str(data.source["data"])
    # On drawn scenes the rows of the paper's own data set stand there for orientation.
    like = source if source in _DATA[name] else _DATA[name][0]
    for line in lines:
        changes = dict(line.changes)
        reduce = changes.get("reduce", rules.reduce)
        if line.method in ("cross", "value") and rules.name.startswith("public") and reduce == "softmax_mean":
            changes["heads"] = "softmax"
        if line.method == "cross" and rules.name.startswith("public") and like == "imagenet":
            changes["concept_norm"] = "none"  # the public code fails where it is asked to normalise these
        entries.append(entry(line.method, rules.changed(**changes), captures, line.title))
        if (found := row(name, like, line.published)) is not None:
            published[line.title] = found
    return entries + [entry(floor, rules, captures) for floor in floors(data)], published


def _head(name: str, sets: Sequence[DataSet], drawn: bool, model: Any) -> tuple[str, ...]:
    lines = [f"{TITLES[name]} (Helbling et al. 2025, arXiv 2502.04320)"]
    if drawn:
        wanted = " or ".join(
            {"imagenet": "--imagenet PATH", "voc-single": "--voc PATH", "voc-multi": "--voc PATH"}[one]
            for one in _DATA[name]
        )
        lines.append(
            f"NOT the paper's experiment: no data set was given ({wanted}), so this is of drawn scenes"
            + (" and the bundled model tiny-flux" if model == "tiny-flux" else "")
            + ". "
            + ("Published rows stand beside it for orientation; the" if name != "figure7" else "The")
            + " figures cannot be compared with the paper's."
        )
    elif model == "tiny-flux":
        lines.append("NOT the paper's experiment: the bundled model knows drawn scenes only.")
    return (*lines, "")
