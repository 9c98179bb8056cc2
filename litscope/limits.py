"""How many cores and how much memory this process may use: the least of the machine, affinity and cgroup.

In a container or a SLURM job the machine's own numbers promise what the job does not have.
"""

from __future__ import annotations

import os
from pathlib import Path


def num_cores() -> int:
    """Cores that this process may use: the least of affinity and the cgroup's CPU quota, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota = _cgroup_cpu_quota()
    return max(1, min(affinity, int(quota) if quota is not None and quota >= 1 else affinity))


def memory_bytes() -> int:
    """Memory that this process may use in all, in bytes: the least of the machine's and the cgroup's limit."""
    limits = [
        total for total in (_physical_memory_bytes(), _cgroup_number("memory.max", "memory.limit_in_bytes")) if total
    ]
    return min(limits)


def memory_available_bytes() -> int:
    """Memory that is free now, in bytes, within the machine's and the cgroup's limit.

    File pages that the kernel can drop count as free.
    """
    available = _meminfo("MemAvailable") or _physical_memory_bytes()
    limit = _cgroup_number("memory.max", "memory.limit_in_bytes")
    used = _cgroup_number("memory.current", "memory.usage_in_bytes")
    if limit is None or used is None:
        return available
    return max(0, min(available, limit - used + _cgroup_reclaimable()))


def _physical_memory_bytes() -> int:
    """Memory of the machine in bytes, whatever the cgroup says; 4 GiB where the system does not tell."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))
    return 4 * 2**30


def _meminfo(name: str) -> int | None:
    """A line of /proc/meminfo in bytes; None where there is no such file."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return None
    for line in path.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _cgroup_number(name_v2: str, name_v1: str) -> int | None:
    """A number of this process's memory cgroup in bytes; None without a limit."""
    for folder in _cgroup_folders("memory"):
        for name in (name_v2, name_v1):
            text = _read(folder / name)
            if text is not None and text.isdigit() and int(text) < 2**60:
                return int(text)
    return None


def _cgroup_reclaimable() -> int:
    """Bytes of file cache that the cgroup can give back (inactive_file)."""
    for folder in _cgroup_folders("memory"):
        text = _read(folder / "memory.stat")
        for line in (text or "").splitlines():
            if line.split()[0] in ("inactive_file", "total_inactive_file"):
                return int(line.split()[1])
    return 0


def _cgroup_cpu_quota() -> float | None:
    """CPU quota of the cgroup in cores; None without one."""
    for folder in _cgroup_folders("cpu"):
        text = _read(folder / "cpu.max")
        if text is not None and not text.startswith("max"):
            quota, period = text.split()
            return int(quota) / int(period)
        quota_v1, period_v1 = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota_v1 and period_v1 and int(quota_v1) > 0:
            return int(quota_v1) / int(period_v1)
    return None


def _cgroup_folders(controller: str) -> list[Path]:
    """Where this process's limits may stand, nearest first: cgroup v2 and v1, own folder, then the mount's root."""
    root = Path("/sys/fs/cgroup")
    folders = []
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            folders.append(root / path.lstrip("/"))
        elif controller in controllers.split(","):
            folders.append(root / controller / path.lstrip("/"))
    return [*folders, root / controller, root]


def _read(path: Path) -> str | None:
    """A small file's text without the line end; None when it cannot be read (no such limit on this system)."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
