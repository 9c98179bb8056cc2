"""A person's own module under `Scope`, in processes that Lightning spawns: each has a copy of the callback."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from small_runs import rows
from watched import NUM_TRAIN, NUM_VAL

from litscope.live.records import read_summary
from litscope.rundir import RunDir

SCRIPT = """
import sys
from watched import Module, loaders, trainer
from litscope.watch import Scope

if __name__ == "__main__":
    one = trainer(Scope(sys.argv[1]), max_epochs=2, devices=2, strategy="ddp_spawn")
    one.fit(Module(), *loaders())
"""


@pytest.mark.slow
def test_two_spawned_ranks_record_each_sample_once_an_epoch(tmp_path: Path) -> None:
    script, folder = tmp_path / "script.py", tmp_path / "run"
    script.write_text(SCRIPT)
    paths = os.pathsep.join([str(Path(__file__).parents[1] / "support"), os.environ.get("PYTHONPATH", "")])
    place = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-W", "ignore", str(script), str(folder)]
    done = subprocess.run(command, env=place, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        visits = Counter(rows(folder, split=split)["sample_id"].to_pylist())
        assert len(visits) == count
        assert set(visits.values()) == {2}
    summary = read_summary(RunDir(folder))
    assert (summary["status"], summary["num_devices"]) == ("finished", 2)
