from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import workbench as wb
from tests.synthetic import dataset
from workbench import accessor
from workbench.analysis import attention, heads, heatmaps, leakage, metrics, settling, sweeps
from workbench.analysis.adding_truth import with_truth
from workbench.schema import InputError, SchemaError

assert wb.__version__  # importing the package is what registers the accessor


def test_methods_are_the_analyses() -> None:
    ds = dataset(truth=True)
    identical = xr.testing.assert_identical
    choice = {"layers": slice(0, 3), "timesteps": 500}
    identical(ds.wb.heatmap(heads=1, **choice), heatmaps.heatmap(ds, heads=1, **choice))  # type: ignore[arg-type]
    identical(ds.wb.segment(**choice), heatmaps.segment(ds, **choice))  # type: ignore[arg-type]
    identical(ds.wb.mask("dog", 0.3, **choice), heatmaps.mask(ds, "dog", 0.3, **choice))  # type: ignore[arg-type]
    identical(
        ds.wb.scores("cross", heads=0, samples=0, concepts="dog", **choice),
        heatmaps.scores(ds, "cross", heads=0, samples=0, concepts="dog", **choice),
    )  # type: ignore[arg-type]
    identical(ds.wb.score(**choice), metrics.score(ds, **choice))  # type: ignore[arg-type]
    identical(ds.wb.with_truth(~ds.truth), with_truth(ds, ~ds.truth))
    identical(ds.wb.sweep("layer", "prefix", timesteps=500), sweeps.sweep(ds, "layer", "prefix", timesteps=500))
    identical(ds.wb.rank_heads("entropy", timesteps=500), heads.rank_heads(ds, "entropy", timesteps=500))
    identical(ds.wb.leakage(truth=False, **choice), leakage.leakage(ds, truth=False, **choice))  # type: ignore[arg-type]
    identical(ds.wb.settling(0.5, layers=1), settling.settling(ds, 0.5, layers=1))
    identical(ds.wb.sinks(2, layers=1), attention.sinks(ds, 2, layers=1))
    lse = ds["cross"].isel(y=0, x=0, drop=True).astype("float32")
    more = ds.assign(lse_image=lse, lse_concept=lse, text_mass=lse.rename(concept="text").drop_vars("text"))
    more = more.assign_coords(text=[0, 1, 2], padding=("text", [False, True, True])).assign_attrs(text_length=3)
    identical(more.wb.concept_share(layers=1), attention.concept_share(more, layers=1))
    identical(more.wb.text_sinks(2, layers=1), attention.text_sinks(more, 2, layers=1))


def test_validate() -> None:
    ds = dataset()
    ds.wb.validate(values=True)
    with pytest.raises(SchemaError, match="default_layers"):
        ds.assign_attrs(default_layers="all").wb.validate()


def test_summary_says_what_was_captured() -> None:
    ds = dataset(samples=2, layers=[0, 1, 2, 4], missing=[(0, 500.0, 1)], timesteps=np.linspace(1000, 100, 10).tolist())
    with pytest.raises(ValueError, match="500"):
        dataset(timesteps=[1.0], missing=[(0, 500.0, 1)])
    text = repr(ds.wb)
    for part in (
        "output, cross scores of made-up",
        "3 concepts (dog, grass, sky)",
        "4 layers (0–2, 4)",
        "10 timesteps (1000, 900, 800, 700, 600, …, 100)",
        "2 samples",
        "2 heads",
        "4 × 6 patches",
        "from layers 1–2",
        "1 piece missing",
        "kB uncompressed",
    ):
        assert part in text
    assert "\n" not in text


def test_summary_of_any_dataset() -> None:
    assert "No captured scores" in repr(xr.Dataset().wb)
    assert "No captured scores" in xr.Dataset({"image": 1}).wb._repr_html_()


def test_html_escapes_text_of_the_dataset() -> None:
    ds = dataset(concepts=["<script>alert(1)</script>", 'a "quoted" & b']).assign_attrs(model="<b>model</b>")
    text = re.sub(r"^<p [^>]*><img [^>]*>|</p>$", "", ds.wb._repr_html_())
    assert "<" not in text
    assert "&lt;script&gt;" in text
    assert "&quot;quoted&quot; &amp; b" in text
    assert "&lt;b&gt;model" in text


@pytest.mark.parametrize("kind", ["capture", "generate"])
def test_html_shows_the_picture(kind: str) -> None:
    ds = dataset(kind=kind, samples=2, grid=(20, 40))
    found = re.search(r'src="data:image/png;base64,([^"]+)" width="96" height="48"', ds.wb._repr_html_())
    assert found
    picture = Image.open(io.BytesIO(base64.b64decode(found[1])))
    assert picture.size == (96, 48)
    image = ds["image"] if kind == "capture" else ds["image"].isel(sample=0)
    np.testing.assert_allclose(np.asarray(picture)[5, 5], image.values[20, 20], atol=2)


@pytest.mark.slow
def test_no_torch_and_no_matplotlib_behind_the_accessor() -> None:
    code = """
import sys, workbench
from tests.synthetic import dataset
ds = dataset(truth=True)
assert "workbench.analysis" not in sys.modules, "the analyses are imported when first used"
ds.wb.heatmap(upsample="bilinear"), ds.wb.segment(), ds.wb.mask("dog"), ds.wb.score(), ds.wb._repr_html_()
ds.wb.sweep("layer"), ds.wb.rank_heads(), ds.wb.leakage(), ds.wb.settling(), ds.wb.sinks()
drawn = [name for name in ("matplotlib", "plotly", "sklearn") if name in sys.modules]
assert not drawn, drawn
import workbench.figures
workbench.figures.concept_grid(ds)
heavy = [name for name in ("torch", "diffusers", "transformers", "matplotlib.pyplot") if name in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# By method, what it is called with beside options.
METHODS: dict[str, tuple[Any, ...]] = {
    "heatmap": (),
    "segment": (),
    "mask": ("dog",),
    "score": (),
    "sweep": ("layer",),
    "rank_heads": (),
    "leakage": (),
    "settling": (),
    "sinks": (),
    "text_sinks": (),
    "concept_share": (),
    "self_attention": (),
}


@pytest.mark.filterwarnings("ignore:self_attention is called:UserWarning")
@pytest.mark.parametrize("method", METHODS)
def test_an_unknown_option_is_answered_with_those_there_are(method: str) -> None:
    call = getattr(dataset(truth=True).wb, method)
    with pytest.raises(InputError, match=r"\w+ takes no timestep\. Did you mean timesteps= for .*takes .*layers"):
        call(*METHODS[method], timestep=500)


def test_every_method_with_options_is_tried_above() -> None:
    kinds = {name: signature(method) for name, method in vars(type(dataset().wb)).items() if callable(method)}
    taking = {
        name for name, found in kinds.items() if any(one.kind is one.VAR_KEYWORD for one in found.parameters.values())
    }
    assert taking == {*METHODS, "to_netcdf"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ds: ds.wb.leakage(truth="yes"), "truth is 'yes'; expected True or False"),
        (lambda ds: ds.wb.validate(values="yes"), "values is 'yes'; expected True or False"),
        (lambda ds: ds.wb.sweep("layer", keep_resamples=1), "keep_resamples is 1; expected True or False"),
        (lambda ds: ds.wb.settling("x"), "threshold is 'x'; expected a number above 0, at most 1"),
        (lambda ds: ds.wb.sweep("layer", confidence="x"), "confidence is 'x'; expected a number between 0 and 1"),
        (lambda ds: ds.wb.sweep("layer", window=True), "window is True; expected a whole number, 1 or more"),
        (lambda ds: ds.wb.sweep("layer", seed=None), "seed is None; expected a whole number, 0 or more"),
        (lambda ds: ds.wb.score(null="patches", seed="x"), "seed is 'x'; expected a whole number, 0 or more"),
        (lambda ds: ds.wb.rank_heads("label_separability", seed=None), "seed is None; expected a whole number"),
        (lambda ds: ds.wb.mask("dog", 3), "rule is 3, and this map is of shares, 0 to 1: give a threshold between"),
        (lambda ds: ds.wb.with_truth(ds.truth[0] * 2, labels=["dog"]), r"labels is \['dog'\]; expected what the label"),
        (lambda ds: wb.gauge_report(ds, layer=1), "gauge_report takes no layer. Did you mean layers="),
    ],
)
def test_values_that_would_mean_nothing_are_refused(call: Callable[[xr.Dataset], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call(dataset(truth=True))


def test_a_threshold_of_scores_is_any_number() -> None:
    assert not dataset().wb.mask("dog", 1e6, reduce="mean").any()


def test_the_summary_of_an_edited_run_says_so() -> None:
    ds = dataset().assign_attrs(interventions=[{"edit": "SkipBlock", "layers": [3]}])
    assert "; edited: SkipBlock(3); " in repr(ds.wb)
    assert "edited: SkipBlock(3)" in ds.wb._repr_html_()
    ds = dataset().assign_attrs(edit="<script>", interventions=[{}], role="control", parent="abc")
    assert "edited: &lt;script&gt;" in ds.wb._repr_html_()
    assert repr(ds.wb).endswith("made as the control of an experiment with run abc.")
    assert "edited" not in repr(dataset().wb)
    ds = dataset().assign_attrs(inputs={"image": {"image": "abc", "size": [4, 4]}, "strength": 0.6})
    assert "; made with image, strength; " in repr(ds.wb)


def _engines(monkeypatch: pytest.MonkeyPatch, installed: bool) -> None:
    monkeypatch.setattr(accessor, "find_spec", lambda name: object() if installed else None)


def test_netcdf_without_an_engine_for_hdf5_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _engines(monkeypatch, installed=True)
    with pytest.raises(ValueError, match="cast") as plain:
        dataset().wb.to_netcdf(tmp_path / "run.nc", engine="scipy")
    assert not isinstance(plain.value, InputError)
    _engines(monkeypatch, installed=False)
    said = r"without HDF5 cannot hold .* \(ValueError: .*cast.*\): pip install h5netcdf, then"
    with pytest.raises(InputError, match=said):
        dataset().wb.to_netcdf(tmp_path / "run.nc", engine="scipy")


def test_netcdf_that_asks_for_hdf5_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _engines(monkeypatch, installed=False)
    with pytest.raises(InputError, match=r"\(ValueError: .*NETCDF4.*\): pip install h5netcdf"):
        dataset()[["output_total"]].wb.to_netcdf(tmp_path / "sums.nc", engine="scipy", format="NETCDF4")


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"mode": "z"}, ValueError, "(?i)mode"),
        ({"encoding": {"nothing": {"dtype": "f4"}}}, KeyError, "nothing"),
        ({"encoding": {"output_total": {"nothing": 1}}}, ValueError, "nothing"),
        ({"engine": "nothing"}, ValueError, "nothing"),
    ],
)
def test_wrong_options_of_netcdf_are_not_put_down_to_the_engine(
    options: dict[str, Any], kind: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _engines(monkeypatch, installed=False)
    with pytest.raises(kind, match=said) as plain:
        dataset()[["output_total"]].wb.to_netcdf(tmp_path / "sums.nc", **{"engine": "scipy", **options})
    assert not isinstance(plain.value, InputError)


@pytest.mark.parametrize(
    "call",
    [
        lambda ds: ds.wb.sweep(
            "layer", "window", window=np.int64(2), resamples=np.int32(50), confidence=np.float32(0.9), seed=np.int8(1)
        ),
        lambda ds: ds.wb.sweep("layer", "greedy", most=np.int64(2)),
        lambda ds: ds.wb.mask("dog", rule=np.float32(0.4)),
        lambda ds: ds.wb.settling(np.float32(0.4)),
    ],
)
def test_attributes_are_plain_whatever_numbers_were_given(call: Callable[[xr.Dataset], Any]) -> None:
    json.dumps(call(dataset(truth=True, samples=5)).attrs)
