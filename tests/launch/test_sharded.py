"""A network that is divided over two processes: every number is that of one process, and what is saved is whole."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from as_one import assert_same, points
from small_runs import assert_bit_equal, last, small_fit, tensors
from started_runs import start, wait_for_step

from litscope.evaluation.evaluate import evaluate
from litscope.evaluation.predict import predict
from litscope.ledger.journal.actions import entries, submit
from litscope.ledger.journal.verbs import request
from litscope.live.records import read_summary
from litscope.models.checkpoint_file import load_checkpoint
from litscope.rundir import RunDir, read_lines

pytestmark = pytest.mark.slow

DEADLINE_S = 200

SETTINGS: dict[str, Any] = {
    "arch": "mlp",
    "hidden": [16, 12],
    "epochs": 2,
    "lr": 0.01,
    "weight_decay": 0.1,
    "scheduler_type": "constant",
    "dropout_rate": 0.0,
    "gradient_clip_val": 0.5,
    "accumulate_grad_batches": 2,
    "ema_decay": 0.9,
    "log_every_n_steps": 1,
    "val_split": 0.1,  # the table says which
    "test_split": 0.0,
    "fsdp_wrap": "size:40",
}
"""Two optimizer groups, a norm over all processes, sums of two batches and an average of the weights."""


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """39 rows to train on, which two processes share unevenly, and nine to validate on."""
    path = tmp_path_factory.mktemp("table") / "points.csv"
    path.write_text(points(["train"] * 39 + ["val"] * 9))
    return path


def two(folder: Path, table: Path, strategy: str, **flags: Any) -> str:
    """Train on two processes; what was said."""
    process = start(folder, **{**SETTINGS, "dataset": str(table), "batch_size": 4, "strategy": strategy, **flags})
    words, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, errors
    return str(words) + str(errors)


def one(folder: Path, table: Path, **flags: Any) -> None:
    """The same in this process."""
    more = {"dataset": str(table), "batch_size": 8, "accelerator": "cpu", "logger": ["none"], "progress": False}
    small_fit(folder, {**SETTINGS, **more}, **flags)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    """`one`, and the same run divided over two processes: `full`, and `grad`, whose checkpoints are in parts."""
    folder = tmp_path_factory.mktemp("runs")
    one(folder / "one", table)
    words = two(folder / "full", table, "fsdp")
    assert "fsdp_full: weights divided over 2 processes, gathered one at a time: body.1 and body.3 (2 Linear)" in words
    two(folder / "grad", table, "zero2", checkpoint_format="sharded")
    return folder


def assert_same_weights(run: Path, of_one: Path) -> None:
    """All tensors of two last checkpoints: weights, their average, the optimizer's moments."""
    found, expected = load_checkpoint(RunDir(run).last_checkpoint), last(of_one)
    for part in ("state_dict", "litscope_trained_weights", "optimizer_states"):
        mine, others = tensors(found[part]), tensors(expected[part])
        assert mine.keys() == others.keys()
        for name, tensor in others.items():
            torch.testing.assert_close(mine[name], tensor, rtol=0, atol=1e-5, msg=f"{part}{name}")


@pytest.mark.flag("strategy", "fsdp_wrap", "checkpoint_format")
@pytest.mark.parametrize("name", ["full", "grad"])
def test_all_numbers_are_those_of_one_process(runs: Path, name: str) -> None:
    divided, whole = RunDir(runs / name), RunDir(runs / "one")
    assert_same(read_lines(divided.step_metrics), read_lines(whole.step_metrics))
    assert_same(read_lines(divided.epoch_metrics), read_lines(whole.epoch_metrics))
    best, expected = (read_summary(run)["metrics"]["best"] for run in (divided, whole))
    assert best == pytest.approx(expected, abs=1e-5)
    assert_same_weights(divided.path, whole.path)


@pytest.mark.parametrize("name", ["full", "grad"])
def test_one_process_evaluates_and_predicts(runs: Path, name: str, tmp_path: Path) -> None:
    best = read_summary(RunDir(runs / name))["metrics"]["best"]
    for metric, value in evaluate(runs / name, "val")["metrics"].items():
        assert best[metric] == pytest.approx(value, abs=1e-6), metric
    for run in (name, "one"):
        predict(runs / run, output=tmp_path / f"{run}.csv", split="val")
    found, expected = ((tmp_path / f"{run}.csv").read_text().splitlines() for run in (name, "one"))
    assert [line.split(",")[:3] for line in found] == [line.split(",")[:3] for line in expected]
    assert len(found) == 10


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    """One process, three epochs without a break."""
    folder = tmp_path_factory.mktemp("longer") / "run"
    one(folder, table, epochs=3)
    return folder


@pytest.mark.parametrize(
    ("began", "goes_on"),
    [
        ("grad", {"strategy": "auto", "devices": 1}),
        ("full", {"strategy": "ddp", "devices": 2}),
        ("grad", {"strategy": "fsdp_full", "devices": 2, "checkpoint_format": "full"}),
        ("one", {"strategy": "fsdp_shard_grad", "devices": 2, "checkpoint_format": "sharded"}),
    ],
    ids=["two to one", "fsdp to ddp", "in parts to whole", "one to two"],
)
def test_a_run_goes_on_with_another_strategy(
    runs: Path, longer: Path, table: Path, tmp_path: Path, began: str, goes_on: dict[str, Any]
) -> None:
    """From the end of the second epoch, in a folder of its own: as one process would have gone on."""
    flags = {"resume": str(runs / began), "epochs": 3, **goes_on}
    if goes_on["devices"] == 1:
        one(tmp_path / "run", table, **flags)
    else:
        two(tmp_path / "run", table, **flags)
    lines, of_one = (read_lines(run.step_metrics) for run in (RunDir(tmp_path / "run"), RunDir(longer)))
    assert_same(lines, of_one[-3:])
    assert_same_weights(tmp_path / "run", longer)


def test_interrupted_in_an_epoch_it_goes_on_with_the_same_bits(table: Path, tmp_path: Path) -> None:
    """And with an evaluation and a checkpoint that people wished for, which change nothing."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    flags = {"dataset": str(table), "batch_size": 4, "strategy": "fsdp", "checkpoint_format": "sharded"}
    settings = {**SETTINGS, **flags, "epochs": 4000, "dropout_rate": 0.2, "accumulate_grad_batches": 1}
    process = start(run, **settings)
    wait_for_step(process, run, 8)
    for wish in (request("evaluate", split="val"), request("checkpoint")):
        submit(RunDir(run), wish)
    wait_for_step(process, run, read_lines(RunDir(run).step_metrics)[-1]["step"] + 30)
    process.send_signal(signal.SIGTERM)
    _, words = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, words
    evaluated, saved = entries(RunDir(run))
    assert (evaluated.status, saved.status) == ("applied", "applied")
    assert saved.answer is not None
    assert load_checkpoint(saved.answer["path"])["global_step"] == saved.answer["step"]
    step = load_checkpoint(RunDir(run).last_checkpoint)["global_step"] + 7
    for folder, more in ((run, {"resume": str(run)}), (whole, {})):
        process = start(folder, **{**settings, "max_steps": step, **more})
        _, words = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 0, words
    assert_bit_equal(*(load_checkpoint(RunDir(folder).last_checkpoint) for folder in (run, whole)))
