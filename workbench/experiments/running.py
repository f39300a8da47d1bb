"""``intervene``: a network with and without edits, and with edits that should matter as much or as little."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from PIL import Image
from tqdm.auto import tqdm

from workbench.analysis.adding_truth import truth_hash, with_truth
from workbench.analysis.origin import as_text, provenance
from workbench.analysis.steps import check_progress
from workbench.experiments.assembly import INTERVENTION, Experiment, edits_of, least_repeats
from workbench.experiments.controls import CONTROLS, Control, controls_of
from workbench.experiments.effects import OF_CONCEPT, SIZES, Outcome, truth_of
from workbench.experiments.picture_effects import perceptual as perceptual_distance
from workbench.experiments.planning import Arm, Edits, Network, Plan, arms_of
from workbench.experiments.reach import Readout, Recorded, read_out
from workbench.interventions import SkipBlock, Source
from workbench.interventions.fields import Reference, reference_runs
from workbench.models.loading import BUNDLED
from workbench.recording.arguments import (
    check_concepts,
    check_layers,
    check_seed,
    check_spaces,
)
from workbench.recording.capturing import capture
from workbench.recording.edits.resolving import resolve
from workbench.recording.extra_inputs import read_extra, with_extra
from workbench.recording.generating import generate
from workbench.recording.opening import open_adapter
from workbench.recording.pictures import read_image
from workbench.recording.provenance import asking, derived, model_name
from workbench.recording.sessions import check_cancelled, session
from workbench.recording.turns import quoted, turn
from workbench.schema import BOTH, BRANCH, INPUTS, PROMPT, TIMESTEP, InputError, pack_attributes, read_attributes, warn
from workbench.schema.given_options import check_count, check_flag
from workbench.store import find

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from workbench.truth import Truth

MOST_REPEATS: Final = 1000
_OWN: Final = {"model", "layers", "spaces", "interventions", "record", "branch", "truth", "ignore", "progress"}
"""Options of a run that an experiment sets itself."""


def intervene(
    subject: Any,
    concepts: Sequence[str],
    plan: Plan,
    *,
    model: str | os.PathLike[str] | DiffusionPipeline = "tiny-flux",
    control: str | None = "auto",
    repeats: int = 10,
    control_seed: int = 0,
    shared_draws: bool = False,
    references: Sequence[Reference] = (),
    readout: Readout = None,
    level: float | None = None,
    layers: int | Iterable[int] | None = None,
    space: str = "output",
    truth: Truth | None = None,
    perceptual: bool | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Event | None = None,
    **options: Any,
) -> xr.Dataset:
    """Run a network without edits, with each intervention of a plan, and with named controls.

    Every run is a run like any other: stored, and opened when it is there already, so an interrupted experiment goes
    on where it stopped. Its attributes say that it was made for an experiment (``role``, ``parent``), and lists of runs
    show it below the run that it belongs to; one that the user asked for himself, before or after, is his own.

    Parameters
    ----------
    subject
        A picture, as :func:`workbench.capture` takes it, or a prompt to :func:`workbench.generate` from: a string that
        is neither an existing file nor has the suffix of a picture.
    concepts
        Words, 1 to 64.
    plan
        One intervention, a list of them, or an exhaustive plan such as ``SkipBlock.each()``. In a list, a tuple of
        interventions acts together. Of a picture, ``each()`` ends with the last recorded block, behind which nothing
        runs.
    model
        ``"tiny-flux"``, a name or path for ``from_pretrained``, or a loaded pipeline.
    control
        What each intervention is compared with (:mod:`workbench.experiments.controls`). ``"direction"``: a random
        change of the same L2 norm, for each token, at the same place, which perturbs as much and removes nothing.
        ``"matched"``: the same, along directions with the covariance of the activations there. ``"resample"``: what the
        same heads or blocks put out for other images, ``references``. ``"units"``: the same edit of as many other units
        of the same layers (heads, words or padding of the prompt, concepts) that no intervention of the plan picks.
        ``"auto"``: units where the plan picks some and leaves a choice of others, otherwise, and for ``each()``, a
        direction. None: no controls.
    repeats
        Of each control; all there are where there are fewer.
    control_seed
        Seed of the first repeat.
    shared_draws
        Random directions are sampled for each image, prompt and noise sample on their own. True: the same ones for all,
        so that what experiments on several of them have in common is not independent.
    references
        Other images for ``control="resample"``: paths or sources; for a prompt other prompts or sources.
    readout
        Layers over which the maps are averaged and compared, the same for all interventions, so that early and late
        edits are read alike. By default the model's default layers that lie downstream of every unit of the plan, or
        the last recorded layer where there is none. ``"downstream"``: for each edit all recorded layers behind it;
        early edits are then read elsewhere than late ones, and their order has a bias by depth of its own.
    level
        Also give p values, and refuse fewer repeats than can reach this level. They are for one image and one edit:
        neither corrected for the number of edits nor a statement on other images.
    layers
        Blocks that are recorded, each read for itself too; the model's default layers otherwise.
    space
        The space of the maps.
    truth
        Masks of the concepts, for pictures, or a dataset with a truth, whose void pixels are left out; see
        :func:`workbench.truth.read_regions`. Without it the IoU is that with the
        baseline's segmentation.
    perceptual
        Also measure LPIPS between generated pictures (extra ``perceptual``); None where it is installed.
    progress
        Show a bar, or a function that is called with the runs done and their number.
    cancel
        An event that ends the experiment behind the forward pass that is under way.
    **options
        Of :func:`workbench.capture` or :func:`workbench.generate`: ``timesteps``, ``samples``, ``steps``, ``store``...

    Returns
    -------
    xarray.Dataset
        Effects along ``intervention`` (labels): ``map_distance`` (concept; mean absolute difference of the heat maps),
        ``iou_shift`` (concept; IoU minus that of the baseline), their means over concepts ``mean_map_distance`` and
        ``mean_iou_shift``, ``total_variation_distance`` (how far the shares of the concepts at a patch moved, 0 to 1
        whatever the number of concepts), and for prompts ``psnr``, ``ssim`` and ``perceptual`` between the pictures.

        Those of the maps are read at the read-out. ``<effect>_by_layer`` is the matrix of edits and ``read_layer``:
        the effect on the map of each recorded layer. ``<effect>_own`` is that on the maps of the layers that an edit
        acts inside, ``<effect>_downstream`` that on those behind it; the coordinate ``reach`` says for each cell
        whether it is ``own``, ``downstream``, ``later`` (through later passes of a generation alone), ``skipped`` or
        ``unreachable``, and ``readout_reach`` the same of the read-out. What cannot be reached, or is left out, is
        NaN, and ``note`` says why in a sentence. Timesteps that an edit cannot reach are left out for it. Concepts
        that either run drops are left out of the softmax, and NaN.

        For each effect ``<effect>_control`` (repeat) is that of the controls, ``<effect>_rank`` the share of them
        whose effect is smaller (ties count half), and with ``level`` ``<effect>_p``. For maps ``<effect>_paired`` is
        the intervention's own effect on the concepts that a control leaves too, which is what the control is ranked
        against, and ``<effect>_by_layer_control`` the matrix of the controls. ``draws_available`` is how many distinct
        controls there are, ``inf`` where they are sampled; ``control`` and ``control_edit`` say what each one did.
        ``edits`` are the interventions as JSON; attributes record everything, what is nested as JSON
        (:func:`workbench.schema.read_attributes` reads it).

    Raises
    ------
    InputError
        If an argument is wrong, or an edit is outside the model; nothing runs then.
    CancelledError
        If ``cancel`` was set; finished runs stay stored.

    Examples
    --------
    >>> result = workbench.intervene(image, ["dog", "sky"], workbench.SkipBlock.each())  # doctest: +SKIP
    >>> result.mean_map_distance.to_series().sort_values()  # doctest: +SKIP
    """
    words = check_concepts(concepts)
    if control is not None and control not in CONTROLS:
        raise InputError(f"control is {control!r}; expected one of {', '.join(CONTROLS)}, or None for no controls.")
    count = check_count("repeats", repeats, 1, MOST_REPEATS)
    seed = check_seed(control_seed)
    check_flag("shared_draws", shared_draws)
    _check_level(level, control, count)
    (space,) = check_spaces((space,))
    if space == PROMPT:
        raise InputError("space is 'prompt'; expected one that has a map for each concept, such as 'output'.")
    if isinstance(subject, xr.Dataset | xr.DataArray):
        raise InputError(
            "the subject is a dataset, whose network has run already; expected a picture or a prompt to run again: "
            "intervene(ds.image.to_numpy(), ...), or wb.ablate(ds), which knows both."
        )
    check_progress(progress, cancel)
    prompted = is_prompt(subject)
    check_options("intervene", options, prompted)
    if prompted and truth is not None:
        raise InputError("truth belongs to a picture, but a prompt was given, whose pictures differ: leave it out.")
    subject = subject if prompted else read_image(subject)
    others = _references(references, control, subject, prompted)

    adapter = open_adapter(model)
    if prompted:
        adapter, _ = with_extra(adapter, read_extra(options.get("inputs")))
    recorded = [
        layer.index
        for layer in check_layers(list(adapter.default_layers) if layers is None else layers, adapter.layers)
    ]
    blocks = adapter.layers if prompted else adapter.layers[: recorded[-1] + 1]
    heads = adapter.heads
    with turn(adapter.pipe, f"an experiment on {quoted(words)}"):
        prompt = subject if prompted else options.get("prompt", "")
        tokens, length = list(zip(*adapter.prompt_tokens(prompt), strict=True)), adapter.length_of(prompt)
    network = Network(
        tuple(layer.kind for layer in blocks),
        len(adapter.layers),
        heads,
        words,
        tuple(place for place, _ in tokens),
        length,
    )
    arms = arms_of(plan, network)
    places = [
        Arm(resolve(arm.edits, len(adapter.layers), heads, words, length, tokens), arm.exhaustive) for arm in arms
    ]
    chosen = read_out(readout, places, recorded, adapter.default_layers)
    controls = [Control()] * len(arms)
    if control:
        controls = controls_of(places, network, control, count, seed, shared_draws, others)
    distance = perceptual_distance(perceptual) if prompted else None

    # A name would be loaded anew for every run, unless it is that of the bundled model, which is kept.
    loaded = model if isinstance(model, str) and model in BUNDLED else adapter.pipe
    settings = options | {"model": loaded, "layers": recorded, "spaces": (space,), "progress": False}
    run: Any = generate if prompted else capture
    sets: list[Edits] = list(
        dict.fromkeys([(), *(arm.edits for arm in arms), *(one for each in controls for one in each.repeats)])
    )
    outcomes: dict[Edits, Outcome] = {}
    picked = {arm.edits for arm in arms}
    parent = _parent(options)
    with session(cancel):
        for edits in _told(sets, progress):
            role = "baseline" if not edits else "edit" if edits in picked else "control"
            with derived(role, parent, model):
                outcomes[edits] = Outcome.of(run(subject, words, interventions=edits, **settings), space)
            parent = parent or outcomes[edits].ds.attrs["key"]

    baseline = outcomes[()]
    held = Recorded(
        tuple(baseline.ds[TIMESTEP].to_numpy().tolist()), tuple(recorded), space, generated=baseline.generated
    )
    experiment = Experiment(outcomes, held, chosen, words, truth_of(baseline, truth), distance, level)
    for arm, each in zip(arms, controls, strict=True):
        # A plan of all units holds some that nothing lies behind: the result says so of each.
        if (note := experiment.note(arm, each)) and not arm.exhaustive:
            warn(note)
    result = experiment.result(arms, controls)
    record = {
        "kind": "intervention",
        "subject": "prompt" if prompted else "image",
        "prompt": outcomes[()].ds.attrs["prompt"],
        "image_hash": outcomes[()].ds.attrs["image_hash"],
        **{name: value for name, value in outcomes[()].ds.attrs.items() if name == INPUTS},
        "model": model_name(model),
        "space": space,
        "concepts": list(words),
        "layers": recorded,
        "readout": json.dumps(chosen),
        "iou_of": "baseline" if truth is None else "truth",
        **({} if truth is None else {"truth_hash": truth_hash(with_truth(baseline.ds, truth))}),
        "origin": as_text(provenance(baseline.ds.assign_attrs(created=""))),  # the same experiment has the same record
        "control": control or "none",
        "control_seed": seed,
        "shared_draws": shared_draws,
        "repeats": count,
        **({} if level is None else {"level": level}),
        "plan": [[edit.as_dict() for edit in arm.edits] for arm in arms],
        "controls": [[[edit.as_dict() for edit in one] for one in each.repeats] for each in controls],
        "keys": {_label(edits): outcome.ds.attrs["key"] for edits, outcome in outcomes.items()},
    }
    # The edits are beside their interventions too, where selecting and sorting move them along.
    return result.assign_coords(edits=(INTERVENTION, edits_of(arms))).assign_attrs(pack_attributes(record))


def _check_level(level: float | None, control: str | None, repeats: int) -> None:
    """Refuse p values that no number of controls could carry, or that these cannot.

    Raises
    ------
    InputError
        If that is so.
    """
    if level is None:
        return
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise InputError(f"level is {level!r}; expected one between 0 and 1, such as 0.05, or None for no p values.")
    if control is None:
        raise InputError("level is given, but p values compare with controls, and control is None: choose one of them.")
    if repeats < (least := least_repeats(level)):
        raise InputError(
            f"a p of {level:g} takes at least {least} controls, as it is (k + 1) / (n + 1); repeats is {repeats}."
        )


def _references(given: Sequence[Reference], control: str | None, subject: Any, prompted: bool) -> tuple[Source, ...]:
    """Runs of other images, for controls that take their activations.

    Raises
    ------
    InputError
        If they are missing, not needed, or the subject is among them.
    """
    if control != "resample":
        if given:
            raise InputError("references are other images for control='resample'; leave them out, or choose it.")
        return ()
    if prompted and not isinstance(given, str):
        given = [Source(prompt=one) if isinstance(one, str) else one for one in given]
    if not given or isinstance(given, str):
        what = "prompts" if prompted else "images"
        raise InputError(f"references is {given!r}; control='resample' takes a list of other {what}.")
    sources = reference_runs("references", given)
    for source in sources:
        if prompted:
            same = source.prompt in (None, subject) and source.seed is None
        else:
            there = None if source.image is None else read_image(source.image)
            same = there is None or (there.shape == subject.shape and bool((there == subject).all()))
        if same:
            raise InputError(f"references hold the subject itself ({source}), whose activations change nothing.")
    return sources


def _parent(options: Mapping[str, Any]) -> str:
    """Key of the run from which the experiment is asked for, where it is stored beside those of the experiment."""
    key = asking()
    return key if key and options.get("store", True) and find(key, options.get("home")) is not None else ""


def check_options(name: str, options: Mapping[str, Any], prompted: bool, without: Collection[str] = ()) -> None:
    """Refuse options that the runs of an experiment do not take.

    Parameters
    ----------
    name
        Of the function that was called.
    options
        Those beside its own.
    prompted
        Whether its runs generate pictures.
    without
        Options of such runs that it does not take either.

    Raises
    ------
    InputError
        If there are any; lists what is taken.
    """
    run = generate if prompted else capture
    known = [one.name for one in signature(run).parameters.values() if one.kind is one.KEYWORD_ONLY]
    known = [option for option in known if option not in _OWN and option not in without]
    if wrong := [option for option in options if option not in known]:
        why = " The plan says what is edited." if set(wrong) & _OWN else ""
        raise InputError(
            f"{name} takes no {', '.join(wrong)}.{why} Of a {'prompt' if prompted else 'picture'} it takes its own "
            f"options and those of {run.__name__}: {', '.join(known)}."
        )
    if options.get(BRANCH) == BOTH:
        raise InputError(f"{name} compares one map of each concept, and branch={BOTH!r} makes two: give one branch.")


def vital_layers(subject: Any, concepts: Sequence[str], *, by: str | None = None, **options: Any) -> xr.Dataset:
    """Rank the blocks of a network by what skipping each one does (Avrahami et al. 2025, "Stable Flow").

    Parameters
    ----------
    subject, concepts
        As for :func:`intervene`.
    by
        The effect that ranks: by default ``perceptual`` where it is measured, otherwise ``psnr`` for a prompt and
        ``mean_map_distance`` for a picture.
    **options
        Those of :func:`intervene`, but for its plan.

    Returns
    -------
    xarray.Dataset
        As from :func:`intervene`, the most vital block first, with those that have no value last; ``layer`` beside
        ``intervention``. All blocks are read at the same read-out, so that their order is not that of their depth: by
        default at the last recorded layer, whose own block, and those behind it, can have no effect there.
    """
    single = [effect for effect in SIZES if effect not in OF_CONCEPT]
    pictures = ("psnr", "ssim", "perceptual")
    if by is not None and (by not in single or (by in pictures and not is_prompt(subject))):
        known = [effect for effect in single if is_prompt(subject) or effect not in pictures]
        raise InputError(f"by is {by!r}; expected one of {', '.join(known)}, which have one figure for each block.")
    if by == "perceptual":
        if options.get("perceptual") is False:
            raise InputError("by is 'perceptual', but perceptual is False: leave one of them out.")
        options["perceptual"] = True
    result = intervene(subject, concepts, SkipBlock.each(), **options)
    effect = by or next(effect for effect in ("perceptual", "psnr", "mean_map_distance") if effect in result)
    size = SIZES[effect](result[effect].to_numpy())
    record = read_attributes(result.attrs)
    depth = [edits[0]["layers"][0] for edits in record["plan"]]
    order = np.argsort(-np.nan_to_num(size, nan=-np.inf), kind="stable")
    # Lists of the record go with the interventions they belong to.
    lists = pack_attributes({name: [record[name][place] for place in order] for name in ("plan", "controls")})
    found = result.assign_coords(layer=(INTERVENTION, depth)).isel({INTERVENTION: order})
    return found.assign_attrs(lists | {"sorted_by": effect})


def is_prompt(subject: Any) -> bool:
    """Whether a subject is a prompt rather than a picture."""
    if not isinstance(subject, str):
        return False
    path = Path(subject)
    # A long prompt is no file name the system could look up.
    return path.suffix.lower() not in Image.registered_extensions() and not (len(subject) < 255 and path.is_file())


def _told(sets: Sequence[Edits], progress: bool | Callable[[int, int], None]) -> Iterable[Edits]:
    """The sets of edits one after the other, with the progress told, until the session is cancelled."""
    for done, edits in enumerate(tqdm(sets, desc="intervene", unit="run", disable=progress is not True)):
        check_cancelled()
        if callable(progress):
            progress(done, len(sets))
        yield edits
    if callable(progress):
        progress(len(sets), len(sets))


def _label(edits: Edits) -> str:
    return Arm(edits).label if edits else "baseline"
