"""Files and objects by their address: on the disk, and in a real S3 server on loopback."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import fsspec
import pytest
from s3_server import ACCESS, S3Server

from litscope.data.storage.retries import Retries
from litscope.data.storage.store import Store, Unanswered
from litscope.errors import ConfigError, DataError, MissingExtra, StorageError


def fill(folder: Path) -> dict[str, bytes]:
    content = {"bucket/set/a.bin": bytes(range(200)), "bucket/set/deep/b.bin": b"b", "bucket/settled": b"c"}
    for name, data in content.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return content


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("buckets")
    fill(folder)
    found = S3Server(folder)
    yield found
    found.kill()


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ACCESS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(params=["file", pytest.param("s3", marks=pytest.mark.slow)])
def root(request: pytest.FixtureRequest, tmp_path: Path, access: None, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "file":
        fill(tmp_path)
        return tmp_path.as_uri()
    monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("server").url)
    return "s3://"


def test_one_interface_for_all_places(root: str, tmp_path: Path) -> None:
    store, at = pickle.loads(pickle.dumps(Store())), f"{root.rstrip('/')}/" if root.startswith("file") else root
    assert store.size(f"{at}bucket/set/a.bin") == 200
    assert store.read(f"{at}bucket/set/a.bin", 10, 5) == bytes(range(10, 15))
    assert store.read(f"{at}bucket/set/a.bin", 190, 50) == bytes(range(190, 200))  # fewer, at the end
    assert store.read(f"{at}bucket/set/a.bin", 500, 5) == b""
    assert store.read_all(f"{at}bucket/settled") == b"c"
    assert store.exists(f"{at}bucket/settled")
    assert not store.exists(f"{at}bucket/set/c.bin")
    found = store.list(f"{at}bucket/set/")
    assert [(name.rsplit("bucket/")[1], size) for name, size in found.items()] == [
        ("set/a.bin", 200),
        ("set/deep/b.bin", 1),
    ]
    (tmp_path / "new").write_bytes(b"new")
    store.put(tmp_path / "new", f"{at}bucket/more/new")
    assert store.read_all(f"{at}bucket/more/new") == b"new"
    with pytest.raises(DataError, match="no such"):
        store.read(f"{at}bucket/set/c.bin", 0, 1)


@pytest.mark.slow
def test_what_fails_says_why(server: S3Server, access: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such bucket"):
        Store(server.url).list("s3://nobucket/")
    with pytest.raises(Unanswered, match="s3://bucket/x: "):
        Store("http://127.0.0.1:9").size("s3://bucket/x")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"no credentials were found\. Set AWS_ACCESS_KEY_ID"):
        Store(server.url).size("s3://bucket/settled")


def test_what_cannot_be_asked_says_what_can(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unanswered) as told:
        Store().size("http://127.0.0.1:9/b/train.tar?X-Amz-Signature=abc")
    assert "abc" not in str(told.value)
    with pytest.raises(ConfigError, match="az:// is not known"):
        Store().size("az://b/x")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingExtra, match=r"pip install 'litscope\[gcs\]'"):
        Store().size("gs://b/x")


class Client(fsspec.AbstractFileSystem):
    """A client of a store; it raises the same each time, and counts how often it was asked."""

    cachable = False
    asked = 0
    error: Exception

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        type(self).asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "becomes", "is_asked_again"),
    [
        (TypeError("cat_file() got an unexpected keyword argument"), TypeError, False),
        (AttributeError("'NoneType' object has no attribute 'read'"), AttributeError, False),
        (ValueError("Invalid endpoint: http//"), DataError, False),
        (FileNotFoundError("x"), DataError, False),
        (json.JSONDecodeError("Expecting value", "{", 1), StorageError, True),  # an answer that was cut
        (EOFError("16 bytes read on a total of 64"), StorageError, True),
        (TimeoutError("timed out"), StorageError, True),
        (OSError(5, "Input/output error"), StorageError, True),
    ],
)
def test_only_what_says_something_of_a_server_is_asked_again(
    error: Exception, becomes: type[Exception], is_asked_again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of this program is none of a server: it was retried for as long as patience lasts."""
    monkeypatch.setattr(Client, "asked", 0)
    monkeypatch.setattr(Client, "error", error, raising=False)
    monkeypatch.setitem(import_module("fsspec.registry")._registry, "s3", Client)
    store = Store()
    with pytest.raises(becomes) as told:
        Retries(0.5, "give the command again").ask(lambda: store.read("s3://bucket/x", 0, 9))
    assert (Client.asked > 1) == is_asked_again
    assert not isinstance(told.value, Unanswered)
    if is_asked_again:
        assert "When it does, give the command again." in str(told.value)
