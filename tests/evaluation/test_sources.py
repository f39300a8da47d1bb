from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workbench.evaluation.drawn_scenes import open_scenes
from workbench.evaluation.sources import SOURCES, expected, is_file_based, open_data, reopen
from workbench.schema import InputError


def test_drawn_scenes_need_nothing() -> None:
    assert open_data("scenes-single").source == open_scenes("single").source
    assert open_data("scenes-multi", split="validation", path=None).all_names()[0] == "0"


@pytest.mark.parametrize("name", [name for name in SOURCES if is_file_based(name)])
def test_what_has_to_be_got_is_said(name: str) -> None:
    with pytest.raises(InputError, match="Nothing is downloaded for you"):
        open_data(name)
    assert len(expected(name)) > 60


def test_options_that_a_reader_does_not_take() -> None:
    with pytest.raises(InputError, match=r"takes no path; it takes split"):
        open_data("scenes-single", path="x")
    with pytest.raises(InputError, match="takes no split"):
        open_data("imagenet", path="x", split="test")


def test_a_record_opens_again(tmp_path: Path) -> None:
    source = dict(open_scenes("single").source)
    again = reopen(source)
    assert again is not None
    assert again.identity() == open_scenes("single").identity()
    assert reopen({"data": "imagenet", "path": str(tmp_path / "gone.mat")}) is None
    assert reopen({"data": "rows"}) is None


@pytest.mark.slow
def test_nothing_heavy_is_loaded_to_refuse_a_call() -> None:
    code = """
import sys
import workbench.evaluation.explaining, workbench.evaluation.names, workbench.evaluation.sources
import workbench.evaluation.protocols, workbench.evaluation.harness, workbench.evaluation_commands
heavy = {'torch', 'diffusers', 'matplotlib', 'h5py'}
print(sorted({name.partition('.')[0] for name in sys.modules} & heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
