from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import xarray as xr
from diffusers import FluxPipeline
from PIL import Image

import workbench as wb
from tests.tiny_random import flux_pipeline
from workbench import store
from workbench.recording import capturing_many, sessions
from workbench.schema import CancelledError, InputError, ModelError, StoreError, WorkbenchWarning
from workbench.store.locks import exclusively

WORDS = ["dog", "grass"]
SIZE = (16, 16)


def picture(seed: int, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


PICTURES = {f"p{seed}": picture(seed) for seed in range(3)}


@pytest.fixture(scope="module")
def pipe() -> FluxPipeline:
    return flux_pipeline()


@pytest.fixture
def many(pipe: FluxPipeline, home: Path) -> Callable[..., xr.Dataset]:
    def take(images: Any = PICTURES, concepts: Any = WORDS, **options: Any) -> xr.Dataset:
        return wb.capture_many(
            images, concepts, **{"model": pipe, "size": SIZE, "home": home, "progress": False, **options}
        )

    return take


@pytest.fixture
def one(pipe: FluxPipeline, home: Path) -> Callable[..., xr.Dataset]:
    def take(image: Any, concepts: Any = WORDS, **options: Any) -> xr.Dataset:
        return wb.capture(
            image, concepts, **{"model": pipe, "size": SIZE, "progress": False, "store": False, **options}
        )

    return take


def assert_same(found: xr.Dataset, single: xr.Dataset) -> None:
    for name in single.data_vars:
        np.testing.assert_array_equal(found[name].to_numpy(), single[name].to_numpy(), str(name))


@pytest.fixture
def counted(tests_code: None, pipe: FluxPipeline) -> Iterator[list[str]]:
    """What is encoded, and every forward pass."""
    calls: list[str] = []
    parts = {"image": pipe.vae.encoder, "text": pipe.text_encoder_2, "pass": pipe.transformer}
    hooks = [
        part.register_forward_pre_hook(lambda *given, name=name: calls.append(name)) for name, part in parts.items()
    ]
    yield calls
    for hook in hooks:
        hook.remove()


def test_items_are_single_captures_bit_for_bit(
    many: Callable[..., xr.Dataset], one: Callable[..., xr.Dataset], home: Path
) -> None:
    options = {"timesteps": [250, 700], "samples": 2, "spaces": ["output", "cross"], "lse": True, "seed": 3}
    ds = many(**options)
    assert ds["name"].values.tolist() == list(PICTURES)
    assert ds.output.dims[:2] == ("item", "sample")
    assert ds.image.dims == ("item", "pixel_y", "pixel_x", "channel")
    for place, image in enumerate(PICTURES.values()):
        single = one(image, **options)
        assert_same(ds.isel(item=place), single)
        assert ds.image_hash.values[place] == single.attrs["image_hash"]
    assert "asked" not in ds.coords
    # And in parts: with rising, falling, repeated and single places.
    whole = ds.compute()
    for at in ({"item": [2, 0], "layer": slice(None, None, -1)}, {"item": 1, "concept": [1, 1, 0], "y": 2}, {"x": [3]}):
        xr.testing.assert_identical(ds.isel(at).compute(), whole.isel(at))
    xr.testing.assert_identical(ds.chunk({"item": 1, "layer": 1}).compute(), whole)
    chunks = {"item": 1, "sample": 1, "timestep": 1, "layer": 1}
    assert ds.output.encoding["preferred_chunks"].items() >= chunks.items()
    xr.testing.assert_identical(pickle.loads(pickle.dumps(ds)).compute(), whole)
    xr.testing.assert_identical(wb.open(ds.attrs["key"], home).compute(), whole)


def test_each_concept_is_asked_where_it_was_given(
    many: Callable[..., xr.Dataset], one: Callable[..., xr.Dataset]
) -> None:
    asked = {"p0": ["dog", "grass"], "p1": ["sky", "dog"], "p2": ["sky"]}
    ds = many(concepts=asked)
    assert ds.concept.values.tolist() == ["dog", "grass", "sky"]
    assert ds.asked.values.tolist() == [[True, True, False], [True, False, True], [False, False, True]]
    for place, (name, words) in enumerate(asked.items()):
        single = one(PICTURES[name], words)
        item = ds.isel(item=place)
        assert_same(item.sel(concept=words), single)
        others = item.sel(concept=[word for word in ds.concept.values if word not in words])
        assert np.isnan(others.output).all()
        assert np.isnan(others.output_total).all()
    in_order = many(concepts=list(asked.values()))
    xr.testing.assert_identical(in_order.compute(), ds.compute())
    np.testing.assert_array_equal(
        ds.output_total.sel(concept=["sky", "dog"])[1], one(PICTURES["p1"], ["sky", "dog"]).output_total
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mapping", pytest.param("list", marks=pytest.mark.slow)])
def test_each_image_has_its_own_prompt(
    kind: str, many: Callable[..., xr.Dataset], one: Callable[..., xr.Dataset], home: Path
) -> None:
    given = {"p0": "dog", "p1": "", "p2": "cat on grass"}
    prompts: Any = given if kind == "mapping" else list(given.values())
    words = {"p0": ["dog", "grass"], "p1": ["grass", "sky"], "p2": ["dog", "grass"]}
    ds = many(concepts=words, prompt=prompts)
    assert ds["prompt"].dims == ("item",)
    assert ds["prompt"].values.tolist() == list(given.values())
    assert ds.attrs["prompt"] == ""
    ds.wb.validate(values=True)
    maps = ds.wb.heatmap()
    assert maps["prompt"].values.tolist() == list(given.values())
    opened = wb.open_many(ds.attrs["key"], home)
    for name, prompt in given.items():
        single = one(PICTURES[name], words[name], prompt=prompt)
        for held in (ds, opened):
            item = held.wb.item(name)
            assert_same(item, single)
            assert item.attrs["prompt"] == prompt
            assert "prompt" not in item.coords
        alone = maps.sel(item=ds["item"][ds["name"] == name].item(), concept=single["concept"])
        np.testing.assert_array_equal(alone, single.wb.heatmap())
    assert wb.open(str(ds["run"][2].item()), home).attrs["prompt"] == "cat on grass"


@pytest.mark.slow
def test_a_prompt_that_all_share_is_an_attribute(many: Callable[..., xr.Dataset], home: Path) -> None:
    common = many(prompt="dog")
    each = many(prompt=["dog"] * 3)
    for ds in (common, each):
        assert "prompt" not in ds.coords
        assert ds.attrs["prompt"] == ds.wb.item("p1").attrs["prompt"] == "dog"
    assert each["run"].values.tolist() == common["run"].values.tolist()
    keys = {common.attrs["key"], each.attrs["key"], many().attrs["key"]}
    assert len(keys) == 3
    assert {run.key: run.prompt for run in wb.runs(home) if run.key in keys}[each.attrs["key"]] == []


def test_images_of_several_sizes_are_groups(
    many: Callable[..., xr.Dataset], one: Callable[..., xr.Dataset], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "workbench.models.pipeline.PipelineAdapter.native_size", lambda self, height, width: (height, width)
    )
    images = {"a": picture(0, 16, 24), "b": picture(1, 24, 16), "c": picture(2, 16, 24)}
    tree = many(images, size=None)
    assert isinstance(tree, xr.DataTree)
    assert sorted(tree.children) == ["16x24", "24x16"]
    wide, tall = tree["16x24"].to_dataset(), tree["24x16"].to_dataset()
    assert (wide["name"].values.tolist(), wide["item"].values.tolist()) == (["a", "c"], [0, 2])
    assert (tall["name"].values.tolist(), tall["item"].values.tolist()) == (["b"], [1])
    assert_same(wide.sel(item=2), one(images["c"], size=None))
    key = wide.attrs["key"]
    with pytest.raises(StoreError, match=rf"images of 2 sizes \(16x24, 24x16\).*open_many\('{key}'\)"):
        wb.open(key, home)
    again = wb.open_many(key, home)
    assert isinstance(again, xr.DataTree)
    xr.testing.assert_identical(again["16x24"].to_dataset().compute(), wide.compute())


@pytest.mark.slow
def test_an_image_is_encoded_once_and_so_are_words(many: Callable[..., xr.Dataset], counted: list[str]) -> None:
    many({"a": picture(0), "b": picture(1)}, timesteps=[250, 500], samples=2)
    few = {name: counted.count(name) for name in ("image", "text", "pass")}
    assert (few["image"], few["pass"]) == (2, 8)
    counted.clear()
    many({f"x{seed}": picture(10 + seed) for seed in range(5)}, timesteps=[250, 500], samples=2, title="more")
    assert {name: counted.count(name) for name in ("image", "text", "pass")} == {
        "image": 5,
        "text": few["text"],
        "pass": 20,
    }


@pytest.mark.slow
def test_words_are_encoded_once_however_often_the_pipeline_is_compared(
    many: Callable[..., xr.Dataset], counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing_many, "_TOGETHER", 2)
    many({"a": picture(0)}, title="first")
    texts = counted.count("text")
    counted.clear()
    many({f"x{seed}": picture(10 + seed) for seed in range(5)})
    assert counted.count("text") == texts
    assert counted.count("image") == 5


@pytest.mark.slow
def test_what_is_stored_is_not_computed_again(
    many: Callable[..., xr.Dataset], one: Callable[..., xr.Dataset], counted: list[str], home: Path
) -> None:
    one(PICTURES["p1"], store=True, home=home)
    assert counted.count("pass") == 1
    first = many()
    assert counted.count("pass") == 3
    again = many(dict(reversed(PICTURES.items())))
    assert counted.count("pass") == 3
    assert again["name"].values.tolist() == ["p2", "p1", "p0"]
    assert again["item"].values.tolist() == [0, 1, 2]
    xr.testing.assert_identical(again.isel(item=[2, 1, 0]).drop_vars("item"), first.drop_vars("item"))
    one(PICTURES["p2"], store=True, home=home)
    assert counted.count("pass") == 3
    more = many({"p0": PICTURES["p0"], "p9": picture(9)})
    assert counted.count("pass") == 4
    assert more["name"].values.tolist() == ["p0", "p9"]
    assert wb.open(first.attrs["key"], home)["name"].values.tolist() == ["p0", "p1", "p9", "p2"]


@pytest.mark.slow
def test_other_words_options_and_titles_make_other_runs(many: Callable[..., xr.Dataset]) -> None:
    keys = [
        many(**options).attrs["key"]
        for options in (
            {},
            {"concepts": ["grass", "dog"]},
            {"title": "birds"},
            {"seed": 1},
            {"layers": [0, 1]},
            {"timesteps": 400},
            {"concepts": dict.fromkeys(PICTURES, WORDS)},
        )
    ]
    assert len(set(keys)) == len(keys)
    assert many(images={"other": picture(8)}).attrs["key"] == keys[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "list", "generator", "array", "pil"])
def test_images_come_in_many_ways(kind: str, many: Callable[..., xr.Dataset], tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, pixels in PICTURES.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    files = sorted(folder.iterdir())
    ways: dict[str, Any] = {
        "folder": folder,
        "list": files,
        "generator": (str(file) for file in files),
        "array": np.stack(list(PICTURES.values())),
        "pil": [Image.fromarray(pixels) for pixels in PICTURES.values()],
    }
    ds = many(ways[kind])
    np.testing.assert_array_equal(ds.image, np.stack(list(PICTURES.values())))
    named = ds["name"].values.tolist()
    assert named == list(PICTURES) if kind in ("folder", "list", "generator") else named[0].startswith("image-")


@pytest.mark.slow
def test_a_bad_image_among_many_is_named(many: Callable[..., xr.Dataset], tmp_path: Path, home: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, pixels in PICTURES.items():
        Image.fromarray(pixels).save(folder / f"{name}.jpg")
    bad = folder / "p1.jpg"
    whole = bad.read_bytes()
    bad.write_bytes(whole[:-200])
    with pytest.raises(InputError, match=r"p1: .*p1.jpg cannot be .*image 1, counted from 0.*errors='skip'"):
        many(folder)
    with pytest.warns(WorkbenchWarning, match=r"(?s)1 of 3 images were skipped.*p1: .*p1.jpg cannot be "):
        ds = many(folder, errors="skip")
    assert ds["name"].values.tolist() == ["p0", "p2"]
    assert [failure["name"] for failure in ds.attrs["failed"]] == ["p1"]
    assert wb.open(ds.attrs["key"], home).attrs["failed"] == ds.attrs["failed"]
    bad.write_bytes(whole)
    assert "failed" not in many(folder, errors="skip").attrs
    assert "failed" not in wb.open(ds.attrs["key"], home).attrs
    bad.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 1 images can be captured\. p1: .*empty"):
        many([bad], errors="skip")


@pytest.mark.slow
def test_an_image_that_breaks_the_model_is_listed(
    many: Callable[..., xr.Dataset], pipe: FluxPipeline, tests_code: None
) -> None:
    calls = []

    def failing(*given: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("out of memory")

    hook = pipe.vae.encoder.register_forward_pre_hook(failing)
    with pytest.warns(WorkbenchWarning, match="p1: RuntimeError: out of memory"):
        assert many(errors="skip")["name"].values.tolist() == ["p0", "p2"]
    hook.remove()
    assert many(errors="skip")["name"].values.tolist() == ["p0", "p1", "p2"]


def test_names_and_pixels_that_come_twice_are_refused(many: Callable[..., xr.Dataset]) -> None:
    with pytest.raises(InputError, match="another image is called 'a' already"):
        many(iter([("a", picture(0)), ("a", picture(1))]))
    with pytest.raises(InputError, match="with the same pixels: give each once"):
        many([picture(0), picture(0)])
    twice = many({"a": picture(0), "b": picture(0)})
    assert len(set(twice.run.values.tolist())) == 1
    np.testing.assert_array_equal(twice.output[0], twice.output[1])


@pytest.mark.slow
def test_another_image_of_a_name_is_told_apart(many: Callable[..., xr.Dataset], home: Path) -> None:
    many({"a": picture(0)})
    with pytest.warns(WorkbenchWarning, match="other images, prompts or concepts under the same names: image a"):
        second = many({"a": picture(1)})
    np.testing.assert_array_equal(second.image[0], picture(1))
    both = wb.open(second.attrs["key"], home)
    assert both["name"].values.tolist() == ["a", "a"]
    assert len(set(both.image_hash.values.tolist())) == 2


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"prompt": {"a": "dog"}}, {"prompt": {"a": "cat"}}),
        ({"concepts": {"a": ["dog", "sky"]}}, {"concepts": {"a": ["dog", "grass"]}}),
    ],
)
def test_another_prompt_or_other_words_of_a_name_are_told_apart(
    first: dict[str, Any], second: dict[str, Any], many: Callable[..., xr.Dataset], home: Path
) -> None:
    images = {"a": picture(0)}
    held = many(images, **first)
    with pytest.warns(WorkbenchWarning, match="other images, prompts or concepts under the same names: image a"):
        again = many(images, **second)
    assert again.attrs["key"] == held.attrs["key"]
    both = wb.open(held.attrs["key"], home)
    assert both["name"].values.tolist() == ["a", "a"]
    assert len(set(both["run"].values.tolist())) == 2


@pytest.mark.parametrize("given", ["concepts", "prompt", "truth"])
def test_a_list_for_more_images_than_a_stream_has_is_refused(given: str, many: Callable[..., xr.Dataset]) -> None:
    mask = {word: np.ones((16, 16), bool) for word in WORDS}
    entries = {"concepts": WORDS, "prompt": "dog", "truth": mask}[given]
    with pytest.raises(InputError, match="given for 2 images, and there are 1"):
        many((pair for pair in [("p0", picture(0))]), **{given: [entries] * 2})


@pytest.mark.slow
def test_masks_are_stored_with_their_items(many: Callable[..., xr.Dataset]) -> None:
    masks = {
        name: {"dog": np.arange(16)[:, None] + np.zeros((16, 16)) < 4 + place} for place, name in enumerate(PICTURES)
    }
    masks = {name: {**found, "grass": ~found["dog"]} for name, found in masks.items()}
    ds = many(truth=masks)
    assert ds.truth.dims == ("item", "concept", "pixel_y", "pixel_x")
    for place, found in enumerate(masks.values()):
        np.testing.assert_array_equal(ds.truth.sel(concept="dog")[place], found["dog"])
    assert many(truth=lambda name: masks[name]).attrs["key"] == ds.attrs["key"] != many().attrs["key"]
    with pytest.raises(InputError, match="masks are given for each image, and there are none for 'p2'"):
        many(truth={"p0": masks["p0"], "p1": masks["p1"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"errors": "ignore"}, "errors is 'ignore'; expected 'raise' or 'skip'"),
        ({"title": 3}, "title is a int"),
        ({"concepts": {"p0": WORDS}}, "none for 'p1'"),
        ({"concepts": [WORDS]}, "for 1 images, and there are 3"),
        ({"concepts": []}, "concepts is empty"),
        ({"concepts": {}}, "concepts are an empty dict; expected an entry for every image"),
        ({"prompt": {"p0": "dog", "p1": "cat"}}, "prompts are given for each image, and there are none for 'p2'"),
        ({"prompt": ["dog"]}, "prompts are given for 1 images, and there are 3"),
        ({"prompt": []}, "prompts are an empty list"),
        ({"prompt": ["dog", "cat", 3]}, "prompt is a int"),
        ({"prompt": 3}, "prompt is a int"),
        ({"prompt": ["dog", "", "cat"], "spaces": "prompt"}, 'the space "prompt" needs a prompt'),
        ({"prompt": ["dog", "sky", "cat"], "spaces": "prompt"}, "3 different prompts, and the space"),
        ({"prompt": ["dog", "sky", "dog"], "text_mass": True}, "2 different prompts, and text_mass is over the tokens"),
        ({"layers": [9]}, "layers is"),
        ({"samples": 0}, "samples is 0"),
        ({"ignore": "void"}, "names one of the masks"),
        ({"images": picture(0)}, "one image call wb.capture"),
        ({"home": "memory://runs"}, None),
    ],
)
def test_bad_input_is_refused_before_the_model_runs(
    options: dict[str, Any], message: str | None, many: Callable[..., xr.Dataset], counted: list[str], home: Path
) -> None:
    with pytest.raises(InputError if message else StoreError, match=message or "is a URL"):
        many(**options)
    assert not counted
    assert not wb.runs(home)


@pytest.mark.slow
def test_a_call_that_is_cancelled_goes_on_later(
    many: Callable[..., xr.Dataset], counted: list[str], home: Path
) -> None:
    cancel = Event()

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        for name, pixels in PICTURES.items():
            if name == "p2":
                cancel.set()
            yield name, pixels

    with pytest.raises(CancelledError):
        many(stream(), cancel=cancel)
    assert counted.count("pass") == 2
    (run,) = [run for run in wb.runs(home) if run.kind == "many"]
    assert run.open()["name"].values.tolist() == ["p0", "p1"]
    assert many().sizes["item"] == 3
    assert counted.count("pass") == 3


@pytest.mark.slow
def test_a_run_grows_while_it_is_read(many: Callable[..., xr.Dataset], home: Path) -> None:
    seen = []

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        for name, pixels in PICTURES.items():
            seen.extend(_opened(run, home) for run in wb.runs(home) if run.kind == "many")
            yield name, pixels

    many(stream())
    assert seen == [0, 1, 2]


def _opened(run: store.Run, home: Path) -> int:
    """How many items of a run there are by now."""
    if not list((home / "runs").iterdir()):
        with pytest.raises(StoreError, match="holds no items yet"):
            wb.open(run.key, home)
        return 0
    return wb.open(run.key, home).output_total.compute().sizes["item"]


@pytest.mark.slow
def test_a_pipeline_that_was_changed_meanwhile_leaves_nothing(
    many: Callable[..., xr.Dataset], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capturing_many, "_TOGETHER", 2)
    pipe = flux_pipeline()

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        for name, pixels in PICTURES.items():
            if name == "p2":
                pipe.transformer.transformer_blocks[0].norm1.linear.bias.data += 1
            yield name, pixels

    with pytest.raises(ModelError, match="changed"):
        many(stream(), model=pipe)


@pytest.mark.slow
def test_a_removed_item_is_computed_again(many: Callable[..., xr.Dataset], counted: list[str], home: Path) -> None:
    ds = many()
    store.discard(ds.run.values[1], home)
    assert wb.open(ds.attrs["key"], home)["name"].values.tolist() == ["p0", "p2"]
    with pytest.raises(StoreError, match=r"of an item of .* was removed while it was open"):
        ds.output.isel(item=1).compute()
    assert store.damage(ds.attrs["key"], home) == [f"p1 ({ds.run.values[1]}): the run was removed"]
    before = counted.count("pass")
    assert many().sizes["item"] == 3
    assert counted.count("pass") == before + 1
    assert not store.damage(ds.attrs["key"], home)


@pytest.mark.slow
def test_a_damaged_item_is_named_and_computed_again(many: Callable[..., xr.Dataset], home: Path) -> None:
    ds = many()
    whole = ds.compute()
    chunk = home / "runs" / f"{ds.run.values[1]}.zarr" / "output" / "c.0.0.1.0.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    again = wb.open(ds.attrs["key"], home)
    with pytest.raises(StoreError, match=r"output/c\.0\.0\.1"):
        again.output.compute()
    with pytest.raises(StoreError, match=r"p1 \(.*\): output/c\.0\.0\.1"):
        wb.open(ds.attrs["key"], home, verify=True)
    with pytest.warns(WorkbenchWarning, match=r"damaged and is computed anew.*\(image p1\)"):
        repaired = many(verify=True)
    xr.testing.assert_identical(repaired.compute(), whole)


@pytest.mark.slow
def test_what_another_process_is_at_waits_until_the_rest_is_done(
    many: Callable[..., xr.Dataset], counted: list[str], home: Path
) -> None:
    keys = dict(zip(PICTURES, many().run.values.tolist(), strict=True))
    for run in store.runs(home):
        store.discard(run.key, home)
    counted.clear()
    seen: list[list[str]] = []

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        with exclusively(keys["p0"], home), exclusively(keys["p1"], home):  # as another process holds them
            for name, pixels in PICTURES.items():
                yield name, pixels
                seen.append([run.key for run in store.runs(home) if run.kind == "capture"])

    ds = many(stream())
    assert seen == [[], [], [keys["p2"]]]
    assert ds["name"].values.tolist() == list(PICTURES)
    assert counted.count("pass") == 3


@pytest.mark.slow
def test_what_another_process_has_finished_meanwhile_is_taken(
    many: Callable[..., xr.Dataset], one: Callable[..., xr.Dataset], counted: list[str], home: Path
) -> None:
    keys = dict(zip(PICTURES, many().run.values.tolist(), strict=True))
    store.discard(keys["p0"], home)
    lock = exclusively(keys["p0"], home)

    def stream() -> Iterator[tuple[str, np.ndarray]]:
        with lock:
            yield "p0", PICTURES["p0"]
        one(PICTURES["p0"], store=True, home=home)
        counted.clear()
        yield "p1", PICTURES["p1"]

    assert many(stream())["name"].values.tolist() == ["p0", "p1"]
    assert not counted


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 12])
def test_what_is_kept_of_images_does_not_grow(
    count: int, many: Callable[..., xr.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    take = capturing_many._Many._take

    def looked(self: Any, register: Any, place: int, one: Any) -> None:
        take(self, register, place, one)
        held = sessions._session.get()
        assert held is not None
        kept.append(sum(isinstance(key[1], tuple) for key in held.kept))

    monkeypatch.setattr(capturing_many._Many, "_take", looked)
    ds = many((name, pixels) for name, pixels in ((f"x{seed}", picture(seed)) for seed in range(count)))
    # Two words, the prompt, one image, and what is known of it.
    assert kept == [5] * count
    assert ds.sizes["item"] == count
