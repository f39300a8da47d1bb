from __future__ import annotations

from typing import Any

import pytest

from workbench.widgets.shared.python_code import arguments, code, continued


@pytest.mark.parametrize(
    "value", [slice(3, 5), slice(750.0, 333.25), [1.0, 2.5], ("layer", "head"), ("layer",), "it's", True, None, 10**9]
)
def test_code_gives_the_value_back(value: Any) -> None:
    assert eval(code(value)) == value


def test_whole_numbers_lose_their_point() -> None:
    assert arguments({"timesteps": slice(750.0, 250.0), "space": "cross"}) == (
        ", timesteps=slice(750, 250), space='cross'"
    )


def test_code_goes_on_behind_what_opens_its_run() -> None:
    opened = "import workbench as wb\n\nds = wb.open('abc')"
    assert continued("", "x = 1") == "x = 1"
    assert continued(opened, "found = ds.wb.sweep('layer')") == f"{opened}\n\nfound = ds.wb.sweep('layer')"
    assert continued(opened, "import workbench as wb\n\nplan = 3") == f"{opened}\n\nplan = 3"
    assert continued("ds = a", "import workbench as wb\n\nplan = 3") == "ds = a\n\nimport workbench as wb\n\nplan = 3"
