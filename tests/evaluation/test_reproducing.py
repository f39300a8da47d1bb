from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.evaluation.fixtures import gtsegs, voc_tree
from tests.evaluation.test_protocols import data
from tests.tiny_random import flux_pipeline
from workbench.evaluation import reproducing
from workbench.evaluation.captured import Captures
from workbench.evaluation.names import TABLES
from workbench.evaluation.protocols import preset
from workbench.evaluation.reproducing import TITLES, reproduce
from workbench.schema import SPACES, InputError, ModelError

SMALL = ["image_resize=nearest 32", "layers=1,2", "samples=1"]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return flux_pipeline()


def test_every_table_is_there() -> None:
    assert tuple(TITLES) == TABLES


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("table1", ["output (ConceptAttention)", "cross attention"]),
        ("table2", ["output (ConceptAttention)", "cross attention"]),
        ("table4", ["attends to neither", "attends to concepts", "attends to the image", "attends to both"]),
    ],
)
@pytest.mark.slow
def test_drawn_scenes_stand_in_and_it_is_said(name: str, titles: list[str], tmp_path: Path) -> None:
    found = reproduce(name, limit=1, folder=tmp_path, progress=False)
    (evaluation,) = found.evaluations
    assert [one.title for one in evaluation.results][: len(titles)] == titles
    assert len(evaluation.results) == len(titles) + 4
    text = str(found)
    assert "NOT the paper's experiment: no data set was given" in text
    assert "bundled model tiny-flux" in text
    assert "published: " in text
    assert "ours minus published" not in text
    assert "its own layers are 0-4, its own timestep is 300" in text


@pytest.mark.slow
def test_table3_has_each_space_with_softmax_and_without(tmp_path: Path) -> None:
    found = reproduce("table3", limit=1, folder=tmp_path, progress=False)
    entries = [(one.method, one.protocol.reduce) for one in found.evaluations[0].results[:6]]
    assert entries == [(s, r) for s in ("cross", "value", "output") for r in ("mean", "softmax_mean")]
    assert len(found.published[0]) == 6


@pytest.mark.slow
def test_figure7_is_by_layer_and_by_timestep(tmp_path: Path) -> None:
    found = reproduce("figure7", limit=1, folder=tmp_path, progress=False)
    titles = [one.title for one in found.evaluations[0].results]
    assert titles[:6] == [*(f"layer {block}" for block in range(5)), "all of these layers"]
    assert titles[6:15] == [f"timestep {time}" for time in range(900, 0, -100)]


@pytest.mark.slow
def test_on_the_papers_data_differences_are_given(pipe: Any, tmp_path: Path) -> None:
    items = [("n02389865_7", (33, 47), True), ("n01694709_1234", (51, 20), True)]
    file = gtsegs(tmp_path / "gtsegs_ijcv.mat", items)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 12
    voc = voc_tree(tmp_path / "voc", {"2007_000001": mask})
    found = reproduce(
        "table1",
        imagenet=file,
        voc=voc,
        model=pipe,
        knobs=SMALL,
        any_count=True,
        folder=tmp_path / "rows",
        progress=False,
    )
    assert [one.data.source["data"] for one in found.evaluations] == ["imagenet", "voc-single"]
    text = str(found)
    assert "NOT the paper's experiment" not in text
    assert text.count("ours minus published") == 4
    ours = 100 * found.evaluations[0].results[0].summary.values["miou_stacked"]
    assert f"{ours - 71.04:+.2f}" in text
    assert "published: ConceptAttention, FLUX.1-schnell" in text
    assert found.evaluations[0].problems == ()


def test_the_public_code_takes_the_softmax_of_baselines_in_every_head(pipe: Any) -> None:
    entries, _ = reproducing._entries(
        "table1", data("imagenet"), preset("public-head", data("imagenet")), Captures(pipe)
    )
    assert [one.protocol.heads for one in entries[:2]] == ["sum", "softmax"]
    entries, _ = reproducing._entries("table1", data("imagenet"), preset("paper", data("imagenet")), Captures(pipe))
    assert [one.protocol.heads for one in entries[:2]] == ["sum", "sum"]
    voc = data("voc-single")
    entries, _ = reproducing._entries("table1", voc, preset("public-head", voc), Captures(pipe))
    assert [(one.protocol.heads, one.protocol.reduce) for one in entries[:2]] == [("sum", "sum")] * 2
    assert [one.protocol.concept_norm for one in entries[:2]] == ["linear", "linear"]


@pytest.mark.parametrize(
    ("table", "protocol", "expected"),
    [
        ("table1", "public-release", {"output": "linear", "cross": "none"}),
        ("table3", "public-release", {"output": "linear", "cross": "none", "value": "linear"}),
        ("table3", "public-head", {"output": "none", "cross": "none", "value": "none"}),
        ("table3", "paper", {"output": "linear", "cross": "linear", "value": "linear"}),
    ],
)
def test_rows_normalise_as_the_protocol_says_and_the_public_code_can(
    pipe: Any, table: str, protocol: str, expected: dict[str, str]
) -> None:
    """The public code fails where it is asked to normalise the concepts of its cross attention on ImageNet."""
    held = data("imagenet")
    rules = preset(protocol, held)
    rules = rules.changed(concept_norm="linear") if protocol == "paper" else rules
    entries, _ = reproducing._entries(table, held, rules, Captures(pipe))
    found = {one.method.name: one.protocol.concept_norm for one in entries if one.method.name in SPACES}
    assert found == expected


@pytest.mark.slow
def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no 'table5'"):
        reproduce("table5")
    with pytest.raises(InputError, match="has no use for voc"):
        reproduce("table3", voc=tmp_path)
    with pytest.raises(InputError, match="split names seeds of drawn scenes"):
        reproduce("table1", voc=voc_tree(tmp_path, {"a": np.ones((9, 9), np.uint8)}), any_count=True, split="test")
    with pytest.raises(ModelError, match="unknown model"):
        reproduce("table1", model="no-such-model", limit=1, folder=tmp_path, progress=False)
