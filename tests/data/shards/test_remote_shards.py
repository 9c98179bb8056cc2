"""Shards in a real S3 server on loopback, behind a proxy that does what networks do."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fault_proxy import FaultProxy
from proxied_server import proxied
from s3_server import S3Server

from litscope.data import stored
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import build_manifest
from litscope.data.reading.readers import ArrayReader
from litscope.data.shards.write import Plan, write_shards
from litscope.data.storage.store import Store
from litscope.errors import ConfigError, DataError, StorageError

NUM, URL = 300, "s3://bucket/set/"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, 20 in a shard."""
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, 16, 16, 3), np.uint8)
    keys, encoding = [f"k{number}" for number in range(NUM)], {"kind": "image", "channels": 3, "dtype": "uint8"}
    splits = np.where(np.arange(NUM) % 5 == 0, "val", "train").astype(object)
    manifest = build_manifest(keys, np.arange(NUM) % 2, ("a", "b"), splits=splits, encoding=encoding)
    folder = tmp_path_factory.mktemp("buckets")
    write_shards(
        Plan(manifest, ArrayReader(pixels), manifest.sample_ids, most_samples=20), folder / "bucket/set", num_threads=1
    )
    return folder


@pytest.fixture(scope="module")
def server(buckets: Path) -> Iterator[S3Server]:
    found = S3Server(buckets)
    yield found
    found.kill()


@pytest.fixture
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FaultProxy]:
    with proxied(server, monkeypatch, tmp_path / "kept") as found:
        yield found


def opened(**given: object) -> ClassificationData:
    words = {"batch_size": 8, "cache": False, "num_workers": 2, **given}
    return ClassificationData(URL, **words).open()  # type: ignore[arg-type]


def one_epoch(data: ClassificationData) -> dict[int, bytes]:
    """sample_id -> pixels."""
    found = {}
    for batch in data.train_dataloader():
        for id_, image in zip(batch["sample_id"].tolist(), batch["image"], strict=True):
            assert id_ not in found
            found[id_] = image.numpy().tobytes()
    data.teardown()
    return found


@pytest.fixture
def expected(buckets: Path) -> dict[int, bytes]:
    local = ClassificationData(buckets / "bucket/set", batch_size=8, cache=False, num_workers=0).open()
    return one_epoch(local)


def test_an_epoch_is_that_of_the_folder_and_reads_pieces(proxy: FaultProxy, expected: dict[int, bytes]) -> None:
    data = opened()
    assert set(expected) == set(data.train_ids.tolist())
    before = len(proxy.reads)
    assert one_epoch(pickle.loads(pickle.dumps(data))) == expected
    assert len(proxy.reads) - before == 12  # one for each training shard


def test_what_is_read_before_the_first_step_is_said(
    proxy: FaultProxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "_WAITED_FOR", 0)
    opened(cache=None).teardown()
    assert "all images are read before the first step (0.0 GB)" in capsys.readouterr().err
    opened(cache=None).teardown()
    assert "before the first step" not in capsys.readouterr().err, "they are kept decoded"


@pytest.mark.parametrize("fault", ["busy", "cut", "slow", "flip"])
def test_what_networks_do_is_not_seen(proxy: FaultProxy, expected: dict[int, bytes], fault: str) -> None:
    data = opened()
    match fault:
        case "busy":
            proxy.busy(30)
        case "cut":
            proxy.cut(8, 500)
        case "slow":
            proxy.slow(4, 1.0)
        case "flip":
            proxy.flip(6)
    assert one_epoch(data) == expected
    assert not data._train_loader.broken  # type: ignore[union-attr]


def test_a_server_that_is_started_anew_stalls_the_epoch(
    proxy: FaultProxy, server: S3Server, expected: dict[int, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    data = opened()
    server.kill()
    threading.Timer(6, server.start).start()
    assert one_epoch(data) == expected
    said = capfd.readouterr().err
    assert said.count("is asked again, for up to 600 s") == 1
    assert said.count("the storage answers again, after") == 1


@pytest.mark.flag("storage_timeout")
def test_after_the_deadline_the_run_ends(proxy: FaultProxy) -> None:
    data = opened(storage_timeout=1)
    proxy.is_refusing = True
    with pytest.raises(StorageError, match=r"gave no answer for .* go on with `litscope resume`"):
        one_epoch(data)
    data.teardown()


@pytest.mark.flag("on_bad_data")
def test_a_bad_sample_is_told_with_its_place_and_more_end_the_run(
    proxy: FaultProxy, server: S3Server, buckets: Path, expected: dict[int, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    data = opened()
    id_ = int(data.train_ids[30])
    shard, offset, _ = data.source.reader.places.of(id_)  # type: ignore[attr-defined]
    name = Path(data.source.reader._files[shard]).name  # type: ignore[attr-defined]
    good = (buckets / "bucket/set" / name).read_bytes()
    bad = buckets / "bad.tar"
    try:
        bad.write_bytes(good[:offset] + bytes(10) + good[offset + 10 :])
        Store(server.url).put(bad, f"{URL}{name}")
        found = one_epoch(data)
        assert set(found) == set(expected) - {id_}
        told = f"left out: s3://bucket/set/{name} at byte {offset:,} (k"
        assert capfd.readouterr().err.count(told) == 1
        with pytest.raises(DataError, match=f"{name} at byte"):
            one_epoch(opened(on_bad_data="stop"))
        bad.write_bytes(good[: len(good) // 2])
        Store(server.url).put(bad, f"{URL}{name}")
        with pytest.raises(DataError, match=r"samples cannot be read, and at most 1 % may be left out"):
            one_epoch(data)
    finally:
        Store(server.url).put(buckets / "bucket/set" / name, f"{URL}{name}")
        bad.unlink()


@pytest.mark.flag("cache_size")
def test_the_cache_serves_the_second_epoch_and_mends_itself(
    proxy: FaultProxy, expected: dict[int, bytes], tmp_path: Path
) -> None:
    data = opened(cache_dir=tmp_path / "c", cache_size="100M")
    assert one_epoch(data) == expected
    blocks = [path for path in (tmp_path / "c/shards/blocks").rglob("*") if path.is_file()]
    before = len(proxy.reads)
    assert one_epoch(data) == expected
    assert len(proxy.reads) == before
    content = bytearray(blocks[0].read_bytes())
    content[len(content) // 2] ^= 1
    blocks[0].write_bytes(content)
    assert one_epoch(data) == expected
    assert len(proxy.reads) == before + 1
    with pytest.raises(ConfigError, match="--cache-size 1G is for shards that lie elsewhere"):
        ClassificationData("digits", cache_size="1G").open()
