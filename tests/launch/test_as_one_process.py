"""Two processes that train one network: every number is that of one process with batches of twice the size, and every
command that trains ends.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from as_one import assert_same, points
from forked import run_cli
from small_runs import last, small_fit
from started_runs import start

from litscope.live.records import read_summary
from litscope.rundir import RunDir, read_lines

pytestmark = pytest.mark.slow

DEADLINE_S = 150

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "lr": 0.01,
    "weight_decay": 0.1,
    "scheduler_type": "constant",
    "dropout_rate": 0.0,
    "label_smoothing": 0.1,
    "class_weights": "balanced",
    "log_every_n_steps": 1,
    "save_top_k": 0,  # no callback reads a metric on both ranks
    "test_split": 0.0,
    "val_split": 0.1,  # the default; both bring their own
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """39 rows to train on, which are four steps of 8 and one of 4 + 3; one to validate on, and one to test on."""
    path = tmp_path_factory.mktemp("table") / "points.csv"
    path.write_text(points(["train"] * 39 + ["val", "test"]))
    return path


def both(folder: Path, **flags: Any) -> tuple[RunDir, RunDir]:
    """The same run on two processes and on one."""
    settings = {**SETTINGS, **flags}
    process = start(folder / "two", **settings, batch_size=4)
    _, words = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, words
    small_fit(folder / "one", settings, batch_size=8, accelerator="cpu", logger=["none"], progress=False, arch="mlp")
    return RunDir(folder / "two"), RunDir(folder / "one")


@pytest.mark.parametrize(
    "more",
    [{}, {"accumulate_grad_batches": 2}, {"num_members": 3, "num_folds": 3, "label_smoothing": 0.0}],
    ids=["each step", "sums of two", "folds"],
)
def test_all_numbers_are_those_of_one_process(tmp_path: Path, table: Path, more: dict[str, Any]) -> None:
    two, one = both(tmp_path, dataset=str(table), **more)
    assert_same(read_lines(two.step_metrics), read_lines(one.step_metrics))
    assert_same(read_lines(two.epoch_metrics), read_lines(one.epoch_metrics))
    tested, expected = (read_summary(run)["metrics"]["best"] for run in (two, one))
    assert tested == pytest.approx(expected, abs=1e-5)
    weights, of_one = (last(run.path)["state_dict"] for run in (two, one))
    for name, tensor in of_one.items():
        torch.testing.assert_close(weights[name], tensor, rtol=0, atol=1e-5, msg=name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    folder = tmp_path_factory.mktemp("run") / "run"
    process = start(folder, epochs=1)
    _, words = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, words
    return folder


IRIS_ON_TWO = ["iris", "--devices", "2", "--accelerator", "cpu", "--epochs", "1", "--batch-size", "16"]


@pytest.mark.parametrize(
    "words",
    [
        ["cv", *IRIS_ON_TWO, "--folds", "2"],
        ["tune", *IRIS_ON_TWO, "--trials", "2"],
        ["lr-find", *IRIS_ON_TWO],
        ["batch-size-find", *IRIS_ON_TWO],
    ],
    ids=lambda words: words[0],
)
def test_a_command_that_trains_on_two_processes_ends(words: list[str], tmp_path: Path) -> None:
    done = run_cli(*words, cwd=tmp_path, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["whatif", "--discard", "sample_id = 0", "--epochs", "1", "--seeds", "2"],
        ["evaluate"],
        ["predict", "--split", "val"],
    ],
    ids=lambda words: words[0],
)
def test_a_command_on_a_run_of_two_processes_ends(words: list[str], run: Path, tmp_path: Path) -> None:
    name, *flags = words
    done = run_cli(name, str(run), *flags, cwd=tmp_path, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
