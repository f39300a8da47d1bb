from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from PIL import Image

import workbench
from tests import synthetic
from tests.store.replay import place, save
from workbench import cli

SCENE = Path(__file__).parents[1] / "data" / "scenes" / "scene-00.png"
LONG = "x" * 300
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
    assert made["bytes"] == sum(file.stat().st_size for file in Path(made["path"]).rglob("*") if file.is_file())
    assert made["created"] == made["attrs"]["created"]

    code, out, _ = run(monkeypatch, capsys, "runs", "--json")
    assert [(found["key"], found["concepts"]) for found in json.loads(out)] == [(made["key"], WORDS)]
    assert code == 0
    code, out, _ = run(monkeypatch, capsys, "runs")
    assert made["key"] in out
    code, out, _ = run(monkeypatch, capsys, "show", made["key"][:6])
    assert (code, made["key"] in out, WORDS[0] in out) == (0, True, True)
    assert f"made  {made['created'][:19].replace('T', ' ')} UTC\n" in out
    assert f"size  {made['bytes'] / 1e3:.1f} kB" in out


@pytest.mark.slow
def test_generate_from_a_picture(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = ("--input", f"image={SCENE}", "--input", "strength=0.5")
    made = ("generate", "a sun on sand", "sun", "sand", "--steps", 4, *inputs, "--json")
    code, out, _ = run(monkeypatch, capsys, *made, "--pipeline", "FluxImg2ImgPipeline")
    assert code == 0
    found = json.loads(out)
    assert (found["sizes"]["timestep"], found["attrs"]["inputs"]["strength"]) == (2, 0.5)
    assert found["model"] == "tiny-flux"
    code, _, err = run(monkeypatch, capsys, *made)
    assert code == 2
    assert "FluxPipeline does not take" in err
    assert "load_model(…, pipeline='FluxImg2ImgPipeline')" in err


@pytest.mark.slow
@pytest.mark.filterwarnings("default::workbench.schema.WorkbenchWarning")
def test_capture_of_a_folder_is_one_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copy(SCENE, tmp_path / "first.png")
    Image.open(SCENE).crop((0, 0, 96, 64)).save(tmp_path / "second.png")
    (tmp_path / "third.png").write_bytes(b"no image")
    command = ("capture", tmp_path, *WORDS, "--layer", 0)
    code, out, err = run(monkeypatch, capsys, *command)
    assert code == 0
    assert "1 item (first)" in out
    assert "1 item (second)" in out
    assert "failed third: " in out
    assert "1 of 3 images were skipped" in err
    made = json.loads(run(monkeypatch, capsys, *command, "--json")[1])
    assert (made["kind"], len(made["groups"])) == ("many", 2)
    shown = run(monkeypatch, capsys, "show", made["key"])[1]
    assert "1 item (second)" in shown
    listed = run(monkeypatch, capsys, "runs")[1].splitlines()
    assert [line.split()[1] for line in listed if line.startswith(made["key"])] == ["many"]
    assert any(line.startswith("  + 2 items") for line in listed)
    assert run(monkeypatch, capsys, "verify", made["key"])[:1] == (0,)
    assert run(monkeypatch, capsys, "export", made["key"], tmp_path / "x.zarr.zip")[0] == 0
    code, out, _ = run(monkeypatch, capsys, "import", tmp_path / "x.zarr.zip", "--home", tmp_path / "other")
    assert (code, made["key"] in out) == (0, True)
    assert "1 item (second)" in run(monkeypatch, capsys, "show", made["key"], "--home", tmp_path / "other")[1]
    gc.collect()  # what was shown is read no longer
    assert "2 items" in run(monkeypatch, capsys, "prune", "--keep", 0)[1]
    assert "no runs yet" in run(monkeypatch, capsys, "runs")[1]
    code, _, err = run(monkeypatch, capsys, *command, "--figure", tmp_path / "x.png")
    assert (code, "--figure draws one image" in err) == (2, True)


@pytest.mark.slow
def test_capture_of_a_folder_with_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for name in ("first", "second"):
        Image.open(SCENE).transpose(Image.Transpose.FLIP_LEFT_RIGHT if name == "first" else Image.Transpose.ROTATE_180)\
            .save(images / f"{name}.png")  # fmt: skip
    table = tmp_path / "table.csv"
    table.write_text('name,concepts,prompt\nfirst,"house, grass",a house\nsecond,heart,\n')
    command = ("capture", images, "--per-image", table, "--layer", 0, "--json")
    made = json.loads(run(monkeypatch, capsys, *command)[1])
    ds = workbench.open_many(made["key"])
    assert ds["prompt"].values.tolist() == ["a house", ""]
    assert [words.tolist() for words in ds["asked"].values] == [[True, True, False], [False, False, True]]
    code, _, err = run(monkeypatch, capsys, *command, "--prompt", "a house")
    assert (code, "has a prompt of each image, and the command has a prompt for all: give one" in err) == (2, True)
    code, _, err = run(monkeypatch, capsys, "capture", SCENE, "house", "--per-image", table)
    assert (code, "--per-image is of the images of a folder" in err) == (2, True)
    code, _, err = run(monkeypatch, capsys, "capture", images)
    assert (code, "concepts is empty" in err) == (2, True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::workbench.schema.WorkbenchWarning")
def test_capture_records_attention_and_mends_damage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("capture", SCENE, *WORDS, "--layer", 0, "--lse", "--text-mass", "--verify", "--json")
    made = json.loads(run(monkeypatch, capsys, *command)[1])
    folder = Path(made["path"])
    assert {"lse_image", "lse_concept", "text_mass"} <= {path.name for path in folder.iterdir()}
    (chunk,) = (folder / "text_mass").glob("c.*")
    sound = chunk.read_bytes()
    chunk.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    code, _, err = run(monkeypatch, capsys, *command)
    assert code == 0
    assert "is damaged and is computed anew: text_mass/" in err
    assert chunk.read_bytes() == sound


def test_models(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(monkeypatch, capsys, "models")
    assert code == 0
    listed = json.loads(run(monkeypatch, capsys, "models", "--json")[1])
    assert [each["name"] for each in listed] == [family.name for family in workbench.families()]
    for each in listed:
        assert all(name in out for name in (each["name"], *each["models"], *each["pipelines"], *each["transformers"]))
        for licence in each["licences"]:
            assert f"{licence['name']} ({licence['terms']})" in out or not licence["terms"]
            assert f": {', '.join(licence['models'])}" in out
    assert "FLUX.1 [dev] Non-Commercial License (no commercial use): FLUX.1-dev" in out


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
    assert (code, f"no runs yet in {tmp_path}" in out) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("capture", "missing.png", "sun"), 2, "there is no image file at missing.png"),
        (("capture", SCENE, "sun", "--space", "attention"), 2, "expected one or more of output, cross"),
        (("capture", SCENE, "sun", "--size", "100"), 2, "expected height x width"),
        (("capture", SCENE, "sun", "--figure", "maps.txt"), 2, "ends in .png, .pdf or .svg"),
        (("capture", SCENE, "sun", "--model", "no-such-model"), 1, "unknown model 'no-such-model'"),
        (("capture", SCENE), 2, "concepts is empty; expected one or more words"),
        (("show", "ffffffffff"), 1, "ffffffffff"),
        (("show", "../../etc"), 1, "no finished run"),
        (("verify", "ffffffffff"), 1, "no run 'ffffffffff'"),
        (("prune",), 2, "no limit is given"),
        (("prune", "--older-than", "soon"), 2, "expected an age such as 45m, 12h, 30d or 2w"),
        (("prune", "--keep", "3", "--home", "memory://x"), 1, "--force"),
        (("export", "ffffffffff", "a.zarr.zip"), 1, "no run 'ffffffffff'"),
        (("export", "ffffffffff", "a.zip"), 2, "ends in .zarr.zip"),
        (("import", "missing.zarr.zip"), 1, "there is no file missing.zarr.zip"),
        (("nothing",), 2, "No such command"),
        (("--foo", "--bar=1", "runs"), 2, "No such options: --foo, --bar"),
        (("capture", SCENE, "sun", "--foo", "--bar=3", "-q"), 2, "No such options: --foo, --bar, -q"),
        (("capture", SCENE, "sun", "--foo"), 2, "No such option: --foo"),
        (("capture", SCENE, "sun", "--seed", -3, "--foo", "--bar"), 2, "No such options: --foo, --bar"),
        (("--foo", "capture", SCENE, "sun", "--lse", "--bar"), 2, "No such option: --foo"),
        (("capture", SCENE, "sun", "--figure", "nodir/maps.png"), 2, "nodir/maps.png (No such file or directory)"),
        (("show", "abc", "--figure", "nodir/maps.png"), 2, "nodir/maps.png (No such file or directory)"),
        (("capture", SCENE, "s\udcff"), 2, "half a character"),
        (("capture", LONG, "sun"), 2, "File name too long"),
        (("capture", SCENE, "sun", "--home", LONG), 1, "File name too long"),
        (("generate", "a sun", "sun", "--home", LONG), 1, "File name too long"),
        (("capture", SCENE, "sun", "--home", SCENE), 1, "cannot write to"),
        (("runs", "--home", LONG), 1, "File name too long"),
        (("show", LONG), 1, "File name too long"),
        (("verify", "--home", LONG), 1, "File name too long"),
        (("verify", "abc", "def"), 1, "no run 'def'"),
        (("verify", "abc", "def"), 1, "no run 'abc'"),
        (("prune", "--max-size", f"{'9' * 400}GB"), 2, "expected a size such as 500MB"),
        (("capture", SCENE, "sun", "--size", f"{'9' * 5000}x8"), 2, "expected height x width"),
        (("capture", "~nobody-of-that-name/a.png", "sun"), 2, "the image is '~nobody-of-that-name/a.png', and no user"),
        (("capture", SCENE, "sun", "--home", "~nobody-of-that-name/a"), 2, "home is '~nobody-of-that-name/a', and no"),
        (("runs", "--home", "~nobody-of-that-name/a"), 2, "home is '~nobody-of-that-name/a', and no user"),
        (
            ("capture", SCENE, "sun", "--model", "~nobody-of-that-name"),
            2,
            "the model is '~nobody-of-that-name', and",
        ),
        (("capture", "https://example.org/a.png", "sun"), 2, "there is no image file at https:/"),
        (("prune", "--keep", 1, "--home", LONG), 1, "File name too long"),
        (("import", f"{LONG}.zarr.zip"), 1, "File name too long"),
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


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    many = ("--space", "a", "--attend", "q", "--pool", "z", "--layer", 99, "--timestep", 0, "--timestep", 2000)
    code, _, err = run(
        monkeypatch, capsys, "capture", "missing.png", "sun", "elk", "red sea", *many, "--figure", "nodir/x.png"
    )
    assert code == 2
    for says in (
        "does not know 'elk', 'red', 'sea'",
        "there is no image file at missing.png",
        "spaces is ('a',)",
        "attend is 'q'",
        "pool is 'z'",
        "layers is [99]; expected whole numbers from 0 to 6",
        "timesteps holds 0.0, 2000.0",
        "nodir/x.png (No such file or directory)",
    ):
        assert says in err
    code, _, err = run(
        monkeypatch,
        capsys,
        "generate",
        "a sun on mars",
        "sun",
        "elk",
        "--record",
        99,
        "--true-guidance",
        2,
        "--seed=-3",
    )
    assert code == 2
    for says in ("does not know 'elk', 'mars'", "a step in record is 99", "without a negative_prompt", "seed is -3"):
        assert says in err


def _ended(*calls: tuple[object, ...], **environment: str) -> tuple[list[int], bytes, bytes, bool]:
    """Exit codes, output and errors of calls in a process of their own, and whether torch was imported."""
    code = (
        "import json, sys\nfrom workbench import cli\ncodes = []\n"
        "for call in json.loads(sys.argv[1]):\n    sys.argv = ['workbench', *call]\n"
        "    try:\n        cli.main()\n    except SystemExit as ended:\n        codes.append(ended.code or 0)\n"
        "print(json.dumps([codes, 'torch' in sys.modules]), file=sys.stderr)"
    )
    given = json.dumps([list(map(str, call)) for call in calls])
    done = subprocess.run(
        [sys.executable, "-c", code, given],
        env={**os.environ, **environment},
        capture_output=True,
        timeout=300,
        check=True,
    )
    *errors, last = done.stderr.splitlines()
    codes, torch = json.loads(last)
    return codes, done.stdout, b"\n".join(errors), torch


def test_wrong_calls_end_before_torch_is_imported() -> None:
    codes, out, err, torch = _ended(
        ("capture", "missing.png", "elk", "--layer", "99", "--figure", "nodir/x.png"),
        ("generate", "a sun on mars", "sun", "--record", "99", "--figure", "x.txt"),
        ("generate", "a sun on sand", "sun", "--input", "image=missing.jpg"),
        ("generate", "a sun on sand", "sun", "--input", "image"),
        ("capture", SCENE, "sun", "--model", "no-such-model"),
        ("show", "ffff", "--figure", "nodir/x.png"),
        ("verify", "ffff"),
    )
    assert (codes, out, torch) == ([2, 2, 2, 2, 1, 2, 1], b"", False)
    for says in (b"does not know 'elk'", b"does not know 'mars'", b"unknown model", b"nodir/x.png", b"no run 'ffff'"):
        assert says in err
    assert b"no image in 'image': there is no image file at missing.jpg" in err
    assert b"--input is 'image'; expected name=value" in err


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1251", pytest.param("cp932", marks=pytest.mark.slow)])
def test_any_terminal_is_written_to(encoding: str, tmp_path: Path) -> None:
    concepts = ["Straße", "собака", "犬"]
    save(synthetic.dataset(concepts=concepts, timesteps=(500.0,)), tmp_path, "abc")
    home = ("--home", tmp_path)
    codes, out, err, _ = _ended(
        ("show", "abc", *home), ("runs", *home), ("show", "犬", *home), ("-h",), PYTHONIOENCODING=encoding
    )
    assert codes == [0, 0, 1, 0]
    shown = ", ".join(concepts)
    assert out.count(shown.encode(encoding, "replace")) == 2
    assert "犬".encode(encoding, "replace") in err


def test_the_version_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"workbench {workbench.__version__}\n")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A home with an old run and a new one."""
    home = tmp_path / "two"
    for key, year in (("old1", 2020), ("new2", 2024)):
        ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,))
        place(ds.assign_attrs(created=f"{year}-01-01T00:00:00+00:00"), home, key)
    return home


def _size(home: Path, key: str = "") -> str:
    files = [path for path in home.glob(f"runs/{key}*.zarr/**/*") if path.is_file()]
    return f"{sum(path.stat().st_size for path in files) / 1e3:.1f} kB"


def test_runs_are_listed_with_sizes_and_dates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: Path
) -> None:
    code, out, _ = run(monkeypatch, capsys, "runs", "--home", two)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["key", "new2", "old1", "2"]
    assert all(word in out for word in ("2020-01-01 00:00:00 UTC", "2024-01-01 00:00:00 UTC", f"2 runs, {_size(two)}"))


def test_verify_names_damage_and_removes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: Path
) -> None:
    assert run(monkeypatch, capsys, "verify", "--home", two)[:2] == (0, "new2  sound\nold1  sound\n")
    chunk = two / "runs" / "old1.zarr" / "output" / "c.0.0.0.0.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[::-1])
    code, out, _ = run(monkeypatch, capsys, "verify", "--home", two)
    assert (code, out.splitlines()) == (
        1,
        ["new2  sound", "old1  damaged", "  output/c.0.0.0.0.0.0.0: changed since it was written"],
    )
    assert run(monkeypatch, capsys, "verify", "new2", "--home", two)[0] == 0
    copy = two / "copy"
    shutil.copytree(two / "runs" / "old1.zarr", copy)
    code, out, _ = run(monkeypatch, capsys, "verify", copy, "--delete", "--home", two, "--json")
    assert (code, json.loads(out)[0]["removed"], copy.exists()) == (1, False, True)
    code, out, _ = run(monkeypatch, capsys, "verify", "--delete", "--home", two, "--json")
    assert code == 1
    assert [(found["key"], len(found["problems"]), found["removed"]) for found in json.loads(out)] == [
        ("new2", 0, False),
        ("old1", 1, True),
    ]
    assert run(monkeypatch, capsys, "verify", "--home", two)[:2] == (0, "new2  sound\n")


def test_prune_says_what_it_removes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: Path
) -> None:
    arguments = ("prune", "--older-than", "30d", "--keep", 1, "--home", two)
    code, out, _ = run(monkeypatch, capsys, *arguments, "--dry-run")
    assert (code, out.splitlines()[-1]) == (0, f"would remove 1 run, {_size(two, 'old1')}")
    assert f"would remove run old1  {_size(two, 'old1')}  2020-01-01 00:00:00 UTC  (older than 30 days)" in out
    opened = workbench.open("old1", two)
    code, out, _ = run(monkeypatch, capsys, *arguments)
    assert (code, "left, being read: run old1" in out, out.splitlines()[-1]) == (0, True, "removed 0 runs, 0 B")
    del opened
    gc.collect()
    code, out, _ = run(monkeypatch, capsys, *arguments, "--json")
    assert [found["key"] for found in json.loads(out) if found["what"] == "run"] == ["old1"]
    assert [found.key for found in workbench.runs(two)] == ["new2"]
    assert run(monkeypatch, capsys, "prune", "--older-than", "999999999d", "--home", two)[:2] == (
        0,
        "removed 0 runs, 0 B\n",
    )
    code, out, _ = run(monkeypatch, capsys, "prune", "--max-size", "1KB", "--home", two)
    assert (code, workbench.runs(two)) == (0, [])


def test_superseded_runs_are_told_and_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: Path
) -> None:
    monkeypatch.setattr("workbench.store.reading.CAPTURE_VERSION", 999)
    code, out, _ = run(monkeypatch, capsys, "runs", "--home", two)
    told = "2 runs superseded, which no call finds any more: workbench prune --superseded"
    assert (code, out.splitlines()[-1], out.count("(superseded)")) == (0, told, 2)
    code, out, _ = run(monkeypatch, capsys, "runs", "--home", two, "--json")
    assert [found["superseded"] for found in json.loads(out)] == [True, True]
    code, out, _ = run(monkeypatch, capsys, "prune", "--superseded", "--home", two)
    assert (code, out.splitlines()[-1].split(",")[0], workbench.runs(two)) == (0, "removed 2 runs", [])


def test_export_and_import(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: Path, tmp_path: Path
) -> None:
    file = tmp_path / "old.zarr.zip"
    code, out, _ = run(monkeypatch, capsys, "export", "old", file, "--home", two, "--json")
    assert (code, json.loads(out)) == (0, {"path": str(file), "bytes": file.stat().st_size})
    assert workbench.open(file).attrs["created"].startswith("2020")
    code, out, _ = run(monkeypatch, capsys, "import", file, "--home", tmp_path / "other", "--json")
    assert (code, [found["key"] for found in json.loads(out)]) == (0, ["old1"])
    code, out, _ = run(monkeypatch, capsys, "import", file, "--home", tmp_path / "other")
    assert (code, out.split()[0]) == (0, "old1")
    code, out, _ = run(monkeypatch, capsys, "export", "new", tmp_path / "new.zarr.zip", "--home", two)
    assert (code, out.split()[0]) == (0, str(tmp_path / "new.zarr.zip"))


def test_the_home_may_be_a_url(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    save(synthetic.dataset(timesteps=(500.0,)), url, "abc")
    code, out, _ = run(monkeypatch, capsys, "runs", "--home", url, "--json")
    assert (code, json.loads(out)[0]["path"].startswith(f"{url}/runs/abc/")) == (0, True)
    assert run(monkeypatch, capsys, "show", "abc", "--home", url)[0] == 0
    assert run(monkeypatch, capsys, "verify", "--home", url)[0] == 0


def test_an_interruption_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(home: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workbench, "runs", interrupted)
    code, _, err = run(monkeypatch, capsys, "runs")
    assert (code, "interrupted" in err) == (130, True)


@pytest.mark.parametrize(
    "command", ["capture", "generate", "show", "runs", "verify", "prune", "export", "import", "lab"]
)
def test_help_has_an_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(monkeypatch, capsys, command, "--help")
    assert (code, f"Example: workbench {command}" in " ".join(out.split())) == (0, True)


@pytest.fixture
def experiment(two: Path) -> Path:
    """The same home, with two runs of an experiment with the new run."""
    for key, role, edit in (("base", "baseline", ""), ("rand", "control", "SkipBlock(3)")):
        ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=0, default_layers=(0,))
        place(ds.assign_attrs(parent="new2", role=role, edit=edit), two, key)
    return two


def test_runs_of_experiments_are_counted_or_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], experiment: Path
) -> None:
    code, out, _ = run(monkeypatch, capsys, "runs", "--home", experiment)
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[0] for line in lines] == ["key", "new2", "+", "old1", "2"]
    assert "2 runs of an experiment" in lines[2]
    assert lines[-1].startswith("2 runs, ")
    assert "; and 2 runs of experiments, " in lines[-1]

    code, out, _ = run(monkeypatch, capsys, "runs", "--all", "--home", experiment)
    assert {line.split()[0] for line in out.splitlines()} == {"key", "new2", "base", "rand", "old1", "2"}
    assert "control: SkipBlock(3)" in out

    code, out, _ = run(monkeypatch, capsys, "runs", "--json", "--home", experiment)
    found = {one["key"]: (one["role"], one["parent"], one["edit"]) for one in json.loads(out)}
    assert found == {
        "new2": ("", "", ""),
        "old1": ("", "", ""),
        "base": ("baseline", "new2", ""),
        "rand": ("control", "new2", "SkipBlock(3)"),
    }
    assert [one["key"] for one in json.loads(out)][:2] == ["new2", "old1"]


def test_prune_keeps_ones_own_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], experiment: Path
) -> None:
    code, out, _ = run(monkeypatch, capsys, "prune", "--keep", 1, "--dry-run", "--home", experiment)
    lines = out.splitlines()
    assert lines[0].startswith("would remove run old1")
    assert lines[1].startswith("would remove 2 runs of an experiment")
    assert lines[1].endswith("(made for an experiment)")
    assert lines[2].startswith("would remove 1 run and 2 runs of experiments, ")
    code, out, _ = run(monkeypatch, capsys, "prune", "--keep", 2, "--json", "--home", experiment)
    assert code == 0
    assert {(one["key"], one["role"]) for one in json.loads(out)} >= {("base", "baseline"), ("rand", "control")}
    assert [found.key for found in workbench.runs(experiment)] == ["new2", "old1"]


def test_several_runs_are_exported_with_their_experiments(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], experiment: Path, tmp_path: Path
) -> None:
    file = tmp_path / "all.zarr.zip"
    assert run(monkeypatch, capsys, "export", "new", "old", file, "--derived", "--home", experiment)[0] == 0
    code, out, _ = run(monkeypatch, capsys, "import", file, "--home", tmp_path / "other")
    assert (code, [line.split()[0] for line in out.splitlines()][:2]) == (0, ["new2", "old1"])
    assert [found.role for found in workbench.runs(tmp_path / "other")][:2] == ["", ""]
    assert {found.parent for found in workbench.runs(tmp_path / "other")[2:]} == {"new2"}
