"""What of a person's own training people can change: over several data sets, at the edge of what has to stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from litscope.errors import ConfigError
from litscope.ledger.journal.actions import decide, request
from litscope.live.steered import Moment
from litscope.watch import with_ids
from litscope.watch.rates import Rates
from litscope.watch.samples.roster import Roster
from litscope.watch.target import WatchedTraining

SIZES = {"train": 5, "val": 3, "test": 1}
"""ids 0 to 4, 5 to 7 and 8."""


def data(count: int) -> Any:
    """A wrapped data set that a loader draws from which follows discards."""
    found = with_ids(TensorDataset(torch.zeros(count, 1), torch.arange(count) % 2))
    found.is_steered = True
    return found


@pytest.fixture
def sets() -> list[Any]:
    """Those of `roster`, in the order of ids."""
    return [data(count) for count in SIZES.values()]


@pytest.fixture
def roster(sets: list[Any]) -> Roster:
    found = Roster(("no", "yes"))
    for split, one in zip(SIZES, sets, strict=True):
        found.add(one, split)
    return found


@pytest.fixture
def training(roster: Roster, tmp_path: Path) -> WatchedTraining:
    return WatchedTraining(roster, Rates(), tmp_path / "checkpoints")


def follow(training: WatchedTraining, *actions: tuple[str, dict[str, Any]], num_ranks: int = 1) -> list[str]:
    decisions = decide([request(what, **arguments) for what, arguments in actions])
    return training.follow(decisions, Moment(3, 0, 3, False), num_ranks)


def discard(*sample_ids: int) -> tuple[str, dict[str, Any]]:
    return "discard", {"sample_id": list(sample_ids)}


def labels(sets: list[Any]) -> list[int]:
    """Of each item, as a loader reads it; the id is its last part."""
    items = [one[i] for one in sets for i in range(len(one))]
    assert [item[-1] for item in items] == list(range(sum(SIZES.values())))
    return [int(item[1]) for item in items]


# ---- several data sets ---------------------------------------------------------------------------


def test_each_data_set_follows_its_own_samples(training: WatchedTraining, roster: Roster, sets: list[Any]) -> None:
    follow(training, discard(4, 5), ("relabel", {"sample_id": [0, 5, 8], "label": ["yes", "yes", "yes"]}))
    assert np.flatnonzero(roster.is_discarded()).tolist() == [4, 5]
    assert labels(sets) == [1, 1, 0, 1, 0, 1, 1, 0, 1]
    assert [one.has_discarded for one in sets] == [True, True, False]
    assert training.ids_of("val").tolist() == [6, 7]
    follow(training, ("relabel", {"sample_id": [7], "label": "yes"}))
    assert not roster.is_discarded().any()
    assert labels(sets) == [0, 1, 0, 1, 0, 0, 1, 1, 0], "what holds no longer is as it was"


def test_edits_of_validation_samples_count_once_each(training: WatchedTraining) -> None:
    note = ["metrics of val or test before and after this cannot be compared"]
    assert follow(training, discard(0)) == []
    assert follow(training, discard(0, 5)) == note
    assert follow(training, discard(0, 1, 5)) == []
    assert follow(training, discard(0, 1)) == note
    assert training.num_edits == 2


def test_data_sets_of_an_earlier_attempt_wait_for_their_loader(roster: Roster, tmp_path: Path) -> None:
    """Before the loader of `val` is seen again nobody can leave out its samples; weights need no data set."""
    again = Roster(None)
    again.take_up(roster.manifest())
    train = data(SIZES["train"])
    again.add(train, "train")
    training = WatchedTraining(again, Rates(), tmp_path)
    training.are_weights_used = True
    with pytest.raises(ConfigError, match="sample_id 6: no loader has shown its data set"):
        follow(training, discard(0, 6))
    with pytest.raises(ConfigError, match="sample_id 8: no loader has shown its data set"):
        follow(training, ("relabel", {"sample_id": [8], "label": "yes"}))
    assert follow(training, discard(4), ("reweight", {"sample_id": [6], "weight": 2.0})) == []
    assert np.flatnonzero(again.is_discarded()).tolist() == [4]


def test_a_data_set_that_no_steered_loader_draws_from_keeps_its_samples(
    training: WatchedTraining, roster: Roster
) -> None:
    extra = with_ids(TensorDataset(torch.zeros(2, 1), torch.zeros(2, dtype=torch.int64)))
    roster.add(extra, "train")
    with pytest.raises(ConfigError, match="sample_id 9: no loader that litscope can steer draws it"):
        follow(training, discard(9))
    follow(training, ("relabel", {"sample_id": [10], "label": "yes"}))
    assert [int(extra[i][1]) for i in range(2)] == [0, 1]


# ---- limits --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gone", "num_ranks", "refusal"),
    [
        ((0, 1, 2), 1, None),
        ((0, 1, 2, 3), 1, "1 samples of train; at least 2"),
        ((0,), 2, None),
        ((0, 1), 2, "3 samples of train; at least 4"),
        ((5, 6), 1, None),
        ((5, 6, 7), 1, "0 samples of val; at least 1"),
        ((8,), 1, "0 samples of test; at least 1"),
        ((9,), 1, "sample_id 9: the run has seen 9 samples"),
    ],
)
def test_so_many_samples_have_to_stay(
    training: WatchedTraining, roster: Roster, gone: tuple[int, ...], num_ranks: int, refusal: str | None
) -> None:
    if refusal is None:
        follow(training, discard(*gone), num_ranks=num_ranks)
        assert np.flatnonzero(roster.is_discarded()).tolist() == list(gone)
    else:
        with pytest.raises(ConfigError, match=refusal):
            follow(training, discard(*gone), num_ranks=num_ranks)
        assert not roster.is_discarded().any(), "nothing has changed"


def test_a_class_that_is_none_is_named(training: WatchedTraining) -> None:
    with pytest.raises(ConfigError, match=r"'yess' is not a class of this run. Did you mean 'yes'"):
        follow(training, ("relabel", {"sample_id": [0], "label": "yess"}))


# ---- weights and settings ------------------------------------------------------------------------


def test_weights_of_a_loop_that_asks_for_them(training: WatchedTraining) -> None:
    reweight = ("reweight", {"sample_id": [1, 7], "weight": 0.5})
    with pytest.raises(ConfigError, match="does not ask for weights"):
        follow(training, reweight)
    follow(training, ("reweight", {"sample_id": [1], "weight": 1.0}))  # as it was: needs nothing
    batch = torch.tensor([7, 0, 1])
    assert training.weight_of(batch).tolist() == [1, 1, 1]
    assert not training.has_weights
    follow(training, reweight)
    assert training.weight_of(batch).tolist() == [0.5, 1, 0.5]
    follow(training, ("reweight", {"sample_id": [0], "weight": 3.0}))
    assert training.weight_of(batch).tolist() == [1, 3, 1]
    follow(training)
    assert not training.has_weights


def test_settings_need_an_optimizer_and_some_are_the_loop_s_own(roster: Roster, tmp_path: Path) -> None:
    rates = Rates()
    training = WatchedTraining(roster, rates, tmp_path)
    lr = ("set", {"settings": {"lr": 0.5}})
    with pytest.raises(ConfigError, match="did not say which optimizer"):
        follow(training, lr)
    rates.watch([torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)])
    with pytest.raises(ConfigError, match="epochs belongs to your own loop"):
        follow(training, ("set", {"settings": {"lr_scale": 2.0, "epochs": 3}}))
    assert rates.effective() == 0.1
    follow(training, lr)
    assert rates.effective() == 0.5
    follow(training, ("set", {"settings": {"lr_scale": 2.0}}))
    assert rates.effective() == pytest.approx(0.2)
    follow(training)
    assert rates.effective() == 0.1


def test_a_checkpoint_needs_a_way_to_save(training: WatchedTraining, tmp_path: Path) -> None:
    moment = Moment(12, 0, 12, False)
    with pytest.raises(ConfigError, match="did not say how to save itself"):
        training.save_copy(moment)
    training.save = lambda path: path.write_text("weights")
    path = training.save_copy(moment)
    assert path == str(tmp_path / "checkpoints" / "step00000012.ckpt")
    assert Path(path).read_text() == "weights"
