"""Where the curves and matrices of the views put what they show."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.widgets.shared.test_maths import node
from workbench.widgets.shared import assets

BOX = "{ left: 10, right: 110, top: 0, bottom: 100 }"


def browser(expression: str) -> Any:
    """What an expression gives in the browser."""
    script = f"{assets.text('shared/plotting.js')}\nconsole.log(JSON.stringify({expression}));"
    done = subprocess.run([node(), "-"], input=script, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_points_lie_where_their_values_are_and_lines_break_where_there_is_none() -> None:
    plane = f"new Plane({BOX}, 3, [-1, 1], 10)"
    assert browser(f"[{plane}.x(0), {plane}.x(2), {plane}.y(-1), {plane}.y(1)]") == [20, 100, 100, 0]
    assert browser(f"{plane}.path([0, null, 1])") == "M20.0,50.0M100.0,0.0"
    assert browser(f"[-5, 55, 500].map((at) => {plane}.nearest(at))") == [0, 1, 2]
    assert browser(f"[new Plane({BOX}, 1, [0, 1], 10).x(0), new Plane({BOX}, 1, [0, 1], 10).nearest(99)]") == [60, 0]


def test_bands_are_areas_or_bars() -> None:
    plane = f"new Plane({BOX}, 4, [0, 100], 5)"
    joined, apart = browser(
        f"[true, false].map((joined) => {plane}.band([0, 0, null, 0], [100, 100, 100, 100], joined))"
    )
    assert joined == "M15,0L45,0L45,100L15,100ZM100,100H110V0H100Z"
    assert apart.count("M") == 3


def test_cells_upwards_and_downwards_are_found_under_the_pointer() -> None:
    svg = "{ getBoundingClientRect: () => ({ left: 1, top: 2 }) }"
    for upwards, row in (("true", 2), ("false", 0)):
        grid = f"new Grid({{ left: 30, wide: 10, tall: 20, rows: 3, columns: 4, upwards: {upwards} }})"
        assert browser(f"{grid}.at({{ clientX: 1 + 30 + 15, clientY: 2 + 4 + 3 }}, {svg})") == [row, 1]
        assert browser(f"[{grid}.y({row}), {grid}.holds([0, 4]), {grid}.holds([2, 3])]") == [4, False, True]
        taken = "{ setAttribute(name, value) { this[name] = value; } }"
        framed = f"((rect) => {{ {grid}.frame(rect, [0, 1], [1, 2]); return rect; }})({taken})"
        assert browser(framed) == {"x": 39, "y": (24 if upwards == "true" else 4) - 1, "width": 21, "height": 41}


def test_ends_of_very_many_numbers_and_of_none() -> None:
    assert browser("endsOf(finite([[3, null, NaN], [[-2]]]))") == [-2, 3]
    assert browser("endsOf(Array.from({ length: 400000 }, (_, i) => i))") == [0, 399999]
    assert browser("[endsOf([]), symmetric([-1, 3]), symmetric([0, 0])]") == [[0, 1], [-3, 3], [-1, 1]]


@pytest.mark.parametrize(("key", "step"), [("ArrowUp", [0, 1]), ("ArrowLeft", [-1, 0]), ("a", None)])
def test_arrow_keys_are_steps_to_the_right_and_upwards(key: str, step: list[int] | None) -> None:
    event = f'{{ key: "{key}", preventDefault() {{}}, stopPropagation() {{}} }}'
    assert browser(f"arrow({event})") == step
    assert browser(f"arrow({{ ...{event}, ctrlKey: true }})") is None
