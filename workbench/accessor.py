"""The accessor ``ds.wb``: analyses as methods of a captured dataset.

Importing this module costs nothing but xarray; the analyses are imported when first used.
"""

from __future__ import annotations

import base64
import html
import io
import os
import tempfile
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from workbench import schema
from workbench.schema.given_options import check_flag, check_names

if TYPE_CHECKING:
    from typing import Literal, Unpack

    from workbench.analysis.heads import RankOptions
    from workbench.analysis.heatmaps import HeatmapOptions
    from workbench.analysis.nulls import Null
    from workbench.analysis.selection import Labels, Numbers, PieceChoice, ScoreChoice
    from workbench.analysis.sweeps import How, SweepOptions, Swept
    from workbench.truth import Ignored, Truth

_THUMBNAIL = 96
"""Longest side of the summary's picture, in pixels."""


@xr.register_dataset_accessor("wb")
class WorkbenchAccessor:
    """Heat maps, segmentations and figures of merit of a captured dataset.

    Every method returns new labelled data and leaves the dataset as it is. Of a run of many images
    (:func:`workbench.capture_many`) each item is measured by itself, with the numbers of a capture of its image alone,
    and the results lie along ``item``; a sweep takes the items as observations, as of several datasets.
    """

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def scores(
        self,
        space: str = "output",
        *,
        layers: Numbers = None,
        timesteps: Numbers = None,
        heads: Numbers = None,
        samples: Numbers = None,
        concepts: Labels = None,
    ) -> xr.DataArray:
        """Scores summed over heads: (sample, timestep, layer, concept, y, x) float32, lazy unless heads are chosen.

        See :func:`workbench.analysis.heatmaps.scores`.
        """
        from workbench.analysis.heatmaps import scores
        from workbench.analysis.many_images import is_many, scores_of_items

        of = scores_of_items if is_many(self._ds) else scores
        return of(
            self._ds,
            space,
            layers=layers,
            timesteps=timesteps,
            heads=heads,
            samples=samples,
            concepts=concepts,
        )

    def heatmap(self, **options: Unpack[HeatmapOptions]) -> xr.DataArray:
        """One map per concept: (concept, y, x) float32.

        Options: ``space="output"``, ``layers``, ``timesteps``, ``heads``, ``samples``, ``concepts`` (each a value, a
        list or a slice with both ends included), ``reduce="softmax_mean" | "mean_softmax" | "mean"``,
        ``center=None | "patch"`` (independent of the values' origin),
        ``upsample=None | "nearest" | "bilinear"`` and ``keep=()``, dimensions that are not averaged.
        See :func:`workbench.analysis.heatmaps.heatmap`.
        """
        from workbench.analysis.heatmaps import HeatmapOptions, heatmap
        from workbench.analysis.many_images import over_items

        check_names("heatmap", options, HeatmapOptions.__annotations__)
        return over_items(self._ds, lambda one: heatmap(one, **options))

    def segment(self, **options: Unpack[HeatmapOptions]) -> xr.DataArray:
        """The strongest concept of each patch: (y, x) indices, named in ``attrs["flag_meanings"]``.

        Takes the options of :meth:`heatmap`. See :func:`workbench.analysis.heatmaps.segment`.
        """
        from workbench.analysis.heatmaps import segment
        from workbench.analysis.many_images import over_items

        return over_items(self._ds, lambda one: segment(one, **options))

    def mask(self, concept: str, rule: str | float = "mean", **options: Unpack[HeatmapOptions]) -> xr.DataArray:
        """Where a concept is: (y, x) bool. ``rule`` is ``"mean"``, ``"argmax"`` or a threshold.

        Takes the options of :meth:`heatmap` as well. See :func:`workbench.analysis.heatmaps.mask`.
        """
        from workbench.analysis.heatmaps import mask
        from workbench.analysis.many_images import over_items

        return over_items(self._ds, lambda one: mask(one, concept, rule, **options))

    def item(self, which: str | int) -> xr.Dataset:
        """One item of a run of many images, by its name or its label, as the dataset of a capture of its image alone.

        See :func:`workbench.analysis.many_images.item`.
        """
        from workbench.analysis.many_images import item

        return item(self._ds, which)

    def with_truth(
        self, truth: Truth, *, labels: Any = None, ignore: Ignored = None, resize: bool = False
    ) -> xr.Dataset:
        """A dataset with the variable ``truth``, (concept, pixel_y, pixel_x) bool.

        ``ignore``, a value of a label map or the name of a mask, says which pixels are ``void``: left out of every
        comparison. Of a run of many images it is one truth for each item: a mapping from names, a list, or a function
        of the name.
        See :func:`workbench.analysis.adding_truth.with_truth`.
        """
        from workbench.analysis.adding_truth import with_truth

        return with_truth(self._ds, truth, labels=labels, ignore=ignore, resize=resize)

    def score(
        self, *, null: Null | None = None, repeats: int = 200, seed: int = 0, **options: Unpack[HeatmapOptions]
    ) -> xr.Dataset:
        """How well the segmentation agrees with the stored truth: ``iou`` (concept), ``mean_iou``, ``accuracy``.

        ``null="patches"`` or ``"concepts"``, or other datasets, adds the same scores of maps that cannot know the
        answer. Takes the options of :meth:`heatmap` as well. See :func:`workbench.analysis.metrics.score`.
        """
        from workbench.analysis.many_images import over_items
        from workbench.analysis.metrics import score

        return over_items(self._ds, lambda one: score(one, null=null, repeats=repeats, seed=seed, **options))

    def sweep(
        self, over: Swept | tuple[Swept, Swept], how: How = "only", **options: Unpack[SweepOptions]
    ) -> xr.Dataset:
        """Measure the maps of every choice of layers, timesteps, heads, samples or spaces, made afterwards.

        ``over`` is one of these dimensions or a pair; ``how`` is ``"only"`` (each alone), ``"drop"`` (all but each),
        ``"prefix"``, ``"suffix"``, ``"window"`` or ``"greedy"``. Options: ``metric``, by default ``"iou"`` where there
        is truth and ``"full_map_iou"`` elsewhere; ``truth``; ``window=3``; what to take (``space``,
        ``layers``, ``timesteps``, ``heads``, ``samples``, ``concepts``, ``reduce``, ``center``); those of the
        bootstrap; ``progress`` and ``cancel``. The network itself stays as it is. See
        :func:`workbench.analysis.sweeps.sweep`.
        """
        from workbench.analysis.sweeps import SweepOptions, sweep

        check_names("sweep", options, SweepOptions.__annotations__, "beside over and how it takes")
        return sweep(self._ds, over, how, **options)

    def overview(
        self, statistic: str = "patch_agreement", *, space: str = "output", samples: Numbers = None
    ) -> xr.DataArray:
        """One figure for the maps of every timestep and layer alone: (timestep, layer), as ``wb.explore`` shows it.

        ``statistic`` is ``"patch_agreement"`` (with the default heat map), ``"entropy"``, ``"separability"`` or, with
        truth, ``"iou"`` or ``"ap"``. Samples are averaged before the maps are measured. See
        :func:`workbench.analysis.overview.overview`.
        """
        from workbench.analysis.many_images import over_items
        from workbench.analysis.overview import overview

        return over_items(self._ds, lambda one: overview(one, statistic, space=space, samples=samples))

    def rank_heads(self, metric: str | None = None, **options: Unpack[RankOptions]) -> xr.Dataset:
        """Rank every head of every layer by its own maps, with masks or without; stable or not over noise samples.

        See :func:`workbench.analysis.heads.rank_heads`.
        """
        from workbench.analysis.heads import rank_heads
        from workbench.analysis.many_images import over_items

        return over_items(self._ds, lambda one: rank_heads(one, metric, **options))

    def leakage(self, *, truth: bool | None = None, **options: Unpack[HeatmapOptions]) -> xr.Dataset:
        """Concept by concept confusion: what share of a concept's region the map of another one takes.

        See :func:`workbench.analysis.leakage.leakage`.
        """
        from workbench.analysis.leakage import leakage
        from workbench.analysis.many_images import over_items

        return over_items(self._ds, lambda one: leakage(one, truth=truth, **options))

    def settling(self, threshold: float = 0.8, **options: Unpack[HeatmapOptions]) -> xr.Dataset:
        """Agreement with the last timestep, and the timestep since which it holds, for each concept.

        See :func:`workbench.analysis.settling.settling`.
        """
        from workbench.analysis.many_images import over_items
        from workbench.analysis.settling import settling

        return over_items(self._ds, lambda one: settling(one, threshold, **options))

    def sinks(
        self, top: int = 1, *, of: Literal["image", "all"] = "image", **choice: Unpack[ScoreChoice]
    ) -> xr.Dataset:
        """Share of attention that the strongest ``top`` patches take, head by head, from the space ``cross``.

        See :func:`workbench.analysis.attention.sinks`.
        """
        from workbench.analysis.attention import sinks
        from workbench.analysis.many_images import over_items
        from workbench.analysis.selection import ScoreChoice

        check_names("sinks", choice, ("top", "of", *ScoreChoice.__annotations__))
        return over_items(self._ds, lambda one: sinks(one, top, of=of, **choice))

    def text_sinks(self, top: int = 1, **choice: Unpack[PieceChoice]) -> xr.Dataset:
        """Share of the image's attention to text that padding and the strongest ``top`` tokens take, head by head.

        See :func:`workbench.analysis.attention.text_sinks`.
        """
        from workbench.analysis.attention import text_sinks
        from workbench.analysis.many_images import over_items
        from workbench.analysis.selection import PieceChoice

        check_names("text_sinks", choice, ("top", *PieceChoice.__annotations__))
        return over_items(self._ds, lambda one: text_sinks(one, top, **choice))

    def concept_share(self, **choice: Unpack[ScoreChoice]) -> xr.DataArray:
        """Share of each concept's attention that goes to concepts instead of patches, head by head.

        See :func:`workbench.analysis.attention.concept_share`.
        """
        from workbench.analysis.attention import concept_share
        from workbench.analysis.many_images import over_items
        from workbench.analysis.selection import ScoreChoice

        check_names("concept_share", choice, ScoreChoice.__annotations__)
        return over_items(self._ds, lambda one: concept_share(one, **choice))

    def self_attention(self, **choice: Unpack[ScoreChoice]) -> xr.DataArray:
        """The former name of :meth:`concept_share`, with a warning."""
        from workbench.analysis.attention import self_attention
        from workbench.analysis.many_images import over_items
        from workbench.analysis.selection import ScoreChoice

        check_names("self_attention", choice, ScoreChoice.__annotations__)
        return over_items(self._ds, lambda one: self_attention(one, **choice))

    def to_netcdf(self, path: str | os.PathLike[str], **options: Any) -> None:
        """Write as :meth:`xarray.Dataset.to_netcdf` does, also attributes that netCDF cannot hold, as JSON.

        Whole runs need an engine for HDF5, ``h5netcdf`` or ``netcdf4``; results of analyses do without. Everything in
        this package reads such files as it does the dataset; :func:`workbench.schema.read_attributes` gives the plain
        attributes back.

        Raises
        ------
        InputError
            If it cannot be written without such an engine, and none is installed. What is wrong with options raises
            what :meth:`xarray.Dataset.to_netcdf` raises.
        """
        packed = self._ds.copy()
        packed.attrs = schema.pack_attributes(packed.attrs, texts=False)
        for variable in packed.variables.values():
            variable.attrs = schema.pack_attributes(variable.attrs, texts=False)
        try:
            packed.to_netcdf(os.fspath(path), **options)
        except (ValueError, TypeError, KeyError, ImportError) as error:
            if any(find_spec(engine) for engine in ("h5netcdf", "netCDF4")) or not _needs_hdf5(packed, options):
                raise
            raise schema.InputError(
                f"netCDF without HDF5 cannot hold this dataset ({type(error).__name__}: {error}): pip install "
                "h5netcdf, then call again; `workbench export` writes a run without it."
            ) from error

    def validate(self, *, values: bool = False) -> None:
        """Check the dataset against the contract of :mod:`workbench.schema`.

        Parameters
        ----------
        values
            Also read every score, and check that exactly the missing pieces are NaN.

        Raises
        ------
        SchemaError
            Naming everything that is wrong.
        """
        schema.validate(self._ds, values=check_flag("values", values))

    def __repr__(self) -> str:
        try:
            return self._summary()
        except Exception as error:  # a summary never stands in the way of what it is about
            return f"This dataset is not as it was captured: {error}"

    def _repr_html_(self) -> str:
        try:
            picture = self._thumbnail()
        except Exception:  # the summary says what is wrong
            picture = ""
        return f'<p style="overflow: hidden; max-width: 60em">{picture}{html.escape(repr(self))}</p>'

    def _summary(self) -> str:
        """One paragraph in plain text: what was captured, from which model."""
        from workbench.analysis.many_images import is_many
        from workbench.analysis.normalising import normalised
        from workbench.interventions import edit_of

        many = is_many(self._ds)
        ds = normalised(self._ds.isel({schema.ITEM: 0}) if many else self._ds, branches=True)
        spaces = [space for space in schema.SPACES if schema.total(space) in ds.data_vars]
        if not spaces:
            return "No captured scores in this dataset: it has no variable such as 'output_total'."
        parts = [
            f"{', '.join(spaces)} scores of {ds.attrs.get('model', 'an unnamed model')}",
            *([f"edited: {edit}"] if (edit := edit_of(ds.attrs)) else []),
            *([f"of the {branch} branch"] if (branch := _branch(ds)) else []),
            *(
                [f"made with {', '.join(inputs)}"]
                if (inputs := schema.read_attributes(ds.attrs).get(schema.INPUTS))
                else []
            ),
            *([_listed("item", _values(self._ds, schema.NAME))] if many else []),
            _listed("concept", _values(self._ds if many else ds, schema.CONCEPT)),
            _listed("layer", _values(ds, schema.LAYER)),
            _listed("timestep", _values(ds, schema.TIMESTEP)),
            _count(ds.sizes.get(schema.SAMPLE, 1), "sample"),
            _count(ds.sizes.get(schema.HEAD, 0), "head"),
            f"{ds.sizes.get(schema.Y, 0)} × {ds.sizes.get(schema.X, 0)} patches (height × width)",
        ]
        if default := ds.attrs.get("default_layers"):
            parts.append(f"heat maps from layers {_ranges(list(default))} unless told otherwise")
        if missing := ds.attrs.get("missing"):
            parts.append(f"{_count(len(missing), 'piece')} missing")
        if failed := ds.attrs.get(schema.FAILED):
            parts.append(f"{_count(len(failed), 'image')} failed")
        parts.append(f"{_bytes(self._ds.nbytes)} uncompressed")
        if role := ds.attrs.get(schema.ROLE):
            parent = ds.attrs.get(schema.PARENT)
            of = "a run of many images," if role == schema.OF_MANY else "an experiment"
            parts.append(f"made as the {role} of {of}" + f" with run {parent}" * bool(parent))
        return "; ".join(parts) + "."

    def _thumbnail(self) -> str:
        """The picture as an inline PNG tag, or nothing when the dataset has none that can be drawn."""
        image = self._ds.get(schema.IMAGE)
        if image is None:
            return ""
        if schema.SAMPLE in image.dims:
            image = image.isel({schema.SAMPLE: 0})
        if set(image.dims) != {schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL} or image.dtype != np.uint8:
            return ""
        from PIL import Image

        picture = Image.fromarray(image.transpose(schema.PIXEL_Y, schema.PIXEL_X, schema.CHANNEL).to_numpy())
        picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG", optimize=True)
        encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
        return (
            f'<img src="data:image/png;base64,{encoded}" width="{picture.width}" height="{picture.height}" '
            'alt="the captured picture" style="float: left; margin-right: 1em">'
        )


def _needs_hdf5(ds: xr.Dataset, options: dict[str, Any]) -> bool:
    """Whether a dataset that cannot be written asks for HDF5, or would be written if it held plain numbers."""
    wanted = str(options.get("engine")).lower() in ("h5netcdf", "netcdf4")
    if wanted or str(options.get("format")).startswith("NETCDF4"):
        return True
    plain = ds.isel(dict.fromkeys(ds.dims, slice(0, 1))).drop_attrs()
    numbers = {name: one for name, one in plain.variables.items() if one.dtype.kind in "biuf"}
    plain = plain.assign({name: (one.dims, np.zeros(one.shape, np.float32)) for name, one in numbers.items()})
    mode = "w" if options.get("mode") == "a" else options.get("mode", "w")
    with tempfile.TemporaryDirectory() as folder:
        try:
            plain.to_netcdf(f"{folder}/plain.nc", **{**options, "mode": mode})
        except (ValueError, TypeError, KeyError, ImportError):
            return False
    return True


def _values(ds: xr.Dataset, dim: str) -> list[Any]:
    return ds[dim].to_numpy().tolist() if dim in ds.coords else []


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _bytes(number: float) -> str:
    units = ["B", "kB", "MB", "GB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.3g} {units[0]}"


def _branch(ds: xr.Dataset) -> str:
    """The branch of guidance, where it is not the usual one."""
    branch = schema.branch_of(ds)
    named = {schema.CONDITIONAL: "", schema.BOTH: " and the ".join(schema.BRANCHES)}
    return named.get(branch, branch)


def _listed(noun: str, values: list[Any]) -> str:
    """ "3 layers (2, 4–5)": at most six names, whole numbers as ranges."""
    head = _count(len(values), noun)
    if not values:
        return head
    if all(isinstance(value, int) for value in values):
        return f"{head} ({_ranges(values)})"
    names = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
    shown = names if len(names) <= 6 else [*names[:5], "…", names[-1]]
    return f"{head} ({', '.join(shown)})"


def _ranges(values: list[int]) -> str:
    """Sorted whole numbers with runs joined: 0, 2–5, 9."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(str(first) if first == last else f"{first}–{last}" for first, last in runs)
