"""Files that stay open between reads: what is read, how many are open, and what becomes of one that is replaced."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import pytest

from litscope.data.shards.local_files import LocalFiles
from litscope.errors import DataError


def num_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not tell which files are open")
def test_some_files_stay_open_and_no_more(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 8)
    before, files = num_open(), LocalFiles()
    for _ in range(2):
        for number in range(100):
            assert files.read(str(tmp_path / str(number)), 6, 4) == bytes([number]) * 2
    assert num_open() == before + 64
    copied = pickle.loads(pickle.dumps(files))
    del files
    assert num_open() == before
    assert copied.read(str(tmp_path / "7"), 0, 1) == b"\x07"


def test_threads_that_push_each_others_files_out_read_what_they_asked_for(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).write_bytes(number.to_bytes(2, "big"))
    files, wrong = LocalFiles(), list[int]()

    def work(first: int) -> None:
        for round_ in range(20):
            for number in range(first, 200, 4):
                if files.read(str(tmp_path / str(number)), 0, 2) != number.to_bytes(2, "big"):
                    wrong.append(round_)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_that_takes_the_place_of_another_is_not_mixed_with_it(tmp_path: Path) -> None:
    old, files = tmp_path / "shard.tar", LocalFiles()
    old.write_bytes(b"old old!")
    assert files.read(str(old), 0, 3) == b"old"
    (tmp_path / "new").write_bytes(b"new new!")
    (tmp_path / "new").replace(old)
    assert files.read(str(old), 4, 9) == b"old!"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        LocalFiles().read(str(tmp_path / "gone"), 0, 1)
    with pytest.raises(DataError, match="directory"):
        LocalFiles().read(str(tmp_path), 0, 1)
