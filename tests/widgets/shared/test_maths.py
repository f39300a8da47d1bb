"""What the browser computes is what ``workbench.numerics`` computes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.numerics.measures import OVERVIEW, Reference
from workbench.numerics.scores import REDUCTIONS, reduce_maps, softmax
from workbench.widgets.shared import assets

MATHS = Path(assets.__file__).parent / "static" / "maths.js"


def node() -> str:
    """Node.js: the machine's, or the one that Playwright brings."""
    found = shutil.which("node")
    bundled = find_spec("playwright")
    if found is None and bundled is not None and bundled.origin is not None:
        found = shutil.which("node", path=Path(bundled.origin).parent / "driver")
    if found is None and os.environ.get("WORKBENCH_BROWSER") != "required":
        pytest.skip("there is no Node.js")
    assert found is not None, "there is no Node.js"
    return found


def browser(code: str, **given: Any) -> Any:
    """What an expression of maths.js gives; arrays arrive flat, as typed arrays of their kind."""
    kinds = {"f": "Float32Array", "i": "Int16Array", "u": "Uint16Array"}
    values = {name: value.ravel().tolist() if isinstance(value, np.ndarray) else value for name, value in given.items()}
    typed = {name: kinds[value.dtype.kind] for name, value in given.items() if isinstance(value, np.ndarray)}
    typed = {name: f"new {kind}(given.{name})" for name, kind in typed.items()}
    read = "".join(f"const {name} = {typed.get(name, f'given.{name}')};\n" for name in given)
    plain = "(_, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value)"
    script = f"{MATHS.read_text()}\nconst given = {json.dumps(values)};\n{read}"
    script += f"console.log(JSON.stringify({code}, {plain}));\n"
    done = subprocess.run([node(), "-"], input=script, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def random_maps(*shape: int, seed: int = 0) -> np.ndarray:
    return softmax(np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 2, -3)


def test_how_decided_maps_are_is_one_minus_their_entropy() -> None:
    maps = random_maps(4, 5, 6)
    maps[:, 0, 0] = [0, 1, 0, 0]
    expected = 1 - OVERVIEW["entropy"].value(*OVERVIEW["entropy"](maps[None]))[0]
    assert browser("certainty(maps, 4, 30)", maps=maps) == pytest.approx(expected, rel=1e-6)


def test_mean_iou_is_that_of_the_overview() -> None:
    rng = np.random.default_rng(1)
    maps = random_maps(4, 5, 6)
    maps[3] = 0  # predicted nowhere, and true nowhere
    area = rng.integers(0, 7, (5, 6))  # void patches have none
    truth = rng.integers(0, area + 1, (4, 5, 6))
    truth[3] = 0
    reference = Reference(truth.astype(float), area.astype(float), np.nan)
    expected = OVERVIEW["iou"].value(*OVERVIEW["iou"](maps[None], reference))[0]
    labels = maps.argmax(0).astype(np.int16)
    found = browser("meanIou(labels, 4, truth, area)", labels=labels, truth=truth, area=area)
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_strongest_concept_is_that_of_argmax() -> None:
    maps = np.round(random_maps(3, 5, 6), 1)  # with equals
    assert browser("strongest(maps, 3, 30)", maps=maps) == maps.argmax(0).ravel().tolist()


SAMPLES, TIMESTEPS, LAYERS, CONCEPTS, PATCHES = 2, 2, 3, 4, 12
CUBE = """(() => {
  const [samples, timesteps, layers, concepts, patches] = sizes;
  const cube = new Cube({ samples, timesteps, layers, concepts, frames: 1, patches });
  for (let t = 0; t < timesteps; t++) {
    const part = (values) => values.slice((t * values.length) / timesteps, ((t + 1) * values.length) / timesteps);
    cube.add(t, part(levels), part(low), part(step));
  }
  return CALL;
})()"""


def in_cube(call: str, **given: Any) -> tuple[Any, np.ndarray]:
    """What a method of the cube gives, and its scores (timestep, sample, layer, concept, patch)."""
    rng = np.random.default_rng(2)
    sizes = (TIMESTEPS, SAMPLES, LAYERS, CONCEPTS)
    levels = rng.integers(0, 65536, (*sizes, PATCHES)).astype(np.uint16)
    low = rng.normal(size=sizes).astype(np.float32)
    step = (rng.random(sizes) * 1e-4).astype(np.float32)
    scores = (low[..., None] + step[..., None] * levels.astype(np.float64)).astype(np.float32)
    sizes_of_cube = [SAMPLES, TIMESTEPS, LAYERS, CONCEPTS, PATCHES]
    code = CUBE.replace("CALL", call)
    return browser(code, sizes=sizes_of_cube, levels=levels, low=low, step=step, **given), scores


def pieces_of(scores: np.ndarray, pieces: list[list[int]]) -> np.ndarray:
    return np.stack([scores[timestep, sample, layer] for sample, timestep, layer in pieces])


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_maps_of_pieces_are_those_of_reduce_maps(reduce: str) -> None:
    choices = [[[0, 0, 1]], [[0, 0, 1], [1, 0, 1], [1, 1, 2]], [[1, 1, 0], [1, 0, 1], [1, 1, 2]]]
    found, scores = in_cube("choices.map((pieces) => cube.maps(pieces, 0, reduce))", choices=choices, reduce=reduce)
    for pieces, maps in zip(choices, found, strict=True):
        expected = reduce_maps(pieces_of(scores, pieces), concept_axis=1, mean_axes=[0], reduce=reduce)
        np.testing.assert_allclose(np.reshape(maps, (CONCEPTS, PATCHES)), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_runs_at_a_patch_are_those_of_reduce_maps(reduce: str) -> None:
    groups = [[[0, 0, 1], [1, 1, 1]], [], [[1, 0, 2]]]
    found, scores = in_cube("cube.run(groups, 0, reduce, 7)", groups=groups, reduce=reduce)
    for pieces, values in zip(groups, found, strict=True):
        if not pieces:
            assert values == [None] * CONCEPTS  # NaN in JSON
            continue
        expected = reduce_maps(pieces_of(scores, pieces)[..., 7:8], concept_axis=1, mean_axes=[0], reduce=reduce)
        np.testing.assert_allclose(values, expected[:, 0], rtol=2e-5, atol=1e-6)
