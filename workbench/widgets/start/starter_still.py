"""What the start panel shows at a moment, drawn without a browser."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from workbench.widgets.shared.drawing import Block, Shown, Still, Text
from workbench.widgets.shared.static_output import RUN_THE_CELL
from workbench.widgets.start.form import StartForm, described
from workbench.widgets.start.subjects import Picture

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE: Final = 320
"""Longest side of the chosen picture, in pixels."""
_LONGEST: Final = 160
"""Letters of a prompt, and of a list of concepts."""
_WHAT_IT_IS: Final = "From a picture or a prompt to concept maps of a diffusion transformer, without code."


def still_of_form(form: StartForm, picture: Picture | None, remark: str = "") -> Still:
    """The panel before anything was run: what it is, and what is chosen.

    Parameters
    ----------
    form
        What is chosen.
    picture
        What will be captured.
    remark
        How a run gets on, or what became of it.
    """
    lines = [_subject(form, picture), _concepts(form), f"Model: {_model(form)}."]
    said = remark or "Nothing was run yet."
    blocks: list[Block] = [Text("Concepts in a picture", size=15, bold=True), Text(_WHAT_IT_IS, soft=True)]
    if picture is not None and not form.prompted:
        blocks.append(Shown(_small(picture)))
    blocks += [*map(Text, lines), Text(said, soft=True)]
    words = f"The start panel. {_WHAT_IT_IS} {' '.join(lines)} {said} {RUN_THE_CELL}"
    return Still(words, blocks, {"form": form.to_json()})


def still_of_run(what: str, view: Still, remark: str = "") -> Still:
    """The panel with the view of a run.

    Parameters
    ----------
    what
        Which run is shown.
    view
        What its view shows.
    remark
        How a later run gets on, or what became of it.
    """
    title = f"Start panel, {what}"
    remarks = [Text(remark, soft=True)] if remark else []
    words = " ".join(part for part in (f"{title}.", remark, view.words) if part)
    return Still(words, [Text(title, bold=True), *remarks, *view.blocks], view.facts)


def named(form: StartForm, picture: Picture | None) -> str:
    """A run in a few words, in one line."""
    return _cut(described(form, picture.name if picture else ""))


def _subject(form: StartForm, picture: Picture | None) -> str:
    if form.prompted:
        return f"Prompt: “{_cut(form.prompt)}”." if form.prompt.strip() else "No prompt is typed yet."
    return "No picture is chosen yet." if picture is None else f"Picture: {_cut(picture.name)}."


def _concepts(form: StartForm) -> str:
    return f"Concepts: {_cut(', '.join(form.concepts))}." if form.concepts else "No concepts are typed yet."


def _model(form: StartForm) -> str:
    return f"{form.model}, in the kernel" if form.kernel else _cut(form.model) or "none yet"


def _cut(text: str) -> str:
    return textwrap.shorten(text, _LONGEST, placeholder="…")


def _small(picture: Picture) -> Image:
    from PIL.Image import fromarray

    image = fromarray(picture.pixels)
    image.thumbnail((_SIDE, _SIDE))
    return image
