"""Scores kept up to date: incremental and from scratch agree, whatever happens to the run in between."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from growing_runs import BATCH, NAMES, SAMPLES, STEPS, TEST, VAL, Training, assert_same, from_scratch, refreshed
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import At, send, small_fit

from litscope.errors import Interrupted
from litscope.ledger.journal.actions import answer, request, submit
from litscope.ledger.reader import LedgerReader
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA
from litscope.ledger.scoring.scorekeeper import Scores, refresh
from litscope.rundir import RunDir, append_line
from litscope.training.fit import fit


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "run")
    manifest = pa.table({"sample_id": pa.array(range(SAMPLES + VAL), pa.int64())})
    pq.write_table(manifest.replace_schema_metadata({b"litscope": json.dumps({"classes": NAMES})}), run.manifest)
    return run


def column(scores: Scores, name: str) -> dict[int, Any]:
    return dict(zip(scores.table["sample_id"].to_pylist(), scores.table[name].to_pylist(), strict=True))


def reads(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> tuple[Scores, set[int]]:
    """A refresh, and the epochs whose rows it read."""
    read: set[int] = set()
    table = LedgerReader.table

    def watched(reader: LedgerReader, *args: Any, **kwargs: Any) -> pa.Table:
        found = table(reader, *args, **kwargs)
        if "epoch" in found.column_names:
            read.update(found["epoch"].to_pylist())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(LedgerReader, "table", watched)
        return refresh(run), read


# ---- going on --------------------------------------------------------------------------------


def test_epoch_by_epoch_is_the_same_as_from_scratch(run: RunDir) -> None:
    training = Training(run)
    for epoch in range(9):
        training.finish_epoch()
        scores = refreshed(run)
        assert scores.clock.num_epochs == epoch + 1
        assert set(column(scores, "num_visits").values()) == {epoch + 1}
    assert scores.table.schema.equals(SCORE_SCHEMA)
    assert column(scores, "split") == {i: "train" if i < SAMPLES else "val" for i in range(SAMPLES + VAL)}
    assert scores.clock.window == (4, 8)
    assert math.isnan(scores.clock.changing[0])
    assert all(0 <= share <= 1 for share in scores.clock.changing[1:])


@pytest.mark.slow
def test_several_epochs_at_once_are_the_same_too(run: RunDir) -> None:
    training = Training(run)
    for num_epochs in (1, 4, 3, 5):
        for _ in range(num_epochs):
            training.finish_epoch()
        refreshed(run)


def test_a_new_epoch_reads_that_epoch_and_the_one_that_leaves_the_window(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(run)
    for _ in range(7):
        training.finish_epoch()
    assert reads(run, monkeypatch)[1] == set(range(7))
    training.finish_epoch()
    scores, read = reads(run, monkeypatch)
    assert scores.clock.window == (3, 7)
    assert read == {7}
    training.finish_epoch()
    scores, read = reads(run, monkeypatch)
    assert scores.clock.window == (4, 8)
    assert read == {8, 3}
    assert reads(run, monkeypatch)[1] == set()


def test_an_epoch_that_still_runs_is_not_counted(run: RunDir) -> None:
    training = Training(run)
    training.finish_epoch()
    before = refreshed(run)
    training.train(2)
    assert_same(refreshed(run), before)
    training.finish_epoch()
    assert set(column(refreshed(run), "num_visits").values()) == {2}


def test_without_epochs_jsonl_every_recorded_epoch_counts(run: RunDir) -> None:
    training = Training(run)
    training.finish_epoch()
    training.train(1)
    run.epoch_metrics.unlink()
    assert refreshed(run).clock.num_epochs == 2
    training.train(1)  # more rows of an epoch that was counted
    scores = refreshed(run)
    assert sorted(column(scores, "num_visits").values()) == [1] * (SAMPLES + VAL - 2 * BATCH) + [2] * 2 * BATCH


def test_a_run_without_signals(run: RunDir) -> None:
    scores = refreshed(run)
    assert scores.table.num_rows == 0
    assert scores.clock.num_epochs == 0
    append_line(run.epoch_metrics, {"epoch": 0, "step": 3, "attempt": 1})
    assert refreshed(run).clock.num_epochs == 1


def test_several_ranks_are_one_run(run: RunDir, tmp_path: Path) -> None:
    alone = Training(run, num_ranks=2)
    for _ in range(3):
        alone.finish_epoch()
        scores = refreshed(run)
    assert {part.name[:10] for part in run.signals.iterdir()} == {"a0001-r000", "a0001-r001"}
    assert set(column(scores, "num_visits").values()) == {3}


def test_the_test_after_the_last_epoch_is_counted_late_without_starting_anew(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(run)
    for _ in range(3):
        training.finish_epoch()
    before = refresh(run)
    training.write(np.array([30, 31]), 2, "test", "eval")
    scores, read = reads(run, monkeypatch)
    assert read == {2}
    assert_same(scores, from_scratch(run))
    assert scores.table.num_rows == before.table.num_rows + 2
    assert column(scores, "suspicion")[30] in (0.0, 0.5, 1.0)
    training.write(np.array([30, 31, 32]), 2, "test", "eval")  # and once more, in the same epoch
    again = refreshed(run)
    assert again.table.num_rows == before.table.num_rows + 3
    assert set(column(again, "num_visits").values()) == {3, 1}


class Deed(NamedTuple):
    """Something that happens to a run; `number` says how much, where, or to whom."""

    what: str
    number: int


DEEDS = ("finish an epoch", "finish an epoch", "train", "resume", "relabel", "test", "refresh", "refresh")


@settings(max_examples=10, deadline=None)
@given(st.lists(st.builds(Deed, st.sampled_from(DEEDS), st.integers(0, 11)), max_size=14))
def test_whatever_happens_in_between_the_scores_are_those_from_scratch(deeds: list[Deed]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = RunDir.create(Path(folder) / "run")
        training = Training(run)
        for deed in deeds:
            match deed.what:
                case "finish an epoch":
                    training.finish_epoch()
                case "train":
                    training.train(1 + deed.number % 2)
                case "resume":
                    training.resume(min(deed.number, training.step))
                case "relabel":
                    training.label[deed.number] = (training.label[deed.number] + 1) % 3
                case "test":
                    epoch = max(0, training.step - 1) // STEPS
                    training.write(SAMPLES + VAL + np.arange(1 + deed.number % TEST), epoch, "test", "eval")
                case "refresh":
                    refresh(run)
        refreshed(run)


# ---- resumed runs ----------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("step", [0, 3, 4, 6, 8])
def test_a_resume_that_supersedes_counted_epochs(run: RunDir, step: int) -> None:
    training = Training(run)
    for _ in range(3):
        training.finish_epoch()
    before = refreshed(run)
    training.resume(step)
    assert refreshed(run).clock.num_epochs == step // STEPS
    for _ in range(3 - step // STEPS):
        training.finish_epoch()
    after = refreshed(run)
    assert after.clock.num_epochs == 3
    assert column(after, "aum") != column(before, "aum")


def test_a_resume_at_the_end_of_what_was_counted_goes_on(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(run)
    for _ in range(3):
        training.finish_epoch()
    training.train(1)
    refresh(run)
    training.resume(9)
    training.finish_epoch()
    scores, read = reads(run, monkeypatch)
    assert read == {3}
    assert_same(scores, from_scratch(run))


@pytest.mark.parametrize("validates", [False, True])
def test_a_resume_that_supersedes_training_rows_alone(run: RunDir, validates: bool) -> None:
    """In an epoch that is not over, which counts where epochs.jsonl is absent: no validation says that it is void."""
    training = Training(run)
    training.train(3)
    if validates:
        training.evaluate(0)
    training.train(2)
    assert sum(column(refreshed(run), "num_visits").values()) == SAMPLES + VAL * validates + 2 * BATCH
    training.resume(4)  # the last step that was counted
    assert sum(column(refreshed(run), "num_visits").values()) == SAMPLES + VAL * validates + BATCH


def test_a_resume_that_repeats_the_validation(run: RunDir) -> None:
    training = Training(run)
    training.finish_epoch()
    before = refreshed(run)
    training.resume(3)
    training.evaluate(0)
    after = refreshed(run)
    assert column(after, "num_visits") == column(before, "num_visits")
    differ = {i for i, aum in column(after, "aum").items() if aum != column(before, "aum")[i]}
    assert differ == set(range(SAMPLES, SAMPLES + VAL))


def test_a_part_that_was_moved_away(run: RunDir) -> None:
    training = Training(run)
    for _ in range(2):
        training.finish_epoch()
    refresh(run)
    sorted(run.signals.iterdir())[1].unlink()
    assert sorted(column(refreshed(run), "num_visits").values()) == [1] * BATCH + [2] * (SAMPLES + VAL - BATCH)


# ---- labels ----------------------------------------------------------------------------------


def test_a_relabelled_sample_starts_anew(run: RunDir) -> None:
    training = Training(run)
    for epoch in range(6):
        if epoch == 3:
            training.label[5] = 0
        training.finish_epoch()
        scores = refreshed(run)
    assert column(scores, "label")[5] == 0
    assert column(scores, "num_visits")[5] == 3
    assert column(scores, "num_visits")[6] == 6


def test_a_pinned_sample_keeps_the_scores_of_its_planted_label(run: RunDir) -> None:
    training = Training(run)
    assert training.label[5] == 2
    training.finish_epoch()
    refresh(run)
    plant = request("relabel", sample_id=[5], key=["5.jpg"], label="ant", canary=True)
    submit(run, plant)
    answer(run, plant["id"], "applied", step=training.step, epoch=1, attempt=1)
    training.label[5] = 0
    for _ in range(2):
        training.finish_epoch()
        planted = refreshed(run)
    assert column(planted, "label")[5] == 0
    assert column(planted, "num_visits")[5] == 2
    training.label[5] = 2  # taken out again
    training.finish_epoch()
    after = refreshed(run)
    assert column(after, "num_visits")[5] == 2
    assert column(after, "aum")[5] == column(planted, "aum")[5]
    assert column(after, "num_visits")[6] == 4


# ---- files -----------------------------------------------------------------------------------


def test_saving_is_optional(run: RunDir) -> None:
    Training(run).finish_epoch()
    assert refresh(run, save=False).table.num_rows == SAMPLES + VAL
    assert not run.scores.exists()


def test_the_table_says_its_format_and_its_clock(run: RunDir) -> None:
    Training(run).finish_epoch()
    refresh(run)
    metadata = pq.read_schema(run.score_table).metadata
    assert metadata[b"litscope.score_format_version"] == b"1"
    assert json.loads(metadata[b"litscope.clock"]) == {
        "changing": [None],
        "t_star": None,
        "window": [0, 0],
        "num_epochs": 1,
        "settled": None,
    }


def _garbage(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 not really")


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(bytes(data))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    np.savez(path, sample_id=np.arange(3))


@pytest.mark.parametrize("damage", [_garbage, _cut, _flip, _empty, _foreign])
def test_a_damaged_state_is_made_anew(run: RunDir, damage: Any) -> None:
    training = Training(run)
    training.finish_epoch()
    refresh(run)
    training.finish_epoch()
    damage(run.score_state)
    assert set(column(refreshed(run), "num_visits").values()) == {2}


@pytest.mark.parametrize("damage", [_garbage, _cut, _empty])
def test_a_damaged_table_is_made_anew(run: RunDir, damage: Any) -> None:
    Training(run).finish_epoch()
    before = refresh(run)
    damage(run.score_table)
    assert_same(refreshed(run), before)


def test_a_state_of_another_format_is_made_anew(run: RunDir) -> None:
    training = Training(run)
    training.finish_epoch()
    refresh(run)
    with np.load(run.score_state) as file:
        arrays = dict(file)
    progress = json.loads(bytes(arrays["progress"])) | {"format_version": 99}
    arrays["progress"] = np.frombuffer(json.dumps(progress).encode(), np.uint8)
    arrays["margin_sum"] = arrays["margin_sum"] + 1
    np.savez(run.score_state, **arrays)
    training.finish_epoch()
    refreshed(run)


def test_a_folder_that_cannot_be_written(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    Training(run).finish_epoch()
    run.scores.write_text("a file where the folder should be")
    assert_same(refresh(run), from_scratch(run))
    assert "could not be kept" in capsys.readouterr().err


def test_a_read_only_folder_needs_no_word(run: RunDir, tmp_path: Path) -> None:
    """As somebody who may only read. Root may write whatever the mode says, so the process becomes nobody."""
    Training(run).finish_epoch()
    for path in (run.path, *run.path.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    code = (
        "import os, sys\nfrom litscope.ledger.scoring.scorekeeper import refresh\nfrom litscope.rundir import RunDir\n"
        "os.chdir(sys.argv[1])\nif os.getuid() == 0:\n    os.setuid(65534)\n"
        "print(refresh(RunDir('.')).table.num_rows)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True)
    run.path.chmod(0o755)  # or the test's folder could not be removed
    assert done.stdout.split() == [str(SAMPLES + VAL)]
    assert done.stderr == ""
    assert not run.scores.exists()


@pytest.mark.slow
def test_two_processes_that_refresh_at_once_write_the_same(run: RunDir) -> None:
    training = Training(run)
    training.finish_epoch()
    code = (
        "import sys\nfrom litscope.ledger.scoring.scorekeeper import refresh\nfrom litscope.rundir import RunDir\n"
        "refresh(RunDir(sys.argv[1]))"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(run.path)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    both = run.score_state.read_bytes(), run.score_table.read_bytes()
    shutil.rmtree(run.scores)
    refresh(run)
    assert (run.score_state.read_bytes(), run.score_table.read_bytes()) == both
    assert sorted(path.name for path in run.scores.iterdir()) == ["scores.parquet", "state.npz"]


# ---- a real run ------------------------------------------------------------------------------


def rows_of(run: RunDir, split: str) -> dict[int, list[dict[str, Any]]]:
    """The valid rows of each sample of a split, in the order of its visits."""
    table = LedgerReader(run).table(["sample_id", "step", "phase", "label", "pred", "margin", "p_label"], split=split)
    found: dict[int, list[dict[str, Any]]] = {}
    for row in sorted(table.to_pylist(), key=lambda row: row["step"]):
        found.setdefault(row["sample_id"], []).append(row)
    return found


def assert_true_of(run: RunDir, scores: Scores) -> None:
    """A few scores, beside what the rows of a run say in which each sample comes at most once per epoch."""
    for split in ("train", "val"):
        rows = rows_of(run, split)
        of_split = scores.table.filter(pc.equal(scores.table["split"], split)).to_pylist()
        assert [found["sample_id"] for found in of_split] == sorted(rows)
        for found in of_split:
            visits = rows[found["sample_id"]]
            assert found["num_visits"] == len(visits)
            assert found["label"] == visits[0]["label"]
            assert found["aum"] == pytest.approx(np.mean([row["margin"] for row in visits]), rel=1e-5)
            assert found["variability"] == pytest.approx(np.std([row["p_label"] for row in visits]), abs=1e-6)
            assert found["last_pred"] == visits[-1]["pred"]


def test_a_real_run_while_it_trains_and_at_its_end(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    seen: list[Scores] = []
    small_fit(run.path, epochs=3, callbacks=[At(14, lambda: seen.append(refresh(run)))])
    assert seen[0].clock.num_epochs == 2
    scores = refreshed(run)
    assert scores.clock.num_epochs == 3
    assert scores.clock.changing[2] >= 0
    assert_true_of(run, scores)


@pytest.mark.slow
def test_a_real_run_that_is_interrupted_and_resumed(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with pytest.raises(Interrupted):
        small_fit(run.path, epochs=3, callbacks=[At(9, send(signal.SIGINT))])
    assert refreshed(run).clock.num_epochs == 1
    fit(resume=str(run.path))
    scores = refreshed(run)
    assert scores.clock.num_epochs == 3
    assert_true_of(run, scores)


@pytest.mark.slow
def test_a_run_with_mixup_is_scored_from_its_clean_passes(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    small_fit(run.path, mixup=0.4)
    scores = refreshed(run)
    assert {row["phase"] for rows in rows_of(run, "train").values() for row in rows} == {"eval"}
    assert_true_of(run, scores)
