"""Canaries: planted after the first epoch, taken out before the end, never shown, never exported, replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import At, assert_bit_equal, last, rows, small_fit

from litscope.errors import ConfigError
from litscope.ledger.journal.actions import canaries, decisions, entries, request, submit
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.rundir import RunDir
from litscope.training.loop.canaries import draw

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
    assert decisions(run).labels == {}
    table = refresh(run).table
    judged = dict(zip(table["sample_id"].to_pylist(), table["label"].to_pylist(), strict=True))
    assert all(judged[i] == name for i, name in wrong.items() if set(labels[i]) & {1, 2, 3, 4})


def _manifest(run: RunDir, column: str) -> list[Any]:
    import pyarrow.parquet as pq

    return pq.read_table(run.manifest, columns=[column], partitioning=None)[column].to_pylist()


def test_a_resumed_run_plants_them_once_and_ends_alike(tmp_path: Path) -> None:
    small_fit(tmp_path / "whole", **FLAGS)
    small_fit(tmp_path / "cut", **{**FLAGS, "max_steps": 15})
    small_fit(tmp_path / "cut", resume=str(tmp_path / "cut"), **FLAGS)
    small_fit(tmp_path / "again", **FLAGS)
    assert_bit_equal(last(tmp_path / "again"), last(tmp_path / "whole"))
    cut, whole = RunDir(tmp_path / "cut"), RunDir(tmp_path / "whole")
    assert canaries(cut) == canaries(whole)
    assert [entry.action["what"] for entry in entries(cut)] == ["relabel", "undo"]


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
