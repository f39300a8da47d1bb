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

from workbench.analysis.steps import check_progress
from workbench.experiments.effects import (
    MAP_EFFECTS,
    SIZES,
    Outcome,
    Values,
    map_effects,
    picture_effects,
    rank,
    shared_concepts,
    shared_layers,
    truth_of,
)
from workbench.experiments.picture_effects import perceptual as perceptual_distance
from workbench.experiments.planning import CONTROLS, Arm, Edits, Network, Plan, arms_of, controls_of
from workbench.interventions import SkipBlock
from workbench.models.loading import BUNDLED
from workbench.numerics.resampling import mean_over_concepts
from workbench.recording.arguments import (
    check_concepts,
    check_count,
    check_flag,
    check_layers,
    check_seed,
    check_spaces,
)
from workbench.recording.capturing import capture
from workbench.recording.edits.resolving import resolve
from workbench.recording.generating import generate
from workbench.recording.opening import open_adapter
from workbench.recording.pictures import read_image
from workbench.recording.provenance import asking, derived, model_name
from workbench.recording.sessions import check_cancelled, session
from workbench.recording.turns import quoted, turn
from workbench.schema import CONCEPT, PROMPT, InputError, pack_attributes, read_attributes, warn
from workbench.store import find

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from workbench.truth import Truth

INTERVENTION: Final = "intervention"
DRAW: Final = "draw"
MOST_REPEATS: Final = 1000
_OWN: Final = {"model", "layers", "spaces", "interventions", "record", "truth", "ignore", "progress"}
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
    layers: int | Iterable[int] | None = None,
    space: str = "output",
    truth: Truth | None = None,
    perceptual: bool | None = None,
    progress: bool | Callable[[int, int], None] = True,
    cancel: Event | None = None,
    **options: Any,
) -> xr.Dataset:
    """Run a network without edits, with each intervention of a plan, and with equal-budget controls.

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
        What each intervention is compared with. ``"units"``: the same edit of as many other units (blocks, heads,
        tokens or concepts, of the same sort: dual-stream or single-stream, the prompt's own or padding), drawn among
        those that no intervention of the plan picks. ``"direction"``: a random change of the same L2 norm, for each
        token, at the same place. ``"auto"``: units where the plan picks some and leaves enough, otherwise, and for
        ``each()``, a direction. None: no controls.
    repeats
        Draws of each control; all there are where units allow fewer.
    control_seed
        Seed of the first draw.
    shared_draws
        Random directions are drawn for each picture, prompt and noise sample on their own. True: the same ones for all,
        so that what experiments on several of them have in common is not independent.
    layers
        Blocks that are recorded and compared; the model's default layers otherwise.
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
        Along ``intervention`` (labels), ``concept`` and ``draw``: ``map_distance`` (mean absolute difference of the
        heat maps), ``iou_shift`` (IoU minus that of the baseline), their means over concepts ``mean_map_distance`` and
        ``mean_iou_shift``, and for prompts ``psnr``, ``ssim`` and ``perceptual`` between the pictures. Maps are
        compared on the layers that neither run edits, and on the concepts that neither drops; NaN where none is left.
        For each effect ``<effect>_control`` is that of the controls, ``<effect>_rank`` the share of the draws whose
        effect is smaller (ties count half). For maps ``<effect>_paired`` is the intervention's own effect on the layers
        that a draw leaves too, which is what the draw is ranked against. Coordinates say what each control did
        and, as JSON, what was edited (``edits``); attributes record everything, what is nested as JSON
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

    adapter = open_adapter(model)
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
        len(blocks) if prompted else len(blocks) - 1,
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
    controls = (
        controls_of(places, network, control, count, seed, shared_draws) if control else [("none", [])] * len(arms)
    )
    distance = perceptual_distance(perceptual) if prompted else None

    # A name would be loaded anew for every run, unless it is that of the bundled model, which is kept.
    loaded = model if isinstance(model, str) and model in BUNDLED else adapter.pipe
    settings = options | {"model": loaded, "layers": recorded, "spaces": (space,), "progress": False}
    run: Any = generate if prompted else capture
    sets: list[Edits] = list(dict.fromkeys([(), *(arm.edits for arm in arms), *(d for _, ds in controls for d in ds)]))
    outcomes: dict[Edits, Outcome] = {}
    picked = {arm.edits for arm in arms}
    parent = _parent(options)
    with session(cancel):
        for edits in _told(sets, progress):
            role = "baseline" if not edits else "edit" if edits in picked else "control"
            with derived(role, parent, model):
                outcomes[edits] = Outcome.of(run(subject, words, interventions=edits, **settings), space)
            parent = parent or outcomes[edits].ds.attrs["key"]

    experiment = _Experiment(outcomes, recorded, words, truth_of(outcomes[()], truth), distance)
    result = experiment.result(arms, controls)
    record = {
        "kind": "intervention",
        "subject": "prompt" if prompted else "image",
        "prompt": outcomes[()].ds.attrs["prompt"],
        "image_hash": outcomes[()].ds.attrs["image_hash"],
        "model": model_name(model),
        "space": space,
        "concepts": list(words),
        "layers": recorded,
        "iou_of": "baseline" if truth is None else "truth",
        "control": control or "none",
        "control_seed": seed,
        "shared_draws": shared_draws,
        "repeats": count,
        "plan": [[edit.as_dict() for edit in arm.edits] for arm in arms],
        "controls": [[[edit.as_dict() for edit in draw] for draw in draws] for _, draws in controls],
        "keys": {_label(edits): outcome.ds.attrs["key"] for edits, outcome in outcomes.items()},
    }
    # The edits are beside their interventions too, where selecting and sorting move them along.
    edits_of = [json.dumps([edit.as_dict() for edit in arm.edits]) for arm in arms]
    return result.assign_coords(edits=(INTERVENTION, edits_of)).assign_attrs(pack_attributes(record))


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
        As from :func:`intervene`, the most vital block first; ``layer`` beside ``intervention``.
    """
    single = [effect for effect in SIZES if effect not in MAP_EFFECTS]
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


class _Experiment:
    """Effects of the arms and their controls, from the outcomes of all runs."""

    def __init__(
        self,
        outcomes: dict[Edits, Outcome],
        layers: Sequence[int],
        concepts: Sequence[str],
        truth: xr.Dataset | None,
        distance: Callable[[Any, Any], float] | None,
    ) -> None:
        self._outcomes = outcomes
        self._layers = layers
        self._concepts = concepts
        self._truth = truth
        self._distance = distance
        self._pictures: dict[Edits, Values] = {}

    def result(self, arms: Sequence[Arm], controls: Sequence[tuple[str, list[Edits]]]) -> xr.Dataset:
        """Everything, along intervention and draw."""
        draws = max(len(drawn) for _, drawn in controls)
        means = {f"mean_{name}": () for name in MAP_EFFECTS}
        dims: dict[str, tuple[str, ...]] = means | dict.fromkeys(MAP_EFFECTS, (CONCEPT,))
        names = [*dims, *self._picture(())]
        rows: dict[str, list[Any]] = {}
        for arm, (_, drawn) in zip(arms, controls, strict=True):
            own = self._maps(arm.edits, arm.edits) | self._picture(arm.edits)
            if np.isnan(own["map_distance"]).all() and self._outcomes[()].ds.attrs["kind"] == "capture":
                warn(
                    f"{arm.label} edits every recorded layer, so no map is left to compare: edit fewer, or record "
                    "others too, with layers=.",
                    stacklevel=4,
                )
            missing = [{name: np.full_like(own[name], np.nan) for name in names}] * (draws - len(drawn))
            theirs = [self._maps(draw, arm.edits, draw) | self._picture(draw) for draw in drawn] + missing
            paired = [self._maps(arm.edits, arm.edits, draw) for draw in drawn] + missing
            for name in names:
                rows.setdefault(name, []).append(own[name])
                if draws:
                    rows.setdefault(f"{name}_control", []).append(np.stack([one[name] for one in theirs]))
                    if name in dims:
                        rows.setdefault(f"{name}_paired", []).append(np.stack([one[name] for one in paired]))
        found = xr.Dataset(
            coords={
                INTERVENTION: [arm.label for arm in arms],
                CONCEPT: list(self._concepts),
                "control": (INTERVENTION, [kind for kind, _ in controls]),
            }
        )
        if draws:
            labels = [[_label(draw) for draw in drawn] + [""] * (draws - len(drawn)) for _, drawn in controls]
            found = found.assign_coords({DRAW: range(draws), "control_edit": ((INTERVENTION, DRAW), labels)})
        for name, values in rows.items():
            effect = name.removesuffix("_control").removesuffix("_paired")
            inner = dims.get(effect, ())
            found[name] = ((INTERVENTION, *((DRAW,) if effect != name else ()), *inner), np.stack(values))
        for name in names if draws else ():
            size = SIZES[name]
            drawn_effects = found[f"{name}_control"].transpose(..., DRAW)
            setting = found[f"{name}_paired" if name in dims else name]
            setting = setting.broadcast_like(drawn_effects).transpose(*drawn_effects.dims)
            ranks = rank(size(setting.to_numpy()), size(drawn_effects.to_numpy()))
            found[f"{name}_rank"] = (drawn_effects.dims[:-1], ranks)
        return found

    def _maps(self, edits: Edits, *sides: Edits) -> Values:
        """Effects on the maps where no side edits anything."""
        layers, concepts = shared_layers(self._layers, *sides), shared_concepts(self._concepts, *sides)
        found = map_effects(self._outcomes[()], self._outcomes[edits], layers, concepts, self._truth)
        return found | {f"mean_{name}": np.array(mean_over_concepts(found[name])) for name in MAP_EFFECTS}

    def _picture(self, edits: Edits) -> Values:
        """Effects on the picture; none for a real one."""
        if not self._outcomes[()].generated:
            return {}
        if edits not in self._pictures:
            self._pictures[edits] = picture_effects(self._outcomes[()], self._outcomes[edits], self._distance)
        return self._pictures[edits]


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
