"""Scripts in the style of WeightsLab's published classification examples run with another import, and are recorded."""

from __future__ import annotations

import csv
import itertools
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from places import ROOT
from watched import answers, ends, rows, visits

import litscope.watch as wl
from litscope.ledger.journal.actions import request
from litscope.rundir import RunDir, append_line, read_lines

SCRIPTS = Path(__file__).parent / "weightslab"

STEPS = 22
"""After which somebody asks a script without an end to stop."""

pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers:UserWarning",
    "ignore:No positive samples found in target",
)


@pytest.fixture(autouse=True)
def closed(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In a folder of its own; a process watches one run at a time, and knows signals until they are forgotten."""
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setenv("WEIGHTSLAB_ROOT_LOG_DIR", "")
    yield
    wl.clear_all()


def run_script(name: str, **config: Any) -> None:
    """Run a script to its end, whether it has one or somebody has to ask for it."""
    Path("config.yaml").write_text(yaml.safe_dump(config))
    with suppress(SystemExit):
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")


def ask_to_stop(folder: Path = Path("run")) -> None:
    """As `litscope stop` would, after a number of steps."""
    append_line(RunDir(folder).actions, request("stop", at_step=STEPS))


def history() -> list[dict[str, Any]]:
    """The rows of the history that the script wrote last."""
    return pq.read_table(RunDir("run").exports / "history.parquet").to_pylist()


@pytest.mark.slow
def test_classification(capsys: pytest.CaptureFixture[str]) -> None:
    ask_to_stop()
    sizes = {"train_loader": {"batch_size": 20, "max_samples": 100}, "test_loader": {"batch_size": 30}}
    run_script("classification", run_dir="run", data=sizes)
    seen = visits(Path("run"))
    assert seen[0, "train", "train"] == seen[1, "train", "train"] == (100, 100)  # a pass of next() is an epoch
    assert rows(Path("run"), "select max(step) from signals where phase = 'train'") == [(STEPS - 1,)]
    assert rows(Path("run"), "select step, count(*) from signals where split = 'test' group by 1 order by 1") == [
        (6, 60),
        (11, 60),
        (16, 60),
        (21, 60),
    ]
    query = "select name, count(*) from custom group by 1 order by 1"
    assert rows(Path("run"), query) == [
        ("test-loss-CE", 240),
        ("test_metric/right", 240),
        ("test_metric/wrong", 240),
        ("train-loss-CE", 20 * STEPS),
    ]
    assert rows(Path("run"), 'select count(*) from steps where "metric-ACC" between 0 and 1') == [(4,)]
    assert ends(Path("run"))["status"] == "finished"
    table = pq.read_table(RunDir("run").exports / "dataframe.parquet")
    assert table.num_rows == 160
    assert set(table["origin"].to_pylist()) == {"train_loader", "test_loader"}
    assert table["signals//test_metric/right"].null_count == 100
    said = capsys.readouterr().err
    assert said.count("litscope has no use for") == 1
    assert "compute_hash, preload_labels, preload_metadata, enable_h5_persistence" in said


def test_standalone_data() -> None:
    run_script("standalone_data")
    run = Path("logs/watch-1")
    assert [(what, status) for what, status, _ in answers(run)] == [("tag", "applied"), ("discard", "applied")]
    with Path("curated.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 120
    assert set(lines[0]) == {"sample_id", "annotation_id", "discarded", "tag:hard_examples"}
    assert [line["discarded"] for line in lines[:6]] == ["True"] * 5 + ["False"]


def test_standalone_logger() -> None:
    run_script("standalone_logger")
    run = Path("logs/watch-1")
    with Path("history.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["type"] == "global"]
    curves = {name: [line for line in lines if line["graph_name"] == name] for name in ("train/loss", "eval/loss")}
    assert [int(line["step"]) for line in curves["eval/loss"]] == [10, 20, 30]
    assert [int(line["step"]) for line in curves["train/loss"]] == list(range(1, 31)), "one number for each step"
    losses = [float(line["metric_value"]) for line in curves["eval/loss"]]
    assert losses[0] > losses[-1] > 0
    assert [line["eval/accuracy"] for line in read_lines(RunDir(run).step_metrics) if "eval/accuracy" in line][-1] > 0.3
    assert ends(run)["global_step"] == 30


@pytest.mark.slow
def test_lightning() -> None:
    run_script("lightning_module", run_dir="run")
    expected = {(e, "train", "train"): (100, 100) for e in range(2)}
    expected |= {(e, "val", "eval"): (60, 60) for e in range(2)}  # the sanity check is not among them
    assert visits(Path("run")) == expected
    query = "select avg((pred = label)::int) from signals where split = 'val' group by epoch order by epoch"
    accuracies = [value for (value,) in rows(Path("run"), query)]
    assert [line["val/metric-ACC"] for line in read_lines(RunDir("run").epoch_metrics)] == pytest.approx(accuracies)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batch"), [("fraud", 50), ("ads", 64)])
def test_tables(name: str, batch: int) -> None:
    ask_to_stop()
    run_script(name, run_dir="run")
    assert visits(Path("run"))[1, "train", "train"] == (200, 200)
    assert rows(Path("run"), "select count(distinct label) from signals") == [(2,)]
    found = {row["graph_name"] for row in history() if row["type"] == "global"}
    assert found >= {"train-loss-CE", "test-loss-CE", "lr"} or name == "ads"
    if name == "fraud":
        assert found >= {f"{s}-metric-{m}" for s in ("train", "test") for m in ("Precision", "Recall", "F1Score")}


@pytest.mark.slow
def test_model_signals(capsys: pytest.CaptureFixture[str]) -> None:
    ask_to_stop()
    run_script("model_signals", run_dir="run")
    query = 'select count(distinct step), min("metrics/global/grad_norm") > 0 from steps'
    assert rows(Path("run"), query + ' where "metrics/global/grad_norm" is not null') == [(STEPS, True)]
    assert "track_model_signals" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_sample_signals(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(itertools, "count", lambda start=0: range(start, 7))
    run_script("sample_signals", run_dir="run", own_classifier=own)
    wl.keep_serving()
    query = "select name, count(*) from custom group by 1 order by 1"
    names = ["loss_sample", "sig/entropy", "sig/hardness", "sig/loss_norm"]
    assert rows(Path("run"), query) == [(name, 6 * 140) for name in names]
    query = "select max(abs(l.value * e.value - h.value)) from custom l join custom e using (sample_id, step, phase) "
    query += "join custom h using (sample_id, step, phase) where l.name = 'loss_sample' and e.name = 'sig/entropy' "
    assert rows(Path("run"), query + "and h.name = 'sig/hardness'")[0][0] < 1e-5
    with Path("report.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    shapes = {line["tag:loss_sample_loss_shape"] for line in lines}
    assert shapes <= {"monotonic", "not_monotonic"} if own else shapes <= set(wl.LOSS_SHAPES)
    assert len(lines) == 140
    assert "monotonic" in shapes


@pytest.mark.slow
def test_standalone_model() -> None:
    run_script("standalone_model")
    assert ends(Path("logs/watch-1"))["global_step"] == 20
    assert Path("history.csv").read_text().count("\n") == 1  # its head


@pytest.mark.slow
def test_standalone_config() -> None:
    run_script("standalone_config")
    assert not list(Path.cwd().rglob("recipe.yaml")), "nothing was recorded, so there is no run"


@pytest.mark.slow
def test_ctrl_c_is_an_interruption() -> None:
    """How a script without an end mostly ends."""
    Path("config.yaml").write_text(yaml.safe_dump({"run_dir": "run"}))
    Path("script.py").write_text((SCRIPTS / "model_signals.py").read_text())
    path = os.pathsep.join([str(SCRIPTS), str(ROOT)])
    command = [sys.executable, "-W", "ignore", "script.py"]
    script = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: any(line["epoch"] > 3 for line in read_lines(RunDir("run").epoch_metrics)))
        script.send_signal(signal.SIGINT)
        script.wait(60)
    finally:
        script.kill()
    assert ends(Path("run"))["status"] == "interrupted"


def wait_for(is_true: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.1)
