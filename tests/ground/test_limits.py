"""Cores and memory, asked of folders that hold what a kernel would show under proc/ and sys/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from litscope import limits
from litscope.ledger.database import open_database

GIB = 2**30
MACHINE_CORES = len(os.sched_getaffinity(0))


def write(root: Path, files: dict[str, str]) -> Path:
    """A root folder with these files (path -> text); cgroup paths are below sys/fs/cgroup."""
    for name, text in files.items():
        path = root / (name if name.startswith("proc/") else f"sys/fs/cgroup/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def many_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores, so that only the quota decides."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


def test_without_cgroups_the_machine_and_the_affinity_tell(tmp_path: Path) -> None:
    assert limits.num_cores(tmp_path) == MACHINE_CORES
    assert limits.memory_bytes(tmp_path) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert limits.memory_available_bytes(tmp_path) == limits.memory_bytes(tmp_path)


def test_this_machine_answers() -> None:
    assert 1 <= limits.num_cores() <= MACHINE_CORES
    assert 2**27 < limits.memory_bytes() < 2**47
    assert 0 <= limits.memory_available_bytes() <= limits.memory_bytes()


def test_affinity_is_respected(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert limits.num_cores(write(tmp_path, {"cpu.max": "800000 100000\n"})) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [
        ("400000 100000", 4),
        ("250000 100000", 3),  # 2.5 cores
        ("50000 100000", 1),
        ("1000 100000", 1),
        ("1200000 100000", 12),
        ("300000 50000", 6),
        ("max 100000", 64),
        ("", 64),
    ],
)
@pytest.mark.usefixtures("many_cores")
def test_a_quota_of_version_2_is_rounded_up(tmp_path: Path, quota: str, cores: int) -> None:
    assert limits.num_cores(write(tmp_path, {"cpu.max": f"{quota}\n", "proc/self/cgroup": "0::/\n"})) == cores


@pytest.mark.parametrize(
    ("own", "parent", "cores"), [("800000", "200000", 2), ("200000", "800000", 2), ("max", "300000", 3)]
)
@pytest.mark.usefixtures("many_cores")
def test_every_cgroup_around_the_process_counts(tmp_path: Path, own: str, parent: str, cores: int) -> None:
    files = {
        "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
        "slurm/job_7/step_0/cpu.max": f"{own} 100000\n",
        "slurm/cpu.max": f"{parent} 100000\n",
        "slurm/job_8/cpu.max": "100000 100000\n",  # another job's
    }
    assert limits.num_cores(write(tmp_path, files)) == cores


@pytest.mark.parametrize("controller", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cores"), [("150000", 2), ("-1", 64), ("600000", 6)])
@pytest.mark.usefixtures("many_cores")
def test_a_quota_of_version_1(tmp_path: Path, controller: str, quota: str, cores: int) -> None:
    files = {
        "proc/self/cgroup": f"9:memory:/docker/a\n4:{controller}:/docker/a\n0::/\n",
        f"{controller}/docker/a/cpu.cfs_quota_us": f"{quota}\n",
        f"{controller}/docker/a/cpu.cfs_period_us": "100000\n",
        f"{controller}/docker/cpu.cfs_quota_us": "-1\n",
        f"{controller}/docker/cpu.cfs_period_us": "100000\n",
    }
    assert limits.num_cores(write(tmp_path, files)) == cores


@pytest.mark.usefixtures("many_cores")
def test_in_a_container_the_own_cgroup_is_the_mounts_top(tmp_path: Path) -> None:
    """proc/self/cgroup names a path of the host, or one that lies above the mount."""
    for number, path in enumerate(("/docker/0123abcd", "/../../host", "/")):
        files = {"proc/self/cgroup": f"0::{path}\n", "cpu.max": "200000 100000\n", "memory.max": f"{GIB // 2}\n"}
        root = write(tmp_path / str(number), files)
        assert (limits.num_cores(root), limits.memory_bytes(root)) == (2, GIB // 2)


def test_memory_is_the_least_of_the_cgroups_limits(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/user/job\n",
        "proc/meminfo": f"MemTotal: 99 kB\nMemAvailable: {64 * 2**20} kB\n",
        "user/job/memory.max": "max\n",
        "user/memory.max": f"{GIB}\n",
        "user/memory.current": f"{GIB // 2}\n",
        "user/memory.stat": f"anon 5\ninactive_file {2**20}\n",
    }
    root = write(tmp_path, files)
    assert limits.memory_bytes(root) == GIB
    assert limits.memory_available_bytes(root) == GIB // 2 + 2**20
    write(tmp_path, {"user/job/memory.max": f"{GIB // 4}\n", "user/job/memory.current": f"{GIB // 4}\n"})
    assert limits.memory_bytes(root) == GIB // 4
    assert limits.memory_available_bytes(root) == 0
    write(tmp_path, {"user/job/memory.max": "max\n", "user/memory.max": "max\n"})
    assert limits.memory_bytes(root) > GIB
    assert limits.memory_available_bytes(root) == 64 * GIB


def test_memory_of_version_1(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/job\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",  # no limit
        "memory/job/memory.limit_in_bytes": f"{GIB}\n",
        "memory/job/memory.usage_in_bytes": f"{GIB // 4}\n",
        "memory/job/memory.stat": f"inactive_file 1\ntotal_inactive_file {2**20}\n",
    }
    root = write(tmp_path, files)
    assert limits.memory_bytes(root) == GIB
    assert limits.memory_available_bytes(root) == GIB * 3 // 4 + 2**20


def test_queries_keep_within_the_limits() -> None:
    with open_database() as connection:
        threads, memory = connection.execute(
            "SELECT current_setting('threads'), current_setting('memory_limit')"
        ).fetchall()[0]
        assert threads == limits.num_cores()
        number, unit = memory.split()
        assert float(number) * {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}[unit] == pytest.approx(
            0.8 * limits.memory_bytes(), rel=0.1
        )
