from __future__ import annotations

import http.client
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from zarr.errors import UnknownCodecError

from tests import synthetic
from tests.store.replay import overflowing, parts, replay, save
from workbench import store
from workbench.schema import InputError, StoreError, WorkbenchWarning
from workbench.store import remote


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """A bucket on an S3 server of this machine."""
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("s3fs")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patched:
        for name, value in settings.items():
            patched.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="workbench")
        yield "s3://workbench"
    server.stop()


@pytest.fixture(params=["memory", pytest.param("s3", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> str:
    """An empty home at a URL."""
    name = uuid.uuid4().hex
    return (
        f"memory://{name}/runs of a test"
        if request.param == "memory"
        else f"{request.getfixturevalue('bucket')}/{name}"
    )


def _small(**attrs: object) -> xr.Dataset:
    ds = synthetic.dataset(timesteps=(500.0,), dual=1, single=1, default_layers=(0,), missing=[(0, 500.0, 1)])
    return ds.assign_attrs(attrs)


def _objects(url: str) -> list[str]:
    fs, root = remote.filesystem(url)
    return sorted(path.removeprefix(f"{root}/runs/") for path in fs.find(f"{root}/runs"))


def _corrupt(url: str, path: str) -> None:
    fs, root = remote.filesystem(url)
    data = bytearray(fs.cat_file(f"{root}/runs/{path}"))
    data[len(data) // 2] ^= 1
    fs.pipe_file(f"{root}/runs/{path}", bytes(data))


@pytest.mark.slow
def test_a_run_at_a_url_is_the_run(url: str, tmp_path: Path) -> None:
    ds = overflowing("generate")
    stored = save(ds, url)
    xr.testing.assert_identical(stored, save(ds, tmp_path))
    assert stored["output"].variable._in_memory
    again = store.open("run", url, verify=True)
    assert not again["output"].variable._in_memory
    assert _objects(url)[0] == "run.json"
    assert not list((remote.staging(url) / "runs").iterdir()), "what is uploaded needs no room here"
    assert not list((remote.staging(url) / "partial").iterdir())


def test_it_is_listed_found_and_opened(url: str) -> None:
    assert store.runs(url) == []
    assert store.find("run", url) is None
    with pytest.raises(StoreError, match="nothing is stored there"):
        store.open("run", url)
    save(_small(model="first", created="2025-01-01T00:00:00+00:00"), url, "abc1")
    save(_small(model="second", created="2025-01-02T00:00:00+00:00"), url, "abd2")
    newest, oldest = store.runs(url)
    assert (newest.key, newest.model, oldest.key) == ("abd2", "second", "abc1")
    assert newest.size == sum(
        remote.filesystem(url)[0].size(path) for path in remote.filesystem(url)[0].find(str(newest.path))
    )
    assert store.find("abc1", url) == oldest.path
    assert store.info("abc", url) == oldest
    for key in ("abc1", "abc"):
        assert store.open(key, url).attrs["model"] == "first"
    assert store.open(oldest.path).attrs["model"] == "first"
    assert oldest.open(verify=True).attrs["model"] == "first"
    with pytest.raises(StoreError, match="2 runs begin with 'ab'"):
        store.open("ab", url)


def test_the_environment_may_name_a_url(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", f"{url}/")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda _: tmp_path)
    assert store.home() == url
    template, variables = parts(_small())
    with store.writer("run", template, variables) as run:
        replay(run, _small())
        assert list((tmp_path / "cloud").glob("*/partial/run/journal")), "it is made in the user's cache folder"
    xr.testing.assert_identical(store.open("run"), _small())
    assert [run.key for run in store.runs()] == ["run"]


def test_a_finished_run_is_not_computed_again(url: str) -> None:
    save(_small(), url)
    before = _objects(url)
    with store.writer("run", *parts(_small()), home=url) as run:
        assert run.complete
        assert run.remaining == []
    xr.testing.assert_identical(run.dataset(), _small())
    assert _objects(url) == before


def test_an_interrupted_run_resumes(url: str) -> None:
    ds = overflowing()
    with pytest.raises(KeyboardInterrupt), store.writer("run", *parts(ds), home=url) as run:
        replay(run, ds, run.remaining[:10])
        raise KeyboardInterrupt
    assert _objects(url) == []
    with store.writer("run", *parts(ds), home=url) as run:
        assert len(run.done) == 10
        replay(run, ds)
    store.verify("run", url)


def test_an_upload_that_fails_is_made_up_for(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ds = _small()
    fs, _ = remote.filesystem(url)

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("the line is dead")

    with monkeypatch.context() as patched:
        patched.setattr(fs, "put", fail)
        with pytest.raises(StoreError, match=rf"cannot use {url}: ConnectionError: the line is dead"):
            save(ds, url)
    assert store.runs(url) == []
    assert len(list((remote.staging(url) / "runs").iterdir())) == 1
    with store.writer("run", *parts(ds), home=url) as run:
        assert run.complete, "it was only to be uploaded"
    xr.testing.assert_identical(run.dataset(), ds)
    assert not list((remote.staging(url) / "runs").iterdir())


def test_of_two_writers_the_first_manifest_wins(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines compute the same run; neither sees the other's."""
    start = threading.Barrier(2)
    publish = remote.publish

    def together(*arguments: Any) -> None:
        start.wait(60)
        publish(*arguments)

    monkeypatch.setattr(remote, "publish", together)
    monkeypatch.setattr(remote, "staging", lambda _: tmp_path / threading.current_thread().name)
    results: dict[str, xr.Dataset] = {}

    def work(name: str) -> None:
        results[name] = save(_small(model=name), url)

    threads = [threading.Thread(target=work, args=(name,), name=name) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (run,) = store.runs(url)
    assert run.model in ("one", "two")
    assert {ds.attrs["model"] for ds in results.values()} == {run.model}, "both callers read the same run"
    assert len({path.split("/")[1] for path in _objects(url) if path != "run.json"}) == 1, "the loser's is gone"
    store.verify("run", url)


@pytest.mark.parametrize("how", ["no modes", "no such argument", "modes are ignored"])
def test_a_backend_that_cannot_create_exclusively_is_refused(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    fs, _ = remote.filesystem(url)
    pipe_file = type(fs).pipe_file

    def overwrites(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        if how == "no modes" and mode == "create":
            raise NotImplementedError("File mode not supported")
        pipe_file(self, path, value)

    def of_old(self: Any, path: str, value: bytes) -> None:
        pipe_file(self, path, value)

    monkeypatch.setattr(type(fs), "pipe_file", of_old if how == "no such argument" else overwrites)
    says = rf"{url} cannot create an object only where there is none .*home=.*store=False"
    with pytest.raises(StoreError, match=says):
        save(_small(), url)
    with pytest.raises(StoreError, match=says):
        store.check_writable(url)
    assert not fs.find(url), "nothing was written, and the trial is gone"


@pytest.mark.parametrize("reached", [True, False])
def test_an_answer_that_is_lost_makes_no_second_pointer(
    reached: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks while the pointer is created: before the service did it, or after."""
    url = f"memory://{uuid.uuid4().hex}"
    fs, _ = remote.filesystem(url)
    pipe_file, modes = type(fs).pipe_file, []

    def breaks(self: Any, path: str, value: bytes, mode: str = "overwrite") -> None:
        modes.append(mode)
        if not path.endswith("run.json"):
            pipe_file(self, path, value, mode=mode)
            return
        if reached:
            pipe_file(self, path, value, mode=mode)
        raise ConnectionResetError("the line is dead")

    monkeypatch.setattr(remote, "staging", lambda _: tmp_path)
    monkeypatch.setattr(type(fs), "pipe_file", breaks)
    if reached:
        save(_small(), url)
    else:
        with pytest.raises(StoreError, match=r"cannot use .*ConnectionResetError: the line is dead"):
            save(_small(), url)
        assert store.runs(url) == []
    assert set(modes) == {"create"}
    monkeypatch.setattr(type(fs), "pipe_file", pipe_file)
    xr.testing.assert_identical(save(_small(), url), _small())
    store.verify("run", url)


class _ServiceError(Exception):
    """As a library of a service has it."""


_ServiceError.__module__ = "botocore.exceptions"


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        ConnectionError("dead"),
        TimeoutError("late"),
        PermissionError("forbidden"),
        OSError(28, "full"),
        http.client.IncompleteRead(b""),
        _ServiceError("no credentials"),
    ],
    ids=lambda fault: type(fault).__name__,
)
def test_faults_of_network_and_service_name_the_url(fault: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    _fails_with(fault, StoreError, r"cannot use memory://.*your credentials open", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "bug",
    [
        TypeError("a"),
        AttributeError("b"),
        KeyError("c"),
        ValueError("d"),
        AssertionError("e"),
        UnknownCodecError("f"),
    ],
    ids=lambda bug: type(bug).__name__,
)
def test_a_mistake_in_a_program_is_not_blamed_on_credentials(bug: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    _fails_with(bug, type(bug), str(bug), monkeypatch)


def _fails_with(error: Exception, expected: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that uses the backend fails so, when one of the backend's functions does; and harms nothing."""
    url = f"memory://{uuid.uuid4().hex}"
    save(_small(), url)
    fs, _ = remote.filesystem(url)
    calls = {
        "pipe_file": [lambda: store.check_writable(url), lambda: save(_small(), url, "other")],
        "put": [lambda: save(_small(), url, "another")],
        "cat_file": [
            lambda: store.find("run", url),
            lambda: store.runs(url),
            lambda: store.prune(url, older_than="0m", force=True),
        ],
        "ls": [lambda: store.runs(url)],
        "rm_file": [lambda: store.discard("run", url)],
    }

    def fail(*_: object, **__: object) -> None:
        raise error

    for function, uses in calls.items():
        for use in uses:
            with monkeypatch.context() as patched:
                patched.setattr(type(fs), function, fail)
                with pytest.raises(expected, match=says):
                    use()
    store.verify("run", url)


def test_a_network_that_fails_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise ``workbench verify --delete`` would remove what is sound."""
    url = f"memory://{uuid.uuid4().hex}"
    save(_small(), url)
    fs, _ = remote.filesystem(url)
    cat_file = type(fs).cat_file
    failing = ""

    def fails(self: Any, path: str, *rest: Any, **options: Any) -> bytes:
        if failing and failing in path:
            raise ConnectionError("the line is dead")
        return bytes(cat_file(self, path, *rest, **options))

    monkeypatch.setattr(type(fs), "cat_file", fails)
    for name in ("manifest.json", "/output/c."):
        failing = name
        with pytest.raises(StoreError, match=r"cannot use .*ConnectionError: the line is dead"):
            store.damage("run", url)
        with pytest.raises(StoreError, match=r"cannot use .*ConnectionError: the line is dead"):
            list(store.check(home=url))
    failing = ""
    assert store.damage("run", url) == []


def test_a_claim_that_cannot_be_looked_up_is_not_taken_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    save(_small(role="control", parent="another"), url)
    fs, _ = remote.filesystem(url)

    def fails(*_: object, **__: object) -> None:
        raise ConnectionError("the line is dead")

    monkeypatch.setattr(type(fs), "info", fails)
    with pytest.raises(StoreError, match=r"cannot use .*\.own: ConnectionError"):
        store.info("run", url)


def test_a_run_whose_pointer_cannot_be_read_is_no_rest_of_an_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"memory://{uuid.uuid4().hex}"
    save(_small(), url)
    before = _objects(url)
    fs, _ = remote.filesystem(url)
    monkeypatch.setattr("workbench.store.pruning._UPLOADING", timedelta(0))
    with monkeypatch.context() as patched:
        patched.setattr(type(fs), "cat_file", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("dead")))
        with pytest.raises(StoreError, match="ConnectionError"):
            store.prune(url, older_than="0m", keep=1, force=True)
    assert _objects(url) == before


def test_damage_is_found_named_and_removed(url: str) -> None:
    save(_small(), url)
    names = [path for path in _objects(url) if path != "run.json"]
    for path in (
        names[0],
        next(name for name in names if "/output/c" in name),
        f"{names[0].rpartition('.zarr/')[0]}.zarr/manifest.json",
    ):
        _corrupt(url, path)
        (problem,) = store.damage("run", url)
        assert problem.startswith(path.partition(".zarr/")[2])
        with pytest.raises(StoreError, match="is damaged"):
            store.open("run", url, verify=True)
        _corrupt(url, path)
    assert store.damage("run", url) == []
    _corrupt(url, "run.json")
    (checked,) = store.check(home=url)
    assert checked.problems[0].startswith("run.json: ")
    with pytest.warns(WorkbenchWarning, match=r"run\.json"):
        assert store.runs(url) == []
    with pytest.raises(StoreError, match=r"is damaged.*\n- run\.json"):
        store.open("run", url)
    store.discard("run", url)
    assert store.find("run", url) is None
    store.discard("run", url)


def test_a_chunk_that_is_gone_is_no_gap(url: str) -> None:
    save(_small(), url)
    ds = store.open("run", url)
    assert bool(ds["output"].sel(layer=1).isnull().all())
    fs, root = remote.filesystem(url)
    fs.rm_file(f"{root}/runs/{next(path for path in _objects(url) if '/output/c.' in path)}")
    with pytest.raises(StoreError, match="missing"):
        ds["output"].load()


@pytest.mark.slow
def test_export_and_import(url: str, tmp_path: Path) -> None:
    save(_small(), url)
    file = store.export_runs("run", tmp_path / "run.zarr.zip", url)
    here = store.import_runs(file, tmp_path / "home")[0]
    xr.testing.assert_identical(here.open(verify=True), _small())
    there = store.import_runs(file, f"{url}/elsewhere")[0]
    assert str(there.path).startswith(f"{url}/elsewhere/runs/run/")
    xr.testing.assert_identical(there.open(verify=True), _small())


@pytest.mark.slow
def test_pruning_asks_first_because_nobody_sees_the_readers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, days in (("new", 0), ("old", 40)):
        save(_small(created=(datetime.now(UTC) - timedelta(days=days)).isoformat()), url, key)
    created = remote._created

    def dies(fs: Any, path: str, text: bytes) -> bool:
        if path.endswith(".json"):
            raise KeyboardInterrupt
        return created(fs, path, text)

    monkeypatch.setattr(remote, "_created", dies)
    with pytest.raises(KeyboardInterrupt):
        save(_small(), url, "abandoned")
    with pytest.raises(StoreError, match=r"being read.*force=True"):
        store.prune(url, older_than="30d")
    assert [item.key for item in store.prune(url, older_than="30d", dry_run=True)] == ["old"]
    assert len(store.runs(url)) == 2
    done = store.prune(url, older_than="30d", force=True)
    assert [(item.what, item.key, item.kept) for item in done] == [("run", "old", "")]
    assert [run.key for run in store.runs(url)] == ["new"]
    assert store.prune(url, older_than="0m", keep=1, force=True) == [], "it may still be on its way"
    monkeypatch.setattr("workbench.store.pruning._UPLOADING", timedelta(0))
    done = store.prune(url, older_than="0m", keep=1, force=True)
    assert [(item.what, item.key, item.size > 1000) for item in done] == [("unfinished run", "abandoned", True)]
    assert {path.partition("/")[0] for path in _objects(url)} == {"new", "new.json"}
    store.verify("new", url)


@pytest.mark.parametrize("key", ["../x", "a/b", "", "A"])
def test_keys_cannot_leave_the_url(key: str, url: str) -> None:
    for call in (store.find, store.discard):
        with pytest.raises(InputError, match="the key is"):
            call(key, url)
    with pytest.raises(InputError, match="the key is"), store.writer(key, *parts(_small()), home=url):
        pass


def test_a_pointer_cannot_lead_elsewhere(url: str) -> None:
    save(_small(), url)
    fs, root = remote.filesystem(url)
    content = {"format": 1, "group": "../../elsewhere.zarr", "record": {}, "size": 1}
    fs.pipe_file(f"{root}/runs/run.json", remote.sealed(content))
    with pytest.raises(StoreError, match="which is no prefix of a run"):
        store.open("run", url)


@pytest.mark.parametrize(
    "location", ["memory://nothing", "memory://x/runs/a/b.zarr", f"memory://x/runs/a/{'0' * 32}.zarr"]
)
def test_a_url_of_no_run_is_called_so(location: str) -> None:
    with pytest.raises(StoreError, match=r"is no run|no run at"):
        store.open(location)


@pytest.mark.slow
def test_a_bucket_that_does_not_exist(bucket: str) -> None:
    with pytest.raises(StoreError, match=r"cannot use s3://no-such-bucket/x: .*expected a place that exists"):
        store.check_writable("s3://no-such-bucket/x")
    store.check_writable(f"{bucket}/x")


def test_a_url_that_was_made_a_path_is_noticed() -> None:
    with pytest.raises(InputError, match=r"home is the path 's3:/bucket/runs'; expected a URL as a string"):
        store.runs(Path("s3://bucket/runs"))
    assert store.home("file:///tmp/runs") == Path("/tmp/runs")


@pytest.mark.slow
@pytest.mark.parametrize(("missing", "url"), [("fsspec", "memory://x"), ("s3fs", "s3://bucket/x")])
def test_without_the_libraries_the_error_says_what_to_install(missing: str, url: str) -> None:
    code = (
        "import sys, importlib.util\n"
        f"sys.modules[{missing!r}] = None\n"
        "find = importlib.util.find_spec\n"
        f"importlib.util.find_spec = lambda name, *rest: None if name == {missing!r} else find(name, *rest)\n"
        "from workbench import store\n"
        f"store.find('run', {url!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'concept-workbench[cloud]'" in done.stderr.splitlines()[-1]


def test_a_scheme_that_nobody_knows() -> None:
    with pytest.raises(StoreError, match="cannot be used: Protocol not known: nowhere"):
        store.find("run", "nowhere://x")
