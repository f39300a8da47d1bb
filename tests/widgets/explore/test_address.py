"""What the address of a saved page may ask for."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.synthetic import dataset
from tests.widgets.shared.test_maths import node
from workbench.widgets.explore.meta import meta_of
from workbench.widgets.explore.state import COLOUR_MAPS, SECTIONS, State
from workbench.widgets.shared import assets

DS = dataset(samples=2, truth=True, spaces=("output", "prompt"))
FIRST = State.default(DS).to_json()


def browser(code: str, **given: Any) -> Any:
    """What an expression of address.js gives."""
    known = {"meta": meta_of(DS), "first": FIRST, **given}
    script = f"{assets.text('explore/address.js')}\nconst {{{', '.join(known)}}} = {json.dumps(known)};\n"
    script += f"console.log(JSON.stringify({code}));\n"
    return json.loads(subprocess.run([node(), "-"], input=script, capture_output=True, text=True, check=True).stdout)


def test_a_state_goes_into_an_address_and_comes_back() -> None:
    states = [
        FIRST,
        {**FIRST, "layers": [3, 4], "timesteps": [500.0, 250.0], "sample": 1, "pin": [3, 5], "opacity": 0.25},
        {**FIRST, "concepts": [0, 2], "difference": [2, 0], "focus": 1, "cmap": "magma", "limits": [-1, 0.5]},
        {**State.default(DS, "prompt").to_json(), "open": ["patch", "overview"], "smooth": True, "picture": False},
    ]
    addresses = browser("states.map((state) => writeAddress(state, meta, first))", states=states)
    assert addresses[0] == ""
    assert addresses[1].startswith("#layers=[3,4]&timesteps=[500,250]&sample=1")
    back = browser("addresses.map((address) => readAddress(address, meta, first).state)", addresses=addresses)
    assert back == json.loads(json.dumps(states))
    for state in back:
        State.from_json(state, DS)


REFUSED = [
    "#layers", "#layers=", "#layers=4,3", "#layers=[4,3]", "#layers=[0]", "#layers=[0,9]", "#layers=[0,1.5]",
    "#layers=%", "#layers=[0,1]&layers=[0,1]", "#nothing=1", "#__proto__=1", "#constructor=1",
    "#timesteps=[250,750]", "#timesteps=[600,250]", "#heads=[0]", "#sample=7", '#sample="0"', "#frame=0",
    '#reduce="max"', "#concepts=[]", "#concepts=[2,0]", "#concepts=[0,0]", "#concepts=[3]", "#difference=[0]",
    "#focus=-1", "#focus=true", "#pin=[4,0]", "#pin=[0,6]", "#pin=[0.5,0]", '#statistic="x"', '#cmap="jet"',
    "#opacity=2", "#opacity=null", "#smooth=1", "#limits=[0,null]", "#limits=[0,1e999]", '#open=["x"]',
    '#open=["patch","patch"]', '#space="cross"', '#space="toString"', '#space="prompt"&concepts=[5]',
    "#<script>alert(1)</script>", "#focus=" + "0" * 3000,
]  # fmt: skip


def test_an_address_that_does_not_fit_is_refused() -> None:
    found = browser("addresses.map((address) => readAddress(address, meta, first))", addresses=REFUSED)
    assert [list(one) for one in found] == [["error"]] * len(REFUSED)
    assert max(len(one["error"]) for one in found) < 200


def test_the_page_knows_what_a_state_knows() -> None:
    assert browser("Object.keys(fitting(meta, 'output'))") == list(FIRST)
    assert browser("COLOURS") == list(COLOUR_MAPS)
    assert browser("SECTIONS") == list(SECTIONS)
