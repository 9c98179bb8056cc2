"""Splits: stratified, seeded, whole groups, and what the data say is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from litscope.data.sources.splits import assign, canonical_split, hold_out
from litscope.errors import ConfigError, DataError


def _none(labels):
    return np.full(len(labels), "", dtype=object)


def _assign(labels, splits=None, groups=None, val_split=0.1, test_split=0.0, seed=42):
    labels = np.asarray(labels)
    splits = _none(labels) if splits is None else np.array(splits, dtype=object)
    return assign(labels, splits, groups, val_split=val_split, test_split=test_split, seed=seed)[0]


@pytest.mark.flag("val-split", "test-split", "seed")
def test_shares_are_of_the_whole_and_of_each_class():
    labels = np.repeat([0, 1, 2], [1000, 500, 100])
    splits = _assign(labels, val_split=0.1, test_split=0.2)
    for label, count in ((0, 1000), (1, 500), (2, 100)):
        mine = splits[labels == label]
        assert (mine == "test").sum() == 0.2 * count
        assert (mine == "val").sum() == 0.1 * count
    assert (_assign(labels, seed=1) != _assign(labels, seed=2)).any()
    assert (_assign(labels, seed=1) == _assign(labels, seed=1)).all()


def test_the_remainder_is_spread_over_small_classes():
    labels = np.repeat(np.arange(40), 5)
    val = _assign(labels, val_split=0.1) == "val"
    assert val.sum() == 20
    assert np.bincount(labels[val], minlength=40).max() == 1


def test_a_class_keeps_its_last_sample_for_training():
    labels = np.array([0] * 50 + [1] + [2] * 2)
    splits = _assign(labels, val_split=0.5)
    assert set(labels[splits == "train"]) == {0, 1, 2}


def test_a_small_data_set_still_gets_one_validation_sample():
    assert (_assign([0, 0, 1, 1], val_split=0.1) == "val").sum() == 1


def test_zero_means_none():
    assert set(_assign([0, 0, 1, 1], val_split=0.0)) == {"train"}


def test_given_splits_are_kept_and_the_test_set_is_never_used():
    labels = np.array([0, 1] * 100)
    given = ["train"] * 150 + ["test"] * 50
    splits = _assign(labels, given, val_split=0.2, test_split=0.5)
    assert (splits[150:] == "test").all()
    assert (splits[:150] == "val").sum() == 30
    assert (splits == "test").sum() == 50
    with_val = _assign(labels, ["train"] * 150 + ["val"] * 50, val_split=0.2)
    assert (with_val == "val").sum() == 50


def test_unlabelled_rows_keep_what_they_were_given():
    labels = np.array([-1, -1, -1] + [0, 1] * 20)
    given = ["", "test", "train"] + [""] * 40
    splits = _assign(labels, given, val_split=0.5)
    assert splits[:3].tolist() == ["", "test", "train"]
    # An unlabelled row in test/ is no test set: one may still be set aside.
    assert (_assign(labels, given, test_split=0.5)[3:] == "test").sum() == 20


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(DataError, match="No labelled training sample"):
        _assign([0, 1], ["test", "test"])


@pytest.mark.parametrize(("val", "test"), [(-0.1, 0), (1.0, 0), (0.5, 0.5), (float("nan"), 0)])
def test_shares_out_of_range_are_refused(val, test):
    with pytest.raises(ConfigError, match="--val-split"):
        _assign([0, 1], val_split=val, test_split=test)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=4, max_size=60),
    share=st.floats(0.05, 0.6),
    seed=st.integers(0, 5),
)
def test_groups_stay_whole_and_no_class_loses_all_training_samples(sizes, share, seed):
    rng = np.random.default_rng(seed)
    groups = np.repeat([f"g{i}" for i in range(len(sizes))], sizes).astype(object)
    labels = rng.integers(0, 3, len(groups))
    labels = np.unique(labels, return_inverse=True)[1]
    splits = _assign(labels, groups=groups, val_split=share, seed=seed)
    for group in set(groups):
        assert len(set(splits[groups == group])) == 1
    assert set(labels[splits == "train"]) == set(labels)


def test_grouped_shares_come_near_what_was_asked():
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 8, 300)
    groups = np.repeat([f"g{i}" for i in range(300)], sizes).astype(object)
    labels = rng.integers(0, 4, len(groups))
    taken = hold_out(labels, groups, 0.2, 7)
    for label in range(4):
        assert 0.18 < taken[labels == label].mean() < 0.22


def test_a_group_that_overshoots_as_far_as_the_share_is_off_stays_in_training():
    labels = np.repeat([0, 1], 20)
    groups = np.array([f"of four {i // 4}" for i in range(20)] + [None] * 20, dtype=object)
    held = hold_out(labels, groups, 0.1, seed=0)  # 2 of 20: with a group of 4 it would be 2 too many
    assert np.bincount(labels[held], minlength=2).tolist() == [0, 2]


def test_rows_without_a_group_stand_alone():
    groups = np.array([None] * 90 + ["big"] * 10, dtype=object)
    taken = hold_out(np.array([0, 1] * 50), groups, 0.3, 0)
    assert len(set(taken[90:])) == 1
    assert 25 <= taken.sum() <= 35


def test_one_group_per_class_cannot_be_held_out():
    groups = np.array(["a"] * 5 + ["b"] * 5, dtype=object)
    assert not hold_out(np.repeat([0, 1], 5), groups, 0.5, 0).any()


@pytest.mark.parametrize(
    ("name", "split"),
    [("Train", "train"), (" valid ", "val"), ("VALIDATION", "val"), ("testing", "test"), ("", ""), ("cat", None)],
)
def test_usual_spellings(name, split):
    assert canonical_split(name) == split
