"""The roster: which data set has which ids, also after a resume and where ids are learnt from the rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from litscope.data.manifest import UNLABELLED
from litscope.errors import ConfigError, RunError
from litscope.watch import with_ids
from litscope.watch.samples.drawn import Drawn, drawn_from
from litscope.watch.samples.own_ids import Stretch
from litscope.watch.samples.roster import Roster


def data(count: int, labels: list[int] | None = None) -> Any:
    """A wrapped data set; by default its labels are 0, 1, 0, 1, ..."""
    y = [i % 2 for i in range(count)] if labels is None else labels
    return with_ids(TensorDataset(torch.zeros(count, 1), torch.tensor(y, dtype=torch.int64)))


def parts_of(roster: Roster) -> list[tuple[str, int, int, bool]]:
    return [(part.split, part.first_id, part.num_samples, part.was_carried) for part in roster.parts]


def grown(*parts: tuple[str, Any], names: tuple[str, ...] | None = None) -> Roster:
    roster = Roster(names)
    for split, one in parts:
        roster.add(one, split)
    return roster


def drawn(dataset: Any) -> Drawn:
    found = drawn_from(dataset)
    assert found is not None
    return found


def ids(*values: int) -> Any:
    return np.array(values, np.int64)


# ---- data sets -----------------------------------------------------------------------------------


def test_each_data_set_has_its_ids_and_is_taken_in_once() -> None:
    train, val = data(4), data(3)
    roster = grown(("train", train), ("val", val), ("train", train), ("val", val))
    assert parts_of(roster) == [("train", 0, 4, True), ("val", 4, 3, True)]
    assert (train.first_id, val.first_id, len(roster)) == (0, 4, 7)
    at = [roster.part_of(i) for i in (0, 3, 4, 6, 7)]
    assert [part and part.split for part in at] == ["train", "train", "val", "val", None]
    assert roster.is_in("val").tolist() == [False] * 4 + [True] * 3
    roster.follow([1, 4, 6], {})
    assert (train.is_discarded.tolist(), val.is_discarded.tolist()) == (
        [False, True, False, False],
        [True, False, True],
    )
    assert np.flatnonzero(roster.is_discarded()).tolist() == [1, 4, 6]
    assert (roster.ids_of("train").tolist(), roster.ids_of("val").tolist()) == ([0, 2, 3], [5])


def named(keys: list[str], labels: list[int]) -> Any:
    return with_ids(TensorDataset(torch.zeros(len(keys), 1), torch.tensor(labels)), keys=keys)


def test_samples_of_a_resumed_run_are_found_by_their_keys_in_any_order(capsys: pytest.CaptureFixture[str]) -> None:
    first = grown(("val", data(2)), ("train", named(["a", "b", "c"], [0, 1, 0])))
    resumed = Roster(None)
    resumed.take_up(first.manifest())
    train = named(["c", "a", "b"], [0, 0, 1])
    resumed.add(train, "train")
    assert "samples of train are not as they were: all of them in another order" in capsys.readouterr().err
    assert [train[i][-1] for i in range(3)] == [4, 2, 3]
    assert train.__getitems__([2, 0])[1][-1] == 4
    resumed.follow([4], {3: 0})
    assert train.is_discarded.tolist() == [True, False, False]
    assert np.flatnonzero(resumed.is_discarded()).tolist() == [4]
    assert [int(train[i][1]) for i in range(3)] == [0, 0, 0]
    assert resumed.manifest().table.equals(first.manifest().table)


def test_a_resumed_run_says_which_labels_are_others(capsys: pytest.CaptureFixture[str]) -> None:
    first = grown(("train", data(4)))
    for labels, said in (([0, 1, 0, 1], ""), ([0, 1, 1, 0], "2 with another label")):
        resumed = Roster(None)
        resumed.take_up(first.manifest())
        resumed.add(data(4, labels), "train")
        err = capsys.readouterr().err
        assert (said in err) if said else not err


def test_other_samples_are_not_taken_for_those_of_the_run() -> None:
    first = grown(("train", named(["a", "b", "c"], [0, 1, 0])))
    resumed = Roster(None)
    resumed.take_up(first.manifest())
    with pytest.raises(RunError, match=r"data of train hold other samples.*1 gone, 1 new.*keys="):
        resumed.add(named(["a", "b", "d"], [0, 1, 0]), "train")


def test_of_two_parts_alike_each_is_found_by_its_keys() -> None:
    first = grown(("val", named(["a", "b"], [0, 1])), ("val", named(["c", "d"], [0, 1])))
    resumed = Roster(None)
    resumed.take_up(first.manifest())
    second, one = named(["c", "d"], [0, 1]), named(["a", "b"], [0, 1])
    resumed.add(second, "val")
    resumed.add(one, "val")
    assert (one.first_id, second.first_id, len(resumed)) == (0, 2, 4)


def test_a_subset_has_a_split_of_its_own() -> None:
    roster, whole = Roster(None), data(6)
    roster.add(whole, "train", ids(0, 2, 4))
    roster.add(whole, "val", ids(1, 3))
    roster.add(data(2), "test")
    assert np.flatnonzero(roster.is_in("val")).tolist() == [1, 3]
    assert roster.split_of(drawn(Subset(whole, [3, 1]))) == "val"
    assert roster.split_of(drawn(Subset(whole, [2]))) == "train"
    assert roster.split_of(drawn(whole)) is roster.split_of(drawn(Subset(whole, []))) is None
    assert roster.split_of(drawn(data(6))) is None
    assert roster.manifest().splits.tolist() == ["train", "val", "train", "val", "train", "", "test", "test"]


def test_an_empty_data_set_is_a_part_without_samples() -> None:
    empty = data(0)
    roster = grown(("val", empty), ("train", data(2)))
    assert parts_of(roster) == [("val", 0, 0, True), ("train", 0, 2, True)]
    assert roster.split_of(drawn(empty)) is None
    assert roster.classes == ("0", "1")


def test_more_labels_than_class_names_are_refused() -> None:
    assert grown(("train", data(2)), names=("a", "b")).classes == ("a", "b")
    with pytest.raises(ConfigError, match="class_names has 2 names, but a label of val is 2"):
        grown(("train", data(2)), ("val", data(3, [0, 1, 2])), names=("a", "b"))


def test_classes_are_as_many_as_anything_tells_of() -> None:
    assert Roster(None).classes == ("0",)
    roster = grown(("train", data(3, [0, 3, 1])))
    assert roster.classes == ("0", "1", "2", "3")
    roster.has_classes(6)
    roster.has_classes(2)
    assert roster.classes == ("0", "1", "2", "3", "4", "5")
    roster = Roster(("a", "b"))
    roster.has_classes(3)
    assert roster.classes == ("a", "b", "2")


# ---- a second attempt ----------------------------------------------------------------------------


def test_after_a_resume_a_data_set_finds_its_ids_by_split_and_size() -> None:
    """Two data sets of one split and size have theirs in the order in which they come."""
    sizes = [("train", 4), ("val", 4), ("train", 4), ("val", 3)]
    manifest = grown(*((split, data(count)) for split, count in sizes)).manifest()
    roster = Roster(None)
    roster.take_up(manifest)
    assert [part[3] for part in parts_of(roster)] == [False] * 4
    small, first, val, second = data(3), data(4), data(4), data(4)
    for one, split in ((small, "val"), (first, "train"), (val, "val"), (second, "train")):
        roster.add(one, split)
    assert [one.first_id for one in (small, first, val, second)] == [12, 0, 4, 8]
    assert len(roster) == 15
    assert roster.manifest().table.equals(manifest.table)
    third = data(4)
    roster.add(third, "train")
    assert (third.first_id, len(roster)) == (15, 19)


def test_another_size_after_a_resume_is_another_data_set() -> None:
    manifest = grown(("train", data(4))).manifest()
    roster, longer = Roster(None), data(5)
    roster.take_up(manifest)
    roster.add(longer, "train")
    assert longer.first_id == 4
    assert roster.is_discarded().tolist() == [False] * 9
    roster.follow([4], {})
    assert longer.is_discarded.tolist() == [True, False, False, False, False]
    assert np.flatnonzero(roster.is_discarded()).tolist() == [4]


def test_data_sets_that_came_before_the_resume_was_known_are_matched_too() -> None:
    manifest = grown(("val", data(2)), ("train", data(4))).manifest()
    train, val = data(4), data(2)
    roster = grown(("train", train), ("val", val), names=("no", "yes"))
    roster.take_up(manifest)
    assert (train.first_id, val.first_id, len(roster)) == (2, 0, 6)
    assert roster.classes == ("no", "yes")


# ---- what the rows tell --------------------------------------------------------------------------


def test_ids_of_a_person_s_own_are_parts_of_their_own() -> None:
    roster = grown(("train", data(2)))
    roster.take_own(Stretch(2, "val", "val", [-3, 10**12]))
    roster.take_own(Stretch(4, "test", "test", ["a", "train/00000"]))
    roster.take_own(Stretch(2, "val", "val", [-3, 10**12]))  # said again
    assert parts_of(roster) == [("train", 0, 2, True), ("val", 2, 2, False), ("test", 4, 2, False)]
    assert [part.is_own for part in roster.parts] == [False, True, True]
    assert roster.part_of(4) is roster.parts[2]
    assert [roster.carries(split) for split in ("train", "val", "test")] == [True, False, False]
    keys = ["train/00000", "train/00001", "val/-0003", "val/1000000000000", "a", "test/train/00000"]
    assert roster.manifest().keys.tolist() == keys
    roster.take_own(Stretch(6, "val", "val", [4]))
    assert roster.manifest().keys.tolist() == [*keys, "val/00004"]
    resumed = Roster(None)
    resumed.take_up(roster.manifest())
    assert [part.is_own for part in resumed.parts] == [False, True, True, True]
    assert resumed.manifest().table.equals(roster.manifest().table)
    resumed.take_own(Stretch(7, "val", "val", [5]))
    assert resumed.manifest().keys[-1] == "val/00005"


def test_a_label_is_learnt_once_and_none_is_no_news() -> None:
    roster = Roster(None)
    roster.take_own(Stretch(0, "train", "train", [7, 8]))
    assert not roster.learn(ids(0), ids(UNLABELLED), "train")
    assert roster.classes == ("0",)
    roster.learn(ids(1), ids(1), "train")
    assert not roster.learn(ids(0), ids(UNLABELLED), "train")
    assert not roster.learn(ids(1), ids(0), "train")
    assert not roster.learn(ids(), ids(), "train")
    assert roster.learn(ids(0), ids(2), "train")
    assert roster.manifest().labels.tolist() == [2, 1]
    assert roster.classes == ("0", "1", "2")
