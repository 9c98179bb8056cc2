"""Preflight: what is wrong with the data is found before the first step, with names."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from litscope.data import looks
from litscope.data.datamodule import ClassificationData
from litscope.data.preflight import inspect
from litscope.data.reading.findings import FILE, Findings, kept
from litscope.data.sources.source import open_source


def _photo(seed, size=(20, 24)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """20 different photographs in train/, 6 in test/."""
    root = tmp_path / "pets"
    seed = 0
    for split, count in (("train", 10), ("test", 3)):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                _photo(seed).save(root / split / name / f"{i}.{'jpg' if i % 2 else 'png'}")
                seed += 1
    return root


def test_good_data_are_clean(folder):
    report = inspect(open_source(folder, val_split=0.2))
    assert report.counts == {"train": [8, 8], "val": [2, 2], "test": [3, 3]}
    assert report.is_clean
    assert report.warnings == []
    assert report.unreadable_ids.dtype == np.int64
    text = "\n".join(report.lines())
    assert "26 samples, 2 classes" in text
    assert "train 16, val 4, test 6" in text
    assert "unreadable" not in text


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("0.png", lambda data: b"", "not an image"),
        ("0.png", lambda data: data[: len(data) // 2], "truncated"),
        ("1.jpg", lambda data: data[: len(data) // 2], "truncated"),
        ("1.jpg", lambda data: b"<html>" + data, "not an image"),
    ],
)
def test_unreadable_files_are_set_aside_with_path_and_reason(folder, name, spoil, reason):
    path = folder / "train" / "cat" / name
    path.write_bytes(spoil(path.read_bytes()))
    source = open_source(folder, val_split=0)
    report = inspect(source)
    [(key, found)] = report.unreadable
    assert key == f"train/cat/{name}"
    assert reason in found.lower()
    assert str(folder) not in found
    assert source.manifest.keys[report.unreadable_ids].tolist() == [key]
    assert report.counts["train"] == [9, 10]
    assert not report.is_clean
    assert f"  {key}: {found}" in report.lines()


def test_a_missing_file_is_unreadable(folder):
    source = open_source(folder)
    (folder / "test" / "dog" / "1.jpg").unlink()
    assert inspect(source).unreadable == [("test/dog/1.jpg", "no such file or directory")]


def test_a_jpeg_with_bytes_after_its_end_is_good(folder):
    path = folder / "train" / "cat" / "1.jpg"
    path.write_bytes(path.read_bytes() + bytes(300))
    assert inspect(open_source(folder)).is_clean


def test_large_files_are_looked_at_from_both_ends(folder):
    path = folder / "train" / "cat" / "0.png"
    _photo(99, (300, 300)).save(path)
    data = path.read_bytes()
    assert len(data) > 200_000
    assert inspect(open_source(folder)).is_clean
    path.write_bytes(data[:-2000])
    assert [key for key, _ in inspect(open_source(folder)).unreadable] == ["train/cat/0.png"]
    path.write_bytes(data)
    (folder / "test" / "cat" / "0.png").write_bytes(data)
    assert inspect(open_source(folder)).num_test_seen_in_training == 1


def test_damaged_npy_files_are_found(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(5):
            np.save(tmp_path / name / f"{i}.npy", np.random.default_rng(i).normal(size=(9, 9, 2)))
    path = tmp_path / "a" / "3.npy"
    path.write_bytes(path.read_bytes()[:-3])
    report = inspect(open_source(tmp_path, val_split=0))
    assert report.unreadable == [("a/3.npy", "the file ends 3 bytes too early")]
    assert len(report.conflicts) == 4  # a/i and b/i are the same, but for the damaged one


def test_what_decoding_has_found_is_taken_over(folder):
    source = open_source(folder, val_split=0)
    sample_id = source.manifest.keys.tolist().index("train/dog/2.png")
    report = inspect(source, broken={sample_id: f"{folder.absolute()}/train/dog/2.png: bad chunk."})
    assert report.unreadable == [("train/dog/2.png", "bad chunk")]
    assert report.unreadable_ids.tolist() == [sample_id]


def test_test_images_seen_in_training_are_reported(folder):
    for i in (0, 2):
        (folder / "test" / "cat" / f"{i}.png").write_bytes((folder / "train" / "cat" / f"{i}.png").read_bytes())
    report = inspect(open_source(folder, val_split=0))
    assert report.num_test_seen_in_training == 2
    assert [group.keys for group in report.across_splits] == [
        ("test/cat/0.png", "train/cat/0.png"),
        ("test/cat/2.png", "train/cat/2.png"),
    ]
    assert report.across_splits[0].splits == ("test", "train")
    assert report.conflicts == []
    assert "2 test samples are also in the training data (same bytes)" in report.warnings[0]
    assert any("test/cat/0.png (test, cat) = train/cat/0.png (train, cat)" in line for line in report.lines())


def test_one_image_with_two_labels_is_reported(folder):
    (folder / "train" / "dog" / "4.png").write_bytes((folder / "train" / "cat" / "4.png").read_bytes())
    report = inspect(open_source(folder, val_split=0))
    assert [group.labels for group in report.conflicts] == [("cat", "dog")]
    assert report.across_splits == []
    assert any("the same image has different labels" in warning for warning in report.warnings)


def test_files_of_one_size_and_other_content_are_no_duplicates(tmp_path):
    for k, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for i in range(5):
            Image.fromarray(np.full((8, 8), 10 * i + k, np.uint8)).save(tmp_path / name / f"{i}.bmp")
    report = inspect(open_source(tmp_path, val_split=0))
    assert report.conflicts == []


def test_equal_rows_in_memory_are_found():
    source = open_source("iris", test_split=0.2)
    assert np.array_equal(source.reader.read(101), source.reader.read(142))
    report = inspect(source)
    assert [group.keys for group in report.across_splits] == [("iris/00101", "iris/00142")]
    assert inspect(source, check_files=False).across_splits == []


def test_groups_in_more_than_one_split_are_reported(tmp_path):
    rows = [f"{i},{i % 2},{'test' if i >= 14 else 'train'},{'g' if i in (3, 15) else i}" for i in range(20)]
    (tmp_path / "t.csv").write_text("x,label,split,group\n" + "\n".join(rows))
    report = inspect(open_source(tmp_path / "t.csv", val_split=0, group_column="group"))
    assert report.straddling_groups == ["g"]
    assert any("groups are in more than one split" in warning for warning in report.warnings)


def test_classes_without_training_samples(folder):
    (folder / "train" / "emu").mkdir()
    (folder / "test" / "fox").mkdir()
    _photo(50).save(folder / "test" / "fox" / "1.png")
    report = inspect(open_source(folder))
    assert report.empty_classes == ["emu", "fox"]
    assert any("no training sample of emu, fox (fox only outside of it)" in warning for warning in report.warnings)


def test_a_class_whose_files_are_all_unreadable_is_empty(folder):
    for path in (folder / "train" / "dog").iterdir():
        path.write_bytes(b"x")
    assert inspect(open_source(folder, val_split=0)).empty_classes == ["dog"]


def test_few_samples_imbalance_and_missing_validation(tmp_path):
    rows = [f"{i},{'abc'[0 if i >= 12 else 1 if i >= 2 else 2]}" for i in range(200)]
    (tmp_path / "t.csv").write_text("x,label\n" + "\n".join(rows))
    warnings = "\n".join(inspect(open_source(tmp_path / "t.csv", val_split=0.02)).warnings)
    assert "fewer than 5 training samples of c" in warnings
    assert "no validation sample of" in warnings
    assert "--class-weights balanced" in warnings


@pytest.mark.parametrize(("brightest", "levels"), [(4095, 17), (300, 2), (16_383, None), (65_535, None)])
def test_dark_images_of_16_bits_are_told(tmp_path, brightest, levels):
    """A camera's 12 bits in a file of 16: by the rule of the whole range nearly nothing is left of them."""
    rng = np.random.default_rng(0)
    for i in range(12):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        pixels = rng.integers(0, brightest + 1, (6, 6), dtype=np.uint16)
        pixels[0, 0] = brightest
        Image.fromarray(pixels).save(tmp_path / "ab"[i % 2] / f"{i}.{'png' if i % 3 else 'tiff'}")
    report = inspect(open_source(tmp_path, val_split=0))
    said = [warning for warning in report.warnings if "16 bits" in warning]
    assert len(said) == (levels is not None)
    if levels is not None:
        assert f"largest value is {brightest:,} of 65,535 (of those looked at), so at most {levels} of 256" in said[0]


def test_unlabelled_rows_are_counted_apart(folder):
    _photo(70).save(folder / "test" / "who.png")
    report = inspect(open_source(folder))
    assert report.num_unlabelled == 1
    assert sum(report.counts["test"]) == 6
    assert any("without label 1 (never trained on)" in line for line in report.lines())


def test_the_report_is_plain_json(folder):
    (folder / "train" / "dog" / "4.png").write_bytes((folder / "train" / "cat" / "4.png").read_bytes())
    (folder / "train" / "dog" / "5.jpg").write_bytes(b"")
    content = inspect(open_source(folder, val_split=0)).to_dict()
    assert json.loads(json.dumps(content)) == json.loads(json.dumps(content, allow_nan=False))
    assert content["counts"]["train"] == {"cat": 10, "dog": 9}
    reason = "not an image of a kind that is read (JPEG, PNG, WebP, TIFF, GIF, BMP, PNM, AVIF)"
    assert content["unreadable"] == [{"key": "train/dog/5.jpg", "reason": reason}]
    assert content["conflicts"][0]["keys"] == ("train/cat/4.png", "train/dog/4.png")


def test_many_findings_are_shortened_and_many_classes_are_summed_up(tmp_path):
    for k in range(40):
        (tmp_path / f"c{k:02d}").mkdir()
        for i in range(2):
            _photo(100 * k + i, (4, 4)).save(tmp_path / f"c{k:02d}" / f"{i}.png")
    for k in range(9):
        (tmp_path / f"c{k:02d}" / "0.png").write_bytes(b"x")
    lines = inspect(open_source(tmp_path, val_split=0)).lines()
    assert "  and 4 more" in lines
    assert "  train: 1 (c00) to 2 (c09) per class" in lines
    assert len(lines) < 20


def test_space_warps_is_clean(spacewarps):
    report = inspect(open_source(spacewarps / "samples.csv"))
    assert report.unreadable == []
    assert report.straddling_groups == []
    assert report.num_unlabelled == 87
    assert report.num_test_seen_in_training == 0


class TestKeptFindings:
    """With a pixel cache a second run takes what the first found, as long as no file has changed."""

    @staticmethod
    def opened(folder, tmp_path):
        return ClassificationData(folder, val_split=0, cache=True, cache_dir=str(tmp_path / "cache")).open()

    @pytest.fixture
    def spoiled(self, folder):
        """One file without an end, which only a look finds, and one pair of equal ones."""
        whole = (folder / "train" / "cat" / "0.png").read_bytes()
        (folder / "test" / "dog" / "0.png").write_bytes(whole)
        (folder / "train" / "dog" / "2.png").write_bytes(b"nothing")
        return folder

    def test_a_second_run_finds_the_same_and_reads_no_file(self, spoiled, tmp_path, monkeypatch):
        first = self.opened(spoiled, tmp_path).report
        assert first.num_test_seen_in_training == 1
        assert [key for key, _ in first.unreadable] == ["train/dog/2.png"]

        def looked(*_):
            raise AssertionError("a file was looked at")

        monkeypatch.setattr(looks, "_look", looked)
        assert self.opened(spoiled, tmp_path).report.to_dict() == first.to_dict()

    def test_a_changed_file_is_looked_at_again(self, spoiled, tmp_path):
        self.opened(spoiled, tmp_path)
        path = spoiled / "test" / "dog" / "0.png"
        _photo(77).save(path)
        again = self.opened(spoiled, tmp_path).report
        assert again.num_test_seen_in_training == 0

    @pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
    def test_damaged_findings_are_made_again(self, spoiled, tmp_path, content):
        first = self.opened(spoiled, tmp_path).report
        (file,) = (tmp_path / "cache").glob(f"*/{FILE}")
        file.write_bytes(content)
        assert self.opened(spoiled, tmp_path).report.to_dict() == first.to_dict()
        assert Findings.load(file) is not None

    def test_reasons_and_digests_come_back(self, tmp_path):
        found = Findings({3: "trüncated"}, {1: bytes(range(16)), 7: bytes(16)})
        found.save(tmp_path / FILE)
        assert Findings.load(tmp_path / FILE) == found
        Findings({}, {}).save(tmp_path / FILE)
        assert Findings.load(tmp_path / FILE) == Findings({}, {})
        assert Findings.load(tmp_path / "none.npz") is None

    def test_a_folder_that_may_not_be_written_costs_a_look(self, tmp_path):
        (tmp_path / "file").touch()
        looked = Findings({1: "gone"}, {})
        assert kept(tmp_path / "file" / FILE, lambda: looked) is looked
