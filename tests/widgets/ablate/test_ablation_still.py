from __future__ import annotations

from tests.figures.test_effect_figure import reached
from workbench.widgets.ablate.ablation_still import still_of
from workbench.widgets.ablate.finished_runs import INTERVENTION, Result
from workbench.widgets.shared.drawing import Shown


def test_a_result_that_is_known_by_layer_alone_is_pictured() -> None:
    found = reached()
    found["mean_map_distance"][:] = float("nan")
    line = {"name": "mean of the concepts", "concept": None, "values": found.mean_map_distance_by_layer.values.tolist()}
    labels = [["0", "2", "2"], ["0", "1", "2"]]
    plot = {"dims": ["layer", "read layer"], "labels": labels, "lines": [line], "measure": "change", "better": "higher"}
    plot |= {"peak": "largest effect"}
    result = Result(1, INTERVENTION, "layers skipped", found, {"map_distance_by_layer": plot}, "code", None, 1.0)
    still = still_of("dog, grass", {"intervention": [result]}, result, {})
    (picture,) = [block for block in still.blocks if isinstance(block, Shown)]
    assert min(picture.image.size) > 200
