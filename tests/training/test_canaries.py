"""Canaries: planted after the first epoch, taken out before the end, never shown, never exported, replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import At, assert_bit_equal, last, rows, small_fit

from litscope.errors import ConfigError
from litscope.ledger.journal.actions import canaries, canary_kinds, decisions, entries, request, submit
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.rundir import RunDir
from litscope.training.loop.canaries import Plan, draw

FLAGS: dict[str, Any] = {"epochs": 6, "canaries": 0.1}


def test_they_come_after_the_first_epoch_and_go_before_the_last_fifth(tmp_path: Path) -> None:
    run = small_fit(tmp_path / "run", **FLAGS).run
    planted = canaries(run)
    wrong = {i: int(name) for i, name in planted.items()}
    seen = rows(run.path, split="train")
    labels: dict[int, dict[int, int]] = {}
    for epoch, sample_id, label in zip(*(seen[n].to_pylist() for n in ("epoch", "sample_id", "label")), strict=True):
        labels.setdefault(sample_id, {})[epoch] = label
    manifest = dict(zip(*(_manifest(run, name) for name in ("sample_id", "label")), strict=True))
    splits = dict(zip(*(_manifest(run, name) for name in ("sample_id", "split")), strict=True))
    assert {splits[i] for i in planted} == {"train"}
    assert len(planted) == pytest.approx(0.1 * 6 * 32, abs=1), "of the samples that the first epoch saw"
    for sample_id, name in wrong.items():
        assert name != manifest[sample_id]
        for epoch, label in labels.get(sample_id, {}).items():
            assert label == (name if 1 <= epoch <= 4 else manifest[sample_id]), (sample_id, epoch)
    assert [entry.action["what"] for entry in entries(run)] == ["relabel", "undo"]
    kinds = list(canary_kinds(run).values())
    assert kinds.count("sample") == len(planted) // 2, "half of them, rounded down, are drawn for their sample"
    assert kinds.count("classes") == len(planted) - len(planted) // 2
    assert decisions(run).labels == {}
    table = refresh(run).table
    judged = dict(zip(table["sample_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert all(judged[i] == name for i, name in wrong.items() if set(labels[i]) & {1, 2, 3, 4})


def _manifest(run: RunDir, column: str) -> list[Any]:
    import pyarrow.parquet as pq

    return pq.read_table(run.manifest, columns=[column], partitioning=None)[column].to_pylist()


@pytest.mark.slow
def test_a_resumed_run_plants_them_once_and_ends_alike(tmp_path: Path) -> None:
    small_fit(tmp_path / "whole", **FLAGS)
    small_fit(tmp_path / "cut", **{**FLAGS, "max_steps": 15})
    small_fit(tmp_path / "cut", resume=str(tmp_path / "cut"), **FLAGS)
    small_fit(tmp_path / "again", **FLAGS)
    assert_bit_equal(last(tmp_path / "again"), last(tmp_path / "whole"))
    cut, whole = RunDir(tmp_path / "cut"), RunDir(tmp_path / "whole")
    assert canaries(cut) == canaries(whole)
    assert canary_kinds(cut) == canary_kinds(whole)
    assert [entry.action["what"] for entry in entries(cut)] == ["relabel", "undo"]


@pytest.mark.slow
def test_a_run_that_is_stopped_takes_them_out_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = RunDir(tmp_path / "run")
    small_fit(run.path, callbacks=[At(14, lambda: submit(run, request("stop")))], **FLAGS)
    assert [entry.action["what"] for entry in entries(run)] == ["relabel", "stop", "undo"]
    assert entries(run)[0].status == "undone"
    assert "ends with its canaries in place" in capsys.readouterr().err


def test_wrong_labels_follow_the_models_own_confusions() -> None:
    n = 3000
    ids = np.arange(n)
    label = ids % 3
    pred = np.where(ids % 6 == 0, 1, label)  # half of class 0 is taken for 1, the others never err
    chosen, wrong = draw(ids, label, pred, ids[:1500], 3, 0.5, seed=7)
    assert len(chosen) == 750
    assert chosen.max() < 1500
    assert (np.diff(chosen) > 0).all()
    assert (wrong != label[chosen]).all()
    of_zero = wrong[label[chosen] == 0]
    assert (of_zero == 1).mean() > 0.98
    of_two = wrong[label[chosen] == 2]
    assert 0.4 < (of_two == 0).mean() < 0.6, "without any confusion, all wrong classes are as likely"
    again = draw(ids[::-1], label[::-1], pred[::-1], ids[:1500], 3, 0.5, seed=7)
    assert np.array_equal(again[0], chosen)
    assert np.array_equal(again[1], wrong), "the order of the rows does not matter"


def test_the_wrong_label_of_a_sample_follows_what_the_network_thinks_of_it() -> None:
    n, asked = 4_000, np.arange(0, 8_000, 2)
    luck = np.random.default_rng(0).random(n)
    plan = Plan(asked, np.zeros(n, np.int64), asked, luck)
    p = np.tile(np.array([0.9, 0.075, 0.025, 0.0], np.float32), (n, 1))
    own = np.zeros(n, np.int64)
    own[: n // 2] = 3  # the label of the first half is the one that the network rules out
    order = np.random.default_rng(1).permutation(n)
    padding = np.full(3, -1)
    found = plan.tempting(
        np.append(asked[order], padding), np.append(own[order], padding), np.append(p[order], p[:3], axis=0)
    )
    assert sorted(found) == asked.tolist()
    wrong = np.array([found[i] for i in asked.tolist()])
    assert (wrong != own).all()
    assert np.bincount(wrong[: n // 2], minlength=4) / (n // 2) == pytest.approx([0.9, 0.075, 0.025, 0], abs=0.02)
    assert np.bincount(wrong[n // 2 :], minlength=4) / (n // 2) == pytest.approx([0, 0.75, 0.25, 0], abs=0.03)
    halves = [slice(0, n // 2), slice(n // 2, n)]
    parts = [plan.tempting(asked[part], own[part], p[part]) for part in halves]
    assert parts[0] | parts[1] == found, "it does not matter who asks, and in which batches"


def test_a_network_that_is_certain_leaves_every_wrong_class_to_chance() -> None:
    asked = np.arange(3_000)
    plan = Plan(asked, asked, asked, np.random.default_rng(0).random(3_000))
    certain = np.tile(np.array([0.0, 1.0, 0.0], np.float32), (3_000, 1))
    found = np.array(list(plan.tempting(asked, np.ones(3_000, np.int64), certain).values()))
    assert np.bincount(found, minlength=3) / 3_000 == pytest.approx([0.5, 0, 0.5], abs=0.05)


@pytest.mark.slow
def test_two_ranks_plant_canaries_of_both_kinds(tmp_path: Path) -> None:
    """Each asks its network about its share of the samples; it is the same network as one process has."""
    run = small_fit(tmp_path / "two", **FLAGS, devices=2).run
    kinds = list(canary_kinds(run).values())
    assert 0 < kinds.count("sample") == len(kinds) // 2
    assert [entry.action["what"] for entry in entries(run)] == ["relabel", "undo"]


@pytest.mark.flag("--canaries")
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"canaries": 0.7}, "less than 0.5"),
        ({"canaries": 0.1, "ledger": False, "epochs": 9}, "without the ledger"),
        ({"canaries": 0.1, "epochs": 3}, "at least 5 epochs"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, flags: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        small_fit(tmp_path / "run", **flags)
    assert not (tmp_path / "run").exists()
