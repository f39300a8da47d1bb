from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from pathlib import Path

import pytest

from workbench.evaluation import unpacking
from workbench.evaluation.unpacking import is_archive, md5, unpack
from workbench.schema import InputError


def tar(path: Path, members: list[tarfile.TarInfo | tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def take(archive: Path, folder: Path) -> Path:
    return unpack(archive, folder, lambda path: path.suffix == ".txt", "a data set")


def test_what_is_wanted_is_unpacked_once(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", [("in/a.txt", b"hello"), ("in/b.bin", b"left out")])
    folder = take(archive, tmp_path / "out")
    assert [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()] == ["in/a.txt"]
    archive.unlink()
    assert take(archive, folder) == folder
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/a.txt", "hello")
        archive.mkdir("in/empty")
    assert (take(tmp_path / "a.zip", tmp_path / "out") / "in/a.txt").read_text() == "hello"


@pytest.mark.parametrize(
    "member",
    [
        ("../a.txt", b"x"),
        ("/etc/a.txt", b"x"),
        ("in/../../a.txt", b"x"),
        ("C:/a.txt", b"x"),
        ("in\\..\\a.txt", b"x"),
        link("in/a.txt", "/etc/passwd"),
        link("in/a.txt", "b.txt", tarfile.LNKTYPE),
        link("in/a.txt", "", tarfile.FIFOTYPE),
        link("in/a.txt", "", tarfile.CHRTYPE),
    ],
)
def test_hostile_members_are_refused_and_nothing_is_left(
    tmp_path: Path, member: tarfile.TarInfo | tuple[str, bytes]
) -> None:
    archive = tar(tmp_path / "a.tar", [("in/good.txt", b"hello"), member])
    with pytest.raises(InputError, match=r"leads out|no plain file"):
        take(archive, tmp_path / "deep" / "out")
    assert list((tmp_path / "deep").iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "deep"}


def test_links_in_a_zip(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("in/a.txt")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="no plain file"):
        take(tmp_path / "a.zip", tmp_path / "out")


def test_truncated_and_wrong_archives(tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", [("in/a.txt", b"h" * 5000), ("in/b.txt", b"h" * 5000)])
    whole.write_bytes(whole.read_bytes()[:7000])
    (tmp_path / "b.tar").write_bytes(b"<html>not found</html>" * 100)
    (tmp_path / "c.zip").write_bytes(b"PK\x03\x04 nothing")
    for name in ("a.tar", "b.tar", "c.zip"):
        with pytest.raises(InputError, match=r"cannot be unpacked|truncated"):
            take(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    empty = tar(tmp_path / "d.tar", [("in/b.bin", b"x")])
    with pytest.raises(InputError, match="nothing of what is needed; expected a data set"):
        take(empty, tmp_path / "out")


def test_names_that_are_there_twice(tmp_path: Path) -> None:
    for number, members in enumerate([[("a.txt", b"1"), ("a.txt", b"2")], [("a.txt", b"1"), ("a.txt/b.txt", b"2")]]):
        archive = tar(tmp_path / f"{number}.tar", members)
        with pytest.raises(InputError, match="twice"):
            take(archive, tmp_path / "out")


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LARGEST_FILE", 1000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", b"0" * 100_000)
    with pytest.raises(InputError, match="is not unpacked"):
        take(tmp_path / "a.zip", tmp_path / "out")
    monkeypatch.setattr(unpacking, "MOST_FILES", 3)
    with pytest.raises(InputError, match="more than 3 files"):
        take(tar(tmp_path / "b.tar", [(f"{number}.txt", b"") for number in range(5)]), tmp_path / "out")


def test_names_and_checksums(tmp_path: Path) -> None:
    assert is_archive(Path("VOC.TAR"))
    assert not is_archive(Path("VOC2012"))
    (tmp_path / "a").write_bytes(b"hello")
    assert md5(tmp_path / "a") == "5d41402abc4b2a76b9719d911017c592"
