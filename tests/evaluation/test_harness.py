from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from tests.evaluation.fixtures import Arrays, voc_tree
from workbench.evaluation.examples import Example
from workbench.evaluation.harness import Evaluation, evaluate
from workbench.evaluation.methods import Setting, labelled
from workbench.evaluation.protocols import Protocol
from workbench.evaluation.voc import open_voc
from workbench.schema import InputError, warn

RULES = Protocol(backgrounds=("sky",))


class Bright:
    """A method of somebody else's: what is bright is what is looked for."""

    def __init__(self, name: str = "bright") -> None:
        self.name = name
        self.settings: dict[str, Any] = {"version": 1}
        self.calls: list[list[str]] = []

    def prepare(self, setting: Setting) -> None:
        self.prepared = setting

    def seen(self) -> list[str]:
        """Names it was asked for since it was last asked this."""
        found = [name for call in self.calls for name in call]
        self.calls.clear()
        return found

    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        self.calls.append([example.name for example in examples])
        for example, words in zip(examples, concepts, strict=True):
            grey = example.image.mean(-1) / 255
            yield labelled(np.stack([grey if word in example.targets else 1 - grey for word in words]), words)


def data(count: int = 10, **options: Any) -> Arrays:
    labels = {}
    for number in range(count):
        one = np.zeros((6, 8))
        one[: 2 + number % 3, :3] = 1
        labels[f"image {number}"] = one
    return Arrays(labels, grid=(6, 8), **options)


def run(folder: Path, method: Any = None, held: Any = None, **options: Any) -> Evaluation:
    chosen = {"protocol": RULES, "folder": folder, "progress": False, "batch": 3, **options}
    return evaluate(held or data(), method or Bright(), **chosen)


def test_figures_tables_and_what_is_known_of_each_image(tmp_path: Path) -> None:
    found = run(tmp_path, ["oracle", "background"])
    assert [one.summary.values["accuracy"] for one in found.results] == [1, pytest.approx(1 - 8.7 / 48)]
    frame = found.frame()
    assert set(frame.columns) == {"entry", "method", "metric", "value", "low", "high", "images", "protocol"}
    assert len(found.images()) == 20
    assert found.problems == ()


def test_resuming_computes_what_is_missing(tmp_path: Path) -> None:
    method = Bright()
    run(tmp_path, method, limit=4)
    assert method.seen() == ["image 0", "image 2", "image 5", "image 7"]
    whole = run(tmp_path, method)
    assert method.seen() == [f"image {number}" for number in (1, 3, 4, 6, 8, 9)]
    assert run(tmp_path, method).frame().equals(whole.frame())
    assert method.seen() == []


class Interrupted(Bright):
    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        if "image 4" in [example.name for example in examples]:
            raise KeyboardInterrupt
        return super().maps(examples, concepts)


def test_a_run_that_was_stopped_ends_like_one_that_was_not(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", Interrupted())
    stopped = run(tmp_path / "stopped")
    serial = run(tmp_path / "serial", batch=10)
    assert json.dumps(stopped.frame().to_dict()) == json.dumps(serial.frame().to_dict())
    assert str(stopped) == str(serial)


def test_shards_add_up(tmp_path: Path) -> None:
    serial = run(tmp_path / "serial")
    method = Bright()
    for shard in range(3):
        run(tmp_path / "shards", method, shard=(shard, 3))
    assert sorted(method.seen()) == sorted(f"image {number}" for number in range(10))
    assert run(tmp_path / "shards", method).frame().equals(serial.frame())


class Poison(Bright):
    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        for example, found in zip(examples, super().maps(examples, concepts), strict=True):
            if example.name == "image 4":
                raise ZeroDivisionError("poison")
            yield found


def test_an_image_that_cannot_be_evaluated_is_listed_and_the_others_go_on(tmp_path: Path) -> None:
    found = run(tmp_path, Poison())
    assert [(one.name, one.message) for one in found.problems] == [("image 4", "ZeroDivisionError: poison")]
    assert (found.results[0].summary.images, found.results[0].summary.failures) == (9, 1)
    assert "1 failed" in str(found)
    assert "failed: image 4: ZeroDivisionError: poison" in str(found)
    with pytest.raises(InputError, match=r"1 images could not be evaluated(.|\n)*image 4: ZeroDivisionError"):
        run(tmp_path, Poison(), strict=True)


def test_files_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 12
    names = [f"2007_00000{number}" for number in range(1, 6)]
    voc_tree(tmp_path / "voc", dict.fromkeys(names, mask), truncated=names[1], grey=names[2])
    root = tmp_path / "voc" / "VOCdevkit" / "VOC2012"
    (root / "SegmentationClass" / f"{names[3]}.png").unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / "JPEGImages" / f"{names[4]}.jpg")
    held = open_voc(tmp_path / "voc", any_count=True)
    found = run(tmp_path / "rows", held=held)
    said = dict(found.problems)
    assert set(said) == {names[1], names[3], names[4]}
    assert "truncated" in said[names[1]]
    assert "there is no label map" in said[names[3]]
    assert "an image of 9 x 9" in said[names[4]]
    assert found.results[0].summary.images == 2


def test_what_failed_is_tried_again_by_the_next_call(tmp_path: Path) -> None:
    run(tmp_path, Poison())
    method = Bright()
    found = run(tmp_path, method)
    assert method.seen() == ["image 4"]
    assert (found.problems, found.results[0].summary.images) == ((), 10)


class Noted(Bright):
    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        for example, found in zip(examples, super().maps(examples, concepts), strict=True):
            if example.name in ("image 1", "image 2"):
                warn("these concepts have several tokens")
            yield found


def test_warnings_are_counted(tmp_path: Path) -> None:
    assert run(tmp_path, Noted()).notes == {"these concepts have several tokens": 2}


class Few(Bright):
    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        return []


def test_a_method_that_gives_too_little(tmp_path: Path) -> None:
    assert {one.message for one in run(tmp_path, Few()).problems} == {
        "bright gave fewer maps than examples: expected one for each."
    }


def test_whatever_decides_a_number_is_in_the_key(tmp_path: Path) -> None:
    other = Bright()
    other.settings = {"version": 2}
    folders = {
        one.results[0].parts.folder
        for one in (
            run(tmp_path),
            run(tmp_path, other),
            run(tmp_path, knobs=["blur=1"]),
            run(tmp_path, held=data(name="others")),
            run(tmp_path, held=data(11)),
        )
    }
    assert len(folders) == 5
    assert run(tmp_path).results[0].parts.folder in folders


def test_methods_of_ones_own_say_what_decides_their_maps(tmp_path: Path) -> None:
    class Silent(Bright):
        def __init__(self) -> None:
            super().__init__()
            del self.settings

    for wrong in (Silent(), object(), "outputs"):
        with pytest.raises(InputError, match=r"expected a name, or an object|unknown method"):
            run(tmp_path, [wrong])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 0}, "limit is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"shard": (3, 3)}, "shard is 3/3"),
        ({"protocol": "papers"}, "protocol is 'papers'"),
        ({"knobs": ["colour=1"]}, "the knobs are"),
        ({"path": "somewhere"}, "path and split belong"),
        ({"method": []}, "no method is given"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    chosen = {"protocol": RULES, "folder": tmp_path, "progress": False, "batch": 3, **options}
    methods = chosen.pop("method", ["uniform"])
    with pytest.raises(InputError, match=says):
        evaluate(data(), methods, **chosen)
    with pytest.raises(InputError, match="unknown data set"):
        evaluate("imagenets")
    with pytest.raises(InputError, match="data is a int"):
        evaluate(3)  # type: ignore[arg-type]


def test_a_set_of_another_size_than_the_published_one(tmp_path: Path) -> None:
    held = data(expected={"full": 930})
    with pytest.raises(InputError, match="10 found, 930 expected"):
        run(tmp_path, held=held)
    assert run(tmp_path, held=held, any_count=True).results[0].summary.images == 10


class Weighed(Bright):
    """Notes how much memory is taken whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[int] = []

    def maps(self, examples: Sequence[Example], concepts: Sequence[Sequence[str]]) -> Iterable[xr.DataArray]:
        gc.collect()
        self.taken.append(tracemalloc.get_traced_memory()[0])
        return super().maps(examples, concepts)


@pytest.mark.slow
def test_memory_is_flat_while_images_are_evaluated(tmp_path: Path) -> None:
    method, held = Weighed(), data(120)
    tracemalloc.start()
    try:
        run(tmp_path, method, held=held, batch=4)
    finally:
        tracemalloc.stop()
    early, late = (int(np.median(part)) for part in (method.taken[5:10], method.taken[-5:]))
    assert late - early < 20_000, "less than two hundred bytes an image: its name"
