"""The intervention that is asked for in the ablation panel: a plain value, its plan, and its effects as figures.

Nothing here runs a network: what does is handed over, see :class:`EditBackend`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Final, Protocol

import numpy as np
import xarray as xr

from workbench import schema
from workbench.interventions import Source
from workbench.interventions.fields import HEAD_STREAMS, STREAMS
from workbench.schema import InputError
from workbench.widgets.ablate.annotation import Drawn, code_of, masks_of, read_drawn, truth_in_words
from workbench.widgets.ablate.edit_form import (
    ALL,
    EDITS,
    code_of_plan,
    kind_of,
    labels_of,
    plan_of,
    read_list,
    settings_of,
)
from workbench.widgets.ablate.effect_plots import effect_plots
from workbench.widgets.ablate.finished_runs import INTERVENTION, Result
from workbench.widgets.ablate.tasks import Message, Task
from workbench.widgets.shared.forms import ends, one_of, optional, pair, plain, read, real, several, text, whole
from workbench.widgets.shared.python_code import arguments
from workbench.widgets.shared.worker import Progress

CONTROLS: Final = {
    "auto": "automatic",
    "direction": "a random direction",
    "matched": "a random direction with the activations’ covariance",
    "resample": "other images’ activations",
    "units": "as many other units of the layer",
    "none": "none",
}
TRUTHS: Final = ("none", "own", "drawn")
STREAM_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "picture and prompt": ("image", "text"),
    "picture": ("image",),
    "prompt": ("text",),
    "concepts": ("concepts",),
    "picture and concepts": ("image", "concepts"),
    "picture, prompt and concepts": ("image", "text", "concepts"),
}


class EditBackend(Protocol):
    """What the panel is handed to run interventions with."""

    facts: Mapping[str, Any]
    """Of the network and the subject: ``layers``, ``heads``, ``timesteps``, ``names`` (of concepts), ``words`` (of the
    prompt), ``attend`` (what concepts attend to without an edit) and whether it is ``prompted``; with a dataset also
    ``grid`` and ``truth`` (whether it has one)."""
    ds: xr.Dataset | None
    """The dataset that truth is drawn on, if there is one."""

    def intervene(self, plan: Any, *, progress: Progress, cancel: Event, **options: Any) -> xr.Dataset:
        """Run a plan; raise once the event is set."""
        ...

    def call(self, plan: str, options: str) -> str:
        """The code of the same."""
        ...

    def pair(self, found: xr.Dataset, at: int, layer: int | None = None) -> Message:
        """The maps and pictures without and with one intervention, at the read-out or in one layer."""
        ...

    def prompts(self) -> list[str]:
        """Prompts of stored runs of the same model, which activations could be taken from."""
        ...


@dataclass(frozen=True)
class EditForm:
    """What to change, and what to compare it with.

    Attributes
    ----------
    edit
        One of :data:`workbench.widgets.ablate.edit_form.EDITS`.
    over
        There is one intervention for each of these, or for each pair; or one of all,
        :data:`workbench.widgets.ablate.edit_form.ALL`.
    layers
        First and last block, both included; None for all.
    heads, tokens
        As typed, ``"0, 2-4"``, tokens also ``"red, heart"``; nothing for all.
    timesteps
        A range in 1000 x sigma, both ends included; None for all.
    factor, width, mode, streams
        Of the edits that have them; None for their default.
    prompt, seed, image
        What another run has that activations are taken from; nothing for what the run itself has.
    control
        One of :data:`CONTROLS`.
    repeats
        Of each control.
    references
        Of other images’ activations: files, or prompts, with semicolons between them.
    readout
        Layers where effects are read, as typed, ``"3, 5-7"``, or ``"downstream"``; nothing for the usual ones.
    truth
        What the IoU is measured with: ``"none"`` (the run without an edit), ``"own"`` or ``"drawn"``.
    drawn
        Patches by concept.
    """

    edit: str = "SkipBlock"
    over: tuple[str, ...] = (schema.LAYER,)
    layers: tuple[int, int] | None = None
    heads: str = ""
    tokens: str = ""
    timesteps: tuple[float, float] | None = None
    factor: float | None = None
    width: float | None = None
    mode: str = "image"
    streams: str | None = None
    prompt: str = ""
    seed: int | None = None
    image: str = ""
    control: str = "auto"
    repeats: int = 10
    references: str = ""
    readout: str = ""
    truth: str = "none"
    drawn: Drawn = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: Any, facts: Mapping[str, Any], ds: xr.Dataset | None) -> EditForm:
        """Read a form and check it.

        Raises
        ------
        InputError
            If a value cannot be meant.
        """
        readers = {
            **dict.fromkeys(("heads", "tokens", "prompt", "image", "references", "readout"), text),
            "edit": one_of(EDITS),
            "over": several(text),
            "layers": optional(ends(facts["layers"])),
            "timesteps": optional(pair(real(0, 1000), order=sorted)),
            "factor": optional(real()),
            "width": optional(real(0)),
            "mode": one_of(schema.ATTEND_MODES),
            "streams": optional(one_of(STREAM_NAMES)),
            "seed": optional(whole()),
            "control": one_of(CONTROLS),
            "repeats": whole(1),
            "truth": one_of(TRUTHS),
            "drawn": lambda _name, value: {} if ds is None else read_drawn(value, ds),
        }
        form = cls(**read("an intervention's form", values, readers))
        ways = EDITS[form.edit].over
        if form.over not in ways:
            expected = ", ".join(" × ".join(way) for way in ways)
            raise InputError(f"{form.edit} goes over {expected}; {' × '.join(form.over)} was asked for.")
        if form.control == "resample" and not _listed(form.references):
            raise InputError("references is empty; expected other images' files, or prompts, with ';' between them.")
        form.read_at()
        if form.truth == "own" and not facts.get("truth"):
            raise InputError("this dataset holds no truth: draw it, or choose none.")
        if form.truth == "drawn" and ds is None:
            raise InputError("truth is drawn on the patches of a recorded run: pass the dataset of one to ablate.")
        heads = read_list("heads", form.heads)
        if facts["heads"] and not set(heads) <= set(facts["heads"]):
            raise InputError(
                f"heads is {form.heads!r}; expected numbers from {facts['heads'][0]} to {facts['heads'][-1]}."
            )
        return form

    def to_json(self) -> dict[str, Any]:
        """The form as plain values."""
        found: dict[str, Any] = plain(self)
        return found

    def read_at(self) -> tuple[int, ...] | str | None:
        """Where effects are read, as :func:`workbench.intervene` takes it."""
        typed = self.readout.strip()
        return typed if typed == "downstream" else read_list("readout", typed) or None

    def options(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of :func:`workbench.intervene` beside the plan and the truth."""
        found: dict[str, Any] = {"control": None if self.control == "none" else self.control}
        if self.control != "none":
            found["repeats"] = self.repeats
        if self.control == "resample":
            found["references"] = _listed(self.references)
        if (readout := self.read_at()) is not None:
            found["readout"] = readout if isinstance(readout, str) else list(readout)
        layers, usual = facts["layers"], facts.get("usual", facts["layers"])
        # What lies behind the usual layers is read, and run, only where an edit asks for it.
        edited = self.layers or (layers[0], layers[-1])
        readouts = readout if isinstance(readout, tuple) else ()
        if not facts["prompted"]:
            last = layers[-1] if max([edited[1], *readouts]) > usual[-1] else usual[-1]
            found["layers"] = [layer for layer in layers if layer <= last]
        return found

    def labels(self, facts: Mapping[str, Any]) -> list[list[Any]]:
        """The labels along each of ``over``."""
        return labels_of(self.over, self._chosen, facts)

    def plan(self, facts: Mapping[str, Any]) -> Any:
        """The plan, in the order of the labels."""
        return plan_of(self.edit, self.over, self._chosen, facts)

    def plan_code(self, facts: Mapping[str, Any]) -> str:
        """Python that makes :meth:`plan`."""
        return code_of_plan(self.edit, self.over, self._chosen, facts)

    @property
    def words(self) -> str:
        """What is done, for the table."""
        settings = settings_of(self.edit)
        limits: list[str] = []
        name = EDITS[self.edit].text
        if "factor" in settings:
            name += f" × {settings['factor'] if self.factor is None else self.factor:g}"
        if "width" in settings:
            name += f", {settings['width'] if self.width is None else self.width:g} patches wide"
        for what in ("layers", "timesteps"):
            if (ends := getattr(self, what)) is not None:
                limits += [f"{what} {ends[0]:g} to {ends[1]:g}"]
        typed: list[str] = [what for what in ("heads", "tokens", "streams") if what in settings]
        typed += ["prompt", "seed", "image"] if "source" in settings else []
        limits += [f"{what} {given}" for what in typed if (given := getattr(self, what)) not in ("", None)]
        if "mode" in settings and "mode" not in self.over:
            limits += [self.mode]
        limited = f" ({'; '.join(limits)})" if limits else ""
        each = "all at once" if self.over == (ALL,) else f"for each {' × '.join(self.over)}"
        return f"{name}{limited}, {each}"

    @property
    def _chosen(self) -> dict[str, Any]:
        """Limits and settings as edits take them."""
        return {
            "layers": self.layers,
            "heads": read_list("heads", self.heads),
            "tokens": read_list("tokens", self.tokens, words=True),
            "timesteps": self.timesteps,
            "factor": self.factor,
            "width": self.width,
            "mode": self.mode,
            "streams": None if self.streams is None else STREAM_NAMES[self.streams],
            "source": Source(prompt=self.prompt.strip() or None, seed=self.seed, image=self.image.strip() or None),
        }


class Interventions:
    """Edits of a network that is run again.

    Parameters
    ----------
    backend
        Runs them.
    """

    def __init__(self, backend: EditBackend) -> None:
        self._backend = backend

    def describe(self) -> dict[str, Any]:
        """Edits, controls and labels to choose from."""
        facts = self._backend.facts
        lacks = {dim for dim in ("head", "timestep") if not facts[f"{dim}s"]}
        edits = []
        for name, edit in EDITS.items():
            over = [list(way) for way in edit.over if not set(way) & lacks]
            # Two concepts leave one, of which a softmax says nothing.
            if over and not (name == "DropConcept" and len(facts["names"]) < 3):
                settings = settings_of(name)
                offered = {"name": name, "text": edit.text, "meaning": edit.meaning, "over": over}
                usual = {key: settings[key] for key in ("factor", "width", "streams") if key in settings}
                if "streams" in usual:
                    usual["streams"] = next(key for key, some in STREAM_NAMES.items() if some == usual["streams"])
                    known = HEAD_STREAMS if "streams" in kind_of(name).checks else STREAMS
                    offered["streams"] = [key for key, some in STREAM_NAMES.items() if set(some) <= set(known)]
                edits.append(offered | {"settings": list(settings), "usual": usual})
        layers, usual = facts["layers"], facts.get("usual", facts["layers"])
        form = EditForm(layers=None if usual == layers else (usual[0], usual[-1]))
        return {
            "form": form.to_json(),
            "edits": edits,
            "controls": list(map(list, CONTROLS.items())),
            "modes": list(schema.ATTEND_MODES),
            "streams": list(STREAM_NAMES),
            **facts,
        }

    def prompts(self) -> list[str]:
        """Prompts of stored runs, which activations could be taken from."""
        return self._backend.prompts()

    def task(self, form: Any) -> Task:
        """The experiment of a form."""
        backend = self._backend
        asked = EditForm.from_json(form, backend.facts, backend.ds)
        options = asked.options(backend.facts)
        written, before = arguments(options), ""
        if asked.truth == "own" and backend.ds is not None:
            void = schema.VOID in backend.ds
            options["truth"] = backend.ds if void else backend.ds[schema.TRUTH]
            written += ", truth=ds" if void else ", truth=ds.truth"
        elif asked.truth == "drawn" and backend.ds is not None:
            options["truth"] = masks_of(asked.drawn, backend.ds, pixels=True)
            before = code_of(asked.drawn, backend.ds, pixels=True) + "\n"
            written += ", truth=masks"
        text = before + backend.call(asked.plan_code(backend.facts), written)
        plan = asked.plan(backend.facts)

        def finish(found: xr.Dataset, number: int, seconds: float) -> Result:
            drawn = list(asked.drawn) if asked.truth == "drawn" else None
            plots = effect_plots(asked.over, asked.labels(backend.facts), found, drawn)
            shown = _Shown(backend, found, [len(labels) for labels in asked.labels(backend.facts)])
            truth = truth_in_words(asked.truth, asked.drawn)
            return Result(number, INTERVENTION, asked.words, found, plots, text, shown, seconds, truth=truth)

        return Task(
            lambda progress, cancel: backend.intervene(plan, progress=progress, cancel=cancel, **options), finish
        )


class _Shown:
    """The maps of an intervention beside those of the unedited network."""

    def __init__(self, backend: EditBackend, found: xr.Dataset, shape: Sequence[int]) -> None:
        self._backend: EditBackend | None = backend
        self._found, self._shape = found, tuple(shape)

    def pair(self, index: Sequence[int], by_layer: bool = False) -> Message:
        """The message that shows them, at the read-out or, of a matrix of edits and layers, in one layer."""
        if self._backend is None:
            raise InputError("this panel is closed: run the cell again.")
        if by_layer:
            at, layer = index
            return self._backend.pair(self._found, at, int(self._found["read_layer"].to_numpy()[layer]))
        return self._backend.pair(self._found, int(np.ravel_multi_index(tuple(index), self._shape)))

    def free(self) -> None:
        """Let go of the network."""
        self._backend = None


def _listed(typed: str) -> list[str]:
    """What a text names, with semicolons between."""
    return [part.strip() for part in typed.split(";") if part.strip()]
