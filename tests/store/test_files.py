from __future__ import annotations

import errno
from pathlib import Path

import pytest

from workbench.store import files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    written = files.write_file(path, b"first", sync=True)
    assert written == files.digest(path)
    assert written.size == 5

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            files.write_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_a_file_do_not_take_each_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, replace = tmp_path / "file", Path.replace

    def after_another(unfinished: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "replace", replace)
        files.write_file(path, b"other")
        return replace(unfinished, target)

    monkeypatch.setattr(Path, "replace", after_another)
    files.write_file(path, b"first")
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_line_of_the_journal_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A disk with room for three more bytes."""

        def __init__(self, path: Path) -> None:
            self.file = path.open("ab", buffering=0)
            self.room = 3
            self.seek, self.truncate = self.file.seek, self.file.truncate

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.room = 0
            return self.file.write(data[:3])

    journal = tmp_path / "journal"
    files.append(journal, b"one\n")
    with monkeypatch.context() as patched:
        opened = Full(journal)
        patched.setattr(Path, "open", lambda *_, **__: opened)
        with pytest.raises(OSError, match="No space left"):
            files.append(journal, b"another\n")
    files.append(journal, b"two\n")
    assert journal.read_bytes() == b"one\ntwo\n"
