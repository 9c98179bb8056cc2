"""Tar files of others -> an index: labels of every kind, any order, no sample lost in silence."""

from __future__ import annotations

import doctest
import io
import json
from pathlib import Path
from typing import Any

import pytest
from foreign_tars import image, write
from PIL import Image

from litscope.data.reading.digests import bytes_digest
from litscope.data.shards.scan import Asked
from litscope.data.sources import foreign
from litscope.data.sources.foreign import Indexed, Tar, index_tars
from litscope.errors import DataError


def opened(path: Path, split: str = "train") -> Tar:
    content = path.read_bytes()
    return Tar(path.name, split, len(content), lambda offset, size: content[offset : offset + size], 4096)


def rows(found: Indexed) -> dict[str, tuple[str | None, str]]:
    """key -> (name of its class, split)"""
    table = found.index.table.select(["key", "label", "split"]).to_pylist()
    classes = (*found.index.classes, None)
    return {row["key"]: (classes[row["label"]], row["split"]) for row in table}


def named(found: Indexed) -> list[str | None]:
    return [name for name, _ in rows(found).values()]


def test_examples() -> None:
    assert doctest.testmod(foreign).attempted
    assert not doctest.testmod(foreign).failed


def test_members_of_a_sample_in_any_order_and_of_every_suffix(tmp_path: Path) -> None:
    members = [
        ("b.cls", b"10\n"),
        ("./a.v2.jpeg", image(1)),
        ("n01/c.JPEG", image(2)),
        ("._a.jpg", b"of another system"),
        ("a.v2.txt", b"a caption"),
        ("b.png", image(3, "PNG")),
        ("d.webp", image(4, "WEBP")),
        ("n01/c.CLS", b"9"),
        ("a.v2.cls.txt", b" 2 "),
        ("lost.cls", b"2"),
        ("e.pyd", b"cos\nsystem\n(S'false'\ntR."),
        ("f.g.jpg", image(5)),
        ("f.cls", b"10"),
    ]
    tar = write(tmp_path / "train-0000.tar", members)
    found = index_tars([opened(tar)], Asked())
    assert rows(found) == {
        "train-0000/a.v2": ("2", "train"),
        "train-0000/n01/c": ("9", "train"),
        "train-0000/b": ("10", "train"),
        "train-0000/d": (None, "train"),
        "train-0000/f.g": ("10", "train"),
    }
    assert found.index.classes == ("2", "9", "10")
    assert found.index.table["suffix"].to_pylist() == [".jpeg", ".jpeg", ".png", ".webp", ".jpg"]
    content = tar.read_bytes()
    for row in found.index.table.to_pylist():
        Image.open(io.BytesIO(content[row["offset"] : row["offset"] + row["size"]])).load()
        assert row["digest"] is None
    assert found.notes == [
        "1 of 5 images have no label in .cls, as train-0000/d",
        "1 label without an image (lost)",
    ]
    assert found.index.encoding == {"kind": "image", "channels": 3, "dtype": "uint8"}


def test_checksums_are_of_every_image_and_file(tmp_path: Path) -> None:
    tar = write(tmp_path / "x.tar", [("a.jpg", image(1)), ("a.cls", b"0"), ("b.jpg", image(2)), ("b.cls", b"1")])
    found = index_tars([opened(tar)], Asked(has_checksums=True))
    assert found.index.table["digest"].to_pylist() == [bytes_digest(image(1)), bytes_digest(image(2))]
    assert found.index.shards[0].digest == bytes_digest(tar.read_bytes()).hex()


def test_labels_of_a_field_and_of_a_table(tmp_path: Path) -> None:
    facts: list[dict[str, Any]] = [{"label": "cat", "a": {"b": 3}}, {"label": None, "a": {"b": 4}}, {"a": {"b": 3}}]
    members = [(f"{i}.jpg", image(i)) for i in range(3)] + [
        (f"{i}.json", json.dumps(f).encode()) for i, f in enumerate(facts)
    ]
    tars = [opened(write(tmp_path / "x.tar", members))]
    assert list(rows(index_tars(tars, Asked(field="label"))).values()) == [
        ("cat", "train"),
        (None, "train"),
        (None, "train"),
    ]
    assert [label for label, _ in rows(index_tars(tars, Asked(field="a.b"))).values()] == ["3", "4", "3"]
    labels = {"x/0": "p", "1": "q", "2.jpg": "r"}
    assert named(index_tars(tars, Asked(), labels=labels)) == ["p", "q", "r"]
    without = index_tars(tars, Asked())
    assert "their .json has a, label: litscope index ... --label-field NAME" in without.notes[0]
    with pytest.raises(DataError, match=r"'a' of 0\.json is several fields, not a label"):
        index_tars(tars, Asked(field="a"))


def test_where_labels_may_be_is_told_where_there_are_none(tmp_path: Path) -> None:
    """Of tar files whose labels are in .txt it was said that .cls has none, and that `litscope fit` is next."""
    members = [(f"{i}.{suffix}", content) for i in range(4)
               for suffix, content in (("input.jpg", image(i)), ("outputs.txt", b"cat"), ("pyd", b"no"))]  # fmt: skip
    tars = [opened(write(tmp_path / "x.tar", members))]
    found = index_tars(tars, Asked())
    assert "there are .outputs.txt, .pyd; a table of keys and labels will do: litscope index" in found.notes[0]


def test_labels_that_are_lists_are_not_classes(tmp_path: Path) -> None:
    """Each image became a class of its own, as soft labels were read as text."""
    members = [(f"{i}.{suffix}", content) for i in range(4)
               for suffix, content in (("jpg", image(i)), ("cls", b"[0.%d, 0.5]" % i))]  # fmt: skip
    tars = [opened(write(tmp_path / "x.tar", members))]
    with pytest.raises(DataError, match=r"x\.tar: at byte .*: 0\.cls is a list, not a label.*--labels FILE"):
        index_tars(tars, Asked(), skip_bad=True)
    assert named(index_tars(tars, Asked(), labels={"0": "p", "1": "q", "2": "p", "3": "q"})) == ["p", "q", "p", "q"]
    words = [("0.jpg", image(0)), ("0.cls", b"[unknown]")]
    assert named(index_tars([opened(write(tmp_path / "y.tar", words))], Asked())) == ["[unknown]"]


def test_several_images_of_a_sample_are_not_mixed_up(tmp_path: Path) -> None:
    members = [("0.input.jpg", image(0)), ("0.mask.png", image(1, "PNG", "L")), ("0.cls", b"1")]
    tars = [opened(write(tmp_path / "x.tar", members))]
    with pytest.raises(DataError, match=r"has several images \(input.jpg, mask.png\); say which is"):
        index_tars(tars, Asked())
    with pytest.raises(DataError, match="has several images"):  # its labels were left out, and the images were kept
        index_tars(tars, Asked(), skip_bad=True)
    assert rows(index_tars(tars, Asked(image_suffix="input.jpg"))) == {"x/0": ("1", "train")}
    members = [("0.jpg", image(0)), ("0.png", image(1, "PNG", "L")), ("0.cls", b"1")]
    tars = [opened(write(tmp_path / "y.tar", members))]
    with pytest.raises(DataError, match="a second image of the sample '0'"):
        index_tars(tars, Asked())
    assert index_tars(tars, Asked(image_suffix=".png")).index.encoding["channels"] == 1


def test_a_name_that_comes_twice_in_a_file_is_told_as_that(tmp_path: Path) -> None:
    """Members that were appended once more. To say which suffix is meant, as was advised, does not help."""
    members = [("0.jpg", image(0)), ("0.cls", b"1"), ("0.jpg", image(1))]
    with pytest.raises(DataError, match=r"a second sample '0'; the first is at byte 512.*a name of its own"):
        index_tars([opened(write(tmp_path / "x.tar", members))], Asked())


def test_numbers_that_begin_anew_in_each_shard_are_different_samples(tmp_path: Path) -> None:
    members = [("000.jpg", image(0)), ("000.cls", b"1")]
    tars = [opened(write(tmp_path / "train-0.tar", members)), opened(write(tmp_path / "val-0.tar", members), "val")]
    found = index_tars(tars, Asked())
    assert rows(found) == {"train-0/000": ("1", "train"), "val-0/000": ("1", "val")}
    assert found.index.table["shard"].to_pylist() == [0, 1]


def test_a_cut_shard_is_an_error_or_told(tmp_path: Path) -> None:
    members = [
        (f"{i}.{kind}", content) for i in range(4) for kind, content in (("jpg", image(i)), ("cls", b"%d" % (i % 2)))
    ]
    whole, cut = write(tmp_path / "a.tar", members), write(tmp_path / "b.tar", members)
    cut.write_bytes(cut.read_bytes()[: 5 * 512])
    tars = [opened(whole), opened(cut)]
    with pytest.raises(DataError, match=r"1 of 2 shards .* --skip-bad\n  b.tar: at byte 2,5\d\d: the file"):
        index_tars(tars, Asked())
    found = index_tars(tars, Asked(), skip_bad=True)
    assert list(found.broken) == ["b.tar"]
    assert [key for key in rows(found) if key.startswith("b/")] == ["b/0"]


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="None of 1 shard holds an image"):
        index_tars([opened(write(tmp_path / "x.tar", [("a.txt", b"x")]))], Asked())
