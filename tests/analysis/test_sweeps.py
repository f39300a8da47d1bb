from __future__ import annotations

import json
from threading import Event
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image
from scipy import stats
from sklearn.metrics import average_precision_score

from tests.synthetic import dataset
from workbench.analysis.heatmaps import heatmap, segment
from workbench.analysis.metrics import score
from workbench.analysis.sweeps import sweep
from workbench.schema import CancelledError, InputError, SelectionError, WorkbenchWarning


def test_a_sweep_over_layers_is_the_score_of_each() -> None:
    ds = dataset(truth=True, signal=1.5, grid=(6, 6))
    found = sweep(ds, "layer", metric=["iou", "accuracy", "ap"], timesteps=500)
    assert found["iou"].dims == ("layer", "concept")
    for layer in range(5):
        expected = score(ds, layers=layer, timesteps=500)
        one = found.sel(layer=layer)
        np.testing.assert_allclose(one["iou"], expected["iou"])
        np.testing.assert_allclose(one["mean_iou"], expected["mean_iou"])
        np.testing.assert_allclose(one["accuracy"], expected["accuracy"])
        maps = heatmap(ds, layers=layer, timesteps=500, upsample="nearest")
        pairs = [
            [each.sel(concept=name).values.ravel() for each in (ds["truth"], maps)] for name in maps.concept.values
        ]
        ap = [average_precision_score(*pair) for pair in pairs]
        np.testing.assert_allclose(one["ap"], ap)
        assert float(one["mean_ap"]) == pytest.approx(np.mean(ap))


def test_what_is_not_swept_is_what_a_heat_map_takes() -> None:
    ds = dataset(truth=True, signal=1.5)
    by_time = sweep(ds, "timestep")
    assert by_time.attrs["layers"] == [1, 2] == ds.attrs["default_layers"]
    np.testing.assert_allclose(by_time["mean_iou"].sel(timestep=250), score(ds, timesteps=250)["mean_iou"])
    by_space = sweep(ds, "space")
    assert by_space["space"].values.tolist() == ["output", "cross"]
    np.testing.assert_allclose(by_space["mean_iou"].sel(space="cross"), score(ds, space="cross")["mean_iou"])


@pytest.mark.parametrize("over", ["layer", "timestep", "head", "sample", ("layer", "timestep"), ("head", "layer")])
def test_the_ends_of_cumulative_sweeps_are_the_full_map(over: Any) -> None:
    ds = dataset(samples=2, heads=3)
    dims = [over] if isinstance(over, str) else list(over)
    last, first = dict.fromkeys(dims, -1), dict.fromkeys(dims, 0)
    for how, end in (("prefix", last), ("suffix", first)):
        same = sweep(ds, over, how, metric="full_map_iou")["full_map_iou"]  # type: ignore[arg-type]
        assert same.dims == (*dims, "concept")
        assert (same.isel(end) == 1).all()
        assert (same < 1).any()


@pytest.mark.parametrize("how", ["only", "drop", "greedy"])
def test_the_full_map_comes_beside_the_choices(how: Any) -> None:
    ds = dataset(truth=True, samples=5, signal=1)
    found = sweep(ds, "layer", how, layers=[0, 1, 3], metric=["iou", "entropy"], keep_resamples=True)
    pooled = sweep(ds, "layer", "prefix", layers=[0, 1, 3], metric=["iou", "entropy"], keep_resamples=True).isel(
        layer=-1
    )
    for name in ("iou", "mean_iou", "mean_iou_interval", "mean_iou_resamples", "entropy", "entropy_interval"):
        full = name.replace("iou", "iou_full").replace("entropy", "entropy_full")
        xr.testing.assert_allclose(found[full].rename(name), pooled[name].drop_vars("layer"))


def test_windows_name_their_first_and_last() -> None:
    ds = dataset(layers=[0, 1, 3, 4])
    found = sweep(ds, "layer", "window", window=3, metric="entropy")
    assert found["layer"].values.tolist() == [0, 1]
    assert found["layer_last"].values.tolist() == [3, 4]
    maps = heatmap(ds, layers=[1, 3, 4]).values.astype(float)
    entropy = -(maps * np.log(maps)).sum(0).mean() / np.log(3)
    assert float(found["entropy"].sel(layer=1)) == pytest.approx(entropy, rel=1e-5)
    assert found.attrs["window"] == 3


def test_two_dimensions_and_their_order() -> None:
    ds = dataset(truth=True, signal=1)
    one, other = sweep(ds, ("layer", "timestep")), sweep(ds, ("timestep", "layer"))
    assert one["mean_iou"].dims == ("layer", "timestep")
    assert other["mean_iou"].dims == ("timestep", "layer")
    xr.testing.assert_equal(one["iou"], other["iou"].transpose("layer", "timestep", "concept"))
    expected = score(ds, layers=3, timesteps=250)["mean_iou"]
    assert float(one["mean_iou"].sel(layer=3, timestep=250)) == pytest.approx(float(expected))


def test_heads_are_summed_before_the_softmax() -> None:
    ds = dataset(truth=True, signal=2, heads=4)
    found = sweep(ds, "head", "drop", layers=[0, 3], heads=[0, 1, 3])
    expected = score(ds, layers=[0, 3], heads=[0, 3])
    np.testing.assert_allclose(found["iou"].sel(head=1), expected["iou"])
    held = sweep(ds, "layer", heads=[0, 3])
    np.testing.assert_allclose(held["iou"].sel(layer=3), score(ds, layers=3, heads=[0, 3])["iou"])
    assert held.attrs["heads"] == [0, 3]


def test_greedy_finds_the_layer_that_knows() -> None:
    ds = dataset(truth=True, layers=range(4), seed=5).drop_vars("output")
    strips = ds["truth"].values[:, 4::8, 4::8]
    ds["output_total"][:, :, 2] += 20 * strips
    found = sweep(ds, "layer", "greedy")
    assert found["mean_iou"].dims == ("rank",)
    assert found["rank"].values.tolist() == [1, 2, 3, 4]
    assert int(found["layer"][0]) == 2
    assert sorted(found["layer"].values.tolist()) == [0, 1, 2, 3]
    for rank in range(4):
        expected = score(ds, layers=found["layer"].values[: rank + 1].tolist())["mean_iou"]
        assert float(found["mean_iou"][rank]) == pytest.approx(float(expected))


@pytest.mark.parametrize("over", ["layer", "head", "timestep", ("layer", "timestep")])
def test_greedy_adds_the_best_each_time(over: Any) -> None:
    ds = dataset(truth=True, signal=1, heads=3, grid=(6, 6))
    found = sweep(ds, over, "greedy", layers=[0, 1, 3], most=3)
    dims = [over] if isinstance(over, str) else list(over)
    assert found.sizes["rank"] == 3
    if len(dims) > 1:
        best = float(sweep(ds, over, layers=[0, 1, 3])["mean_iou"].max())
        assert float(found["mean_iou"][0]) == pytest.approx(best)
        return
    dim = dims[0]
    everything = ds[dim].values.tolist() if dim != "layer" else [0, 1, 3]
    chosen: list[Any] = []
    for rank in range(3):
        tried = {}
        for member in everything:
            if member not in chosen:
                options: dict[str, Any] = {"layers": [0, 1, 3]} | {f"{dim}s": [*chosen, member]}
                tried[member] = float(score(ds, **options)["mean_iou"])
        assert float(found["mean_iou"][rank]) == pytest.approx(max(tried.values()))
        chosen.append(found[dim].values[rank].item())
        assert tried[chosen[-1]] == pytest.approx(max(tried.values()))


def test_greedy_turns_down_what_is_lower_when_lower_is_better() -> None:
    ds = dataset()
    alone = sweep(ds, "layer", metric="entropy")["entropy"]
    found = sweep(ds, "layer", "greedy", metric="entropy", most=1)
    assert int(found["layer"][0]) == int(alone["layer"][int(alone.argmin("layer"))])
    assert found.attrs["higher_is_better"] == [False]


def test_missing_pieces_are_nan_and_left_alone() -> None:
    ds = dataset(truth=True, missing=[(0, time, 3) for time in (750.0, 500.0, 250.0)])
    found = sweep(ds, "layer", metric=["iou", "entropy"])
    assert np.isnan(found["iou"].sel(layer=3)).all()
    assert np.isnan(found["entropy"].sel(layer=3))
    assert found["mean_iou"].sel(layer=[0, 1, 2, 4]).notnull().all()
    assert sorted(sweep(ds, "layer", "greedy")["layer"].values.tolist()) == [0, 1, 2, 4]


@pytest.mark.parametrize("over", ["layer", ("layer", "timestep"), ("timestep", "layer")])
def test_greedy_never_ranks_what_is_missing(over: Any) -> None:
    ds = dataset(truth=True, samples=2, signal=1, missing=[(s, time, 3) for s in (0, 1) for time in (750.0, 500.0)])
    told: list[tuple[int, int]] = []
    found = sweep(ds, over, "greedy", progress=lambda done, total: told.append((done, total)))
    if over == "layer":
        assert sorted(found["layer"].values.tolist()) == [0, 1, 2, 3, 4]
    else:
        pairs = list(zip(found["layer"].values.tolist(), found["timestep"].values.tolist(), strict=True))
        assert len(pairs) == 5 * 3 - 2
        assert (3, 250.0) in pairs
        assert not {(3, 750.0), (3, 500.0)} & set(pairs)
    assert told[-1][0] == told[-1][1]


def test_truth_from_a_label_map_or_a_file(tmp_path: Any) -> None:
    ds = dataset(signal=2)
    strips = dataset(truth=True)["truth"]
    expected = sweep(dataset(signal=2, truth=True), "layer")
    labels = strips.argmax("concept").values.astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    names = {"dog": 0, "grass": 1, "sky": 2}
    for given in (labels, tmp_path / "labels.png"):
        xr.testing.assert_identical(sweep(ds, "layer", truth=given, labels=names), expected)
    xr.testing.assert_identical(sweep(ds, "layer", truth=strips), expected)
    xr.testing.assert_identical(sweep(ds.wb.with_truth(~strips), "layer", truth=strips), expected)


def test_samples_of_one_picture_are_observations() -> None:
    ds = dataset(truth=True, samples=5, signal=1)
    found = sweep(ds, "layer", resamples=200, keep_resamples=True)
    assert (found.attrs["observation"], found.attrs["observations"]) == ("sample", 5)
    right, either = (np.zeros((5, 3)) for _ in range(2))
    for sample in range(5):
        for layer in range(5):
            labels = np.kron(segment(ds, layers=layer, samples=sample), np.ones((8, 8), int))
            for concept, truth in enumerate(ds["truth"].values):
                right[layer, concept] += (truth & (labels == concept)).sum()
                either[layer, concept] += (truth | (labels == concept)).sum()
    np.testing.assert_allclose(found["iou"], right / either)
    bounds = found["mean_iou_interval"]
    assert bounds.dims == ("bound", "layer")
    assert (bounds.sel(bound="low") <= found["mean_iou"]).all()
    assert (found["mean_iou"] <= bounds.sel(bound="high")).all()
    assert (bounds.sel(bound="low") < bounds.sel(bound="high")).any()
    assert found["mean_iou_resamples"].sizes == {"resample": 200, "layer": 5}
    expected = np.quantile(found["mean_iou_resamples"], [0.025, 0.975], axis=0)
    np.testing.assert_allclose(bounds, expected)
    xr.testing.assert_identical(found, sweep(ds, "layer", resamples=200, keep_resamples=True))


def test_one_sample_has_no_interval() -> None:
    found = sweep(dataset(truth=True), "layer", keep_resamples=True)
    assert set(found.data_vars) == {"iou", "mean_iou", "iou_full", "mean_iou_full"}
    assert found.attrs["observations"] == 1
    assert set(sweep(dataset(truth=True), "layer", interval="t").data_vars) == set(found.data_vars)
    assert "confidence" not in found.attrs


def test_pictures_with_different_words() -> None:
    one = dataset(truth=True, signal=1, seed=1)
    other = dataset(truth=True, signal=1, seed=2, concepts=("cat", "grass"), samples=2)
    found = sweep([one, other], "layer")
    assert (found.attrs["observation"], found.attrs["observations"]) == ("image", 2)
    assert found["concept"].values.tolist() == ["dog", "grass", "sky", "cat"]
    alone, second = sweep(one, "layer"), sweep(other.isel(sample=[0]), "layer")
    np.testing.assert_allclose(found["iou"].sel(concept=["dog", "sky"]), alone["iou"].sel(concept=["dog", "sky"]))
    assert "cat" in second["concept"]
    # The samples of one of several pictures are averaged.
    np.testing.assert_allclose(
        found["iou"].sel(concept="cat", layer=2), score(other, layers=2)["iou"].sel(concept="cat")
    )
    assert (found["iou"].sel(concept="grass") <= 1).all()
    assert found["iou_n"].sel(layer=2).values.tolist() == [1, 2, 1, 1]
    assert found["iou_interval"].isnull().all(), "two pictures bear none"


def test_few_pictures_bear_no_interval_and_some_an_exploratory_one() -> None:
    every = [dataset(truth=True, signal=1, seed=seed) for seed in range(6)]
    rare = [dataset(truth=True, signal=1, seed=9 + seed, concepts=("dog", "cat", "sky")) for seed in range(4)]
    found = sweep([*every, *rare], "layer", resamples=50)
    assert dict(zip(found["concept"].values, found["iou_n"].sel(layer=1).values, strict=True)) == {
        "dog": 10, "grass": 6, "sky": 10, "cat": 4,
    }  # fmt: skip
    known = found["iou_interval"].notnull().all(["bound", "layer"])
    assert known.values.tolist() == [True, True, True, False]
    assert (
        found.attrs["intervals"] == "exploratory under 10 images: iou of grass (6); none under 5 images: iou of cat (4)"
    )
    assert sweep(every[:4], "layer").attrs["intervals"].startswith("none under 5 images: mean_iou (4), iou of dog (4)")
    assert sweep(dataset(samples=10), "layer", metric="entropy").attrs["intervals"] == "over 10 samples or more"


def test_a_t_interval_over_the_own_value_of_each_picture() -> None:
    datasets = [dataset(truth=True, signal=1, seed=seed) for seed in range(6)]
    found = sweep(datasets, "layer", interval="t", confidence=0.9)
    own = [float(score(ds, layers=2)["mean_iou"]) for ds in datasets]
    assert float(found["mean_iou_each"].sel(layer=2)) == pytest.approx(np.mean(own))
    expected = stats.t.interval(0.9, 5, np.mean(own), stats.sem(own))
    np.testing.assert_allclose(found["mean_iou_interval"].sel(layer=2), expected)
    plain = sweep(datasets, "layer")
    xr.testing.assert_identical(found["mean_iou"], plain["mean_iou"])
    assert (found.attrs["interval"], plain.attrs["interval"]) == ("t", "bootstrap")
    assert "resamples" not in found.attrs
    for options in ({"interval": "z"}, {"interval": "t", "keep_resamples": True}):
        with pytest.raises(InputError, match="expected 'bootstrap', or 't' without keep_resamples"):
            sweep(datasets, "layer", **options)  # type: ignore[arg-type]


def test_the_mean_of_a_draw_is_over_all_concepts() -> None:
    """A draw that lacks the picture of a hard word would otherwise look better than any."""
    easy = dataset(truth=True, signal=50, grid=(6, 6), concepts=("dog", "grass", "sky"))
    hard = dataset(truth=True, signal=0, grid=(6, 6), concepts=("cat", "wall", "door"))
    found = sweep([easy, hard], "layer", keep_resamples=True)
    drawn, mean = found["mean_iou_resamples"].sel(layer=1), float(found["mean_iou"].sel(layer=1))
    np.testing.assert_allclose(drawn, mean)
    assert mean == pytest.approx((1 + float(sweep(hard, "layer")["mean_iou"].sel(layer=1))) / 2)


def test_generated_pictures_are_observations() -> None:
    ds = dataset(kind="generate", samples=3)
    found = sweep(ds, "timestep")
    assert (found.attrs["observation"], found.attrs["observations"]) == ("image", 3)
    assert sweep(ds, "sample").sizes["sample"] == 3
    with pytest.raises(InputError, match="averages the maps of different pictures"):
        sweep(ds, "sample", "prefix")
    with pytest.raises(InputError, match="3 different pictures and one set of masks"):
        sweep(ds.assign(truth=dataset(truth=True)["truth"]), "layer")


def test_order_of_concepts_does_not_matter() -> None:
    ds = dataset(truth=True, signal=1, samples=2)
    metrics = ["iou", "accuracy", "ap", "full_map_iou", "entropy", "calinski_harabasz", "silhouette", "total_variation"]
    plain = sweep(ds, "layer", metric=metrics)
    permuted = sweep(ds.isel(concept=[2, 0, 1]), "layer", metric=metrics)
    xr.testing.assert_allclose(permuted.sel(concept=ds["concept"].values), plain)


def test_some_concepts_are_compared_with_one_another() -> None:
    ds = dataset(truth=True, signal=1)
    found = sweep(ds, "layer", concepts=["sky", "dog"], metric=["iou", "accuracy"])
    expected = score(ds, concepts=["sky", "dog"], layers=1)
    assert found["concept"].values.tolist() == ["sky", "dog"]
    np.testing.assert_allclose(found["iou"].sel(layer=1), expected["iou"])
    np.testing.assert_allclose(found["accuracy"].sel(layer=1), expected["accuracy"])


def test_attributes_record_every_choice() -> None:
    ds = dataset(samples=2)
    metrics = ["entropy", "full_map_iou"]
    found = sweep(ds, ("layer", "head"), metric=metrics, timesteps=510, reduce="mean_softmax", seed=3)
    attrs = found.attrs
    assert attrs["over"] == ["layer", "head"]
    assert (attrs["how"], attrs["reduce"], attrs["space"]) == ("only", "mean_softmax", "output")
    assert attrs["metrics"] == metrics
    assert (attrs["layers"], attrs["timesteps"], attrs["heads"]) == ([0, 1, 2, 3, 4], [500.0], [0, 1])
    assert attrs["timesteps_asked"] == [510]
    assert attrs["softmax_over"] == ["dog", "grass", "sky"]
    assert (attrs["confidence"], attrs["resamples"], attrs["seed"]) == (0.95, 1000, 3)
    assert "the network is unchanged" in attrs["analysis"]
    assert "ablat" not in json.dumps(attrs)


def test_default_metric_depends_on_truth() -> None:
    assert "mean_full_map_iou" in sweep(dataset(), "layer")
    assert "mean_iou" in sweep(dataset(truth=True), "layer")
    assert "mean_full_map_iou" in sweep([dataset(), dataset(truth=True)], "layer")


def test_a_metrics_former_name_is_taken_with_a_warning() -> None:
    with pytest.warns(WorkbenchWarning, match="metric='agreement' is called 'full_map_iou' now") as given:
        found = sweep(dataset(), "layer", metric=["entropy", "agreement"])
    assert given[0].filename == __file__
    xr.testing.assert_identical(found, sweep(dataset(), "layer", metric=["entropy", "full_map_iou"]))


def test_one_concept_is_suspicious() -> None:
    ds = dataset(concepts=["dog"])
    with pytest.warns(WorkbenchWarning, match="a softmax over one concept is 1 everywhere"):
        sweep(ds, "layer", metric="total_variation")
    assert float(sweep(ds, "layer", metric="total_variation", reduce="mean")["mean_total_variation"].min()) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"over": "depth"}, "over is 'depth'; expected one of layer, timestep, head, sample, space"),
        ({"over": ("layer", "layer")}, "over is"),
        ({"over": ("layer", "head", "sample")}, "over is"),
        ({"how": "ablate"}, "how is 'ablate'; expected one of only, drop, prefix, suffix, window, greedy"),
        ({"over": "space", "how": "prefix"}, "needs an order, which spaces do not have"),
        ({"over": ("layer", "head"), "how": "greedy"}, "picks heads on their own"),
        ({"window": 0}, "window is 0; expected a whole number"),
        ({"most": 1.5}, "most is 1.5"),
        ({"confidence": 95}, "confidence is 95; expected a number between 0 and 1"),
        ({"metric": "miou"}, "metric is 'miou'; expected one or several of iou, accuracy, ap"),
        ({"metric": []}, "expected one or several of"),
        ({"metric": "iou"}, "no truth to compare with; add masks"),
        ({"metric": "entropy", "reduce": "mean"}, "entropy needs shares that sum to one"),
        ({"reduce": "max"}, "reduce is 'max'; expected one of softmax_mean"),
        ({"space": ["output", "cross"]}, "expected one space, or several different ones with over='space'"),
        ({"space": "prompt"}, "tokens in place of concepts"),
        ({"how": "drop", "layers": 3}, "nothing would be left"),
    ],
)
def test_bad_options_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sweep(dataset(), **({"over": "layer"} | arguments))


def test_datasets_that_do_not_fit_are_refused() -> None:
    ds = dataset(truth=True)
    with pytest.raises(InputError, match="differ in layer"):
        sweep([ds, dataset(truth=True, dual=2)], "layer")
    with pytest.raises(InputError, match="truth belongs to one picture"):
        sweep([ds, ds], "layer", truth=ds["truth"])
    for nothing in ([], "run", [1]):
        with pytest.raises(InputError, match="expected a captured dataset or a list"):
            sweep(nothing, "layer")  # type: ignore[arg-type]
    with pytest.raises(SelectionError, match="space 'value' was not captured"):
        sweep(ds, "layer", space="value")
    with pytest.raises(SelectionError, match="concept 'cat' was not captured"):
        sweep(ds, "layer", concepts="cat")


@pytest.mark.parametrize(
    ("over", "how"),
    [("layer", "only"), (("layer", "head"), "drop"), ("timestep", "window"), ("layer", "greedy"), ("head", "greedy")],
)
def test_every_step_is_told_and_any_may_be_the_last(over: Any, how: Any) -> None:
    ds = dataset(samples=2, truth=True, missing=[(0, 500.0, 1)])
    plain = sweep(ds, over, how, window=2, metric=["iou", "entropy"])
    told: list[tuple[int, int]] = []
    found = sweep(ds, over, how, window=2, metric=["iou", "entropy"], progress=lambda *at: told.append(at))
    xr.testing.assert_identical(found, plain)
    done, totals = zip(*told, strict=True)
    assert set(totals) == {done[-1]}
    assert list(done) == sorted(set(done)), "no step is told twice, or beyond the end"
    assert len(done) > len(found.layer if "layer" in found else found[next(iter(found.dims))])

    cancel = Event()

    def stop_at(at: int, _total: int) -> None:
        if at >= len(done) // 2:
            cancel.set()

    with pytest.raises(CancelledError):
        sweep(ds, over, how, window=2, metric=["iou", "entropy"], progress=stop_at, cancel=cancel)


def test_void_pixels_count_nowhere() -> None:
    ds = dataset(truth=True, signal=1.0, seed=6)
    masks = {str(name): ds["truth"].sel(concept=name).values for name in ds.concept.values}
    void = np.zeros((32, 48), bool)
    void[5:20, 13:], void[:8, :16] = True, True  # whole patches and parts of some
    known = ds.wb.with_truth(masks | {"void": void}, ignore="void")
    found = known.wb.sweep("layer", metric=["iou", "accuracy", "ap"])
    for layer in ds.layer.values:
        score = known.wb.score(layers=int(layer))
        np.testing.assert_allclose(found["iou"].sel(layer=layer), score["iou"])
        np.testing.assert_allclose(found["accuracy"].sel(layer=layer), score["accuracy"])
        maps = known.wb.heatmap(layers=int(layer), upsample="nearest")
        expected = [average_precision_score(masks[n][~void], maps.sel(concept=n).values[~void]) for n in masks]
        np.testing.assert_allclose(found["ap"].sel(layer=layer), expected, rtol=1e-6)


def test_the_former_name_of_resamples_is_taken_with_a_warning() -> None:
    easy, hard = (dataset(truth=True, signal=signal, seed=3) for signal in (3.0, 1.0))
    now = sweep([easy, hard], "layer", resamples=20, keep_resamples=True)
    with pytest.warns(WorkbenchWarning, match="draws of sweep is called keep_resamples now"):
        former = sweep([easy, hard], "layer", resamples=20, draws=True)
    np.testing.assert_array_equal(former["mean_iou_draws"], now["mean_iou_resamples"])
    assert former["mean_iou_draws"].dims == ("draw", "layer")
