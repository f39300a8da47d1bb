from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from workbench import cli

SCENE = Path(__file__).parents[1] / "data" / "scenes" / "scene-00.png"
WORDS = json.loads((SCENE.parent / "scenes.json").read_text())[0]["words"]


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["workbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def test_capture_show_and_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figure = tmp_path / "maps.png"
    code, out, _ = run(monkeypatch, capsys, "capture", SCENE, *WORDS, "--timestep", 300, "--figure", figure, "--json")
    assert code == 0
    made = json.loads(out)
    assert made["sizes"]["concept"] == len(WORDS)
    assert made["sizes"]["timestep"] == 1
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert Path(made["path"]).is_dir()

    code, out, _ = run(monkeypatch, capsys, "runs", "--json")
    assert [(found["key"], found["concepts"]) for found in json.loads(out)] == [(made["key"], WORDS)]
    assert code == 0
    code, out, _ = run(monkeypatch, capsys, "runs")
    assert made["key"] in out
    code, out, _ = run(monkeypatch, capsys, "show", made["key"][:6])
    assert (code, made["key"] in out, WORDS[0] in out) == (0, True, True)


def test_generate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = (
        "a sun on sand",
        "sun",
        "sand",
        "--steps",
        3,
        "--record",
        0,
        "--record",
        2,
        "--samples",
        2,
        "--negative-prompt",
        "",
    )
    code, out, _ = run(
        monkeypatch, capsys, "generate", *arguments, "--true-guidance", 2, "--figure", tmp_path / "sun.pdf", "--json"
    )
    assert code == 0
    made = json.loads(out)
    assert made["attrs"]["true_guidance"] == 2.0
    sizes = made["sizes"]
    assert (sizes["sample"], sizes["timestep"]) == (2, 2)
    assert (tmp_path / "sun.pdf").read_bytes().startswith(b"%PDF")


def test_no_runs_yet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(monkeypatch, capsys, "runs", "--home", tmp_path)
    assert (code, "no runs yet" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("capture", "missing.png", "sun"), 2, "there is no image file at missing.png"),
        (("capture", SCENE, "sun", "--space", "attention"), 2, "expected one or more of output, cross"),
        (("capture", SCENE, "sun", "--size", "100"), 2, "expected height x width"),
        (("capture", SCENE, "sun", "--figure", "maps.txt"), 2, "ends in .png, .pdf or .svg"),
        (("capture", SCENE, "sun", "--model", "no-such-model"), 1, "unknown model 'no-such-model'"),
        (("capture", SCENE), 2, "Missing argument"),
        (("show", "ffffffffff"), 1, "ffffffffff"),
        (("nothing",), 2, "No such command"),
    ],
)
def test_wrong_calls(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[object, ...],
    code: int,
    says: str,
) -> None:
    ended, out, err = run(monkeypatch, capsys, *arguments)
    assert ended == code
    assert says in " ".join(err.split())
    assert out == ""


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    code, _, err = run(monkeypatch, capsys, "runs")
    assert (code, "interrupted" in err) == (130, True)


@pytest.mark.parametrize("command", ["capture", "generate", "show", "runs", "lab"])
def test_help_has_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(monkeypatch, capsys, command, "--help")
    assert (code, f"Example: workbench {command}" in " ".join(out.split())) == (0, True)


def test_lab_copies_the_notebooks_it_starts_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    started: list[list[str]] = []

    class Done:
        returncode = 0

    def start(command: list[str], check: bool) -> Done:
        started.append(command)
        return Done()

    monkeypatch.setattr(cli.subprocess, "run", start)
    monkeypatch.setattr(cli, "find_spec", lambda name: object())
    (tmp_path / "01_quickstart.ipynb").write_text("mine")
    code, _, _ = run(monkeypatch, capsys, "lab", "--folder", tmp_path, "--no-browser")
    assert code == 0
    assert (tmp_path / "01_quickstart.ipynb").read_text() == "mine", "a user's own copy is never overwritten"
    assert "--no-browser" in started[0]
    assert f"--ServerApp.root_dir={tmp_path}" in started[0]

    monkeypatch.setattr(cli, "find_spec", lambda name: None)
    code, _, err = run(monkeypatch, capsys, "lab", "--folder", tmp_path)
    assert (code, "concept-workbench[lab]" in err) == (2, True)
