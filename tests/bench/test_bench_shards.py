"""bench/shards.py: every arm hands over each sample once, from disk and from the S3 server, and tells its cost."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import environments
import harness
import lines
import shards
from object_store import serving


@pytest.mark.slow
def test_arms_read_all_samples_from_disk_and_from_s3(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not Path("/proc/self/io").exists():
        pytest.skip("bytes and memory of processes come from /proc")
    monkeypatch.setattr(environments, "ENVIRONMENTS", {})  # nothing is installed for a test
    context = harness.Context(shared_data, tmp_path, rounds=1, threads=1, size="tiny", may_repeat=False)
    home = shards.stored(context, 32)
    with serving(home.parent, shards.LATENCY_S) as server:
        far = [replace(arm, name=f"{arm.name}, S3") for arm in shards.arms(context, 32, server)]
        arms = [
            replace(arm, environment=None)
            for arm in (*shards.arms(context, 32), *far)
            if shards.LITDATA not in arm.name
        ]
        found = harness.measure(harness.Bench("shards", "All", lambda _: arms, shards.FROM_S3), context)

    assert {line["num_samples"] for line in found if line["phase"] == "warm"} == {200}
    assert not [line for line in found if "not_measured" in line]
    peaks = {line["arm"]: line["median"] for line in found if line["figure"] == "peak_mib"}
    assert min(peaks.values()) > 100
    stored_kb = sum(file.stat().st_size for file in home.glob("shards/*.tar")) / 200 / 1e3
    for name in (arm.name for arm in far if shards.LITDATA not in arm.name):
        assert 0 < pick(found, name, "kb_per_sample") <= 1.5 * stored_kb
        assert pick(found, name, "requests") >= 8  # one for each shard at least
        assert pick(found, name, "server_cpu_us_per_sample") > 0
    read = {name: pick(found, name, "kb_per_sample") for name in (shards.tasks.OURS, shards.DECODER, shards.FOLDER)}
    assert read[shards.DECODER] < 0.5 * min(read[shards.tasks.OURS], read[shards.FOLDER])


def pick(found: list[lines.Line], arm: str, figure: str) -> float:
    return float(next(line["median"] for line in found if (line["arm"], line["figure"]) == (arm, figure)))
