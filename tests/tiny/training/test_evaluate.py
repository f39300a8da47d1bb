from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.tiny.scenes import NOUNS, render
from workbench.tiny.training import evaluate, map_scores
from workbench.tiny.training.card_tables import over_seeds, report


def _captured(seed: int, layers: int, sharp: slice, at: int) -> evaluate.Captured:
    """A scene whose maps are right in some layers at one timestep and blank elsewhere."""
    scene = render(seed)
    truth = map_scores.oracle(scene)[4::8, 4::8]
    right = np.stack([truth == index for index in range(len(scene.words))]).astype(np.float32)
    maps = np.zeros((len(evaluate.TIMESTEPS), layers, *right.shape), np.float32)
    maps[at, sharp] = 9 * right
    return evaluate.Captured(scene, scene.words, {"output": maps})


def test_defaults_are_chosen_by_the_output_maps() -> None:
    """Two layers that see the scene at one timestep, the others blind: they must be found."""
    captured = [_captured(3, 5, slice(2, 4), 6)]
    layers, at = evaluate.choose(captured, captured, 5)
    assert at == 6
    assert {2, 3} & set(layers)
    best = evaluate.segmented(captured, "output", [at], layers)
    scene = captured[0].scene
    oracle = map_scores.figure([map_scores.tally(scene, scene.words, map_scores.oracle(scene))])
    assert best.words == pytest.approx(oracle.words)


@pytest.mark.slow
def test_defaults_serve_scenes_with_distractors_too() -> None:
    """What is best without distractors and worthless with them loses to what is right with both."""
    plain, beside = [_captured(3, 5, slice(0, 2), 2)], [_captured(3, 5, slice(3, 5), 4)]
    plain[0].maps["output"][4, 3:5] = plain[0].maps["output"][2, 0:2]
    plain[0].maps["output"][4, 3:5, :, 0] = 0
    assert evaluate.choose(plain, plain, 5)[1] == 2
    assert evaluate.choose(plain, beside, 5)[1] == 4


def test_distractors_are_not_in_the_scene() -> None:
    scene = render(11)
    found = evaluate.distractors(scene, 11, 3)
    assert len(set(found)) == 3
    assert not set(found) & set(scene.words)
    assert set(found) <= set(NOUNS)
    assert found == evaluate.distractors(scene, 11, 3)
    assert any(evaluate.distractors(scene, seed, 3) != found for seed in range(5))


def test_a_softmax_weighs_layers_by_their_certainty() -> None:
    """One layer certain and wrong by little, one uncertain and large: the two ways to reduce disagree."""
    scene = render(3)
    patches = map_scores.oracle(scene)[4::8, 4::8].shape
    maps = np.zeros((1, 2, len(scene.words), *patches), np.float32)
    maps[0, 0, 0], maps[0, 1, 1] = 100.0, 120.0
    maps[0, 1, 0], maps[0, 0, 2:] = 0.0, -1000.0
    captured = [evaluate.Captured(scene, scene.words, {"output": maps})]
    soft, raw = (evaluate.segmented(captured, "output", [0], [0, 1], soft) for soft in (True, False))
    assert soft.per_word != raw.per_word


@pytest.mark.slow
def test_processes_capture_what_one_does(untrained: Any) -> None:
    folder = Path(untrained.config["_name_or_path"])
    with evaluate.workers(folder, 1) as pool:
        apart = evaluate.capture_scenes(None, "test", 2, pool, absent=1, timesteps=(500.0,), spaces=("output",))
    here = evaluate.capture_scenes(untrained, "test", 2, absent=1, timesteps=(500.0,), spaces=("output",))
    for one, other in zip(apart, here, strict=True):
        assert one.words == other.words
        np.testing.assert_allclose(one.maps["output"], other.maps["output"], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_the_whole_evaluation_of_a_few_scenes(monkeypatch: pytest.MonkeyPatch, untrained: Any) -> None:
    """Every figure is there and lies between 0 and 1; the tables can be drawn."""
    monkeypatch.setattr(evaluate, "TIMESTEPS", (500.0, 200.0))
    result: dict[str, Any] = evaluate.evaluate(untrained, ([0, 1], 200.0), 2)
    assert json.loads(json.dumps(result))
    assert set(result["spaces"]) == set(result["distracted"]) == set(evaluate.SPACES)
    assert set(result["attend"]) == set(evaluate.ATTEND)
    assert len(result["heads"]["output"]) == len(result["layers"]["output"])
    for found in (*result["spaces"].values(), *result["baselines"].values(), *result["timesteps"]["output"].values()):
        low, high = found["interval"]
        assert 0 <= low <= high <= 1
        assert 0 <= found["words"] <= 1
    assert result["baselines"]["oracle"]["words"] > 0.7 > result["spaces"]["output"]["words"]
    assert result["distracted"]["output"]["words"] <= result["spaces"]["output"]["words"] + 0.2
    text = report(result)
    assert "| `output` |" in text
    assert "the paper, on FLUX.1" in text
    assert "nan" not in text


def test_centred_scores_do_not_depend_on_an_offset_of_each_concept() -> None:
    one = _captured(3, 2, slice(0, 2), 0)
    offset = np.arange(len(one.words), dtype=np.float32)[:, None, None] * 20
    moved = evaluate.Captured(one.scene, one.words, {"output": one.maps["output"] + offset})
    as_stored, centred = (
        [evaluate.segmented([some], "output", [0], [0, 1], center=center).words for some in (one, moved)]
        for center in (False, True)
    )
    assert centred[0] == centred[1] > 0.5
    assert as_stored[1] < as_stored[0] - 0.3


@pytest.mark.slow
def test_what_a_file_holds_already_is_kept(
    monkeypatch: pytest.MonkeyPatch, untrained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every part is in the file: nothing is computed, and the tables are those of the file."""
    monkeypatch.setattr(evaluate, "TIMESTEPS", (500.0, 200.0))
    result: dict[str, Any] = evaluate.evaluate(untrained, ([0, 1], 200.0), 1)
    sides = {
        "alone": {"output": figure(0.25), "cross": figure(0.5)},
        "beside": {"output": figure(0), "cross": figure(0)},
    }
    result |= {
        "references": {"pixel forest": figure(0.125)},
        "held_out": {"hard": {"scenes": 7, "chance": figure(0), "oracle": figure(1), **sides}},
        "origins": {
            "moved": {"scenes": 3, "picture": 1}
            | dict.fromkeys(("alone", "beside", "alone, centred", "beside, centred"), figure(0.375))
        },
        "criteria": {"mine": {"mean": 0.5, "interval": [0.25, 0.75], "runs": 9}},
    }
    file = tmp_path / "figures.json"
    file.write_text(json.dumps(result))
    folder = str(untrained.config["_name_or_path"])
    monkeypatch.setattr("sys.argv", ["evaluate", "--model", folder, "--json", str(file), "--resume", "--scenes", "1"])
    evaluate.main()
    text = capsys.readouterr().out
    for line in (
        "| pixel forest | yes | masks of 400 other scenes | 0.125 (0.125 to 0.125) |",
        "| hard | 7 | 0.250 (0.250 to 0.250) |",
        "on the first 3 test scenes",
        "| mine | 9 | 0.50 (0.25 to 0.75) |",
        'from its mean over patches (`center="patch"`)',
    ):
        assert line in text
    assert json.loads(file.read_text()) == json.loads(json.dumps(result))


def figure(words: float) -> dict[str, Any]:
    return {"words": words, "objects": words, "backgrounds": words, "interval": [words, words]}


def test_seeds_are_set_side_by_side() -> None:
    """Mean, lowest and highest; the heads of each seed by their own scores, since their numbers mean nothing."""

    def seed(score: float, heads: list[float]) -> dict[str, Any]:
        one = {"output": figure(score), "cross": figure(0.25)}
        return {
            "spaces": one,
            "dual_layers": 1,
            "layers": {space: {"0": found} for space, found in one.items()},
            "timesteps": {space: {"300.0": found} for space, found in one.items()},
            "heads": {"output": [[figure(head) for head in heads]]},
            "all_dual": one,
            "raw": one,
            "attend": {"both": figure(score)},
        }

    lines = over_seeds([seed(0.5, [0.1, 0.4]), seed(0.7, [0.6, 0.3])]).splitlines()
    assert "| 0 | 0.600 (0.500 to 0.700) | 0.250 (0.250 to 0.250) |" in lines
    assert "| 300 | 0.600 (0.500 to 0.700) | 0.250 (0.250 to 0.250) |" in lines
    assert "| 0 | 0.500 (0.400 to 0.600) | 0.200 (0.100 to 0.300) |" in lines
    assert any(line.startswith("| output beats cross attention | 0.500 (") and "| 0.700 (" in line for line in lines)
