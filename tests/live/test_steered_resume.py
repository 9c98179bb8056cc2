"""A steered run that is interrupted, dies or is repeated ends exactly as the one that was not."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest
from small_runs import DIGITS, At, ask, assert_bit_equal, last, rows, send, small_fit
from steered_runs import answers, only, rates, visited

from litscope.errors import Interrupted
from litscope.ledger.journal.actions import entries, request, submit
from litscope.live import steering
from litscope.rundir import RunDir


@pytest.fixture(autouse=True)
def _looks_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)


SCENARIO: dict[str, Any] = {"epochs": 3, "scheduler_type": "cosine", "ema_decay": 0.5}


def scenario(run: Path) -> list[At]:
    """Actions of every kind that changes training, in the middle of epochs and in a validation."""
    discard = request("discard", sample_id=list(range(0, 700)))
    return [
        At(2, lambda: submit(RunDir(run), discard)),
        At(4, ask(run, "set", settings={"lr_scale": 0.5, "epochs": 4})),
        At(6, ask(run, "relabel", sample_id=list(range(700, 800)), label="3"), during="validation"),
        At(8, ask(run, "set", settings={"batch_size": 16, "weight_decay": 0.3})),
        At(9, ask(run, "reweight", sample_id=list(range(800, 1000)), weight=0.25)),
        At(10, lambda: submit(RunDir(run), request("undo", action=discard["id"]))),
        At(14, ask(run, "set", settings={"lr": 0.001})),
    ]


def interrupted(run: Path, *actions: At, stop: int, **flags: Any) -> None:
    with pytest.raises(Interrupted):
        small_fit(run, callbacks=[*actions, At(stop, send(signal.SIGTERM))], **flags)


@pytest.fixture(scope="module")
def steered_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenario, uninterrupted."""
    run = tmp_path_factory.mktemp("steered") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steering, "POLL_S", 0.0)
        small_fit(run, callbacks=scenario(run), **SCENARIO)
    assert [entry.status for entry in entries(RunDir(run))] == ["undone", *["applied"] * 6]
    return run


@pytest.mark.slow
@pytest.mark.parametrize("limit", [None, 0.5])
def test_a_redrawn_epoch_keeps_its_length_whatever_its_limit(tmp_path: Path, limit: float | None) -> None:
    flags = {"epochs": 1, "limit_train_batches": limit}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    gone = list(range(300))
    small_fit(whole, callbacks=[At(10, ask(whole, "discard", sample_id=gone))], **flags)
    interrupted(cut, At(10, ask(cut, "discard", sample_id=gone)), stop=20, **flags)
    small_fit(cut, resume=str(cut), **flags)
    assert_bit_equal(last(cut), last(whole))
    assert rows(cut, split="train").equals(rows(whole, split="train"))


@pytest.mark.slow
def test_an_epoch_that_cannot_follow_a_discard_resumes_all_the_same(tmp_path: Path) -> None:
    flags = {"epochs": 2, "limit_train_batches": None, "batch_size": 16}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    gone = list(range(0, 1700))  # the rest of the epoch would have less than two samples a batch
    small_fit(whole, callbacks=[At(4, ask(whole, "discard", sample_id=gone))], **flags)
    assert "from the next epoch on" in answers(whole)[0]["note"]
    interrupted(cut, At(4, ask(cut, "discard", sample_id=gone)), stop=9, **flags)
    small_fit(cut, resume=str(cut), **flags)
    assert_bit_equal(last(cut), last(whole))


@pytest.mark.slow
def test_what_is_asked_after_a_crash_comes_after_what_was_done_before_it(tmp_path: Path) -> None:
    class Died(Exception):
        pass

    def die() -> None:
        raise Died

    run = tmp_path / "run"
    discard = request("discard", sample_id=list(range(200)))
    actions = [At(8, lambda: submit(RunDir(run), discard)), At(8, ask(run, "set", settings={"lr": 0.01}))]
    with pytest.raises(Died):  # the last checkpoint is of step 6
        small_fit(run, callbacks=[*actions, At(9, die)], epochs=3)
    ask(run, "undo", action=discard["id"])()
    ask(run, "set", settings={"lr": 0.02})()
    small_fit(run, resume=str(run), epochs=3, log_every_n_steps=1)
    assert [entry.status for entry in entries(RunDir(run))] == ["undone", "applied", "applied", "applied"]
    assert [answer["step"] for answer in answers(run)] == [8, 8, 8, 8]
    assert rates(run)[-1] == 0.02
    assert len(visited(run, split="train", min_epoch=2) & set(range(200))) > 0


@pytest.mark.thorough
@pytest.mark.parametrize("stop", [3, 6, 9, 11, 13, 15])
def test_a_steered_run_resumes_exactly(steered_whole: Path, tmp_path: Path, stop: int) -> None:
    whole, cut = steered_whole, tmp_path / "cut"
    with pytest.raises(Interrupted):
        small_fit(cut, callbacks=[*scenario(cut), At(stop, send(signal.SIGTERM))], **SCENARIO)
    there = {action.step for action in scenario(cut)}
    rest = [action for action in scenario(cut) if action.step > stop or action.step not in there]
    lines = entries(RunDir(cut))
    if stop < 10:  # the undo names the discard of this run
        rest = [action for action in rest if action.step != 10]
        rest.append(At(10, ask(cut, "undo", action=lines[0].action["id"])))
    small_fit(cut, resume=str(cut), callbacks=rest, **SCENARIO)
    assert_bit_equal(last(cut), last(whole))
    assert rows(cut, split="train").equals(rows(whole, split="train"))


@pytest.mark.slow
@pytest.mark.parametrize(("stop", "during"), [(6, "train"), (20, "train"), (26, "validation")])
def test_of_whole_epochs_too(tmp_path: Path, stop: int, during: str) -> None:
    """An epoch keeps the number of batches that it began with, also after a resume in it or at its end."""
    flags: dict[str, Any] = {"limit_train_batches": None, "batch_size": 64}  # 26 batches
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    gone = list(range(0, 1797, 3))
    small_fit(whole, callbacks=[At(4, ask(whole, "discard", sample_id=gone))], **flags)
    actions = [At(4, ask(cut, "discard", sample_id=gone)), At(stop, send(signal.SIGTERM), during)]
    with pytest.raises(Interrupted):
        small_fit(cut, callbacks=actions, **flags)
    small_fit(cut, resume=str(cut), **flags)
    assert_bit_equal(last(cut), last(whole))
    assert rows(cut).equals(rows(whole))


@pytest.mark.slow
def test_what_was_done_after_the_last_checkpoint_is_done_again_at_its_step(steered_whole: Path, tmp_path: Path) -> None:
    class Died(Exception):
        pass

    def die() -> None:
        raise Died

    whole, cut = steered_whole, tmp_path / "cut"
    with pytest.raises(Died):  # last.ckpt is that of the first epoch's end, step 6
        small_fit(cut, callbacks=[*scenario(cut), At(16, die)], **SCENARIO)
    result = small_fit(cut, resume=str(cut), **SCENARIO)
    assert_bit_equal(last(cut), last(whole))
    assert rows(cut, split="train").equals(rows(whole, split="train"))
    assert [entry.status for entry in entries(result.run)] == ["undone", *["applied"] * 6]


def test_a_journal_that_says_the_steps_repeats_the_run(steered_whole: Path, tmp_path: Path) -> None:
    whole, again = steered_whole, RunDir.create(tmp_path / "again")
    for entry in entries(RunDir(whole)):
        assert entry.answer is not None
        submit(again, {**entry.action, "at_step": entry.answer["step"]})
    small_fit(again.path, **SCENARIO)
    assert_bit_equal(last(again.path), last(whole))


@pytest.mark.slow
def test_the_person_who_resumes_has_the_last_word(tmp_path: Path) -> None:
    run = tmp_path / "run"
    actions = [At(1, ask(run, "set", settings={"epochs": 4})), At(3, send(signal.SIGTERM))]
    with pytest.raises(Interrupted):
        small_fit(run, callbacks=actions, epochs=2)
    lr = At(9, ask(run, "set", settings={"lr_scale": 0.9}))
    assert len(small_fit(run, resume=str(run), epochs=3, callbacks=[lr]).summary["epoch_s"]) == 3
    settings = [entry.action["settings"] for entry in entries(RunDir(run))]
    assert settings == [{"epochs": 4}, {"epochs": 3}, {"lr_scale": 0.9}], "it is on record, as an action"


@pytest.mark.slow
def test_a_new_run_from_a_steered_checkpoint_has_its_decisions(plain_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    seen = rows(plain_run, split="train")["sample_id"].to_pylist()  # in the order of their steps, epoch by epoch
    gone = seen[: DIGITS["limit_train_batches"] * DIGITS["batch_size"]][-30:]
    with pytest.raises(Interrupted):
        small_fit(run, callbacks=[At(1, ask(run, "discard", sample_id=gone)), At(3, send(signal.SIGTERM))])
    small_fit(tmp_path / "fork", resume=str(run))
    assert not set(gone) & visited(tmp_path / "fork", split="train")
    assert only(tmp_path / "fork").status == "applied"


@pytest.mark.slow
def test_what_nobody_was_there_to_do_is_refused_at_the_next_start(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        small_fit(run, callbacks=[At(3, send(signal.SIGTERM))])
    ask(run, "stop")()
    ask(run, "tag", tag="seen", sample_id=[1])()
    time.sleep(0.01)
    result = small_fit(run, resume=str(run))
    assert [entry.status for entry in entries(result.run)] == ["refused", "applied"]
    assert result.summary["epochs"] == DIGITS["epochs"]
