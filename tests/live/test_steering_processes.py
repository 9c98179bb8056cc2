"""Actions reach a job in another process, and several ranks alike."""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small_runs import assert_bit_equal, last, rows
from started_runs import start, wait_for_step

from litscope.cli import main
from litscope.ledger.journal.actions import entries, request, submit
from litscope.rundir import RunDir, read_lines
from litscope.training.settings import Settings

ONE: dict[str, Any] = {"devices": "1", "strategy": "auto", "log_every_n_steps": 1}


def test_a_person_steers_a_job_from_another_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    job = start(run, **ONE, epochs=5000)
    wait_for_step(job, run, 5)

    def ask(*words: str) -> str:
        assert main([*words, "--wait", "30"]) == 0, capsys.readouterr()
        return capsys.readouterr().out

    assert "applied" in ask("pause", str(run))
    steps = len(read_lines(RunDir(run).step_metrics))
    assert "accuracy" in ask("evaluate", str(run), "--now", "--split", "val")
    assert "applied" in ask("discard", str(run), "--where", "split = 'train' and sample_id % 5 = 0")
    assert len(read_lines(RunDir(run).step_metrics)) == steps, "nothing is trained in a pause"
    assert "applied" in ask("set", str(run), "lr=0.01")
    assert "applied" in ask("resume", str(run))
    wait_for_step(job, run, read_lines(RunDir(run).step_metrics)[-1]["step"] + 5)
    assert read_lines(RunDir(run).step_metrics)[-1]["lr"] == 0.01
    assert "applied" in ask("stop", str(run))
    _, words = job.communicate(timeout=60)
    assert job.returncode == 0, words
    assert {entry.status for entry in entries(RunDir(run))} == {"applied"}
    assert "No trainer is running" in _told(capsys, "tag", str(run), "odd", "--id", "3")


def _told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    told = capsys.readouterr()
    return told.out + told.err


@pytest.mark.slow
def test_a_kill_in_a_pause_loses_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start(run, **ONE, epochs=8)
    submit_later(run, request("discard", sample_id=[1, 2, 3], at_step=9), request("pause", at_step=13))
    deadline = time.monotonic() + 120
    while not any(e.answer and e.action["what"] == "pause" for e in entries(RunDir(run))):
        assert time.monotonic() < deadline
        assert job.poll() is None, job.communicate()[1]
        time.sleep(0.05)
    job.send_signal(signal.SIGKILL)
    job.communicate()
    again = start(run, **ONE, epochs=8, resume=str(run))
    _, words = again.communicate(timeout=120)
    assert again.returncode == 0, words
    whole = RunDir.create(tmp_path / "whole")
    submit(whole, request("discard", sample_id=[1, 2, 3], at_step=9))
    job = start(whole.path, **ONE, epochs=8)
    _, words = job.communicate(timeout=120)
    assert job.returncode == 0, words
    assert_bit_equal(last(run), last(whole.path))


def submit_later(run: Path, *actions: dict[str, Any]) -> None:
    """Before the job has made the folder: it takes what lies in the journal when it starts."""
    RunDir.create(run)
    for action in actions:
        submit(RunDir(run), action)


@pytest.mark.slow
def test_all_ranks_apply_the_same_actions_after_the_same_step(tmp_path: Path) -> None:
    run = tmp_path / "run"
    gone = list(range(0, 150, 10))
    submit_later(
        run,
        request("discard", sample_id=gone, at_step=4),
        request("relabel", sample_id=[51, 52], label="setosa", at_step=5),
        request("set", settings={"batch_size": 8, "lr_scale": 0.5}, at_step=5),
        request("evaluate", split="val", at_step=6),
        request("discard", sample_id=[999], at_step=6),
    )
    job = start(run, epochs=4, log_every_n_steps=1)
    live = request("tag", tag="late", sample_id=[1])
    submit(RunDir(run), live)
    _, words = job.communicate(timeout=300)
    assert job.returncode == 0, words
    found = {entry.action["id"]: entry for entry in entries(RunDir(run))}
    assert [entry.status for entry in found.values()] == [*["applied"] * 4, "refused", "applied"]
    seen = rows(run, split="train")
    by_epoch: dict[int, Counter[int]] = {}
    for epoch, step, sample_id in zip(*(seen[n].to_pylist() for n in ("epoch", "step", "sample_id")), strict=True):
        by_epoch.setdefault(epoch, Counter())[sample_id] += 1
        assert step < 4 or sample_id not in gone
    assert all(set(counts.values()) == {1} for counts in by_epoch.values()), "each sample once an epoch, on one rank"
    assert set(by_epoch[3]) == set(by_epoch[2])
    labels = {(s, i): y for s, i, y in zip(*(seen[n].to_pylist() for n in ("step", "sample_id", "label")), strict=True)}
    assert all(label == 0 for (step, i), label in labels.items() if i in (51, 52) and step >= 5)
    sizes = Counter(seen["step"].to_pylist())
    assert max(sizes[step] for step in sizes if step >= 2 * 4) <= 16, "batches of eight on each of two ranks"
    evaluation = next(entry.answer for entry in found.values() if entry.action["what"] == "evaluate")
    assert evaluation is not None
    assert 0 <= evaluation["metrics"]["accuracy"] <= 1


def test_settings_start_from_the_recipe(tmp_path: Path) -> None:
    from litscope.config.flags import recipe_from_keywords

    base = Settings.of_recipe(recipe_from_keywords(dataset="iris", epochs=7, batch_size=16, optimizer="sgd"))
    assert (base.epochs, base.batch_size, base.weight_decay, base.early_stopping) == (7, 16, 5e-4, False)
    assert base.with_({"patience": 3}).early_stopping
    assert not base.with_({"patience": 3, "early_stopping": False}).early_stopping
