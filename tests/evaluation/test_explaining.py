from __future__ import annotations

import pytest

from tests.evaluation.test_protocols import data
from workbench.evaluation.explaining import explain, knobs
from workbench.evaluation.protocols import preset

CONFLICTS = {
    "imagenet": {"layers", "concept_norm"},
    "voc-single": {"layers", "timestep", "concept_norm", "reduce", "mask"},
    "voc-multi": {"layers", "timestep", "concept_norm", "reduce"},
}
UNSAID = {
    "samples",
    "seed",
    "blur",
    "targets",
    "caption",
    "mask_at",
    "image_resize",
    "label_size",
    "nearest",
    "discovery",
    "void",
    "ap_scaling",
    "compared",
}


@pytest.mark.parametrize("kind", CONFLICTS)
def test_every_conflict_of_paper_and_code_is_named(kind: str) -> None:
    found = knobs(preset("paper", data(kind)), data(kind))
    assert {one.name for one in found if one.verdict == "conflict"} == CONFLICTS[kind]
    assert {one.name for one in found if one.verdict == "unsaid"} == UNSAID
    text = explain(preset("paper", data(kind)), data(kind))
    assert all(name in text for name in CONFLICTS[kind] | UNSAID)


def test_what_no_knob_says() -> None:
    text = explain(preset("public-head", data("imagenet")), data("imagenet"))
    assert "mIoU = acc / (2 - acc)" in text
    assert "69.38" in text
    assert "0.969" in explain(preset("paper", data("voc-single")), data("voc-single"))
    assert "count in its union" in explain(preset("paper", data("voc-multi")), data("voc-multi"))


def test_values_here_are_those_of_the_protocol() -> None:
    changed = preset("paper", data("imagenet")).changed(layers=(3, 4, 5), blur=2.0)
    here = {one.name: one.here for one in knobs(changed, data("imagenet"))}
    assert (here["layers"], here["blur"]) == ("3-5", "2")


def test_other_data_have_values_alone() -> None:
    text = explain(preset("default", data("coco")), data("coco"))
    assert "layers" in text
    assert "the paper" not in text
