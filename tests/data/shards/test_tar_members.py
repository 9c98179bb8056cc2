"""Headers of tar files: what Python and GNU tar write is read, and what is not whole is told, with its place."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from litscope.data.shards.members import BLOCK, BrokenTarError, Member, Window, members

LONG = "folder-with-a-name/" * 12 + "image.one.jpg"
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def archive(contents: dict[str, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def found(tar: bytes, piece: int = 1024, is_whole: bool = False) -> dict[str, bytes]:
    return {one.name: tar[one.offset : one.offset + one.size] for one in listed(tar, piece, is_whole)}


def listed(tar: bytes, piece: int = 1024, is_whole: bool = False) -> list[Member]:
    return list(members(Window(lambda offset, size: tar[offset : offset + size], len(tar), piece, is_whole)))


@pytest.mark.parametrize("piece", [512, 4096, 1 << 20])
@pytest.mark.parametrize("form", FORMATS)
def test_members_of_every_format(form: str, piece: int) -> None:
    names = ["a.jpg", "å/b.c.jpg", "x" * 60 + "/" + "y" * 90 + ".png"]
    names += [] if form == "ustar" else [LONG, "z" * 200]
    contents = {name: bytes([i]) * (700 * i * i) for i, name in enumerate(names)}
    tar = archive(contents, FORMATS[form])
    assert found(tar, piece) == contents
    assert found(tar, piece, is_whole=True) == contents


@pytest.mark.parametrize("form", ["gnu", "posix", "ustar"])
def test_what_gnu_tar_writes(tmp_path: Path, form: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "one.two.jpg").write_bytes(b"x" * 3000)
    (tmp_path / "a" / "link.jpg").symlink_to("b/one.two.jpg")
    (tmp_path / "a" / "same.jpg").hardlink_to(tmp_path / "a" / "b" / "one.two.jpg")
    subprocess.run(["tar", f"--format={form}", "--sort=name", "-cf", "x.tar", "a"], cwd=tmp_path, check=True)
    assert found((tmp_path / "x.tar").read_bytes()) == {"a/b/one.two.jpg": b"x" * 3000}  # no link, no folder


def test_the_size_of_a_large_member_is_a_binary_number() -> None:
    info = tarfile.TarInfo("large.jpg")
    info.size = 9 << 30
    header = info.tobuf(tarfile.GNU_FORMAT)
    end = len(header) + info.size

    def fetch(offset: int, size: int) -> bytes:  # a file of nine gigabytes, of which only the ends are there
        assert size < 10_000
        part = header[offset : offset + size]
        return part + bytes(size - len(part))

    one = list(members(Window(fetch, end + 1024, 2048)))
    assert one == [Member("large.jpg", len(header), 9 << 30)]


def test_a_file_that_is_cut_anywhere_is_told() -> None:
    contents = {"a.jpg": b"1" * 600, LONG: b"2" * 100, "c.jpg": b"3" * 1500}
    tar = archive(contents, tarfile.PAX_FORMAT)
    end = len(tar.rstrip(b"\0"))
    end += -end % BLOCK + 2 * BLOCK  # of the archive; what follows fills a record
    assert found(tar[:end]) == contents
    for length in range(0, end, 128):
        with pytest.raises(BrokenTarError, match=r"^at byte [\d,]+: the file ") as raised:
            found(tar[:length])
        assert raised.value.offset <= length


def test_no_damaged_header_is_the_end() -> None:
    tar = archive(dict.fromkeys(("a.jpg", "b.jpg", "c.jpg"), b"x" * 600))
    second = tar.index(b"b.jpg")
    for at in range(second, second + 345, 7):
        damaged = bytearray(tar)
        damaged[at] ^= 4
        with pytest.raises(BrokenTarError) as raised:
            found(bytes(damaged))
        assert raised.value.offset == second


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "at byte 0: the file is empty"),
        (b"\x1f\x8b" + bytes(2000), "compressed with gzip"),
        (b"<html>" + b"x" * 2000, "at byte 0: this is no tar file"),
        (archive({"a.jpg": b"1"}) + archive({"b.jpg": b"1"}), "two were joined"),
    ],
)
def test_other_files(content: bytes, said: str) -> None:
    with pytest.raises(BrokenTarError, match=said):
        found(content)


def test_a_file_with_holes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.jpg").open("wb") as file:
        file.truncate(1 << 20)
    for form in ("gnu", "posix"):
        subprocess.run(["tar", f"--format={form}", "-S", "-cf", "x.tar", "x.jpg"], cwd=tmp_path, check=True)
        with pytest.raises(BrokenTarError, match="holes"):
            found((tmp_path / "x.tar").read_bytes())


def test_bodies_are_passed_over_and_not_read() -> None:
    tar = archive({f"{i}.jpg": bytes(100_000) for i in range(20)})
    fetched = []

    def fetch(offset: int, size: int) -> bytes:
        fetched.append(size)
        return tar[offset : offset + size]

    assert len(list(members(Window(fetch, len(tar), 4096)))) == 20
    assert sum(fetched) < 0.1 * len(tar)
    window = Window(fetch, len(tar), 4096, is_whole=True)
    fetched.clear()
    assert len(list(members(window))) == 20
    assert len(window.hexdigest()) == 32
    assert sum(fetched) == len(tar)
