"""From plain PyTorch to Lightning: each step trains as the one before it, and the page shows their lines."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from watched import visits

from litscope.rundir import read_lines

ROOT = Path(__file__).resolve().parents[2]
STEPS = sorted((ROOT / "examples" / "plain_to_lightning").glob("step*.py"))
PAGE = (ROOT / "docs" / "lightning-module.md").read_text()

pytestmark = pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers:UserWarning")


def loaded(file: Path) -> ModuleType:
    """The file as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(file: Path) -> list[str]:
    """Its lines, without what only the linter reads."""
    return [line.partition("  # noqa")[0] for line in file.read_text().splitlines()]


@pytest.mark.slow
def test_every_step_has_the_losses_of_the_one_before(in_tmp: Path) -> None:
    assert [file.stem[:5] for file in STEPS] == ["step1", "step2", "step3", "step4", "step5"]
    plain = loaded(STEPS[0]).train(epochs=2)
    assert plain[1]["train_loss"] < 0.5 * plain[0]["train_loss"]
    for file in STEPS[1:]:
        words = ("run",) if file.stem == "step5_scope" else ()
        for epoch, numbers in enumerate(loaded(file).train(2, *words)):
            assert numbers == pytest.approx(plain[epoch], abs=1e-6), f"{file.name}, epoch {epoch}"
    assert visits(in_tmp / "run")[1, "train", "train"] == (1497, 1497)
    lines = read_lines(in_tmp / "run" / "metrics" / "epochs.jsonl")
    assert [line["val_loss"] for line in lines] == pytest.approx([one["val_loss"] for one in plain], abs=1e-6)


def test_what_the_page_shows_is_in_the_files() -> None:
    """A line that goes is in the step before, a line that comes is in the step itself."""
    for number, section in enumerate(re.split(r"^## Step ", PAGE, flags=re.MULTILINE)[2:6], start=2):
        assert section.startswith(f"{number}:")
        before, after = (shown(file) for file in STEPS[number - 2 : number])
        diffs = re.findall(r"^```diff\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
        lines = [line for diff in diffs for line in diff.splitlines() if line[1:].strip()]
        assert lines
        for line in lines:
            assert line[0] == "+" or line[1:] in before, f"step {number}: {line}"
            assert line[0] == "-" or line[1:] in after, f"step {number}: {line}"


def test_what_the_page_prints_is_what_the_first_step_prints(capsys: pytest.CaptureFixture[str]) -> None:
    loaded(STEPS[0]).train(epochs=2)
    assert f"--epochs 2\n{capsys.readouterr().out}```" in PAGE


@pytest.mark.slow
def test_two_devices_are_a_flag(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "ignore",
        str(STEPS[-1]),
        "--devices",
        "2",
        "--accelerator",
        "cpu",
        "--epochs",
        "2",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("val_acc") == 2, "one process prints a line for each epoch"
    rows, samples = visits(tmp_path / "runs" / "step5")[1, "train", "train"]
    assert samples == 1497
    assert rows in (1497, 1498), "Lightning's sampler repeats a sample, so that both devices have as many"
