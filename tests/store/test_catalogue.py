from __future__ import annotations

from pathlib import Path

import pytest

from tests import synthetic
from tests.store.replay import parts, save
from workbench import store
from workbench.schema import InputError, StoreError


@pytest.mark.parametrize("key", ["../escape", "a/b", "..", "", "/etc", "A", "a\\b", "a\0"])
def test_keys_cannot_leave_the_folder(key: str, home: Path) -> None:
    with pytest.raises(InputError, match="the key is"):
        store.find(key, home)
    template, variables = parts(synthetic.dataset())
    with pytest.raises(InputError, match="the key is"), store.writer(key, template, variables, home=home):
        pass


def test_find_knows_finished_runs_only(home: Path) -> None:
    assert store.find("run", home) is None
    save(synthetic.dataset(), home)
    found = store.find("run", home)
    assert found is not None
    (found / "manifest.json").unlink()
    assert store.find("run", home) is None


def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write to .*WORKBENCH_HOME.*store=False"):
        store.check_writable(tmp_path / "file" / "runs")
    assert store.check_writable(tmp_path / "new") == tmp_path / "new"
