"""Actions reach a run while it trains: each at its step, with an answer."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import DIGITS, At, ask, assert_bit_equal, last, rows, send, small_fit
from steered_runs import answers, only, rates, steered, visited

from litscope.data.sources.source import open_source
from litscope.errors import Interrupted
from litscope.ledger.journal.actions import entries, request, submit
from litscope.live import steering
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir

EVERY_VALIDATION_SAMPLE = open_source("digits", val_split=0.1, seed=42).manifest.ids("val").tolist()


@pytest.fixture(autouse=True)
def _looks_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)


@pytest.fixture(scope="module")
def order(plain_run: Path) -> list[int]:
    """The training samples of a small fit's first epoch, in the order of their steps."""
    found = rows(plain_run, split="train")
    return found["sample_id"].to_pylist()[: DIGITS["limit_train_batches"] * DIGITS["batch_size"]]


@pytest.mark.slow
def test_the_terminal_tells_each_answer_and_the_pause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    steered(
        run,
        (1, ask(run, "discard", sample_id=[0, 1], who="ann")),
        (2, ask(run, "relabel", sample_id=[2], label="none such", who="ben")),
        (3, ask(run, "pause", who="ann")),
        (3, lambda: threading.Timer(0.5, ask(run, "resume", who="ann")).start()),
        (4, ask(run, "evaluate", split="val", who="ben")),
        epochs=1,
    )
    told = capsys.readouterr().err.splitlines()
    at = {line: i for i, line in enumerate(told)}
    assert "ann: discard 2 samples: applied at step 1 (epoch 1)" in at
    assert (
        "ben: relabel 1 sample to none such: refused at step 2 (epoch 1): 'none such' is not a class of this run." in at
    )
    assert at["ann: pause: applied at step 3 (epoch 1)"] < at[f"paused; to go on: litscope resume {run}"]
    assert at["ann: resume: applied at step 3 (epoch 1)"] < next(i for line, i in at.items() if "pause is over" in line)
    asked = at["ben: evaluate val: applied at step 4 (epoch 1)"]
    assert any(line.startswith("  accuracy") for line in told[asked : asked + 4])


class TestSamples:
    def test_discards_hold_from_the_next_batch_on(self, order: list[int], tmp_path: Path) -> None:
        gone = [order[0], order[100], order[-1]]  # of steps 0, 3 and 5
        run = steered(tmp_path / "run", (2, ask(tmp_path / "run", "discard", sample_id=gone)))
        answer = only(run).answer
        assert answer is not None
        assert (answer["status"], answer["step"], answer["epoch"], answer["attempt"]) == ("applied", 2, 0, 1)
        seen = rows(run, split="train")
        steps = dict(zip(seen["sample_id"].to_pylist(), seen["step"].to_pylist(), strict=True))
        assert steps[gone[0]] == 0
        assert not set(gone[1:]) & set(steps)
        assert set(seen["step"].to_pylist()) == set(range(12)), "the number of steps stays"

    def test_what_is_undone_comes_back(self, order: list[int], tmp_path: Path) -> None:
        run = tmp_path / "run"
        gone = order[-20:]
        discard = request("discard", sample_id=gone)
        steered(run, (1, lambda: submit(RunDir(run), discard)), (3, ask(run, "undo", action=discard["id"])), epochs=1)
        assert set(gone) <= visited(run, split="train")
        assert [entry.status for entry in entries(RunDir(run))] == ["undone", "applied"]

    def test_the_next_epoch_is_shorter(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        whole = 1165  # training samples of digits with this seed's split
        steered(run, (3, ask(run, "discard", sample_id=list(range(0, 900)))), limit_train_batches=None)
        counts = np.bincount(rows(run, split="train")["epoch"].to_numpy())
        assert len(counts) == 2
        assert counts[1] < counts[0] <= whole
        assert np.diff(sorted(set(rows(run, split="train")["step"].to_pylist()))).max() == 1
        assert rates(run)[-1] == pytest.approx(0.0, abs=1e-4), "the schedule ends with the run"

    def test_new_labels_hold_from_the_next_batch_on(self, plain_run: Path, order: list[int], tmp_path: Path) -> None:
        run = tmp_path / "run"
        steered(run, (2, ask(run, "relabel", sample_id=[order[0], order[-1]], label=["7", "8"])))
        found = rows(run, split="train")
        labels = {
            (e, i): y for e, i, y in zip(*(found[n].to_pylist() for n in ("epoch", "sample_id", "label")), strict=True)
        }
        assert labels[0, order[-1]] == 8
        plain = rows(plain_run, split="train", sample_id=order[0])["label"][0].as_py()
        assert labels[0, order[0]] == plain

    def test_a_weight_of_zero_takes_samples_out_of_the_gradient(self, tmp_path: Path) -> None:
        plain_sgd: dict[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
        plain_sgd |= {"scheduler_type": "constant", "warmup_epochs": 0.0}
        small_fit(tmp_path / "one", max_steps=1, **plain_sgd)
        run = tmp_path / "run"
        steered(run, (1, ask(run, "reweight", sample_id=list(range(1797)), weight=0.0)), **plain_sgd)
        one, all_zero = last(tmp_path / "one")["state_dict"], last(run)["state_dict"]
        learned = [name for name in one if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
        assert learned
        assert all((one[name] == all_zero[name]).all() for name in learned)

    @pytest.mark.slow
    def test_edits_of_validation_samples_keep_the_metrics_apart(self, tmp_path: Path) -> None:
        small_fit(tmp_path / "plain", limit_val_batches=None)
        val = sorted(visited(tmp_path / "plain", split="val"))
        run = tmp_path / "run"
        steered(
            run,
            (2, ask(run, "discard", sample_id=val[:5])),
            (8, ask(run, "relabel", sample_id=val[7:8], label="3")),
            limit_val_batches=None,
        )
        assert ["cannot be compared" in answer["note"] for answer in answers(run)] == [True, True]
        assert visited(run, split="val") == set(val[5:])
        assert [row["num_edits"] for row in epoch_rows(RunDir(run))] == [1, 2]
        summary = json.loads(RunDir(run).summary.read_text())
        assert summary["best_epoch"] == 1, "only epochs since the last edit compete"

    def test_an_edit_of_validation_samples_waits_for_the_end_of_the_validation(
        self, plain_run: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        relabel = ask(run, "relabel", sample_id=EVERY_VALIDATION_SAMPLE[:50], label="3")
        small_fit(run, callbacks=[At(6, relabel, during="validation")])
        assert epoch_rows(RunDir(run))[0]["val/loss"] == epoch_rows(RunDir(plain_run))[0]["val/loss"]
        assert [row["num_edits"] for row in epoch_rows(RunDir(run))] == [0, 1]
        assert answers(run)[0]["step"] == 6

    def test_what_cannot_be_is_refused_with_the_reason(self, plain_run: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        wishes: list[tuple[dict[str, Any], str]] = [
            ({"what": "discard", "sample_id": [99_999]}, "the run has 1797 samples"),
            ({"what": "discard", "sample_id": list(range(1797))}, "would leave 0 training samples"),
            ({"what": "discard", "sample_id": EVERY_VALIDATION_SAMPLE}, "would leave no sample of val"),
            ({"what": "relabel", "sample_id": [0], "label": "seven"}, "'seven' is not a class"),
            ({"what": "undo", "action": "0123456789ab"}, "No action 0123456789ab is in force"),
            ({"what": "evaluate", "tag": "blurred"}, "has the tag 'blurred'"),
            ({"what": "set", "settings": {"epochs": 1}}, "2 epochs are done or begun"),
        ]
        steered(run, *((8, ask(run, **arguments)) for arguments, _ in wishes))
        for (arguments, reason), entry in zip(wishes, entries(RunDir(run)), strict=True):
            assert entry.status == "refused", arguments
            assert reason in (entry.answer or {})["reason"]
        assert_bit_equal(last(run), last(plain_run))

    @pytest.mark.slow
    def test_a_line_that_no_reader_could_hold_is_refused_and_the_rest_goes_on(
        self, order: list[int], tmp_path: Path
    ) -> None:
        run = tmp_path / "run"

        def write() -> None:
            with RunDir(run).actions.open("a") as file:
                file.write(f'{{"id": "a", "what": "reweight", "sample_id": [1], "weight": 1{400 * "0"}}}\n')
                file.write('{"id": "b", "what": "tag", "tag": "\\ud800", "sample_id": [1]}\n')
                file.write(f'{{"id": "c", "what": "pause", "when": {100_000 * "["}\n')
                file.write(f'{{"id": "d", "what": "pause", "when": {100_000 * "["}{100_000 * "]"}}}\n')
            ask(run, what="discard", sample_id=[order[0]])()

        steered(run, (2, write))
        assert [entry.status for entry in entries(RunDir(run))] == [*4 * ["refused"], "applied"]
        assert all("cannot be used" in answer["reason"] for answer in answers(run)[:4])
        small_fit(run, resume=str(run), epochs=4)
        assert epoch_rows(RunDir(run))[-1]["epoch"] == 3


class TestSettings:
    def test_a_rate_stands_in_for_the_schedule_until_it_is_taken_up_again(self, tmp_path: Path) -> None:
        flags: dict[str, Any] = {"log_every_n_steps": 1, "scheduler_type": "cosine"}
        small_fit(tmp_path / "plain", **flags)
        plain = rates(tmp_path / "plain")
        run = tmp_path / "run"
        steered(
            run,
            (2, ask(run, "set", settings={"lr": 0.005})),
            (4, ask(run, "set", settings={"lr_scale": 0.5})),
            (7, ask(run, "resume", schedule=True)),
            (9, ask(run, "set", settings={"lr_scale": 1.0})),
            **flags,
        )
        expected = [*plain[:2], *[0.005] * 5, *(0.5 * rate for rate in plain[7:9]), *plain[9:]]
        assert rates(run) == pytest.approx(expected)

    def test_undoing_a_setting_brings_back_the_recipes(self, plain_run: Path, tmp_path: Path) -> None:
        run = tmp_path / "run"
        change = request("set", settings={"lr_scale": 0.1, "epochs": 5, "batch_size": 64})
        steered(run, (2, lambda: submit(RunDir(run), change)), (4, ask(run, "undo", action=change["id"])))
        assert rates(run) == rates(plain_run)
        assert [row["step"] for row in epoch_rows(RunDir(run))] == [6, 12]

    @pytest.mark.slow
    def test_more_epochs_stretch_the_schedule(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        steered(run, (2, ask(run, "set", settings={"epochs": 3})), log_every_n_steps=1)
        small_fit(tmp_path / "three", epochs=3, log_every_n_steps=1)
        assert len(epoch_rows(RunDir(run))) == 3
        assert rates(run)[2:] == pytest.approx(rates(tmp_path / "three")[2:])

    def test_the_batch_size_changes_with_the_next_epoch(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        steered(run, (2, ask(run, "set", settings={"batch_size": 8})))
        found = rows(run, split="train")
        sizes = np.bincount(found["step"].to_numpy())
        assert set(sizes[:6]) == {32}
        assert set(sizes[6:]) == {8}

    @pytest.mark.slow
    def test_early_stopping_and_patience(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        flags: dict[str, Any] = {"epochs": 6, "lr": 1e-9, "monitor": "val/accuracy"}
        steered(run, (2, ask(run, "set", settings={"patience": 1})), **flags)
        assert len(epoch_rows(RunDir(run))) < 6
        off = tmp_path / "off"
        steered(off, (2, ask(off, "set", settings={"early_stopping": False})), patience=1, **flags)
        assert len(epoch_rows(RunDir(off))) == 6

    def test_a_callback_that_comes_in_a_step_runs_no_hook_twice(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        steered(run, (2, ask(run, "set", settings={"early_stopping": True})))
        found = rows(run, split="train")
        assert found.num_rows == 12 * 32
        assert max(np.bincount(found["step"].to_numpy())) == 32

    def test_weight_decay(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        steered(run, (2, ask(run, "set", settings={"weight_decay": 0.7})))
        groups = last(run)["optimizer_states"][0]["param_groups"]
        assert {group["weight_decay"] for group in groups if group["is_decayed"]} == {0.7}
        assert {group["weight_decay"] for group in groups if not group["is_decayed"]} == {0.0}


def wait(holds: Callable[[], bool]) -> None:
    """Until it holds; a minute at most."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not holds():
        time.sleep(0.05)


class TestPause:
    def test_a_paused_run_answers_and_trains_nothing(self, tmp_path: Path) -> None:
        run = RunDir(tmp_path / "run")
        told: list[Any] = []

        def person() -> None:
            try:
                wait(lambda: run.actions.exists() and any(entry.answer for entry in entries(run)))
                submit(run, request("evaluate", split="val"))
                submit(run, request("discard", sample_id=[3]))
                wait(lambda: all(entry.status != "pending" for entry in entries(run)))
                told.extend(entry.answer for entry in entries(run))
                time.sleep(0.3)
            finally:  # whatever went wrong, the run must go on
                submit(run, request("resume"))

        thread = threading.Thread(target=person)
        thread.start()
        began = time.monotonic()
        steered(run.path, (4, ask(run.path, "pause")))
        wall_s = time.monotonic() - began
        thread.join()
        assert [answer["step"] for answer in told] == [4, 4, 4]
        assert set(told[1]["metrics"]) >= {"loss", "accuracy"}
        assert [entry.status for entry in entries(run)] == ["applied"] * 4
        assert sum(row["epoch_s"] for row in epoch_rows(run)) < wall_s - 0.3, "a pause is no training time"

    @pytest.mark.slow
    def test_a_signal_ends_a_pause_and_saves(self, plain_run: Path, tmp_path: Path) -> None:
        run = RunDir(tmp_path / "run")

        def person() -> None:
            wait(lambda: run.actions.exists() and any(entry.answer for entry in entries(run)))
            send(signal.SIGTERM)()

        thread = threading.Thread(target=person)
        thread.start()
        with pytest.raises(Interrupted):
            steered(run.path, (4, ask(run.path, "pause")))
        thread.join()
        small_fit(run.path, resume=str(run.path))  # a run that goes on is not paused
        assert_bit_equal(last(run.path), last(plain_run))


class TestOnDemand:
    def test_a_checkpoint_that_stays_and_can_be_resumed(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        steered(run, (4, ask(run, "checkpoint")))
        path = answers(run)[0]["path"]
        small_fit(tmp_path / "fork", resume=path)
        assert_bit_equal(last(run), last(tmp_path / "fork"))

    def test_an_evaluation_is_recorded_and_changes_nothing(self, tmp_path: Path) -> None:
        run = tmp_path / "run"
        steered(
            run,
            (2, ask(run, "tag", tag="odd", sample_id=[1, 3, 5])),
            (4, ask(run, "evaluate", tag="odd")),
            (5, ask(run, "evaluate", split="val")),
            ema_decay=0.9,
        )
        assert rows(run, split="train", phase="eval")["step"].to_pylist() == [4] * len(
            visited(run, split="train", phase="eval")
        )
        assert all(0 <= answer["metrics"]["accuracy"] <= 1 for answer in answers(run)[1:])
        small_fit(tmp_path / "plain", ema_decay=0.9)
        assert_bit_equal(last(run), last(tmp_path / "plain"))

    @pytest.mark.parametrize("during", ["train", "validation"])
    def test_a_stop_ends_the_run_in_order(self, tmp_path: Path, during: str) -> None:
        run = tmp_path / "run"
        result = small_fit(run, callbacks=[At(4, ask(run, "stop"), during=during)], epochs=5)
        assert result.summary["status"] == "finished"
        assert result.summary["global_step"] == (4 if during == "train" else 6)
        assert "val/loss" in epoch_rows(RunDir(run))[-1]
        assert only(run).status == "applied"
