from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image

from tests.synthetic import dataset
from workbench.widgets.ablate.tasks import Sweeps, side_by_side


def test_what_there_is_to_choose_from_is_plain() -> None:
    known = Sweeps(dataset(truth=True)).describe()
    assert json.loads(json.dumps(known, allow_nan=False)) == known
    assert ["layer", "head"] in known["over"]
    assert known["default"] == [1, 2]
    assert known["names"] == ["dog", "grass", "sky"]


def test_heads_are_swept_only_where_there_are_heads() -> None:
    ds = dataset().drop_vars(["output", "cross"])
    assert not any("head" in over for over in Sweeps(ds).describe()["over"])


def test_a_point_is_shown_over_the_picture_it_belongs_to() -> None:
    ds = dataset(kind="generate", samples=3)
    task = Sweeps(ds).task({"over": ["sample"]})
    shown = task.finish(task.work(lambda *_: None, None), 1, 0.0).shown  # type: ignore[arg-type]
    values, buffers = shown.pair([2])
    assert values["titles"] == ["all together", "sample 2 alone"]
    assert values["shape"] == [3, 4, 6]
    maps = np.frombuffer(buffers[1], np.float32).reshape(3, 4, 6)
    np.testing.assert_allclose(maps, ds.wb.heatmap(samples=2).transpose("concept", "y", "x"), atol=1e-6)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(buffers[3]))), ds.image[2])
    shown.free()


def test_maps_without_pictures_are_shown_alone() -> None:
    values, buffers = side_by_side(["a", "b"], [np.zeros((2, 3, 4))] * 2, [], ["dog", "sky"])
    assert values["media"] == []
    assert len(buffers) == 2
