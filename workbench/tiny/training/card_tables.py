"""The figures of :mod:`workbench.tiny.training.evaluate` as the Markdown tables of the model card.

``python -m workbench.tiny.training.card_tables FILE FILE FILE`` sets those of several training seeds side by side: JSON
files of ``python -m workbench.tiny.training.evaluate --json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]
"""A figure as plain values: ``words``, ``objects``, ``backgrounds`` and ``interval``."""


_COLUMNS = ["map", "all words", "objects", "backgrounds", "all words, distracted", "objects", "backgrounds"]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _value(found: Found) -> str:
    """The mean and half of its 95 % interval."""
    low, high = found["interval"]
    return f"{found['words']:.3f} ± {(high - low) / 2:.3f}"


def _bounded(found: Found) -> str:
    low, high = found["interval"]
    return f"{found['words']:.3f} ({low:.3f} to {high:.3f})"


def _row(name: str, alone: Found, beside: Found) -> list[str]:
    parts = (f"{one[part]:.3f}" for one in (alone, beside) for part in ("objects", "backgrounds"))
    objects, grounds, more_objects, more_grounds = parts
    return [name, _bounded(alone), objects, grounds, _bounded(beside), more_objects, more_grounds]


def _findings(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the paper says of FLUX.1, and what is measured here."""
    output, duals = result["layers"]["output"], list(result["layers"]["output"])
    duals = duals[: result["dual_layers"]]
    means = {layer: output[layer]["words"] for layer in duals}
    best = max(means, key=lambda layer: means[layer])
    rising = sum(means[b] > means[a] for a, b in itertools.pairwise(duals))
    times = {time: found["words"] for time, found in result["timesteps"]["output"].items()}
    peak = max(times, key=lambda time: times[time])
    spaces, raw, attend = result["spaces"], result["raw"]["output"], result["attend"]
    first = max(attend, key=lambda mode: attend[mode]["words"])

    def versus(one: Found, other: Found) -> str:
        return f"{_bounded(one)} against {_bounded(other)}"

    return [
        (
            "deeper layers are better",
            f"{rising} of {len(duals) - 1} steps between dual blocks go up; the best is block {best} "
            f"({means[best]:.3f}), the first has {means[duals[0]]:.3f}",
        ),
        ("all layers beat the best single one", versus(result["all_dual"]["output"], output[best])),
        (
            "mid noise is best",
            f"best at timestep {float(peak):g} ({times[peak]:.3f}); "
            + ", ".join(
                f"{times[end]:.3f} at {float(end):g}" for end in (min(times, key=float), max(times, key=float))
            ),
        ),
        ("output beats cross attention", versus(spaces["output"], spaces["cross"])),
        ("the softmax over concepts helps", versus(spaces["output"], raw)),
        (
            "attending to image and concepts is best",
            f"best is `{first}`; " + ", ".join(f"{mode} {found['words']:.3f}" for mode, found in attend.items()),
        ),
    ]


_REFERENCES = {
    "location prior": ("no", "masks of 1000 other scenes"),
    "colour clusters": ("yes", "nothing; the truth names the clusters"),
    "pixel forest": ("yes", "masks of 400 other scenes"),
    "linear probe": ("yes, through the model", "masks of 250 other scenes"),
}
"""Whether a reference sees the image, and what it learns from."""


def _honest(result: Mapping[str, Any]) -> list[str]:
    """What the maps are to be compared with, and how far the figures depend on scenes and on the values' origin."""
    lines: list[str] = []
    if "references" in result:
        lines += ["Other ways to segment the same scenes, with the scene's own words:", ""]
        rows = [
            [name, *_REFERENCES[name], _bounded(found), f"{found['objects']:.3f}", f"{found['backgrounds']:.3f}"]
            for name, found in result["references"].items()
        ]
        lines += _table(["reference", "sees the image", "learnt from", "all words", "objects", "backgrounds"], rows)
    if "centred" in result:
        lines += ['The spaces with every concept measured from its mean over patches (`center="patch"`):', ""]
        rows = [_row(f"`{s}`", found, result["distracted_centred"][s]) for s, found in result["centred"].items()]
        lines += _table(_COLUMNS, rows)
    if "origins" in result:
        lines += [
            "The same network with other origins of its values (`output`, on the first "
            f"{min(found['scenes'] for found in result['origins'].values())} test scenes); *of 255*: by how much a "
            "picture that it makes differs at most:",
            "",
        ]
        head = [
            "values",
            "own words",
            "with absent words",
            "own words, centred",
            "with absent words, centred",
            "of 255",
        ]
        names = ("alone", "beside", "alone, centred", "beside, centred")
        rows = [
            [name, *(_bounded(found[part]) for part in names), str(found["picture"])]
            for name, found in result["origins"].items()
        ]
        lines += _table(head, rows)
    if "held_out" in result:
        lines += ["On scenes that training has not seen:", ""]
        head = [
            "scenes",
            "how many",
            "`output`",
            "with absent words",
            "`cross`",
            "with absent words",
            "chance",
            "oracle",
        ]
        rows = [
            [
                name,
                str(found["scenes"]),
                *(_bounded(found[side][space]) for space in ("output", "cross") for side in ("alone", "beside")),
                *(f"{found[bound]['words']:.3f}" for bound in ("chance", "oracle")),
            ]
            for name, found in result["held_out"].items()
        ]
        lines += _table(head, rows)
    if "criteria" in result:
        lines += [
            "Heads of all layers ranked without masks (`ds.wb.rank_heads`), against their ranking by IoU: Spearman's "
            "correlation in each scene, its mean over scenes, and the 95 % t interval of that mean:",
            "",
            *criteria_table(result["criteria"]),
        ]
    return lines


def criteria_table(found: Mapping[str, Any]) -> list[str]:
    """The rows of :mod:`workbench.tiny.training.criteria` as Markdown."""
    rows = (
        [name, str(one["runs"]), f"{one['mean']:.2f} ({one['interval'][0]:.2f} to {one['interval'][1]:.2f})"]
        for name, one in found.items()
    )
    return _table(["criterion", "scenes", "correlation with IoU"], rows)


def report(result: Mapping[str, Any]) -> str:
    """The figures as Markdown tables."""
    layers, time = result["default_layers"], result["timestep"]
    lines = [
        f"Mean IoU on {result['scenes']} test scenes; layers {layers[0]} to {layers[-1]}, timestep {time:g}; in "
        f"brackets 95 % of the bootstrap draws over scenes; a word that a draw lacks keeps its IoU over all scenes. On "
        f"the right, {result['distractors']} words that are not in the scene are asked for as well.",
        "",
    ]
    named = [
        *((f"`{space}`", found, result["distracted"][space]) for space, found in result["spaces"].items()),
        *((name, found, result["distracted_baselines"][name]) for name, found in result["baselines"].items()),
    ]
    lines += _table(_COLUMNS, (_row(*each) for each in named))
    lines += _honest(result)
    lines += [
        "By layer (dual blocks, then single-stream ones), at the default timestep; ± half of the 95 % interval:",
        "",
    ]
    some = result["layers"]["output"]
    lines += _table(
        ["space", *map(str, some), "all dual"],
        (
            [f"`{s}`", *map(_value, found.values()), _value(result["all_dual"][s])]
            for s, found in result["layers"].items()
        ),
    )
    lines += ["By timestep, with the default layers:", ""]
    times = result["timesteps"]["output"]
    lines += _table(
        ["space", *(f"{float(time):g}" for time in times)],
        ([f"`{s}`", *map(_value, found.values())] for s, found in result["timesteps"].items()),
    )
    lines += ["By head, at the default timestep:", ""]
    heads = range(len(result["heads"]["output"][0]))
    lines += _table(
        ["layer", *(f"`{space}` {head}" for space in result["heads"] for head in heads)],
        (
            [str(layer), *(_value(found) for space in result["heads"] for found in result["heads"][space][layer])]
            for layer in range(len(result["heads"]["output"]))
        ),
    )
    words = sorted(result["per_word"].items(), key=lambda item: -item[1])
    lines += ["`output`, by word: " + ", ".join(f"{word} {value:.2f}" for word, value in words) + ".", ""]
    lines += ["Does the paper's picture hold here?", ""]
    lines += _table(["the paper, on FLUX.1", "here, mean IoU on the test scenes"], _findings(result))
    return "\n".join(lines)


def over_seeds(results: Sequence[Mapping[str, Any]]) -> str:
    """The figures of several training seeds as Markdown tables: their mean, and the lowest and highest.

    Heads of one number have nothing in common from seed to seed, so they are told apart by their own scores. Seeds are
    numbered from 0 in the order of ``results``.
    """

    def told(found: Iterable[Found]) -> str:
        means = [one["words"] for one in found]
        return f"{sum(means) / len(means):.3f} ({min(means):.3f} to {max(means):.3f})"

    def ranked(result: Mapping[str, Any], space: str, layer: int, place: int) -> Found:
        heads: list[Found] = sorted(result["heads"][space][layer], key=lambda found: -found["words"])
        return heads[place]

    spaces, cut = list(results[0]["spaces"]), list(results[0]["heads"])
    heads = results[0]["heads"][cut[0]]
    lines = [
        f"{len(results)} seeds: mean (lowest to highest) of mean IoU on the test scenes, by layer and by timestep:",
        "",
    ]
    for by, name in (("layers", "layer"), ("timesteps", "timestep")):
        lines += _table(
            [name, *(f"`{space}`" for space in spaces)],
            (
                [f"{float(at):g}", *(told(one[by][space][at] for one in results) for space in spaces)]
                for at in results[0][by][spaces[0]]
            ),
        )
    lines += ["By head, the better ones of each seed first:", ""]
    columns = list(itertools.product(cut, range(len(heads[0]))))
    lines += _table(
        ["layer", *(f"`{space}` {place + 1}." for space, place in columns)],
        (
            [str(layer), *(told(ranked(one, space, layer, place) for one in results) for space, place in columns)]
            for layer in range(len(heads))
        ),
    )
    lines += ["Does the paper's picture hold in each?", ""]
    found = [_findings(result) for result in results]
    lines += _table(
        ["the paper, on FLUX.1", *(f"seed {number}" for number in range(len(results)))],
        ([rows[0][0], *(measured for _, measured in rows)] for rows in zip(*found, strict=True)),
    )
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="JSON files of the evaluation, one for each seed")
    print(over_seeds([json.loads(path.read_text()) for path in parser.parse_args().results]))


if __name__ == "__main__":
    main()
