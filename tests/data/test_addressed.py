"""Addresses of shards -> an index: with one beside them or without, of one folder or several, and kept in the cache."""

from __future__ import annotations

import doctest
import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from foreign_tars import image, write

from litscope.config.flags import recipe_from_keywords
from litscope.curation.indexing import How, make_index
from litscope.curation.recipe_source import make_source
from litscope.data.content import match, with_content
from litscope.data.datamodule import ClassificationData
from litscope.data.shards.index import FILE, Index
from litscope.data.sources import addressed, shard_names
from litscope.data.sources.addressed import Found, find_shards
from litscope.data.sources.again import open_again
from litscope.data.sources.source import open_source
from litscope.errors import ConfigError, DataError


@pytest.fixture
def folder(in_tmp: Path) -> Path:
    """Three tar files of eight images of two classes, in two folders."""
    for at, name in enumerate(("one/train-0", "one/train-1", "two/val-0")):
        Path(name).parent.mkdir(exist_ok=True)
        members = [part for i in range(8) for part in ((f"{i}.jpg", image(8 * at + i)), (f"{i}.cls", b"%d" % (i % 2)))]
        write(Path(f"{name}.tar"), members)
    return in_tmp


def splits(found: Found) -> dict[str, int]:
    names, counts = np.unique(found.index.table["split"].to_numpy(zero_copy_only=False).astype(str), return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def test_examples() -> None:
    for module in (addressed, shard_names):
        found = doctest.testmod(module)
        assert (found.attempted > 0, found.failed) == (True, 0)


@pytest.mark.usefixtures("folder")
def test_tar_files_of_several_folders_are_one_set() -> None:
    found = find_shards("train=one/train-{0..1}.tar::val=two/val-0.tar", progress=False)
    assert splits(found) == {"train": 16, "val": 8}
    assert len(set(found.index.table["key"].to_pylist())) == 24
    source = open_source("train=one/train-{0..1}.tar::val=two/val-0.tar")
    assert source.reader.read(23).shape == (8, 8, 3)
    assert source.manifest.counts("val").tolist() == [4, 4]
    assert not source.manifest.has_content


@pytest.mark.usefixtures("folder")
def test_a_folder_is_all_of_its_tar_files_and_their_names_say_the_split() -> None:
    assert splits(find_shards("one", progress=False)) == {"train": 16}
    source = open_source("one", val_split=0.25)
    assert (len(source.manifest.ids("train")), len(source.manifest.ids("val"))) == (12, 4)


@pytest.mark.usefixtures("folder")
def test_a_validation_split_that_was_named_is_not_drawn_from_elsewhere() -> None:
    """Without a labelled sample in it, a part of the training samples validated, as if nothing had been said."""
    write(Path("two/val-1.tar"), [])
    write(Path("two/val-2.tar"), [("0.jpg", image(0))])
    for name in ("two/val-1.tar", "two/val-2.tar"):
        with pytest.raises(DataError, match="The shards of --val-urls hold no sample with a label"):
            open_source(f"train=one/train-{{0..1}}.tar::val={name}")


@pytest.mark.usefixtures("folder")
def test_a_shard_that_came_after_the_index_is_told() -> None:
    make_index(["one"], How())
    assert find_shards("one/", progress=False).notes == ()
    write(Path("one/train-9.tar"), [("0.jpg", image(0)), ("0.cls", b"1")])
    (told,) = open_source("one", val_split=0).notes
    assert told.startswith("1 tar file of ")
    assert "such as train-9.tar, not in its index, and so not read; `litscope index " in told
    source = open_source("train=one/train-{0..1}.tar", val_split=0)  # what was named is all that was wanted
    assert (len(source.manifest), source.notes) == (16, [])


def test_a_compressed_tar_file_is_refused_as_that(in_tmp: Path) -> None:
    """It was a folder that is not there."""
    Path("train-0.tar.gz").write_bytes(gzip.compress(write(Path("a.tar"), [("0.jpg", image(0))]).read_bytes()))
    for name in ("train-0.tar.gz", "s3://bucket/x/train-{0..1}.tgz"):
        with pytest.raises(ConfigError, match=r"is a compressed tar file.*Unpack it, and give the \.tar"):
            open_source(name)
    with pytest.raises(ConfigError, match=r"\*\.tar: no pattern with \* is read\. Give the folder"):
        open_source("s3://bucket/x/*.tar")


def test_folders_in_a_folder_are_one_set_and_told(folder: Path) -> None:
    found = find_shards(folder.as_uri(), progress=False)
    assert splits(found) == {"train": 16, "val": 8}
    assert "the tar files of 2 folders in it are one set" in found.notes[0]


def test_the_index_is_made_once_and_again_for_another_file(folder: Path) -> None:
    kept = folder / "kept"
    find_shards("one", kept, progress=False)
    made = list(kept.rglob(FILE))
    assert len(made) == 1
    index = Index.read(made[0])
    Index(index.table, ("zero", "one"), index.shards, index.encoding).write(made[0].parent)
    assert find_shards("one", kept, progress=False).index.classes == ("zero", "one")  # it is that which was kept
    write(Path("one/train-1.tar"), [("0.jpg", image(99)), ("0.cls", b"0")])
    again = find_shards("one", kept, progress=False)
    assert (again.index.classes, len(again.index)) == (("0", "1"), 9)


@pytest.mark.usefixtures("folder")
def test_an_index_beside_the_shards_is_used_and_the_line_says_the_split() -> None:
    index = find_shards("one", progress=False).index
    table = index.table.set_column(1, "label", index.table["label"])
    Index(table, ("cat", "dog"), index.shards, index.encoding).write(Path("one"))
    found = find_shards("train=one/train-1.tar::val=one/train-0.tar", progress=False)
    assert found.index.classes == ("cat", "dog")
    assert splits(found) == {"train": 8, "val": 8}
    assert [shard.name[-11:] for shard in found.index.shards] == ["train-1.tar", "train-0.tar"]
    both = find_shards("train=one/train-1.tar::val=two/val-0.tar", progress=False)
    assert both.index.classes == ("0", "1", "cat", "dog")
    labels = both.index.table["label"].to_numpy()
    assert np.bincount(labels).tolist() == [4, 4, 4, 4]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        ("train=one/train-0.tar::val=one/train-{0..1}.tar", "named for two splits"),
        ("one/train-{0..2}.tar", "one/train-2.tar does not exist"),
        ("train=https://host/{0..3}.tar?***", r"kept nowhere. Give the whole address again, with --train-urls"),
        ("pipe:cat one/train-0.tar", "would run a program"),
        ("s3://", "names no bucket"),
    ],
)
def test_refused(dataset: str, said: str) -> None:
    with pytest.raises((ConfigError, DataError), match=said):
        open_source(dataset)


@pytest.mark.flag("endpoint_url")
@pytest.mark.usefixtures("folder")
def test_another_server_is_asked_in_this_process_and_those_that_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "")  # so that it is taken back
    make_source(recipe_from_keywords(dataset="one", endpoint_url="http://127.0.0.1:9000"))
    assert os.environ["AWS_ENDPOINT_URL_S3"] == "http://127.0.0.1:9000"


@pytest.mark.usefixtures("folder")
def test_samples_without_a_known_content_are_found_by_their_keys() -> None:
    source = open_source("one")
    again = open_again("one/train-1.tar", like=source.manifest)
    found = match(with_content(again, source.manifest), source.manifest)
    assert (found.sample_id.tolist(), found.is_checked) == (list(range(8, 16)), False)


@pytest.mark.usefixtures("folder")
def test_a_shard_that_is_missing_or_another_is_told_before_anything_is_read() -> None:
    found = make_index(["one"], How())
    Path("one/train-1.tar").write_bytes(b"another")
    with pytest.raises(DataError, match=r"train-1.tar has 7 bytes, and [\d,]+ by its index"):
        find_shards("train=one/train-{0..1}.tar", progress=False)
    Path("one/train-1.tar").unlink()
    with pytest.raises(DataError, match=r"1 of 2 shards are not there: .*train-1.tar"):
        find_shards(found.index, progress=False)


@pytest.mark.usefixtures("folder")
def test_other_data_are_no_shards() -> None:
    with pytest.raises(ConfigError, match="--use-webdataset is for shards, and digits is none"):
        make_source(recipe_from_keywords(dataset="digits", use_webdataset=True))


@pytest.mark.usefixtures("folder")
def test_a_data_module_takes_addresses() -> None:
    data = ClassificationData(train_urls=["one/train-0.tar", "one/train-1.tar"], val_urls="two/val-0.tar", batch_size=4)
    data.open()
    assert (len(data.train_ids), len(data.val_ids)) == (16, 8)
    assert (
        sorted(i for batch in data.train_dataloader() for i in batch["sample_id"].tolist()) == data.train_ids.tolist()
    )
    with pytest.raises(ConfigError, match="either a dataset or train_urls"):
        ClassificationData("digits", train_urls="one/train-0.tar")
    with pytest.raises(ConfigError, match="no train_urls to go with it"):
        ClassificationData(val_urls="one/train-0.tar")


def test_a_cache_that_cannot_be_made_is_told_before_headers_are_read(folder: Path) -> None:
    """After all headers were read, it was only said that there is no such file."""
    (folder / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be kept in .*file/indices .*Give another --cache-dir"):
        find_shards("one/train-0.tar", folder / "file")
