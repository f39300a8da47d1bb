from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import synthetic
from tests.store.replay import save
from tests.test_cli import run


def test_a_page_of_a_stored_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save(synthetic.dataset(), tmp_path / "home", "run0")
    state = tmp_path / "state.json"
    state.write_text(json.dumps({"run": {"key": "run0"}, "state": {"layers": [3, 3]}}))
    given = ["page", "run0", "--home", tmp_path / "home"]
    code, out, _ = run(monkeypatch, capsys, *given, tmp_path / "page.html", "--state", state, "--json")
    written = json.loads(out)
    assert (code, written["bytes"]) == (0, (tmp_path / "page.html").stat().st_size)
    assert "&quot;layers&quot;: [3, 3]" in Path(written["path"]).read_text()
    code, out, _ = run(monkeypatch, capsys, *given, tmp_path / "moving.gif", "--over", "layer")
    assert code == 0
    assert str(tmp_path / "moving.gif") in out

    state.write_text('{"layers": [77, 77]}')
    for arguments, sentence in (
        ([tmp_path / "page.pdf"], r"ends in .png or .html or .gif"),
        ([tmp_path / "page.html", "--over", "layer"], "has no option over"),
        ([tmp_path / "page.png", "--state", state], "layer 77 does not exist"),
        ([tmp_path / "page.png", "--state", tmp_path / "none.json"], "cannot be read"),
        ([tmp_path / "page.png", "--state", tmp_path / "page.html"], "is no JSON file"),
    ):
        code, _, err = run(monkeypatch, capsys, *given, *arguments)
        assert code == 2
        assert sentence in err
        assert not (tmp_path / "page.png").exists()
