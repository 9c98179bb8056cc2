"""How many cores and how much memory this process may use: the least of the machine, affinity and cgroups.

In a container or a SLURM job the machine's own numbers promise what the job does not have. Everything in litscope that
asks, asks here. A limit holds for all processes of its cgroup and of those below it, so the process's own cgroup and
every ancestor count; both versions of cgroups are read, as `root` holds them (`proc/self/cgroup`, `sys/fs/cgroup`).
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/")
"""Where proc/ and sys/ lie."""

_LEAST_UNLIMITED = 2**60
"""cgroup v1 writes "no limit" as the greatest number of pages that it can count."""


def num_cores(root: Path = ROOT) -> int:
    """Cores that this process may use: the least of affinity and the CPU quotas that hold for it, at least 1.

    A quota of 2.5 cores counts as 3: the third thread has work half of the time.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, min([affinity, *(math.ceil(quota) for quota in _cpu_quotas(root))]))


def memory_bytes(root: Path = ROOT) -> int:
    """Memory that this process may use in all, in bytes: the least of the machine's and its cgroups' limits."""
    return min([_physical_memory_bytes(), *(limit for _, limit in _memory_limits(root))])


def memory_available_bytes(root: Path = ROOT) -> int:
    """Memory that is free now, in bytes, within the machine's and the cgroups' limits.

    File pages that the kernel can drop count as free.
    """
    left = [_meminfo_bytes(root, "MemAvailable") or _physical_memory_bytes()]
    for folder, limit in _memory_limits(root):
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes")
        if used is not None:
            left.append(limit - used + _reclaimable_bytes(folder))
    return max(0, min(left))


@contextmanager
def address_space_limited(more_bytes: int, root: Path = ROOT) -> Iterator[None]:
    """Inside, this process gets at most so much address space beyond what it has (Linux); a request for more fails."""
    pages = (_read(root / "proc/self/statm") or "").split()
    if not pages:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(pages[0]) * resource.getpagesize() + more_bytes
    lowest = min([wanted, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_AS, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _physical_memory_bytes() -> int:
    """Memory of the machine in bytes, whatever the cgroups say; 4 GiB where the system does not tell."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return int(os.sysconf("SC_PAGE_SIZE")) * int(os.sysconf("SC_PHYS_PAGES"))
    return 4 * 2**30


def _meminfo_bytes(root: Path, name: str) -> int | None:
    """A line of proc/meminfo in bytes; None where there is no such file or line."""
    for line in (_read(root / "proc/meminfo") or "").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None


def _memory_limits(root: Path) -> Iterator[tuple[Path, int]]:
    """(cgroup's folder, limit in bytes) for each cgroup around this process that has one."""
    for folder in _cgroups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _number(folder / name)
            if limit is not None and limit < _LEAST_UNLIMITED:
                yield folder, limit


def _reclaimable_bytes(folder: Path) -> int:
    """File cache that a cgroup can give back (v1 counts the cgroups below it in total_inactive_file only)."""
    stat = dict(line.split(maxsplit=1) for line in (_read(folder / "memory.stat") or "").splitlines())
    return int(stat.get("total_inactive_file") or stat.get("inactive_file") or 0)


def _cpu_quotas(root: Path) -> Iterator[float]:
    """The CPU quotas of the cgroups around this process, in cores."""
    for folder in _cgroups(root, "cpu"):
        words = (_read(folder / "cpu.max") or "").split()  # "150000 100000", "max 100000"
        if len(words) == 2 and words[0].isdigit():
            yield int(words[0]) / int(words[1])
        quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")  # -1: none
        if quota and period:
            yield quota / period


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroups and of all their ancestors.

    In a container the mount shows the container's own cgroup at its top, and `proc/self/cgroup` may name a path that
    lies outside: folders that are not there are passed over, the top is always looked at.
    """
    mount = root / "sys/fs/cgroup"
    tops = {mount: [""], mount / "unified": [""], mount / controller: [""]}
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            tops[mount].append(path)
            tops[mount / "unified"].append(path)  # where both versions are mounted
        elif controller in controllers.split(","):
            tops[mount / controller].append(path)
            tops.setdefault(mount / controllers, [""]).append(path)  # "cpu,cpuacct"
    for top, paths in tops.items():
        own = {top.joinpath(*Path(path.lstrip("/")).parts) for path in paths}
        around = {folder for leaf in own for folder in (leaf, *leaf.parents) if folder.is_relative_to(top)}
        yield from sorted(folder for folder in around if folder.is_dir())


_LARGE_BYTES = 1 << 19
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Of glibc's mallopt(3), as malloc.h numbers them."""


def give_back_large_blocks() -> None:
    """Have what this process frees go back to the system, for one that lives long and now and then needs much.

    glibc keeps freed blocks of up to 32 MB, and in an arena for each thread; here it keeps none of half a MB or more.
    Of other C libraries nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_ARENA_MAX, 2)


def give_back_freed() -> None:
    """Have all that this process freed go back to the system, small blocks too; nothing without glibc."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def _number(path: Path) -> int | None:
    """The whole number, at least 0, that a file holds; None for "max", -1 or no file."""
    text = _read(path)
    return int(text) if text is not None and text.isdigit() else None


def _read(path: Path) -> str | None:
    """A small file's text without the line end; None when it cannot be read (no such limit on this system)."""
    try:
        return path.read_text().strip()
    except OSError:
        return None
