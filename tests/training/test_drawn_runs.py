"""Runs whose epochs draw samples with repetition: what the ledger has, what scores count, actions, resuming."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import At, ask, assert_bit_equal, last, rows, send, small_fit

from litscope.config.flags import parse
from litscope.errors import ConfigError, Interrupted
from litscope.ledger.journal.actions import entries
from litscope.ledger.queries import worst
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.live import steering
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir, read_lines
from litscope.training.fit import fit

SIZES = {"a": 70, "b": 25, "c": 6}
NUM = sum(SIZES.values())
LABELS = np.repeat([0, 1, 2], list(SIZES.values()))
STEPS = 13  # of 8 samples, the last of 5


@pytest.fixture(autouse=True)
def _looks_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steering, "POLL_S", 0.0)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """101 training rows of three classes, of 70, 25 and 6; the rows come class by class."""
    draw, lines = random.Random(0), ["x,y,label,split"]
    for k, (name, count) in enumerate(SIZES.items()):
        lines += [f"{draw.gauss(k, 1)},{draw.gauss(-k, 1)},{name},train" for _ in range(count)]
        lines += [f"{draw.gauss(k, 1)},{draw.gauss(-k, 1)},{name},val" for _ in range(3)]
    path = tmp_path_factory.mktemp("table") / "points.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run_of(table: Path, folder: Path, sampler: str, *callbacks: At, **flags: Any) -> Path:
    settings = {"dataset": str(table), "arch": "mlp", "batch_size": 8, "epochs": 3, "accelerator": "cpu"}
    settings |= {"logger": ["none"], "progress": False, "sampler": sampler}
    return small_fit(folder, settings, callbacks=callbacks, **flags).run.path


def drawn(run: Path, **where: Any) -> list[int]:
    return rows(run, split="train", phase="train", **where)["sample_id"].to_pylist()


@pytest.fixture(scope="module")
def balanced(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three epochs in which each class comes equally often."""
    return run_of(table, tmp_path_factory.mktemp("balanced") / "run", "balanced")


@pytest.mark.flag("--sampler")
def test_the_ledger_has_every_visit_of_a_balanced_run(balanced: Path) -> None:
    table = rows(balanced, split="train", phase="train")
    for epoch in range(3):
        labels = table.filter(table["epoch"].to_numpy() == epoch)["label"].to_numpy()
        assert len(labels) == NUM
        assert np.abs(np.bincount(labels) - NUM / 3).max() <= 1
    ids = table["sample_id"].to_numpy()[table["label"].to_numpy() == 2]
    assert np.bincount(ids)[-1] >= 3 * 5  # each of the six comes five or six times an epoch
    assert [row["num_samples"] for row in epoch_rows(RunDir(balanced))] == [NUM] * 3


def test_scores_count_the_last_visit_of_each_epoch(balanced: Path) -> None:
    visits = rows(balanced, split="train", phase="train")
    ids, epochs, steps, margins, losses = (
        visits[name].to_numpy() for name in ("sample_id", "epoch", "step", "margin", "loss")
    )
    expected: dict[int, dict[int, float]] = {}
    for at in np.lexsort((losses, steps)):  # of two visits in a step, the one with the greater loss
        expected.setdefault(int(ids[at]), {})[int(epochs[at])] = float(margins[at])
    scores = refresh(RunDir(balanced)).table.to_pylist()
    train = {row["sample_id"]: (row["num_visits"], row["aum"]) for row in scores if row["split"] == "train"}
    means = {i: np.mean(list(of_epochs.values())) for i, of_epochs in expected.items()}
    assert train == {i: (len(expected[i]), pytest.approx(mean, abs=1e-5)) for i, mean in means.items()}
    hardest = [row["sample_id"] for row in worst(RunDir(balanced), 10, split="train", by="loss")]
    assert len(set(hardest)) == 10


@pytest.mark.slow
def test_a_discard_and_a_new_label_hold_within_the_epoch_and_over_a_stop(table: Path, tmp_path: Path) -> None:
    def scenario(run: Path) -> list[At]:
        discard = ask(run, "discard", sample_id=list(range(40)))
        return [At(4, discard), At(17, ask(run, "relabel", sample_id=list(range(40, 60)), label="c"))]

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    run_of(table, whole, "balanced", *scenario(whole))
    with pytest.raises(Interrupted):
        run_of(table, stopped, "balanced", *scenario(stopped), At(6, send(signal.SIGINT)))
    with pytest.raises(Interrupted):
        fit(resume=str(stopped), callbacks=[*scenario(stopped)[1:], At(19, send(signal.SIGINT))])
    fit(resume=str(stopped))
    assert_bit_equal(last(stopped), last(whole), "state_dict", "optimizer_states", "litscope")
    assert rows(stopped).equals(rows(whole))
    assert [entry.status for entry in entries(RunDir(whole))] == ["applied"] * 2
    steps = rows(whole, split="train", phase="train")
    first = steps.filter(steps["epoch"].to_numpy() == 0)
    late = first.filter(first["step"].to_numpy() >= 4)
    assert min(late["sample_id"].to_pylist()) >= 40
    assert np.abs(np.bincount(late["label"].to_numpy()) - len(late) / 3).max() <= 1
    assert len(first) == NUM
    after = steps.filter((steps["epoch"].to_numpy() == 1) & (steps["step"].to_numpy() >= 17))
    assert np.abs(np.bincount(after["label"].to_numpy()) - len(after) / 3).max() <= 1
    assert set(after["sample_id"].to_pylist()) & set(range(40, 60))


@pytest.mark.flag("--sampler")
def test_weights_decide_how_often_a_sample_comes_and_not_what_its_loss_counts(table: Path, tmp_path: Path) -> None:
    heavy, gone = list(range(10)), list(range(10, 30))

    run = tmp_path / "run"
    wishes = [(range(NUM + 9), 0.0), (heavy, 4.0), (gone, 0.0)]
    actions = [At(3, ask(run, "reweight", sample_id=list(ids), weight=weight)) for ids, weight in wishes]
    run_of(table, run, "weighted", *actions, steps_per_call=1, log_every_n_steps=1, epochs=2)
    refused, *applied = entries(RunDir(run))
    assert "0 training samples with a weight above 0" in refused.answer["reason"]
    assert [entry.status for entry in applied] == ["applied"] * 2
    assert sorted(drawn(run, max_epoch=0)[:24]) == sorted(set(drawn(run, max_epoch=0)[:24])), "equal weights: once each"
    of_second = np.bincount(drawn(run, min_epoch=1, max_epoch=1), minlength=NUM)
    expected = 4 * 81 / (81 + 3 * 10)  # as many draws as there are samples with a weight above 0
    assert np.abs(of_second[heavy] - expected).max() < 1
    assert not of_second[gone].any()
    assert sum(of_second) == 81
    visits = rows(run, split="train", phase="train")
    steps, losses = visits["step"].to_numpy(), visits["loss"].to_numpy()
    logged = {line["step"]: line["train/loss"] for line in read_lines(RunDir(run).step_metrics)}
    for step in range(5, 12):
        assert logged[step + 1] == pytest.approx(losses[steps == step].mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--sampler balanced --class-weights balanced", "rare classes a second time"),
        ("--sampler balanced --prune infobatch", "--prune infobatch decides which samples"),
        ("--sampler weighted --overfit-batches 2", "same few samples"),
        ("--sampler even", "uniform, balanced, weighted"),
    ],
)
def test_what_does_not_go_with_a_sampler_is_refused(words: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(["iris", *words.split()]).check()


def test_class_weights_go_with_weights_of_samples(in_tmp: Path) -> None:
    parse(["iris", "--sampler", "weighted", "--class-weights", "balanced"]).check()
