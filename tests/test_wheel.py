"""The wheel, installed alone outside the checkout, captures with the model it carries."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CAPTURE = """
from pathlib import Path
import workbench as wb
from workbench.models.loading import bundled_folder
from workbench.tiny.scenes import render
place = Path(wb.__file__).parent
assert str(place).startswith({venv!r}), place
assert bundled_folder("tiny-flux").is_relative_to(place)
assert (place / "data" / "scenes" / "scene-00.png").is_file()
assert (place / "data" / "notebooks" / "01_quickstart.ipynb").is_file()
from workbench.widgets.explore import front_end
assert "export default" in front_end.module() and ".wb-view" in front_end.style()
scene = render(7)
ds = wb.capture(scene.image, scene.words, progress=False)
ds.wb.validate()
print(sorted(ds.wb.heatmap().dims))
"""


@pytest.mark.slow
def test_the_wheel_stands_alone(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, ROOT], tmp_path)
    (wheel,) = tmp_path.glob("concept_workbench-*.whl")
    assert wheel.stat().st_size < 25e6
    _run([sys.executable, "-m", "venv", "--without-pip", venv], tmp_path)
    _run([*pip, "--python", venv / "bin" / "python", "install", "--no-deps", "--no-index", wheel], tmp_path)
    # The libraries come from this environment; a plain path in a .pth file does not bring its editable installs along.
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    printed = _run([venv / "bin" / "python", "-c", CAPTURE.format(venv=str(venv))], tmp_path)
    assert "['concept', 'x', 'y']" in printed
    assert _run([venv / "bin" / "workbench", "runs"], tmp_path).count("tiny-flux") == 1


def _run(command: list[str | Path], folder: Path) -> str:
    ran = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
