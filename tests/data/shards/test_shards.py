"""Images in shards: what is written, what the webdataset library makes of it, and what is read again."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from flips import flip
from PIL import Image

from litscope.data.manifest import Manifest, build_manifest
from litscope.data.reading.readers import ArrayReader, FileReader, Reader
from litscope.data.shards import write as writing
from litscope.data.shards.encode import Form
from litscope.data.shards.index import Index, index_of
from litscope.data.shards.reader import ShardReader
from litscope.data.shards.verify import verify
from litscope.data.shards.write import Plan, write_shards
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError

CLASSES = ("ca.t", "dog")


def pictures(root: Path, count: int = 23) -> Plan:
    """Photographs of two classes as JPEG and PNG files, some held out, one without a label."""
    rng = np.random.default_rng(0)
    keys, labels, splits = [], [], []
    for number in range(count):
        label = number % 2
        key = f"{CLASSES[label]}/im.{number}.v2.{'jpeg' if number % 3 else 'png'}"
        (root / key).parent.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 255, (4, 5, 3), np.uint8)
        Image.fromarray(small).resize((50 + number, 40), Image.Resampling.BILINEAR).save(root / key)
        keys.append(key)
        labels.append(-1 if number == 5 else label)
        splits.append("" if number == 5 else "val" if number % 5 == 0 else "train")
    encoding = {"kind": "image", "channels": 3, "dtype": "uint8"}
    groups = [None if number % 2 else f"g{number % 3}" for number in range(count)]
    manifest = build_manifest(
        keys,
        np.array(labels),
        CLASSES,
        splits=splits,
        groups=groups,
        extra={"offset": list(range(count)), "site": ["n"] * count},
        encoding=encoding,
    )
    return Plan(manifest, FileReader(root, keys, 3), manifest.sample_ids)


def small(plan: Plan, **changes: object) -> Plan:
    return Plan(**{**vars(plan), "most_samples": 5, **changes})  # type: ignore[arg-type]


def sums(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir() if file.is_file()}


@pytest.fixture
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return small(pictures(tmp_path_factory.mktemp("images")))


def test_what_is_written_is_read_again_byte_for_byte(plan: Plan, tmp_path: Path) -> None:
    found = write_shards(plan, tmp_path / "shards", num_threads=2)
    index = Index.read(tmp_path / "shards" / "index.parquet")
    reader = ShardReader(tmp_path / "shards", index)
    row = {key: at for at, key in enumerate(index.table["key"].to_pylist())}
    assert sorted(row) == sorted(plan.manifest.keys)
    for sample_id, key in enumerate(plan.manifest.keys):
        assert isinstance(plan.reader, FileReader)
        at = row[key]
        assert reader.content(at) == plan.reader.path(sample_id).read_bytes()
        assert np.array_equal(reader.read(at), plan.reader.read(sample_id))
        assert reader.size(at) == plan.reader.size(sample_id)
        told = index.table.slice(at, 1).to_pylist()[0]
        assert (told["label"], told["split"], told["group"], told["source_offset"]) == (
            plan.manifest.labels[sample_id],
            plan.manifest.splits[sample_id],
            None if sample_id % 2 else f"g{sample_id % 3}",
            sample_id,
        )
    assert found.is_new
    assert not (tmp_path / "shards" / ".writing").exists()
    assert verify(tmp_path / "shards", index, num_threads=2).is_whole


def test_splits_lie_in_shards_of_their_own_and_none_is_too_large(plan: Plan, tmp_path: Path) -> None:
    index = write_shards(plan, tmp_path / "to", num_threads=1).index
    names = [shard.name for shard in index.shards]
    assert names == ["train-0000.tar", "train-0001.tar", "train-0002.tar", "train-0003.tar", "val-0000.tar",
                     "unlabelled-0000.tar"]  # fmt: skip
    of_shard = index.table.group_by("shard").aggregate([("key", "count"), ("split", "count_distinct")])
    assert max(of_shard["key_count"].to_pylist()) == 5
    assert set(of_shard["split_count_distinct"].to_pylist()) == {1}
    first = index.table.slice(0, 5)["label"].to_pylist()
    assert set(first) == {0, 1}  # shuffled: the source has one class after the other
    limited = write_shards(small(plan, most_bytes=12_000), tmp_path / "bytes", num_threads=1).index
    assert len(limited.shards) > len(index.shards)
    assert all(shard.num_bytes <= 12_000 for shard in limited.shards)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves files open
def test_the_webdataset_library_reads_them(plan: Plan, tmp_path: Path) -> None:
    index = write_shards(plan, tmp_path, num_threads=2).index
    shards = [str(tmp_path / shard.name) for shard in index.shards]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert [sample["json"]["key"] for sample in samples] == index.table["key"].to_pylist()
    reader = ShardReader(tmp_path, index)
    for at, sample in enumerate(samples):
        label = index.table["label"][at].as_py()
        assert sample.get("cls", -1) == label
        assert sample["json"].get("label", "") == ("" if label < 0 else CLASSES[label])
        pixels = sample.get("jpg", sample.get("png"))
        assert np.array_equal(pixels, reader.read(at))
    del samples, sample
    gc.collect()


def test_bytes_depend_on_the_samples_alone(plan: Plan, tmp_path: Path) -> None:
    write_shards(plan, tmp_path / "one", num_threads=1)
    write_shards(plan, tmp_path / "two", num_threads=3)
    assert sums(tmp_path / "one") == sums(tmp_path / "two")


def test_an_interrupted_write_goes_on_after_the_last_whole_shard(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards(plan, tmp_path / "whole", num_threads=1)
    encode, encoded = writing.encode, []

    def stops(reader: Reader, sample_id: int, form: Form) -> tuple[str, bytes]:
        encoded.append(sample_id)
        if len(encoded) == 13:
            raise KeyboardInterrupt
        return encode(reader, sample_id, form)

    monkeypatch.setattr(writing, "encode", stops)
    monkeypatch.setattr(writing, "_AHEAD", 0)
    with pytest.raises(KeyboardInterrupt):
        write_shards(plan, tmp_path / "parts", num_threads=1)
    assert not (tmp_path / "parts" / "index.parquet").exists()
    first = set(encoded)
    encoded.clear()
    encoded += [-1] * 100
    write_shards(plan, tmp_path / "parts", num_threads=1)
    again = encoded[100:]
    assert len(first) + len(again) < len(plan.ids) + 5  # what is whole is not encoded again
    assert sums(tmp_path / "parts") == sums(tmp_path / "whole")


def test_a_second_write_does_nothing_and_another_one_is_refused(plan: Plan, tmp_path: Path) -> None:
    first = write_shards(plan, tmp_path / "to", num_threads=1)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "to").iterdir()}
    second = write_shards(plan, tmp_path / "to", num_threads=1)
    assert not second.is_new
    assert second.index.table.equals(first.index.table)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "to").iterdir()}
    other = small(plan, most_samples=50)
    with pytest.raises(ConfigError, match="holds shards of other data"):
        write_shards(other, tmp_path / "to", num_threads=1)
    assert index_of(tmp_path / "to") is not None
    write_shards(other, tmp_path / "to", num_threads=1, overwrite=True)
    write_shards(other, tmp_path / "new", num_threads=1)
    assert sums(tmp_path / "to") == sums(tmp_path / "new")
    (tmp_path / "to" / "notes.txt").write_text("mine")
    write_shards(plan, tmp_path / "to", num_threads=1, overwrite=True)
    assert (tmp_path / "to" / "notes.txt").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        write_shards(plan, tmp_path / "full", num_threads=1, overwrite=True)


def test_an_image_that_cannot_be_read_is_left_out_and_told(plan: Plan, tmp_path: Path) -> None:
    assert isinstance(plan.reader, FileReader)
    plan.reader.path(0).write_bytes(b"no image")
    small_ones = small(plan, form=Form(side=16))
    found = write_shards(small_ones, tmp_path / "to", num_threads=2)
    assert list(found.broken) == [plan.manifest.keys[0]]
    assert len(found.index) == len(plan.ids) - 1
    assert len(Index.read(tmp_path / "to" / "index.parquet")) == len(plan.ids) - 1


def test_another_size_is_jpeg_of_that_shorter_side(plan: Plan, tmp_path: Path) -> None:
    index = write_shards(small(plan, form=Form(side=32, quality=90)), tmp_path, num_threads=1).index
    reader = ShardReader(tmp_path, index)
    assert {reader.suffix(at) for at in range(len(index))} == {".jpg"}
    assert {min(reader.size(at)) for at in range(len(index))} == {32}
    at = index.table["key"].to_pylist().index(str(plan.manifest.keys[1]))
    small_one = Image.fromarray(plan.reader.read(1)).resize(reader.size(at)[::-1], Image.Resampling.BILINEAR)
    assert np.abs(reader.read(at).astype(int) - np.asarray(small_one).astype(int)).mean() < 4


@pytest.mark.parametrize(
    ("dtype", "channels", "suffix"), [(np.uint8, 1, ".png"), (np.uint8, 3, ".png"), (np.uint8, 4, ".npy"),
                                      (np.float32, 2, ".npy")]
)  # fmt: skip
def test_pixels_in_memory_are_stored_without_loss(dtype: type, channels: int, suffix: str, tmp_path: Path) -> None:
    pixels = (np.random.default_rng(0).random((6, 9, 7, channels)) * 255).astype(dtype)
    encoding = {"kind": "image", "channels": channels, "dtype": np.dtype(dtype).name}
    manifest = build_manifest([f"row {i}" for i in range(6)], np.arange(6) % 2, CLASSES,
                              splits=["train"] * 6, encoding=encoding)  # fmt: skip
    index = write_shards(Plan(manifest, ArrayReader(pixels), manifest.sample_ids), tmp_path, num_threads=1).index
    reader = ShardReader(tmp_path, index)
    rows = [int(str(key).split()[1]) for key in index.table["key"].to_pylist()]
    assert all(np.array_equal(reader.read(at), pixels[row]) for at, row in enumerate(rows))
    assert {reader.suffix(at) for at in range(6)} == {suffix}
    assert reader.size(0) == (9, 7)


def test_a_flipped_bit_is_found_where_the_sample_is_read_and_by_verify(plan: Plan, tmp_path: Path) -> None:
    index = write_shards(plan, tmp_path, num_threads=1).index
    shard, offset, size = index.places.of(7)
    file = tmp_path / index.shards[shard].name
    flip(file, 8 * (offset + size // 2))
    reader = ShardReader(tmp_path, index)
    with pytest.raises(DataError, match=rf"{file.name} at byte {offset:,} \(.+\): its bytes are not those"):
        reader.read(7)
    reader.read(6)
    found = verify(tmp_path, index, num_threads=2)
    assert list(found.shards) == [file.name]
    assert list(found.samples) == [index.table["key"][7].as_py()]
    file.write_bytes(file.read_bytes()[: offset + 10])
    with pytest.raises(DataError, match=r"ends .* bytes too early"):
        reader.read(7)
    file.unlink()
    assert "no such file" in verify(tmp_path, index, num_threads=1).shards[file.name]
    with pytest.raises(DataError, match=f"lacks 1 of its {len(index.shards)} shards: {file.name}"):
        open_source(tmp_path)


def test_members_and_index_hold_no_time_and_no_owner(plan: Plan, tmp_path: Path) -> None:
    index = write_shards(plan, tmp_path, num_threads=1).index
    with tarfile.open(tmp_path / index.shards[0].name) as tar:
        members = tar.getmembers()
        assert [member.name for member in members[:3]] == ["000000.jpg", "000000.cls", "000000.json"] or (
            members[0].name == "000000.png"
        )
        assert {(member.mtime, member.uid, member.gid, member.uname) for member in members} == {(0, 0, 0, "")}
        facts = tar.extractfile(members[2])
        assert facts is not None
        told = json.load(io.BytesIO(facts.read()))
    assert told["key"] == index.table["key"][0].as_py()
    assert "." in told["key"].rpartition("/")[2].removesuffix(".png")


def test_a_source_of_shards_is_that_of_the_folder(plan: Plan, tmp_path: Path) -> None:
    write_shards(plan, tmp_path / "shards", num_threads=1)
    source = open_source(tmp_path / "shards")
    rows = {key: at for at, key in enumerate(source.manifest.keys)}
    order = [rows[key] for key in plan.manifest.keys]

    def in_order(manifest: Manifest, name: str) -> pa.Array:
        return manifest.table[name].take(pa.array(order)).to_pylist()

    for name in ("key", "label", "split", "group"):
        assert in_order(source.manifest, name) == plan.manifest.table[name].to_pylist()
    assert source.manifest.classes == CLASSES
    assert source.digests is not None
    assert source.reader.fingerprint() == open_source(tmp_path / "shards" / "index.parquet").reader.fingerprint()
    with pytest.raises(ConfigError, match="--target"):
        open_source(tmp_path / "shards", target="label")
