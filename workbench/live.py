"""The panels that run a model: ``start``, from a picture and words to maps; ``ablate``, sweeps and interventions."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from workbench import schema, store
from workbench.analysis.origin import provenance
from workbench.folders import BUNDLED
from workbench.interventions import edit_of
from workbench.schema import InputError, WorkbenchError, noted
from workbench.store.reading import Run
from workbench.widgets.ablate.ablation import Ablation
from workbench.widgets.ablate.finished_runs import INTERVENTION, SWEEP
from workbench.widgets.ablate.intervention_form import Interventions
from workbench.widgets.ablate.sweep_form import spaces_of
from workbench.widgets.ablate.tasks import Message, Mode, Sweeps, labels, side_by_side
from workbench.widgets.explore.state import State
from workbench.widgets.shared.copied_dataset import named, opening
from workbench.widgets.shared.description import picture
from workbench.widgets.shared.kernel import variable_of
from workbench.widgets.shared.python_code import arguments, code, variables
from workbench.widgets.shared.refusals import drawable, problem, shown
from workbench.widgets.shared.worker import Progress
from workbench.widgets.start.starter import Start

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from workbench.recording.runner import Remark, Runner
    from workbench.widgets.start.backend import Pixels, Watcher

_FROM_CONTENT = ("attend", "pool")
_OWN = ("store", "progress")
_MOST_PROMPTS = 50
_DEFAULTS = {
    "attend": "both",
    "pool": "first",
    "samples": 1,
    "seed": 0,
    "prompt": "",
    schema.BRANCH: schema.CONDITIONAL,
}


def ablate(
    subject: Any,
    concepts: Sequence[str] | None = None,
    *,
    model: str | os.PathLike[str] | DiffusionPipeline | None = None,
    **options: Any,
) -> Ablation:
    """Which layers, timesteps and heads carry a concept: a panel for JupyterLab.

    Two questions, kept apart. A **sweep** (``ds.wb.sweep``) chooses afterwards among the scores of a recorded run; it
    needs a dataset. An **intervention** (:func:`workbench.intervene`) changes the network and runs it again, beside
    controls; it needs a picture or a prompt, which a dataset knows too. Runs work in a thread, can be stopped, and
    go on where they stopped.

    Parameters
    ----------
    subject
        A dataset from ``capture``, ``generate`` or ``open``, or a stored run; or a picture or a prompt, as
        :func:`workbench.intervene` takes it.
    concepts
        Words, with a picture or a prompt; a dataset has its own.
    model
        What is changed: a name or path, or a loaded pipeline. Without it the dataset's model, or ``"tiny-flux"``.
    **options
        Of :func:`workbench.capture` or :func:`workbench.generate`, for interventions: ``timesteps``, ``samples``,
        ``steps``, ``home``...; a dataset sets those it was recorded with.

    Returns
    -------
    An ipywidgets object; its ``results`` are the datasets of all finished runs. What cannot be used gives a sentence in
    its place.
    """
    try:
        if isinstance(subject, Run):
            return _panel(subject.open(), concepts, model, options, opening(subject))
        return _panel(subject, concepts, model, options)
    except WorkbenchError as error:
        return Ablation(error=str(error))


def start() -> Start:
    """From a picture and words to maps without code: a panel for JupyterLab.

    Drop, paste or choose a picture, take an example, or type a prompt; type concepts; press Run. The view of
    :func:`workbench.explore` appears below and grows while passes come in. "Continue in code" gives the same calls.

    Returns
    -------
    An ipywidgets object; its ``ds`` is the dataset that is shown, ``results`` are those of all finished runs, and
    ``code`` is what makes the shown one.
    """
    return Start(_Models())


class _Models:
    """Models for the start panel; nothing of torch is imported before one is asked about."""

    def __init__(self) -> None:
        self._runner: Runner | None = None

    def pipelines(self) -> dict[str, Any]:
        """Loaded pipelines of supported families among the variables of the kernel."""
        if "IPython" not in sys.modules or "diffusers" not in sys.modules:
            return {}
        from workbench.models.family import family_of

        shell = sys.modules["IPython"].get_ipython()
        variables = {} if shell is None else dict(shell.user_ns)
        return {name: one for name, one in variables.items() if not name.startswith("_") and family_of(one)}

    def read(self, file: Any) -> Pixels:
        """An image as ``capture`` reads it."""
        from workbench.recording.pictures import read_image

        return read_image(file)

    def at_hand(self, model: Any) -> bool:
        """See :meth:`workbench.recording.runner.Runner.at_hand`."""
        if self._runner is None and isinstance(model, str):
            return model in BUNDLED
        return self._running().at_hand(model)

    def facts(self, model: Any) -> dict[str, Any]:
        """See :meth:`workbench.recording.runner.Runner.facts`."""
        if isinstance(model, str):
            from workbench.recording.asking import model_facts

            return model_facts(model)
        return self._running().facts(model)

    def remarks(self, model: Any, concepts: Sequence[str], prompt: str, *, made: bool, pool: str) -> list[Remark]:
        """See :meth:`workbench.recording.runner.Runner.remarks`."""
        return self._running().remarks(model, concepts, prompt, made=made, pool=pool)

    def run(
        self,
        subject: Any,
        concepts: Sequence[str],
        model: Any,
        options: Mapping[str, Any],
        *,
        prompted: bool,
        watcher: Watcher,
        cancel: Event,
    ) -> xr.Dataset:
        """See :meth:`workbench.recording.runner.Runner.run`."""
        return self._running().run(subject, concepts, model, options, prompted=prompted, watcher=watcher, cancel=cancel)

    def close(self) -> None:
        """Let go of the model."""
        if self._runner is not None:
            self._runner.close()

    def _running(self) -> Runner:
        if self._runner is None:
            from workbench.recording.runner import Runner

            self._runner = Runner()
        return self._runner


def _panel(
    subject: Any, concepts: Sequence[str] | None, model: Any, options: dict[str, Any], source: str = ""
) -> Ablation:
    if wrong := sorted({*_OWN, "interventions", "record", "spaces", "layers", "truth"} & set(options)):
        raise InputError(f"ablate takes no {', '.join(wrong)}: the panel says what is changed, and keeps its runs.")
    if not isinstance(subject, xr.Dataset):
        arrays = ("__array__", "__array_interface__")
        picture_or_prompt = isinstance(subject, str | os.PathLike) or any(hasattr(subject, name) for name in arrays)
        unfit = isinstance(subject, xr.DataArray) or (concepts is None and not picture_or_prompt)
        if unfit and (sentence := problem(subject)):
            raise InputError(_for_ablate(sentence))
        if concepts is None:
            raise InputError(
                "a picture or a prompt needs concepts, the words to look for: ablate(picture, ['dog', 'grass'])."
            )
        backend = _from_subject(subject, concepts, model or "tiny-flux", options)
        lacks = {
            SWEEP: "A sweep chooses among recorded scores: pass a dataset, wb.ablate(wb.capture(picture, concepts))."
        }
        title = f"{', '.join(backend.facts['names'])} – {_named(backend.model)}"
        facts = {"model": _named(backend.model), "concepts": backend.facts["names"]}
        modes: dict[str, Mode] = {INTERVENTION: Interventions(backend)}
        return Ablation(modes, lacks=lacks, title=title, facts=facts, uses=backend.uses)
    if sentence := problem(subject):
        raise InputError(_for_ablate(sentence))
    name, reopened = named(subject)
    source = source or reopened
    uses = [] if source else [name]
    source = source or ("" if name == "ds" else f"ds = {name}")
    subject = shown(subject)
    if not spaces_of(subject):
        raise InputError("this dataset holds no space of concepts, only the prompt's tokens: capture 'output' as well.")
    if concepts is not None:
        raise InputError("a dataset has its concepts already: leave them out, or pass the picture with other ones.")
    if options:
        from workbench.experiments.running import check_options

        check_options("ablate", options, subject.attrs.get("kind") == "generate", _OWN)
    modes = {SWEEP: Sweeps(subject)}
    lacks = {}
    try:
        backend = _from_dataset(subject, model, options)
        modes[INTERVENTION] = Interventions(backend)
        uses += [one for one in backend.uses if one != "ds"]
    except InputError as error:
        lacks[INTERVENTION] = f"An intervention runs the network again, and here it cannot: {error}"
    names = [str(name) for name in subject[schema.CONCEPT].to_numpy()]
    about = [", ".join(names), str(subject.attrs.get("model") or "an unnamed model")]
    about += [f"run {key[:8]}"] if (key := str(subject.attrs.get("key", ""))) else []
    about += [f"edited: {edit}"] if (edit := edit_of(subject.attrs)) else []
    title = " – ".join(about)
    image = picture(subject) if drawable(subject) else None
    facts = provenance(subject)
    return Ablation(modes, lacks=lacks, title=title, picture=image, facts=facts, source=source, uses=uses)


@dataclass
class _Backend:
    """Runs interventions of one network on one subject."""

    subject: Any
    written: str
    model: Any
    options: dict[str, Any]
    facts: Mapping[str, Any]
    ds: xr.Dataset | None = None
    _loaded: Any = field(default=None, repr=False)

    def intervene(self, plan: Any, *, progress: Progress, cancel: Event, **options: Any) -> xr.Dataset:
        """Run a plan; raises once the event is set."""
        from workbench.experiments.running import intervene
        from workbench.models.loading import BUNDLED
        from workbench.recording.opening import open_adapter
        from workbench.recording.provenance import asked_from

        if self._loaded is None:
            bundled = isinstance(self.model, str) and self.model in BUNDLED
            self._loaded = self.model if bundled else open_adapter(self.model).pipe
        names = list(self.facts["names"])
        settings = {**self.options, **options}
        with asked_from("" if self.ds is None else str(self.ds.attrs.get("key", ""))):
            return intervene(
                self.subject, names, plan, model=self._loaded, progress=progress, cancel=cancel, **settings
            )

    def call(self, plan: str, options: str) -> str:
        """The code of the same call."""
        names, given = code(list(self.facts["names"])), arguments(self.options)
        model = repr(os.fspath(self.model)) if self._named else variable_of(self.model, "pipe")
        return (
            f"import workbench as wb\n\nplan = {plan}\n"
            f"found = wb.intervene({self.written}, {names}, plan, model={model}{options}{given})"
        )

    @property
    def uses(self) -> list[str]:
        """The variables of the notebook that the code uses."""
        picture = [self.written] if self.written.isidentifier() else ["ds"] if self.ds is not None else []
        pipe = [] if self._named else [variable_of(self.model, "pipe")]
        return list(dict.fromkeys([*picture, *pipe, *variables(self.options)]))

    @property
    def _named(self) -> bool:
        return isinstance(self.model, str | os.PathLike)

    def pair(self, found: xr.Dataset, at: int, layer: int | None = None) -> Message:
        """The maps and pictures without and with one intervention, at the read-out or in one layer."""
        from workbench.experiments.effects import Outcome, shared_concepts
        from workbench.experiments.reach import Recorded
        from workbench.interventions import read

        label = str(found["intervention"].to_numpy()[at])
        record = schema.read_attributes(found.attrs)
        edits = read(record["plan"][at])
        names = [str(name) for name in found[schema.CONCEPT].to_numpy()]
        kept = shared_concepts(names, edits)
        keys, home = record["keys"], self.options.get("home")
        runs = [store.open(keys[name], home) for name in ("baseline", label)]
        outcomes = [Outcome.of(run, record["space"]) for run in runs]
        timesteps = tuple(runs[0][schema.TIMESTEP].to_numpy().tolist())
        held = Recorded(timesteps, tuple(record["layers"]), record["space"], outcomes[0].generated)
        one = np.array([number == layer for number in held.layers])
        cells = held.read(edits, record["readout"]) if layer is None else held.reached(edits) & one
        nothing = not cells.any() or not kept
        maps = np.full((2, len(names), *outcomes[0].plane), np.nan, np.float32)
        if not nothing:
            samples = runs[0][schema.SAMPLE].to_numpy().tolist()
            sample = samples.index(State.default(runs[0]).sample) if outcomes[0].generated else 0
            for place, outcome in enumerate(outcomes):
                pooled = outcome.pooled(outcome.shares(kept), cells)
                maps[place][[names.index(name) for name in kept]] = pooled[sample]
        where = "" if layer is None else f", read in layer {layer}"
        said = " (there is nothing that it reaches)" if nothing else ""
        pictures = [picture(run) for run in runs]
        return side_by_side(["without an edit" + where, label + where + said], list(maps), pictures, names)

    def prompts(self) -> list[str]:
        """Prompts of stored runs of the same model, newest first."""
        with noted():  # of damaged runs, which are none to take from
            runs = store.runs(self.options.get("home"))
        model = _named(self.model)
        own = self.subject if self.facts["prompted"] else self.options.get("prompt", "")
        named = [run.prompt for run in runs if run.model == model and isinstance(run.prompt, str)]
        return [prompt for prompt in dict.fromkeys(named) if prompt and prompt != own][:_MOST_PROMPTS]


def _from_dataset(ds: xr.Dataset, model: Any, options: dict[str, Any]) -> _Backend:
    """The network and the subject that a dataset was recorded from."""
    attrs = ds.attrs
    if attrs.get("interventions"):
        raise InputError(f"this run was edited itself ({edit_of(attrs)}). Pass one of the unedited network.")
    if model is None and not attrs.get("model"):
        raise InputError("the dataset does not name its model. Pass it, ablate(ds, model=...).")
    if model is None and attrs.get(schema.MODEL_FROM, "name") != "name":
        raise InputError(
            f"the dataset was recorded from a {attrs[schema.MODEL_FROM]}, {attrs['model']}, which cannot be loaded by "
            "that name. Pass it, ablate(ds, model=...)."
        )
    if attrs.get(schema.INPUTS) and "inputs" not in options:
        names = ", ".join(schema.read_attributes(attrs)[schema.INPUTS])
        raise InputError(
            f"its pictures were made with {names}, of which the dataset keeps hashes at most. Give them again: "
            "ablate(ds, model=..., inputs=...)."
        )
    facts = labels(ds) | {"truth": schema.TRUTH in ds, "prompted": attrs.get("kind") == "generate"}
    facts["heads"] = facts["heads"] or []
    seeds = [int(seed) for seed in attrs.get("seeds", [0])]
    if seeds != list(range(seeds[0], seeds[0] + len(seeds))):
        raise InputError(
            f"its samples have the seeds {', '.join(map(str, seeds))}, and runs count theirs up from the first. Pass "
            "one sample, or neighbouring ones: ds.isel(sample=[0])."
        )
    known: dict[str, Any] = {"samples": len(seeds), "seed": seeds[0], "size": tuple(attrs["size"])}
    known |= {name: attrs[name] for name in _FROM_CONTENT if name in attrs}
    if facts["prompted"]:
        if not isinstance(attrs.get("prompt"), str):
            raise InputError("its pictures have different prompts. Pass one of them, ablate(prompt, concepts).")
        subject, written = attrs["prompt"], repr(attrs["prompt"])
        known |= {name: attrs[name] for name in ("steps", "guidance") if attrs.get(name) is not None}
        if attrs.get("true_guidance", 1.0) != 1.0:
            known |= {name: attrs[name] for name in ("negative_prompt", "true_guidance")}
        elif attrs.get("negative_prompt"):
            known["negative_prompt"] = attrs["negative_prompt"]
        known[schema.BRANCH] = schema.branch_of(ds)
    else:
        if not drawable(ds) or schema.SAMPLE in ds[schema.IMAGE].dims:
            raise InputError("the dataset has no picture. Pass the run as it was captured.")
        image = ds[schema.IMAGE].transpose(schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL)
        subject, written = image.to_numpy(), "ds.image.to_numpy()"
        known |= {"prompt": attrs.get("prompt") or "", "timesteps": list(facts["timesteps"])}
        last = max(attrs.get("default_layers") or facts["layers"])
        facts["usual"] = [layer for layer in facts["layers"] if layer <= last] or facts["layers"]
    known = {name: value for name, value in known.items() if _DEFAULTS.get(name) != value} | options
    prompt = subject if facts["prompted"] else known.get("prompt", "")
    tokens = [str(token) for token in ds[schema.TOKEN].to_numpy()] if schema.TOKEN in ds.coords else None
    told = prompt == attrs.get("prompt")
    if known.get(schema.BRANCH) == schema.UNCONDITIONAL:
        prompt, told = known.get("negative_prompt", ""), True
    facts["words"] = _words(prompt, tokens if told else None)
    facts["attend"] = known.get("attend", "both")
    return _Backend(subject, written, model or attrs["model"], known, facts, ds)


def _from_subject(subject: Any, concepts: Sequence[str], model: Any, options: dict[str, Any]) -> _Backend:
    """The network named by the caller, and what it has to edit."""
    from workbench.experiments.running import check_options, is_prompt
    from workbench.recording.arguments import check_concepts, check_vocabulary
    from workbench.recording.opening import open_adapter
    from workbench.recording.pictures import read_image
    from workbench.recording.turns import quoted, turn

    names = list(check_concepts(concepts))
    prompted = is_prompt(subject)
    written = repr(os.fspath(subject)) if isinstance(subject, str | os.PathLike) else variable_of(subject, "image")
    subject = subject if prompted else read_image(subject)
    adapter = open_adapter(model)
    every = [layer.index for layer in adapter.layers]
    timesteps = np.atleast_1d(options.get("timesteps", [])).tolist() if not prompted else []
    check_options("ablate", options, prompted, _OWN)
    prompt = subject if prompted else str(options.get("prompt", ""))
    check_vocabulary(names, prompt, _named(model), adapter.info)
    with turn(adapter.pipe, f"a panel on {quoted(names)}"):
        tokens = adapter.prompt_tokens(prompt)[1]
    facts = {
        "words": _words(prompt, tokens),
        "attend": options.get("attend", "both"),
        "layers": every,
        "usual": every if prompted else [layer for layer in every if layer <= max(adapter.default_layers)],
        "heads": list(range(adapter.heads)),
        "timesteps": timesteps,
        "names": names,
        "prompted": prompted,
        "truth": False,
    }
    return _Backend(subject, written, model, options, facts)


def _words(prompt: str, tokens: Sequence[str] | None) -> list[str]:
    """Words of a prompt, each once: its tokens, where they are known without loading a model."""
    return list(dict.fromkeys(prompt.split() if tokens is None else tokens))


def _named(model: Any) -> str:
    from workbench.recording.provenance import model_name

    return model_name(model)


def _for_ablate(sentence: str) -> str:
    return sentence.replace("explore", "ablate")
