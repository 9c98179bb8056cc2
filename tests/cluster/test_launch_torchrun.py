"""`litscope launch torchrun` becomes torchrun: its processes, its words, its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SHOW = """\
import os, sys
print("rank", os.environ["RANK"], "of", os.environ["WORLD_SIZE"], sys.argv[1:], flush=True)
sys.exit(int(sys.argv[2]))
"""


def launched(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "show.py").write_text(SHOW)
    line = [sys.executable, "-m", "litscope", "launch", "torchrun", *words]
    place = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(line, cwd=folder, env=place, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_script_runs_in_each_process(tmp_path: Path) -> None:
    done = launched(tmp_path, "--nproc-per-node", "2", "--", "python", "show.py", "a b", "0")
    assert done.returncode == 0, done.stderr
    lines = sorted(line for line in done.stdout.splitlines() if line.startswith("rank"))
    assert lines == [f"rank {rank} of 2 ['a b', '0']" for rank in (0, 1)]


@pytest.mark.slow
def test_its_failure_is_that_of_the_command(tmp_path: Path) -> None:
    done = launched(tmp_path, "--", "show.py", "x", "3")
    assert done.returncode == 1
    assert "exitcode  : 3" in done.stderr
