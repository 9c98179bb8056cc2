"""The queue of suspects: order, what is left out, what each row says."""

from __future__ import annotations

from pathlib import Path

import pytest
from asked_runs import NUM_EPOCHS, act, asked_run

from litscope.errors import ConfigError, RunError
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.suspects import suspects, trajectories
from litscope.rundir import RunDir, write_json


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return asked_run(tmp_path / "run")


def ids(run: RunDir, *arguments: object, **options: object) -> list[int]:
    return suspects(run, *arguments, **options).table["sample_id"].to_pylist()  # type: ignore[arg-type]


def test_the_most_suspicious_come_first(run: RunDir) -> None:
    found = suspects(run, 3)
    assert found.table["rank"].to_pylist() == [1, 2, 3]
    assert found.table["sample_id"].to_pylist() == [7, 2, 5]
    assert found.num_ranked == 12
    row = found.table.to_pylist()[0]
    scores = {r["sample_id"]: r for r in refresh(run).table.to_pylist()}[7]
    expected = {
        "rank": 1,
        "sample_id": 7,
        "key": "train/bee/07.png",
        "label": 1,
        "label_name": "bee",
        "believed_label": 2,
        "believed_name": "wasp",
        **{name: scores[name] for name in ("suspicion", "aum", "el2n", "first_learned_epoch", "num_visits")},
        "p_label": pytest.approx(0.02),
        "status": None,
        "tags": [],
        "recall_low": None,
        "recall_high": None,
    }
    assert row == expected
    assert row["first_learned_epoch"] == -1
    assert row["num_visits"] == NUM_EPOCHS


def test_all_are_ranked_without_a_limit_and_each_split_alone(run: RunDir) -> None:
    everyone = suspects(run, None)
    assert sorted(everyone.table["sample_id"].to_pylist()) == list(range(12))
    values = everyone.table["suspicion"].to_pylist()
    assert values == sorted(values, reverse=True)
    assert sorted(ids(run, None, split="val")) == [12, 13, 14]


def test_what_was_decided_leaves_the_queue(run: RunDir) -> None:
    act(run, "discard", [7])
    act(run, "discard", [2], who="litscope policy")
    act(run, "relabel", [5], label="ant", is_applied=False)
    act(run, "tag", [0], tag="ok")
    act(run, "tag", [1], tag="odd")
    assert set(range(12)) - set(ids(run, None)) == {0, 2, 5, 7}
    found = suspects(run, None, with_decided=True)
    assert found.table["sample_id"].to_pylist()[:3] == [7, 2, 5]
    status = {row["sample_id"]: (row["status"], row["tags"]) for row in found.table.to_pylist()}
    assert status[7] == ("discarded", [])
    assert status[5] == ("relabelled", [])
    assert status[1] == ("tagged", ["odd"])
    assert status[3] == (None, [])


def test_a_restored_sample_is_back(run: RunDir) -> None:
    act(run, "discard", [7])
    act(run, "restore", [7])
    assert ids(run, 1) == [7]


def test_canaries_never_appear_and_give_the_recall_at_each_rank(tmp_path: Path) -> None:
    planted = {0: 1, 4: 2}
    run = asked_run(tmp_path / "run", labels=planted)
    drawn = {"canary": True, "drawn_from": ["classes", "sample"]}
    plant = act(run, "relabel", [0, 4], label=["bee", "wasp"], who="litscope", **drawn)
    act(run, "undo", action=plant, who="litscope")
    for with_decided in (False, True):
        found = suspects(run, None, with_decided=with_decided)
        assert not {0, 4} & set(found.table["sample_id"].to_pylist())
        assert found.num_ranked == 10
    told = found.trust.canaries.recall(found.queue)
    assert told.told_from is not None
    assert told.ranks_of_most is not None
    for name, limit in (("recall_low", told.low), ("recall_high", told.high)):
        column = found.table[name].to_pylist()
        assert column[: told.told_from - 1] == [None] * (told.told_from - 1)
        assert column[told.told_from - 1 :] == limit[told.told_from - 1 :].tolist()
        assert column[told.told_from - 1 :] == sorted(column[told.told_from - 1 :])
    assert found.table["recall_high"][-1].as_py() == 1.0
    last = found.trust.canaries.found(found.queue[-1])
    assert all(one.share == 1.0 for one in last.values())
    told_of = "of the wrong labels are found (canaries: 1 of 1 drawn from confused classes, 1 of 1"
    assert any(told_of in sentence for sentence in found.sentences())


def test_a_relabelled_sample_is_judged_by_its_new_label(tmp_path: Path) -> None:
    """Sample 7 looks like a wasp; once it is trained as one, it is no suspect."""
    run = asked_run(tmp_path / "run", labels={7: 2})
    row = next(r for r in suspects(run, None, with_decided=True).table.to_pylist() if r["sample_id"] == 7)
    assert (row["label_name"], row["believed_name"]) == ("wasp", "wasp")
    assert row["first_learned_epoch"] == 0


def test_trajectories_are_p_label_by_epoch(run: RunDir) -> None:
    found = trajectories(run, [5, 12, 99])
    assert found[5] == pytest.approx([0.3, 0.3, 0.85, 0.85])
    assert len(found[12]) == NUM_EPOCHS
    assert found[99] == [None] * NUM_EPOCHS
    assert trajectories(run, [5], [1, 3, 9]) == {5: [found[5][1], found[5][3], None]}
    assert trajectories(run, [5], []) == {5: []}


def test_suspicion_is_told_as_a_rank_beside_the_probability(run: RunDir) -> None:
    found = suspects(run, 3)
    assert found.table["p_label"].to_pylist() == pytest.approx([0.02, 0.1, 0.575])
    said = " ".join(found.sentences())
    assert "suspicion is a rank in the split" in said
    assert "no probability that a label is wrong" in said
    assert "p(label) is the probability that the network gives the label, mean over the last 5 epochs" in said
    assert set(found.facts()["meaning"]) == {"suspicion", "p_label"}


def test_while_the_network_learns_the_order_is_not_to_be_decided_by(tmp_path: Path) -> None:
    for num_epochs in (1, 3):  # of the first epoch nothing is known; in the third, more changes than before
        run = asked_run(tmp_path / f"run-{num_epochs}", num_epochs=num_epochs)
        found = suspects(run)
        assert found.is_training
        assert found.warning is not None
        assert "still learning" in found.warning
        assert "do not decide by this order; look again when more epochs are complete" in found.warning
        assert (found.facts()["warning"], found.facts()["clock"]["is_learning"]) == (found.warning, True)
    write_json(run.summary, {"status": "finished"})
    ended = suspects(run).warning
    assert ended is not None
    assert f"train longer (litscope fit --resume {run.path} with more epochs), and look again" in ended
    calm = suspects(asked_run(tmp_path / "calm"))
    assert (calm.warning, calm.facts()["clock"]["is_learning"]) == (None, False)


def test_what_cannot_be_ranked(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="-n 0: it is 1 or more"):
        suspects(run, 0)
    with pytest.raises(RunError, match="nothing of split 'test'; it has train, val"):
        suspects(run, split="test")
    with pytest.raises(RunError, match="no epoch is complete"):
        suspects(asked_run(tmp_path / "new", num_epochs=0))
