"""Groups of samples: what they are, and what became of the splits."""

from __future__ import annotations

import numpy as np
import pytest

from litscope.data.groups import groups_of
from litscope.data.manifest import build_manifest
from litscope.data.preflight import inspect
from litscope.data.sources.source import open_source


def manifest(groups, labels, splits):
    keys = [f"{i}" for i in range(len(labels))]
    return build_manifest(keys, np.array(labels), ["a", "b"], splits=splits, groups=groups)


def test_what_groups_there_are():
    found = groups_of(
        manifest(["p", "p", "p", "q", "r", "r", None], [0, 1, -1, 0, 1, 1, 0], ["train"] * 4 + ["val"] * 3), "who", {}
    )
    assert found is not None
    assert (found.num_groups, found.num_without, found.num_across_classes) == (3, 1, 1)
    assert (found.smallest, found.median, found.largest, found.largest_name) == (1, 2.0, 3, "p")
    train, val = found.splits
    assert (train.num_groups, train.num_samples, train.wanted) == (2, 3, None)
    assert (val.num_groups, val.num_samples, val.share) == (2, 3, None)
    assert (train.class_name, train.class_share, train.class_share_of_all) == ("a", pytest.approx(2 / 3), 0.5)
    first, *splits = found.lines()
    assert first == (
        "3 groups by 'who', of 1 to 3 samples (median 2), the most in 'p'; 1 with more than one class; "
        "1 sample without a group, a group of its own each"
    )
    assert splits[0] == (
        "  train: 3 samples of 2 groups; class balance: off by at most 16.7 points (a is 66.7% of it and 50.0% of all)"
    )
    assert found.straddling == []


def test_no_groups():
    assert groups_of(build_manifest(["a"], np.array([0]), ["a", "b"]), "", {}) is None
    assert groups_of(manifest([None, None], [0, 1], ["train", "train"]), "who", {}) is None


def test_check_tells_what_a_split_of_whole_groups_gives(tmp_path):
    rows = [f"{i},{'ab'[i % 2]},p{i // 10}" for i in range(200)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,label,patient", *rows]))
    source = open_source(path, val_split=0.2, test_split=0.1, group_column="patient")
    assert (source.group_column, source.wanted) == ("patient", {"test": 0.1, "val": 0.2})
    report = inspect(source)
    text = "\n".join(report.lines())
    assert "20 groups by 'patient', of 10 to 10 samples (median 10)" in text
    assert "20 with more than one class" in text
    assert "  val: 40 samples of 4 groups, 20.0% (20.0% wanted); class balance: off by at most 0.0 points" in text
    assert "  train: 140 samples of 14 groups, 70.0% (70.0% wanted)" in text
    assert "  test: 20 samples of 2 groups, 10.0% (10.0% wanted)" in text
    assert not any("whole groups" in warning for warning in report.warnings)
    told = report.to_dict()["groups"]
    assert (told["column"], told["num_groups"], told["splits"][1]["share"]) == ("patient", 20, 0.2)
    assert inspect(open_source(path, val_split=0.2)).groups is None


def test_a_split_that_is_far_from_what_was_asked_for_is_a_warning(tmp_path):
    rows = [f"{i},{'ab'[i % 2]},{'big' if i < 80 else f'p{i // 10}'}" for i in range(120)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,label,patient", *rows]))
    report = inspect(open_source(path, val_split=0.5, group_column="patient"))
    found = next(warning for warning in report.warnings if "whole groups" in warning)
    share = report.counts["val"][0] * 2 / 120
    assert abs(share - 0.5) > 0.125
    assert f"whole groups make val {share:.1%} of the samples, where 50.0% were wanted" in found
    assert "the largest group has 80 samples" in found
    assert "--val-split" in found


def test_a_split_that_the_data_bring_was_not_asked_for(tmp_path):
    rows = [f"{i},{'ab'[i % 2]},{'test' if i < 50 else ''},p{i // 5}" for i in range(100)]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["x,label,split,patient", *rows]))
    source = open_source(path, val_split=0.2, test_split=0.3, group_column="patient")
    assert source.wanted == {"val": 0.2}
    splits = {split.split: split for split in inspect(source).groups.splits}
    assert splits["test"].wanted is None
    assert splits["val"].share == pytest.approx(0.2)
    assert splits["train"].share == pytest.approx(0.8)
