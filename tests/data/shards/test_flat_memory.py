"""Epochs over shards whose images are decoded anew each time: the memory that they take does not grow."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from many_rows import write_many

SCRIPT = """
import gc, json, sys
from pathlib import Path
from litscope.data.datamodule import ClassificationData
data = ClassificationData(sys.argv[1], val_split=0.0, batch_size=16, cache=False, num_workers=2).open()
loader, taken = data.train_dataloader(), []
for epoch in range(10):
    num = sum(len(batch["sample_id"]) for batch in loader)
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    taken.append(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024)
print(json.dumps({"mib": taken, "num": num}))
data.teardown()
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much memory a process takes")
def test_memory_stays_over_epochs(tmp_path: Path) -> None:
    write_many(tmp_path, 220)  # all of them are real
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["num"] == 198
    assert max(found["mib"][5:]) < min(found["mib"][1:4]) + 16, found["mib"]  # an epoch's pixels are 34 MB
