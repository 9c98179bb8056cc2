"""The manifest: ids, columns, and its one file."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from litscope.data.manifest import Manifest, build_manifest
from litscope.errors import DataError


@pytest.fixture
def manifest() -> Manifest:
    return build_manifest(
        ["a.png", "b.png", "c.png", "d.png"],
        np.array([1, -1, 0, 1]),
        ("cat", "dog", "emu"),
        splits=["train", "train", "test", "train"],
        groups=["g", None, "h", "g"],
        extra={"grade": pa.array([1.5, None, 2.0, 0.0])},
        encoding={"kind": "image", "channels": 3},
    )


def test_ids_leave_unlabelled_rows_out_unless_asked(manifest):
    assert manifest.ids("train").tolist() == [0, 3]
    assert manifest.ids("train", labelled=False).tolist() == [0, 1, 3]
    assert manifest.ids("val").tolist() == []
    assert manifest.ids("train").dtype == np.int64
    assert manifest.counts("train").tolist() == [0, 2, 0]


def test_an_unknown_split_is_refused(manifest):
    with pytest.raises(ValueError, match="'training'"):
        manifest.ids("training")


def test_columns(manifest):
    assert manifest.sample_ids.tolist() == [0, 1, 2, 3]
    assert manifest.labels.tolist() == [1, -1, 0, 1]
    assert manifest.keys[2] == "c.png"
    assert manifest.groups is not None
    assert manifest.groups.tolist() == ["g", None, "h", "g"]
    assert manifest.extra_columns == ["grade"]
    assert manifest.num_classes == 3


def test_it_comes_back_from_its_file_as_it_was(manifest, tmp_path):
    manifest.write(tmp_path / "manifest.parquet")
    again = Manifest.read(tmp_path / "manifest.parquet")
    assert again.table.equals(manifest.table)
    assert again.classes == manifest.classes
    assert again.encoding == manifest.encoding
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.parquet"]


def test_files_that_are_no_manifest_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        Manifest.read(tmp_path / "absent.parquet")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="not a manifest"):
        Manifest.read(tmp_path / "other.parquet")


def test_a_newer_format_is_refused(manifest, tmp_path):
    path = tmp_path / "manifest.parquet"
    facts = {"format_version": 2, "classes": [], "encoding": {}}
    pq.write_table(manifest.table.replace_schema_metadata({b"litscope": json.dumps(facts).encode()}), path)
    with pytest.raises(DataError, match="format 2"):
        Manifest.read(path)


def test_a_column_that_litscope_uses_itself_is_kept_under_another_name():
    manifest = build_manifest(["a"], np.array([0]), ("x", "y"), extra={"sample_id": pa.array(["mine"])})
    assert manifest.extra_columns == ["source_sample_id"]
    assert manifest.sample_ids.tolist() == [0]


def test_a_key_that_is_not_unicode_is_named():
    with pytest.raises(DataError, match="not valid UTF-8"):
        build_manifest(["ok", b"\xff.png".decode("utf-8", "surrogateescape")], np.array([0, 1]), ("x", "y"))


def test_other_splits_leave_the_rest(manifest):
    other = manifest.with_splits(["val"] * 4)
    assert other.ids("val").tolist() == [0, 2, 3]
    assert other.extra_columns == manifest.extra_columns
    assert manifest.ids("val").tolist() == []


def test_a_key_is_found_in_the_other_unicode_form_where_it_is_the_only_one():
    """macOS writes names with their accents apart; what a person types has them in one."""
    one, apart = "caf\u00e9.png", "cafe\u0301.png"
    found = build_manifest(["a.png", apart, f"x/{one}", f"x/{apart}"], [0, 1, 0, 1], ("a", "b"))
    assert found.ids_of(["a.png", one, apart]) == [0, 1, 1]
    assert found.ids_of([f"x/{one}", f"x/{apart}"]) == [2, 3]  # both are there: each is itself
    twice = build_manifest(["\u1ec7", "e\u0302\u0323"], [0, 1], ("a", "b"))  # three ways to write one letter
    assert twice.ids_of(["e\u0323\u0302", "\u00e9", "b.png"]) == [None, None, None]


def test_keys_that_are_in_memory_are_not_read_again(manifest, tmp_path):
    manifest.write(tmp_path / "manifest.parquet")
    keys = manifest.table["key"]
    again = Manifest.read(tmp_path / "manifest.parquet", keys)
    assert again.table.equals(Manifest.read(tmp_path / "manifest.parquet").table)
    assert again.table["key"].chunk(0).buffers()[2].address == keys.chunk(0).buffers()[2].address
