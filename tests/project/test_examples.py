"""The examples run, on real data, for a short while; and what they leave is a run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from watched import visits

from litscope.data.manifest import Manifest
from litscope.rundir import read_lines

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = pytest.mark.slow


def example(folder: Path, *words: str) -> str:
    """Run one, in an empty folder; what it printed."""
    command = [sys.executable, "-W", "ignore", str(EXAMPLES / words[0]), *words[1:]]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env=environment, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("preset", [None, "cpu_ddp"])
def test_mnist_of_wrapped_parts(mnist_dir: Path, tmp_path: Path, preset: str | None) -> None:
    words = ["mnist_lightning/train.py", "--data-dir", str(mnist_dir), "--limit-batches", "6"]
    example(tmp_path, *words, *(["--preset", preset] if preset else []))
    run = tmp_path / "runs" / "mnist_lightning" / "watch-1"
    ranks = 2 if preset else 1
    for epoch in (0, 1):
        assert visits(run)[epoch, "train", "train"] == (6 * 64 * ranks, 6 * 64 * ranks)
        assert visits(run)[epoch, "val", "eval"] == (6 * 256 * ranks, 6 * 256 * ranks)
    lines = read_lines(run / "metrics" / "epochs.jsonl")
    assert 0.3 < lines[1]["val/metric-ACC"] <= 1
    assert {path.name[6:10] for path in (run / "signals").glob("*.parquet")} == {f"r{rank:03}" for rank in range(ranks)}


@pytest.mark.parametrize("devices", ["1", "2"])
def test_iris_with_a_data_module_and_callbacks(tmp_path: Path, devices: str) -> None:
    out = example(tmp_path, "iris_datamodule.py", "--epochs", "20", "--accelerator", "cpu", "--devices", devices)
    assert out.count(", val_acc ") == 20, "one process prints"
    run = tmp_path / "runs" / "iris_datamodule"
    assert visits(run)[19, "train", "train"] == (120, 120)
    line = read_lines(run / "metrics" / "epochs.jsonl")[-1]
    assert line["val_acc"] > 0.85
    assert line["epoch_s_by_callback"] > 0
    manifest = Manifest.read(run / "manifest.parquet")
    assert manifest.classes == ("setosa", "versicolor", "virginica")
    assert manifest.keys[0].startswith("flower ")


def test_cifar10_with_checkpoints_and_loggers(cifar10_small: Path, tmp_path: Path) -> None:
    words = ("--data", str(cifar10_small), "--epochs", "2", "--batch-size", "32", "--limit-batches", "3")
    out = example(tmp_path, "cifar10_resnet.py", *words)
    run = tmp_path / "runs" / "cifar10_resnet"
    assert "val_acc=" in out
    assert list((run / "checkpoints").glob("*val_acc=*.ckpt"))
    assert list((run / "logs").rglob("events.out.tfevents*"))
    assert visits(run)[1, "train", "train"] == (96, 96)
    assert visits(run)[1, "test", "eval"] == (96, 96)
    manifest = Manifest.read(run / "manifest.parquet")
    assert "airplane" in manifest.classes
    assert manifest.keys[manifest.ids("train")[0]].endswith(".jpg")
    assert (len(manifest.ids("train")), len(manifest.ids("val")), len(manifest.ids("test"))) == (270, 30, 100)


def test_a_plain_loop(tmp_path: Path) -> None:
    out = example(tmp_path, "pytorch_loop.py", "--epochs", "3")
    assert "epoch 2: 9" in out  # more than nine in ten are right
    assert visits(tmp_path / "runs" / "pytorch_loop")[2, "train", "train"] == (1497, 1497)


def test_the_notebook_s_cells_run_in_order(tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    script = tmp_path / "cells.py"
    script.write_text("\n\n".join(code) + "\nprint(suspects.num_rows)\n")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "5"
    assert visits(tmp_path / "runs" / "watch-1")[19, "train", "train"] == (150, 150)
