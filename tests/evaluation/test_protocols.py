from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from tests.evaluation.fixtures import Arrays
from workbench.evaluation.drawn_scenes import open_scenes
from workbench.evaluation.protocols import PRESETS, Protocol, preset, set_knobs, spans
from workbench.schema import InputError

OTHER: dict[str, Any] = {
    "task": "multi",
    "layers": (1, 2),
    "timestep": 400.0,
    "samples": 3,
    "seed": 9,
    "concept_norm": "linear",
    "reduce": "mean",
    "heads": "softmax",
    "attend": "image",
    "pool": "mean",
    "blur": 1.0,
    "backgrounds": ("sky",),
    "targets": "last",
    "vocabulary": "public",
    "caption": "one {}",
    "mask": "argmax",
    "mask_at": "pixels",
    "image_resize": "nearest 512",
    "label_size": 224,
    "nearest": "corner",
    "discovery": "resized",
    "void": "public",
    "ap_scaling": "none",
    "compared": "stacked",
}


def data(kind: str) -> Arrays:
    task = "multi" if kind.endswith("multi") else "single"
    return Arrays({"a": np.ones((2, 2))}, name=kind, task=task, source={"data": kind})


def test_changing_any_knob_changes_the_hash() -> None:
    assert set(OTHER) == {field.name for field in fields(Protocol)} - {"name"}
    base = Protocol(label_size=64)
    hashes = {base.hash}
    for name, value in OTHER.items():
        with_it = {"task": "multi", "mask": "argmax"} if name == "task" else {name: value}
        hashes.add(base.changed(**with_it).hash)
    assert len(hashes) == len(OTHER) + 1
    assert Protocol(name="another", label_size=64).hash == base.hash


def test_a_record_comes_back() -> None:
    for name in PRESETS:
        one = preset(name, data("imagenet"))
        again = Protocol.from_record(one.record())
        assert (again.record(), again.hash) == (one.record(), one.hash)


def test_presets_of_the_papers_data() -> None:
    paper, release, head = (preset(name, data("imagenet")) for name in ("paper", "public-release", "public-head"))
    assert (paper.layers, head.layers) == (tuple(range(9, 19)), (14, 15, 16, 17))
    assert (release.concept_norm, head.concept_norm) == ("linear", "none")
    assert (head.blur, head.seed, head.samples, head.label_size) == (1.0, 4, 5, 224)
    assert head.backgrounds == ("background", "floor", "tree", "person", "grass", "face")
    voc = preset("public-head", data("voc-single"))
    assert (voc.layers, voc.mask, voc.reduce, voc.ap_scaling) == ((14, 15, 16, 17, 18), "argmax", "sum", "none")
    several = preset("public-head", data("voc-multi"))
    assert (several.label_size, several.blur, several.targets) == (64, 0, "last")
    assert preset("default", data("voc-multi")).void == "excluded"


def test_drawn_scenes_keep_the_rules_and_take_what_the_bundled_model_has() -> None:
    found = preset("public-head", open_scenes("single"))
    assert (found.blur, found.mask, found.nearest, found.compared) == (1.0, "mean", "corner", "stacked")
    assert (found.layers, found.timestep, found.samples, found.caption) == (None, None, 1, "")
    assert "fitted to drawn scenes" in found.name


def test_presets_are_for_the_papers_data() -> None:
    with pytest.raises(InputError, match="is for the data sets of the paper"):
        preset("paper", data("coco"))
    with pytest.raises(InputError, match="expected one of default, paper"):
        preset("papers", data("imagenet"))
    assert preset("default", data("coco")).vocabulary == "own"


def test_knobs_from_text() -> None:
    found = set_knobs(
        preset("paper", data("imagenet")),
        ["layers=14-16,18", "timestep=513", "backgrounds=sky, grass", "blur=1", "label_size=224", "caption=", "seed=3"],
    )
    assert (found.layers, found.timestep, found.backgrounds) == ((14, 15, 16, 18), 513.0, ("sky", "grass"))
    assert (found.blur, found.label_size, found.caption, found.seed) == (1.0, 224, "", 3)
    assert found.name.startswith("paper with layers=14-16,18, ")
    assert set_knobs(found, ["layers=none", "backgrounds=none"]).layers is None
    assert set_knobs(found, []) is found


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("colour=red", "the knobs are layers"),
        ("layers", "is no knob=value"),
        ("task=multi", "is no knob=value"),
        ("layers=a-b", "cannot be read"),
        ("layers=3,3", "layers is"),
        ("samples=two", "cannot be read"),
        ("samples=0", "samples is 0"),
        ("timestep=0", "above 0 and up to 1000"),
        ("reduce=median", "expected 'softmax_mean' or"),
        ("mask=otsu", "expected 'mean' or 'argmax'"),
        ("caption=a dog", "for the class"),
        ("image_resize=lanczos 512", "expected 'antialiased'"),
        ("discovery=resized", "give label_size too"),
        ("label_size=3", "8 to 4096"),
    ],
)
def test_what_makes_no_sense_is_refused(setting: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        set_knobs(Protocol(), [setting])


def test_a_softmax_in_every_head_is_one() -> None:
    with pytest.raises(InputError, match="goes with reduce='softmax_mean' alone"):
        Protocol(heads="softmax", reduce="sum")


def test_several_classes_have_no_mean_mask() -> None:
    with pytest.raises(InputError, match="mask is 'argmax'"):
        Protocol(task="multi")


def test_spans() -> None:
    assert spans((0, 1, 2, 5, 7, 8)) == "0-2,5,7-8"


def test_only_the_papers_data_have_the_papers_layers_and_timestep() -> None:
    """On anybody's own folder the default runs with any model, the bundled one too."""
    assert (preset("default", data("folder")).layers, preset("default", data("folder")).timestep) == (None, None)
    assert (preset("default", data("imagenet")).layers, preset("default", data("voc-multi")).timestep) == (
        tuple(range(9, 19)),
        500.0,
    )


def test_a_preset_on_drawn_scenes_normalises_as_it_does_elsewhere() -> None:
    """What tells the two states of the public code apart is no matter of words, layers or sizes."""
    found = {name: preset(name, open_scenes("single")).concept_norm for name in PRESETS}
    assert found == {"default": "none", "paper": "none", "public-release": "linear", "public-head": "none"}
    assert preset("public-head", open_scenes("multi")).concept_norm == "linear"
