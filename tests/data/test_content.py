"""A row is the sample of a run that has its content: digests, and how rows are matched with a run."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pytest

from litscope.data import content
from litscope.data.content import align, match, with_content
from litscope.data.manifest import Manifest, build_manifest
from litscope.data.reading.digests import DIGEST_TYPE, table_digests
from litscope.data.sources.source import open_source


def digests(columns, names=None):
    table = pa.table(columns)
    return table_digests(table, names or table.column_names).to_pylist()


class TestTableDigests:
    @pytest.mark.parametrize(
        ("one", "two"),
        [
            ([1, 2, 3], [1.0, 2.0, 3.0]),
            ([1, 2, 3], ["1", " 2 ", "+3"]),
            ([0.5, 1e20, -0.0], ["0.50", "1e20", "0"]),
            ([1, None], [1.0, float("nan")]),
            (["a", None, None], ["a", "", "NA"]),
            ([1.5, None, None, None, None], ["1.5", "-", "na", "#DIV/0!", "<NA>"]),
            (["NA", "NULL", "?", "--", "."], [None] * 5),
            ([True, False], ["True", "false"]),
            ([2**53 + 1], [str(2**53 + 1)]),
        ],
    )
    def test_a_cell_is_its_value_whatever_its_type(self, one, two):
        assert digests({"x": one}) == digests({"x": two})

    def test_floats_of_half_the_size_are_the_numbers_that_they_are(self):
        values = np.random.default_rng(0).normal(size=50).astype(np.float32)
        assert digests({"x": values}) == digests({"x": values.astype(np.float64)})

    @pytest.mark.parametrize(
        "values",
        [
            [2**53, 2**53 + 1, 2**53 + 2],
            [2**63 - 1, 2**63 - 2],
            ["7", "x7", "7x", "", "77", "7 7"],
            ["ab", "ba", "a", "b", "aa"],
            [0.0, 1.0, None, -1.0, float("inf"), float("-inf")],
            ["1,234", "1.234", "1234"],
            ["é", "e"],
        ],
    )
    def test_other_values_are_other_content(self, values):
        assert len(set(digests({"x": values}))) == len(values)

    def test_columns_count_by_name_in_any_order(self):
        columns = {"a": [1, 2], "b": ["x", "y"]}
        assert digests(columns) == digests(dict(reversed(columns.items())))
        assert digests(columns) == digests({**columns, "note": [1, 2]}, ["b", "a"])
        assert digests({"a": [1], "b": [2]}) != digests({"a": [2], "b": [1]})

    def test_a_row_does_not_depend_on_the_others(self):
        random = np.random.default_rng(1)
        columns = {"x": random.normal(size=40_000), "c": random.choice(["a", "b"], 40_000)}
        whole = digests(columns)
        assert digests({name: values[33_000:33_050] for name, values in columns.items()}) == whole[33_000:33_050]
        assert len(set(whole)) == 40_000

    def test_what_is_written_in_manifests_stays(self):
        """Digests are kept: another hash would make strangers of all samples of earlier runs."""
        found = digests({"x": [1.5, None, 2.0**60], "c": ["red", "7", "é"]})
        assert [digest.hex() for digest in found] == STAYS


STAYS = ["0d9a946f64ba475b951f510b174e2501", "b092fa753e552fbdfb2eb2cda5f9fad1", "ff447d09e7e6bb96c1b97248ba1e8daa"]


def manifest(rows, classes=("cat", "dog"), kind="image", has_content=True) -> Manifest:
    """Of (key, label, content) rows; content "" is unknown."""
    keys, labels, contents = zip(*rows, strict=True)
    found = build_manifest(keys, np.array(labels), classes, encoding={"kind": kind})
    if not has_content:
        return found
    return found.with_content(pa.array([text.encode().ljust(16) if text else None for text in contents], DIGEST_TYPE))


THEN = [("a", 0, "A"), ("b", 1, "B"), ("c", 0, "C"), ("d", 1, "D")]


def told(found):
    return {
        name: len(getattr(found, name))
        for name in ("moved", "relabelled", "changed", "new", "gone")
        if len(getattr(found, name))
    }


class TestMatch:
    @pytest.mark.parametrize(
        ("now", "ids", "numbers"),
        [
            (THEN, [0, 1, 2, 3], {}),
            (THEN[::-1], [3, 2, 1, 0], {}),
            (THEN[1:], [1, 2, 3], {"gone": 1}),
            ([*THEN, ("e", 0, "E")], [0, 1, 2, 3, -1], {"new": 1}),
            ([("a", 0, "X"), *THEN[1:]], [-1, 1, 2, 3], {"changed": 1}),
            ([("e", 0, "A"), *THEN[1:]], [0, 1, 2, 3], {"moved": 1}),
            ([("b", 1, "A"), ("a", 0, "B"), *THEN[2:]], [0, 1, 2, 3], {"moved": 2, "relabelled": 2}),
            ([("a", 1, "A"), *THEN[1:]], [0, 1, 2, 3], {"relabelled": 1}),
            ([("a", -1, "A"), *THEN[1:]], [0, 1, 2, 3], {"relabelled": 1}),
            ([("a", 0, "W"), ("b", 0, "X"), ("c", 0, "Y"), ("d", 0, "Z")], [-1] * 4, {"changed": 4}),
            ([("x", 0, "W"), ("y", 0, "X")], [-1] * 2, {"new": 2, "gone": 4}),
            ([("a", 0, ""), *THEN[1:]], [0, 1, 2, 3], {}),  # its file cannot be read now
            ([*THEN, ("e", 0, "A")], [0, 1, 2, 3, -1], {"new": 1}),  # a copy
        ],
    )
    def test_rows_are_found_by_content(self, now, ids, numbers):
        found = match(manifest(now), manifest(THEN))
        assert found.sample_id.tolist() == ids
        assert told(found) == numbers
        assert found.is_same == (now == THEN or now[0] == ("a", 0, ""))
        assert found.is_stranger == all(i == -1 for i in ids)
        assert [found.rows[i] for i in ids if i >= 0] == [row for row, i in enumerate(ids) if i >= 0]

    def test_of_equal_ones_the_key_decides_then_the_label_then_the_order(self):
        then = [("a", 0, "A"), ("b", 1, "A"), ("c", 0, "A"), ("d", 1, "A")]
        assert match(manifest(then[::-1]), manifest(then)).sample_id.tolist() == [3, 2, 1, 0]
        now = [("x", 1, "A"), ("c", 1, "A"), ("y", 1, "A"), ("z", 0, "A")]
        assert match(manifest(now), manifest(then)).sample_id.tolist() == [1, 2, 3, 0]

    def test_in_a_table_the_label_decides_before_the_key_which_is_but_a_number(self):
        then = [("t#0", 0, "A"), ("t#1", 1, "A"), ("t#2", 0, "B")]
        now = [("t#0", 1, "A"), ("t#1", 0, "B"), ("t#2", 0, "A")]
        found = match(manifest(now, kind="table"), manifest(then, kind="table"))
        assert found.sample_id.tolist() == [1, 2, 0]
        assert told(found) == {"moved": 3}

    def test_a_list_that_names_a_file_twice(self):
        then = [("a", 0, "A"), ("a", 0, "A"), ("b", 1, "B")]
        assert match(manifest(then), manifest(then)).is_same
        assert match(manifest(then[1:]), manifest(then)).sample_id.tolist() == [0, 2]

    def test_labels_are_compared_by_name(self):
        now = manifest([("a", 0, "A"), ("b", 1, "B")], classes=("dog", "cat"))
        assert match(now, manifest(THEN)).relabelled.tolist() == [0, 1]

    def test_an_older_run_is_matched_by_key(self):
        then = manifest(THEN, has_content=False)
        found = match(manifest([("b", 1, "X"), ("e", 0, "A")]), then)
        assert found.sample_id.tolist() == [1, -1]
        assert not found.is_checked
        assert told(found) == {"new": 1, "gone": 3}

    @pytest.mark.slow
    def test_a_million_rows(self):
        count, random = 1_000_000, np.random.default_rng(0)
        rows = random.permutation(count)
        keys = pa.array([f"t#{i}" for i in range(count)])
        one = pa.FixedSizeBinaryArray.from_buffers(DIGEST_TYPE, count, [None, pa.py_buffer(random.bytes(16 * count))])
        then = build_manifest(keys, np.zeros(count, np.int64), ("a",), encoding={"kind": "table"}).with_content(one)
        now = build_manifest(keys, np.zeros(count, np.int64), ("a",)).with_content(one.take(pa.array(rows)))
        assert np.array_equal(match(now, then).sample_id, rows)


@pytest.fixture
def pets(tmp_path):
    from PIL import Image

    for k, name in enumerate(("cat", "dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(4):
            Image.fromarray(np.full((8, 8), 10 * i + 100 * k, np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    return tmp_path / "pets"


class TestFiles:
    def test_files_with_the_size_and_time_of_the_run_are_not_read(self, pets, monkeypatch):
        known = with_content(open_source(pets, val_split=0))
        assert known.table["digest"].null_count == 0
        monkeypatch.setattr(content, "file_digest", lambda path: pytest.fail(f"{path} was read"))
        again = with_content(open_source(pets, val_split=0), known)
        assert again.table.equals(known.table)
        assert match(again, known).is_same

    def test_a_file_that_was_only_touched_is_the_same(self, pets):
        known = with_content(open_source(pets, val_split=0))
        os.utime(pets / "cat" / "0.png", ns=(1, 1))
        assert match(with_content(open_source(pets, val_split=0), known), known).is_same

    def test_another_file_of_the_same_size_is_another_sample(self, pets):
        known = with_content(open_source(pets, val_split=0))
        path = pets / "cat" / "0.png"
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        found = match(with_content(open_source(pets, val_split=0), known), known)
        assert known.keys[found.changed_ids].tolist() == ["cat/0.png"]

    def test_a_file_that_is_gone_is_found_by_its_key(self, pets):
        source = open_source(pets, val_split=0)
        known = with_content(source)
        (pets / "dog" / "3.png").unlink()
        now = with_content(source, known)
        assert now.table["digest"].null_count == 1
        assert match(now, known).is_same

    def test_the_columns_are_no_columns_of_the_source(self, pets, tmp_path):
        known = with_content(open_source(pets, val_split=0))
        assert known.extra_columns == []
        assert {"digest", "size_bytes", "mtime_ns"} <= set(known.table.column_names)
        known.write(tmp_path / "manifest.parquet")
        again = Manifest.read(tmp_path / "manifest.parquet")
        assert again.has_content
        assert again.table.equals(known.table)

    def test_a_column_of_the_source_may_be_called_alike(self):
        found = build_manifest(["a"], np.array([0]), ("x",), extra={"digest": pa.array(["mine"])})
        assert found.extra_columns == ["source_digest"]
        old = Manifest(found.table.rename_columns(["sample_id", "key", "label", "split", "digest"]), ("x",))
        assert not old.has_content
        assert old.extra_columns == ["digest"]


def test_a_source_in_the_order_of_a_run(pets):
    known = with_content(open_source(pets, val_split=0.25))
    (pets / "cat" / "0.png").rename(pets / "cat" / "9.png")
    (pets / "cat" / "1.png").write_bytes((pets / "dog" / "1.png").read_bytes() + b"x")
    (pets / "dog" / "8.png").write_bytes((pets / "dog" / "1.png").read_bytes() + b"y")
    source = open_source(pets, val_split=0)
    aligned, ids = align(source, known, match(with_content(source, known), known))
    assert ids.tolist() == [0, 2, 3, 4, 5, 6, 7, -1]
    assert aligned.manifest.keys.tolist() == [*known.keys[[0, 2, 3, 4, 5, 6, 7]], "dog/8.png"]
    assert aligned.manifest.splits.tolist() == [*known.splits[[0, 2, 3, 4, 5, 6, 7]], ""]
    assert aligned.reader.path(0).name == "9.png"
