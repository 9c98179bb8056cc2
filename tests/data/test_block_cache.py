"""BlockCache: its limit, what a killed process leaves, and several processes at once."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from litscope.data.storage.cache import BLOCK_BYTES, BlockCache

FILE = os.urandom(BLOCK_BYTES) + b"tail"


def load(offset: int, size: int) -> bytes:
    return FILE[offset : offset + size]


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_limit_is_kept_and_what_was_not_read_goes_first(tmp_path: Path) -> None:
    limit = 4 * BLOCK_BYTES
    cache, loads = BlockCache(tmp_path, limit), list[str]()

    def named(name: str) -> bytes:
        return cache.read(name, 10, 20, lambda offset, size: (loads.append(name), load(offset, size))[1])

    for name in ("a", "b", "c"):
        assert named(name) == FILE[10:30]
        time.sleep(0.02)
    named("a")
    named("d")  # b was not read for longest
    assert taken(tmp_path) <= limit
    loads.clear()
    named("a"), named("d"), named("b")
    assert loads == ["b"]


def test_what_a_killed_process_left_goes(tmp_path: Path) -> None:
    left = tmp_path / "blocks" / "ab" / ".abc-0.123.ff.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 3600,) * 2)
    cache = BlockCache(tmp_path, 10 * BLOCK_BYTES)
    assert cache.read("x", BLOCK_BYTES - 2, 6, load) == FILE[-6:]  # over two blocks
    assert not left.exists()


def test_what_other_programs_leave_there_does_not_end_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "blocks" / "ab").mkdir(parents=True)
    (tmp_path / "blocks" / ".DS_Store").write_bytes(b"of macOS")
    (tmp_path / "blocks" / "ab" / ".nfs0001").write_bytes(b"of NFS")
    cache, loads = BlockCache(tmp_path, 10 * BLOCK_BYTES), list[int]()
    for _ in range(2):
        cache.read("x", 0, 5, lambda offset, size: (loads.append(offset), load(offset, size))[1])
    assert (loads, capsys.readouterr().err) == ([0], "")


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    cache = BlockCache(tmp_path / "file" / "below", BLOCK_BYTES)
    assert [cache.read("x", 0, 5, load), cache.read("x", 0, 5, load)] == [FILE[:5]] * 2
    assert capsys.readouterr().err.count("cannot be written (Not a directory)") == 1


def _bring(folder: Path, counted: Path) -> None:
    def slow(offset: int, size: int) -> bytes:
        with counted.open("a") as out:
            out.write(".")
        time.sleep(0.3)
        return load(offset, size)

    assert BlockCache(folder, 10 * BLOCK_BYTES).read("x", 0, 5, slow) == FILE[:5]


def test_of_two_processes_one_brings_a_block(tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")
    both = [forked.Process(target=_bring, args=(tmp_path / "c", tmp_path / "n")) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert (tmp_path / "n").read_text() == "."
