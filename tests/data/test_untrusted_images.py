"""Image files that somebody made to hurt: what runs programs, what takes minutes, what fills the memory."""

from __future__ import annotations

import io
import os
import stat
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from litscope.data.reading import untrusted
from litscope.data.reading.images import decode, read_header
from litscope.errors import DataError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def progressive(side: int, times: int) -> bytes:
    """A JPEG whose last scan, of some ninety bytes, is there so often."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((side, side), np.uint8)).save(file, "JPEG", progressive=True)
    jpeg = file.getvalue()
    last = jpeg.rindex(b"\xff\xda")
    return jpeg[:last] + jpeg[last:-2] * times + jpeg[-2:]


def test_postscript_is_given_to_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands it to Ghostscript, whatever the file is called."""
    program, called = tmp_path / "gs", tmp_path / "called"
    program.write_text(f"#!/bin/sh\ntouch {called}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    image = tmp_path / "a.png"
    for start in (EPS, b"\xc5\xd0\xd3\xc6" + b"\0" * 28 + EPS):
        image.write_bytes(start)
        for ask in (lambda: read_header(image), lambda: decode(image, 3), lambda: decode(image.read_bytes(), 1)):
            with pytest.raises(DataError, match="not an image of a kind that is read"):
                ask()
    assert not called.exists()


def test_a_jpeg_of_nothing_but_scans_is_refused_at_once() -> None:
    bomb = progressive(4000, 1000)
    assert len(bomb) < 500_000
    began = time.process_time()
    with pytest.raises(DataError, match=r"scans; at most 562 are decoded at its size"):
        decode(bomb, 3, 96)
    with pytest.raises(DataError, match="scans"):
        decode(bomb[:-2], 3)  # simplejpeg refuses what ends too early, and Pillow is asked
    assert time.process_time() - began < 2
    assert decode(progressive(64, 1000), 3).shape == (64, 64, 3), "a small one takes no time"


def test_a_file_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    with file.open("wb") as opened:
        opened.truncate(untrusted.MAX_FILE_BYTES + 1)  # takes no room on the disk
    with pytest.raises(DataError, match="a file of 1,073,741,825 bytes; at most 1,073,741,824 are read"):
        decode(file, 3)
