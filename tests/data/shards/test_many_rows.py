"""Ten million samples: what opening them takes, up to the first batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from many_rows import write_many

SCRIPT = """
import json, sys, time
from pathlib import Path
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import Manifest
at, began = Path(sys.argv[1]), time.process_time()
data = ClassificationData(at, val_split=0.0, batch_size=128).open()
data.manifest.write(at / "manifest.parquet")
batches = data.train_dataloader()._batches(0, 0)
lines = Path("/proc/self/status").read_text().splitlines()  # rusage's peak is also that of who started this process
peak = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
facts = {"peak": peak, "cpu_s": time.process_time() - began, "notes": data.report.notes}
facts |= {"broken": data.report.unreadable}
facts |= {"num": len(data.manifest), "drawn": sum(map(len, batches)), "first": batches[0].tolist()}
print(json.dumps(facts))
"""


def opened(folder: Path) -> dict:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux says how much memory a process took at most")
def test_ten_million_samples_open_in_seconds_and_two_gigabytes(tmp_path: Path) -> None:
    num = 10_000_000
    write_many(tmp_path, num)
    found = opened(tmp_path)
    assert (found["num"], found["drawn"], found["broken"]) == (num, num * 9 // 10, [])
    assert len(set(found["first"])) == 128
    assert any("256 of 10,000,000 images were looked at" in line for line in found["notes"])
    assert any("order: an epoch draws from about" in line for line in found["notes"])
    assert found["peak"] < 2 * 2**30
    assert found["cpu_s"] < 60  # thrice what it takes


def test_a_damaged_sample_that_is_looked_at_is_set_aside(tmp_path: Path) -> None:
    index = write_many(tmp_path, 3000)
    with (tmp_path / index.shards[0].name).open("r+b") as file:
        file.seek(index.places.of(0)[1] + 700)
        file.write(b"\0\xff\0\xff")
    from litscope.data.datamodule import ClassificationData

    data = ClassificationData(tmp_path, val_split=0.0, cache=False).open()
    assert [key for key, _ in data.report.unreadable] == ["0000/000000000.jpg"]
    assert 0 not in data.active_ids("train")
    assert data.manifest.table["digest"][0].as_py() is None
