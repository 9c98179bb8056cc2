"""A run and its actions, repeated: bit-equal on the CPU, and where not, what differs is named."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import At, assert_bit_equal, last, rows, send, small_fit

from litscope.cli import main
from litscope.errors import Interrupted, RunError
from litscope.experiments.bit_equal import compare, compare_weights, flat
from litscope.experiments.replay import replay
from litscope.ledger.journal.actions import canaries, entries, request, submit
from litscope.live import steering
from litscope.rundir import RunDir


@pytest.fixture(autouse=True)
def _looks_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)


def ask(run: Path, what: str, **arguments: Any) -> Callable[[], None]:
    return lambda: submit(RunDir(run), request(what, **arguments))


def scenario(run: Path) -> list[At]:
    """Actions that change training, between steps and in a validation, and some that do not."""
    discard = request("discard", sample_id=list(range(0, 700)))
    return [
        At(2, lambda: submit(RunDir(run), discard)),
        At(3, ask(run, "evaluate", split="val")),
        At(4, ask(run, "set", settings={"lr_scale": 0.5})),
        At(6, ask(run, "relabel", sample_id=list(range(700, 800)), label="3"), during="validation"),
        At(7, ask(run, "discard", sample_id=[10**6])),  # refused
        At(8, ask(run, "set", settings={"batch_size": 16})),
        At(9, ask(run, "checkpoint")),
        At(10, lambda: submit(RunDir(run), request("undo", action=discard["id"]))),
    ]


def assert_repeated(run: Path, again: Path) -> None:
    found = replay(RunDir(run), str(again))
    assert found.is_equal, found.lines()
    assert_bit_equal(last(again), last(run), "state_dict")
    assert found.weights.num_tensors == len(last(run)["state_dict"])
    assert found.step == last(run)["global_step"]


def test_a_steered_run_ends_bit_equal(tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    small_fit(run, callbacks=scenario(run), epochs=3)
    assert_repeated(run, again)
    assert_bit_equal(last(again), last(run))
    assert rows(again, split="train", phase="train").equals(rows(run, split="train", phase="train"))
    repeated = [(entry.action["what"], (entry.answer or {})["step"]) for entry in entries(RunDir(again))]
    steps = [("discard", 2), ("set", 4), ("relabel", 6), ("set", 8), ("undo", 10)]
    assert repeated == steps, "neither what was refused, nor what only meant the process then"
    assert_repeated(again, tmp_path / "third")  # a replay can be replayed


@pytest.mark.slow
def test_the_actions_matter(plain_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small_fit(run, callbacks=scenario(run))
    found = compare(RunDir(run), RunDir(plain_run), 0)
    assert not found.is_equal
    assert found.weights.num_different
    assert (found.weights.largest or 0) > 0


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 6, 8])
def test_a_run_that_was_resumed(tmp_path: Path, stop: int) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        small_fit(run, callbacks=[*scenario(run), At(stop, send(signal.SIGTERM))])
    small_fit(run, resume=str(run), callbacks=[At(11, ask(run, "reweight", sample_id=[900, 901], weight=3.0))])
    assert_repeated(run, tmp_path / "again")


@pytest.mark.slow
def test_what_was_done_after_the_last_checkpoint_was_done_again_at_its_step(tmp_path: Path) -> None:
    class Died(Exception):
        pass

    def die() -> None:
        raise Died

    run = tmp_path / "run"
    with pytest.raises(Died):
        small_fit(run, callbacks=[*scenario(run), At(11, die)])
    small_fit(run, resume=str(run))
    assert_repeated(run, tmp_path / "again")


@pytest.mark.slow
@pytest.mark.parametrize("during", ["train", "validation"])
def test_a_run_that_was_stopped_stops_there_again(tmp_path: Path, during: str) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    small_fit(run, callbacks=[At(4, ask(run, "stop"), during=during)], epochs=5)
    assert_repeated(run, again)
    assert last(again)["global_step"] == (4 if during == "train" else 6)


@pytest.mark.slow
def test_a_stop_after_which_the_run_went_on_is_not_repeated(tmp_path: Path) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    flags: dict[str, Any] = {"scheduler_type": "constant", "warmup_epochs": 0.0}  # more epochs change no rate
    small_fit(run, callbacks=[At(6, ask(run, "stop"), during="validation")], epochs=2, **flags)
    small_fit(run, resume=str(run), epochs=3, **flags)
    assert last(run)["global_step"] == 18
    assert_repeated(run, again)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [3, 6])
def test_a_run_that_was_cut_short_is_repeated_to_its_last_checkpoint(tmp_path: Path, stop: int) -> None:
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        small_fit(run, callbacks=[At(2, ask(run, "set", settings={"lr": 0.01})), At(stop, send(signal.SIGTERM))])
    assert_repeated(run, tmp_path / "again")


@pytest.mark.slow
def test_a_run_that_its_time_ended_ends_at_that_step(tmp_path: Path) -> None:
    run = small_fit(tmp_path / "run", max_time="1s", epochs=200).run
    assert 0 < last(run.path)["global_step"] < 1200
    assert_repeated(run.path, tmp_path / "again")


@pytest.mark.slow
def test_canaries_are_repeated_and_none_planted_twice(tmp_path: Path) -> None:
    run, again = RunDir(tmp_path / "run"), RunDir(tmp_path / "again")
    small_fit(run.path, epochs=5, canaries=0.1)
    assert_repeated(run.path, again.path)
    assert canaries(again) == canaries(run) != {}
    assert [entry.action["what"] for entry in entries(again)] == ["relabel", "undo"]


@pytest.mark.slow
def test_carried_decisions_are_repeated_and_not_asked_for_twice(tmp_path: Path) -> None:
    first, run, again = (tmp_path / name for name in ("first", "run", "again"))
    discard = request("discard", sample_id=list(range(300)), key=[f"digits/{i:05}" for i in range(300)])
    small_fit(first, epochs=1, callbacks=[At(2, lambda: submit(RunDir(first), discard))])
    small_fit(run, actions=str(first))
    shutil.rmtree(first)
    assert_repeated(run, again)
    assert [entry.status for entry in entries(RunDir(again))] == ["applied"]


@pytest.mark.slow
def test_a_run_from_another_ones_checkpoint(tmp_path: Path) -> None:
    first, run, again = (tmp_path / name for name in ("first", "run", "again"))
    with pytest.raises(Interrupted):
        small_fit(first, callbacks=[*scenario(first), At(9, send(signal.SIGTERM))])
    undone = entries(RunDir(first))[0].action["id"]
    small_fit(run, resume=str(first), callbacks=[At(11, ask(run, "undo", action=undone))])
    assert_repeated(run, again)
    found = entries(RunDir(again))
    assert found[0].status == "undone"
    assert all(entry.answer for entry in found), "those of the checkpoint are answered, too"
    small_fit(first, resume=str(first))  # its last.ckpt is another one now
    with pytest.raises(RunError, match=r"began from step 9 in .* not there any more"):
        replay(RunDir(run), str(tmp_path / "late"))
    assert not (tmp_path / "late").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run of one epoch, trained outside of any repository: its commit is on record, too."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return small_fit(folder / "one", epochs=1).run


class TestCommand:
    @pytest.fixture
    def run(self, trained: RunDir, in_tmp: Path) -> RunDir:
        return RunDir(shutil.copytree(trained.path, in_tmp / "runs/one"))

    @pytest.mark.slow
    def test_equal(self, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
        capsys.readouterr()
        assert main(["replay", "one", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["result"]
        assert found["is_equal"]
        assert found["replay"] == "runs/one-replay"
        assert (found["environment"], found["recipe"], found["metrics"]) == ({}, {}, {})
        assert main(["replay", str(run.path)]) == 0
        assert RunDir("runs/one-replay-2").is_run()
        assert "tensors at step 6 bit for bit" in capsys.readouterr().out

    @pytest.mark.slow
    def test_what_differs_is_named(self, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
        checkpoint = last(run.path)
        name = next(iter(checkpoint["state_dict"]))
        checkpoint["state_dict"][name] += 0.25
        checkpoint["hyper_parameters"]["momentum"] = 0.8
        torch.save(checkpoint, run.last_checkpoint)
        facts = json.loads(run.environment.read_text())
        facts["packages"]["torch"], facts["num_threads"] = "1.0", 64
        run.environment.write_text(json.dumps(facts))
        run.epoch_metrics.write_text(run.epoch_metrics.read_text().replace('"val/accuracy": 0', '"val/accuracy": 1'))
        capsys.readouterr()
        assert main(["replay", "one"]) == 1
        out = capsys.readouterr().out
        assert f"not equal: 1 of {len(checkpoint['state_dict'])} tensors differ at step 6, first {name}" in out
        assert "(by up to 0.25)" in out
        assert "environment.json: packages.torch was 1.0" in out
        assert "environment.json: num_threads was 64, is 1" in out
        assert "metrics: val/accuracy was 1." in out
        assert "network and optimizer: momentum was 0.8, is 0.9" in out

    @pytest.mark.slow
    def test_nothing_that_differs_is_on_record(self, run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
        checkpoint = last(run.path)
        name = list(checkpoint["state_dict"])[-1]
        checkpoint["state_dict"][name] = checkpoint["state_dict"][name][:1]
        torch.save(checkpoint, run.last_checkpoint)
        assert main(["replay", "one", "--run-dir", "again"]) == 1
        out = capsys.readouterr().out
        assert f"first {name} (by its shape or type)" in out
        assert "Nothing on record differs" in out

    @pytest.mark.parametrize(
        ("spoil", "words", "reason"),
        [
            (lambda run: None, ["runs/none"], "does not exist"),
            (lambda run: run.last_checkpoint.unlink(), ["one"], "has no last checkpoint"),
            (lambda run: run.summary.unlink(), ["one"], "is training"),
            (lambda run: None, ["one", "--run-dir", "runs/one"], "already holds a run"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self,
        run: RunDir,
        spoil: Callable[[RunDir], None],
        words: list[str],
        reason: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        spoil(run)
        assert main(["replay", *words]) == 2
        assert reason in capsys.readouterr().err
        assert not Path("runs/one-replay").exists()


def test_weights_are_compared_by_their_bits() -> None:
    one = {"a": torch.tensor([float("nan"), 1.0]), "b": torch.tensor(0.0), "c": torch.tensor([1, 2])}
    assert compare_weights(one, {name: value.clone() for name, value in one.items()}).num_different == 0
    assert compare_weights(one, {**one, "b": torch.tensor(-0.0)}).first == "b"
    assert compare_weights(one, {**one, "c": torch.tensor([1, 5])}) == (3, 1, "c", 3.0)
    assert compare_weights(one, {"a": one["a"], "b": one["b"]}) == (3, 1, "c", None)
    assert compare_weights(one, {**one, "d": one["a"]}).first == "d"


def test_flat() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
