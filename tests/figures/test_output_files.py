from __future__ import annotations

from pathlib import Path

import pytest

from workbench.figures.output_files import check_file
from workbench.schema import InputError


@pytest.mark.parametrize("name", ["a.png", "a.PDF", "a.svg", "a.webp"])
def test_a_file_that_can_be_written_is_not_made(name: str, tmp_path: Path) -> None:
    assert check_file(tmp_path / name) == tmp_path / name
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"mine")
    check_file(tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.txt", r"ends in .png, .pdf or .svg, or .* \(.*webp"),
        ("a", "ends in .png"),
        ("none/a.png", "No such file or directory"),
        ("file/a.png", "Not a directory"),
        ("folder.png", "Is a directory"),
        ("x" * 300 + ".png", "File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match=message):
        check_file(tmp_path / name)
