from __future__ import annotations

import json
from pathlib import Path

import pytest
import xarray as xr

from tests import synthetic
from tests.store.replay import save
from tests.test_cli import run


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_sweep_of_a_stored_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ds = synthetic.dataset(truth=True, signal=1.0)
    save(ds, tmp_path / "home", "run0")
    given = ["sweep", "run0", "--home", tmp_path / "home"]
    files = [tmp_path / name for name in ("a.csv", "a.nc", "a.pdf", "a.png")]
    code, out, _ = run(monkeypatch, capsys, *given, *files, "--json")
    told = json.loads(out)
    found = ds.wb.sweep("layer")
    assert code == 0
    assert [point["value"] for point in told["points"]] == pytest.approx(found.mean_iou.values.tolist())
    assert (told["best"], told["truth"]) == (f"layer {found.mean_iou.values.argmax()}", "the dataset’s own")
    assert told["files"] == [str(file) for file in files]
    exec(told["code"], made := {})
    assert made["found"].mean_iou.values.tolist() == pytest.approx(found.mean_iou.values.tolist())
    assert files[0].read_text().count("\n") == 1 + 5 * 4
    with xr.open_dataset(files[1], engine="scipy") as kept:
        assert kept.mean_iou.equals(found.mean_iou)
    assert files[2].read_bytes()[:4] == b"%PDF"
    code, out, _ = run(
        monkeypatch, capsys, *given, "--over", "layer", "--over", "timestep", "--metric", "entropy", "--space", "cross"
    )
    assert code == 0
    assert out.startswith("layer × timestep, each alone, cross: entropy")
    assert out.count("\n") == 1 + 15 + 1

    for arguments, sentence in (
        ([tmp_path / "b.csv", tmp_path / "b.txt"], "ends in .png, .pdf or .svg"),
        ([tmp_path / "none" / "b.csv"], "cannot be written"),
        ([tmp_path / "b.csv", "--over", "depth"], "over is 'depth'; expected one of"),
        ([tmp_path / "b.csv", "--metric", "iuo"], "metric is 'iuo'"),
        ([tmp_path / "b.csv", "--window", "0", "--how", "window"], "window is 0; expected a whole number, 1 or more"),
    ):
        code, _, err = run(monkeypatch, capsys, *given, *arguments)
        assert code == 2
        assert sentence in " ".join(err.split())
        assert not (tmp_path / "b.csv").exists()
