"""One HTML page about evaluations: opens anywhere, runs nothing, asks nothing of the network."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workbench.evaluation.datasets import present
from workbench.evaluation.examples import read
from workbench.evaluation.explaining import knobs, notes
from workbench.evaluation.foreign_text import shortened
from workbench.evaluation.harness import Evaluation, Result
from workbench.evaluation.methods import TITLES
from workbench.evaluation.names import BLIND
from workbench.evaluation.parts import Row
from workbench.evaluation.printing import COLUMNS, beside, compared, intervals, meanings, measured, models, remarks
from workbench.evaluation.published import Published, row
from workbench.evaluation.reproducing import Reproduction
from workbench.evaluation.stored import Gone, load
from workbench.evaluation.summaries import METRICS, ranked
from workbench.schema import InputError, WorkbenchError
from workbench.store.files import write_file

_SHOWN: Final = 3
"""Images of each kind: best, in the middle, worst."""
_NAME: Final = 60
"""Letters of a name beside an image; the rest is seen when pointed at."""
_SIDE: Final = 256
_CLASSES: Final = 200
_FAILURES: Final = 200


def write_report(
    given: Evaluation | Reproduction | Sequence[str | os.PathLike[str]], path: str | os.PathLike[str]
) -> Path:
    """Write a page about evaluations.

    Parameters
    ----------
    given
        What :func:`workbench.evaluate` or ``reproduce`` gave, or folders that hold rows of evaluations.
    path
        The file, which is replaced when it exists.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        If the name of the file is no HTML file's, or a folder holds no row.
    StoreError
        If a folder holds no evaluation.
    """
    target = Path(path)
    if target.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"the page is {target.name!r}; expected a name that ends in .html.")
    head: tuple[str, ...] = ()
    published: Sequence[Mapping[str, Published]]
    if isinstance(given, Reproduction):
        evaluations, published, head = list(given.evaluations), given.published, given.head
    else:
        evaluations = [given] if isinstance(given, Evaluation) else load(given)
        published = [_published(one) for one in evaluations]
    text = page(evaluations, published, head)
    if not target.parent.is_dir():
        raise InputError(f"there is no folder {target.parent} for the page: make it, or give another name.")
    write_file(target, text.encode("utf-8", "replace"))
    return target


def page(
    evaluations: Sequence[Evaluation], published: Sequence[Mapping[str, Published]], head: Sequence[str] = ()
) -> str:
    """The text of the page. It holds no script, and its style has the checksum that its policy names."""
    style = files(__package__).joinpath("static", "report.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = head[0] if head else " and ".join(one.data.name for one in evaluations)
    alone = len(evaluations) == 1 and not head
    body = "".join(_section(one, rows, not alone) for one, rows in zip(evaluations, published, strict=True))
    said = "".join(f'<p class="warning">{_text(line)}</p>' for line in head[1:] if line)
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        "<meta name='referrer' content='no-referrer'>"
        f"<title>{_text(title)}</title><style>{style}</style></head><body>"
        f"<h1>{_text(title)}</h1>{said}{body}</body></html>\n"
    )


def _section(evaluation: Evaluation, published: Mapping[str, Published], titled: bool) -> str:
    parts = [f"<h2>{_text(evaluation.data.name)}</h2>"] if titled else []
    parts += [f"<p>{_text(measured(evaluation)[0])}</p>"]
    parts += [f"<p class='quiet'>model: {_text(name)}</p>" for name in models(evaluation)]
    parts.append(_figures(evaluation, published))
    parts.append(_protocols(evaluation))
    parts.append(_classes(evaluation))
    parts += _pictures(evaluation)
    parts.append(_failures(evaluation))
    return "".join(parts)


def _figures(evaluation: Evaluation, published: Mapping[str, Published]) -> str:
    names = [name for name in METRICS if any(not math.isnan(one.summary.values[name]) for one in evaluation.results)]
    said = meanings(evaluation, names)
    head = "".join(f"<th title='{_text(said[name])}'>{_text(COLUMNS[name])}</th>" for name in names)
    rows = []
    for one in evaluation.results:
        cells = "".join(f"<td>{_cell(one, name)}</td>" for name in names)
        kind = " class='floor'" if one.method in BLIND else ""
        rows.append(
            f"<tr{kind}><td class='name'>{_text(one.title)}</td>{cells}<td>{one.summary.images:,}</td>"
            f"<td><small>{one.protocol.hash[:6]}</small></td></tr>"
        )
        if (found := published.get(one.title)) is not None:
            alike = found.data == evaluation.data.source.get("data")
            lines = beside(one, found, names)[: 2 if alike else 1]
            filled = ["".join(f"<td>{_text(part.strip())}</td>" for part in line) for line in lines]
            rows += [f"<tr class='published'>{cells}</tr>" for cells in filled]
    used = "".join(f"<li><b>{_text(COLUMNS[name])}</b>: {_text(said[name])}.</li>" for name in names)
    used += "".join(f"<li>{_text(line)}</li>" for line in remarks(evaluation))
    other = ""
    if published:
        kinds = {compared(one) for one in published.values()}
        kind_of = f"Published mIoUs are compared with ours of the same kind: {', '.join(sorted(kinds))}."
        other = f"<p class='quiet'>{_text(kind_of)}</p>"
    return (
        "<h3>Figures, in per cent</h3><div class='wide'><table class='figures'>"
        f"<thead><tr><th></th>{head}<th>images</th><th>protocol</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        f"</div><p class='quiet'>Small print: {_text(intervals(evaluation))} Grey rows see no image.</p>"
        f"{other}<ul>{used}</ul>"
    )


def _cell(one: Result, name: str) -> str:
    value, low, high = (part[name] for part in (one.summary.values, one.summary.low, one.summary.high))
    if math.isnan(value):
        return "–"
    ends = "" if math.isnan(low) else f"<small>{100 * low:.2f} – {100 * high:.2f}</small>"
    return f"{100 * value:.2f}{ends}"


def _protocols(evaluation: Evaluation) -> str:
    parts = []
    seen: set[str] = set()
    first = evaluation.results[0].protocol
    for one in evaluation.results:
        if one.protocol.hash in seen:
            continue
        seen.add(one.protocol.hash)
        found = knobs(one.protocol, evaluation.data) if not isinstance(evaluation.data, Gone) else []
        if one.protocol is not first and one.protocol.hash != first.hash:
            before = {knob.name: knob.here for knob in knobs(first, evaluation.data)} if found else {}
            changed = ", ".join(f"{knob.name} = {knob.here}" for knob in found if before[knob.name] != knob.here)
            parts.append(f"<p>Protocol {one.protocol.hash[:6]}: the same with {_text(changed)}.</p>")
            continue
        parts.append(f"<h3>Protocol {one.protocol.hash[:6]}: {_text(one.protocol.name)}</h3>")
        if not found:
            record = one.protocol.record()
            rows = "".join(f"<tr><td>{_text(key)}</td><td>{_text(value)}</td></tr>" for key, value in record.items())
            parts.append(f"<table class='knobs'><tbody>{rows}</tbody></table>")
            continue
        sources = any(knob.release for knob in found)
        heads = ["knob", "here", *(["the paper", "code, 2025-01", "code, newest", ""] if sources else [])]
        rows = "".join(
            f"<tr class='{knob.verdict}'>"
            + "".join(f"<td>{_text(part)}</td>" for part in list(knob)[: 5 if sources else 2])
            + (f"<td class='verdict'>{_text(knob.verdict)}</td>" if sources else "")
            + "</tr>"
            for knob in found
        )
        columns = "".join(f"<th>{_text(name)}</th>" for name in heads)
        table = f"<table class='knobs'><thead><tr>{columns}</tr></thead><tbody>{rows}</tbody></table>"
        parts.append(f"<div class='wide'>{table}</div>")
    said = "".join(f"<li>{_text(note)}</li>" for note in notes(evaluation.data))
    return "".join(parts) + (f"<ul>{said}</ul>" if said else "")


def _classes(evaluation: Evaluation) -> str:
    single = evaluation.data.task == "single"
    names = ("background", "foreground") if single else evaluation.data.classes
    found = [one.summary.per_class for one in evaluation.results if len(one.summary.per_class)]
    there = np.flatnonzero(np.isfinite(found).any(0)).tolist() if found else []
    head = "".join(f"<th>{_text(one.title)}</th>" for one in evaluation.results)
    rows = []
    for place in there[:_CLASSES]:
        cells = []
        for one in evaluation.results:
            value = one.summary.per_class[place] if place < len(one.summary.per_class) else math.nan
            cells.append(f"<td>{'–' if math.isnan(value) else f'{100 * value:.1f}'}</td>")
        name = str(names[place])
        rows.append(f"<tr><td title='{_text(name)}'>{_text(shortened(name, _NAME))}</td>{''.join(cells)}</tr>")
    more = f"<p class='quiet'>and {len(there) - _CLASSES} more classes.</p>" if len(there) > _CLASSES else ""
    return (
        f"<h3>IoU of each class over the set, in per cent</h3><div class='wide'><table><thead><tr><th></th>{head}</tr>"
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def _pictures(evaluation: Evaluation) -> Iterator[str]:
    if isinstance(evaluation.data, Gone):
        yield f"<p class='quiet'>{_text(evaluation.data.name)} is not where it was, or was changed: no images here.</p>"
        return
    for one in evaluation.results:
        if one.method in TITLES:
            continue
        scored = ranked(list(one.parts.rows(evaluation.names, previews=True)), one.protocol)
        if not scored:
            continue
        each = min(_SHOWN, len(scored) // 3)
        middle = len(scored) // 2 - each // 2
        kinds = {
            "best": scored[::-1][:each],
            "median": scored[middle : middle + each],
            "worst": scored[:each],
        }
        if not each:  # one or two images
            kinds = {"all": scored[::-1]}
        what = "the map of the class" if one.protocol.task == "single" else "its segmentation"
        yield f"<h3>{_text(one.title)}: best, median and worst images</h3>"
        yield f"<p class='quiet'>Image, truth, and {what}; mIoU of the image.</p>"
        for kind, chosen in kinds.items():
            yield f"<p>{kind}</p><div class='strip'>"
            for value, found in chosen:
                yield "<div class='example'>"
                yield from _strip(evaluation, one, value, found)
                yield "</div>"
            yield "</div>"


def _strip(evaluation: Evaluation, one: Result, value: float, found: Row) -> Iterator[str]:
    assert found.figures is not None
    try:
        task = read(evaluation.data, found.name, one.protocol)
    except (WorkbenchError, OSError) as error:
        yield f"<p class='quiet'>{_text(found.name)}: {_text(error)}</p>"
        return
    words = ", ".join(found.targets)
    single = task.classes == 2
    preview = found.figures.preview
    colours = np.stack([preview] * 3, -1) if single else _coloured(preview)
    truth = _coloured(np.where(task.labels < 0, 255, np.minimum(task.labels, 254)).astype(np.uint8))
    keys = [] if single else [(evaluation.data.classes[place], place) for place in present(task.labels, None)[:6]]
    for pixels, caption, named in (
        (task.example.image, f"{found.name}: {words}", []),
        (truth, "truth", keys),
        (colours, f"mIoU {100 * value:.1f}", []),
    ):
        alt = ": ".join([caption, ", ".join(name for name, _ in named)]) if named else caption
        short = (
            f"{shortened(found.name, _NAME)}: {shortened(words, _NAME)}" if pixels is task.example.image else caption
        )
        swatches = ", ".join(
            f"<span><img class='key' alt='' src='{_png(_coloured(np.full((1, 1), min(place, 254), np.uint8)))}'>"
            f"{_text(shortened(name, _NAME))}</span>"
            for name, place in named
        )
        said = f"{_text(short)}{': ' if named else ''}{swatches}"
        yield (
            f"<figure><img alt='{_text(alt)}' src='{_png(pixels)}'>"
            f"<figcaption title='{_text(alt)}'>{said}</figcaption></figure>"
        )


def _coloured(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Classes in colours: the first is dark, void (255) is white, the others are spread over hues."""
    numbers = np.arange(256)
    hue = (numbers * 0.61803398875) % 1
    channels = [np.clip(np.abs((hue * 6 + shift) % 6 - 3) - 1, 0, 1) for shift in (0, 4, 2)]
    table = np.rint(55 + 200 * np.stack(channels, -1)).astype(np.uint8)
    table[0], table[255] = (40, 40, 40), (255, 255, 255)
    found: NDArray[np.uint8] = table[labels]
    return found


def _png(pixels: NDArray[np.uint8]) -> str:
    image = Image.fromarray(pixels)
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _failures(evaluation: Evaluation) -> str:
    parts = []
    if evaluation.problems:
        lines = "".join(
            f"<li><b>{_text(one.name)}</b>: {_text(one.message)}</li>" for one in evaluation.problems[:_FAILURES]
        )
        more = len(evaluation.problems) - _FAILURES
        rest = f"<p>and {more:,} more.</p>" if more > 0 else ""
        parts.append(f"<h3>{len(evaluation.problems):,} failures</h3><ul>{lines}</ul>{rest}")
    if evaluation.notes:
        lines = "".join(f"<li>{_text(note)} ({count:,} images)</li>" for note, count in evaluation.notes.items())
        parts.append(f"<h3>Warnings</h3><ul>{lines}</ul>")
    return "".join(parts) or "<p class='quiet'>No image failed, and nothing was warned of.</p>"


def _published(evaluation: Evaluation) -> dict[str, Published]:
    """Published rows beside the methods that they are of."""
    kind = str(evaluation.data.source.get("data", ""))
    table = {"imagenet": "table1", "voc-single": "table1", "voc-multi": "table2"}.get(kind)
    titles = {"output": "ConceptAttention, FLUX.1-schnell", "cross": "cross attention, FLUX.1-schnell"}
    found = {}
    for one in evaluation.results:
        if table and one.method in titles and (line := row(table, kind, titles[one.method])) is not None:
            found[one.title] = line
    return found


def _text(value: Any) -> str:
    """Text that is nothing but text, in an attribute as well; what no page may hold becomes a mark."""
    plain = str(value).encode("utf-8", "replace").decode("utf-8")
    held = "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in plain)
    return html.escape(held, quote=True)
