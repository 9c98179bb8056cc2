"""A seal inside a file finds every flipped bit, and no reader of the format minds it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from flips import Outcome, every_bit

from litscope import seals
from litscope.seals import DIFFERENT, sealed_archive, sealed_parquet, why_damaged

STATE = {"state_dict": {"w": torch.arange(40.0).reshape(8, 5), "n": torch.tensor(3)}, "note": "as it was"}
TABLE = pa.table({"sample_id": pa.array(range(50), pa.int64()), "loss": pa.array([i / 7 for i in range(50)])})


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with (tmp_path / "x.ckpt").open("wb") as file, sealed_archive(file) as out:
        torch.save(STATE, out)
    return tmp_path / "x.ckpt"


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    content = pa.BufferOutputStream()
    pq.write_table(TABLE, content, compression="zstd")
    (tmp_path / "x.parquet").write_bytes(b"".join(sealed_parquet(content.getvalue())))
    return tmp_path / "x.parquet"


def test_torch_and_zip_read_a_sealed_archive_as_any_other(archive: Path) -> None:
    assert why_damaged(archive) is None
    for mmap in (False, True):
        loaded = torch.load(archive, weights_only=True, mmap=mmap)
        assert torch.equal(loaded["state_dict"]["w"], STATE["state_dict"]["w"])
        assert loaded["note"] == "as it was"
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        assert opened.comment.startswith(b"litscope-crc32-")


def test_an_archive_is_the_same_however_it_is_cut_into_writes() -> None:
    plain, sealed = io.BytesIO(), []
    torch.save(STATE, plain)
    for size in (1, 3, 21, 22, 23, 1000, len(plain.getvalue())):
        out, content = io.BytesIO(), plain.getvalue()
        with sealed_archive(out) as archive:
            for start in range(0, len(content), size):
                archive.write(content[start : start + size])
        sealed.append(out.getvalue())
    assert len(set(sealed)) == 1


def test_arrow_and_duckdb_read_sealed_parquet_as_any_other(parquet: Path) -> None:
    assert why_damaged(parquet) is None
    assert pq.read_table(parquet).equals(TABLE)
    assert pq.read_table(parquet, columns=["loss"], filters=[("sample_id", ">", 40)]).num_rows == 9
    with duckdb.connect() as connection:
        found = connection.sql(f"SELECT sample_id, loss FROM '{parquet}' ORDER BY sample_id").to_arrow_table()
    assert found.equals(TABLE)


def places(path: Path) -> list[int]:
    """Every bit of the file's end, where the seal and the formats' tables are, and each seventeenth before."""
    num = 8 * path.stat().st_size
    return [*range(0, num - 8 * 150, 17), *range(num - 8 * 150, num)]


def test_every_flipped_bit_of_an_archive_is_found_or_harmless(archive: Path) -> None:
    """Harmless are those of the mark that says that there is a seal: the rest is as it was."""

    def read() -> Outcome:
        if why_damaged(archive) is not None:
            return "found"
        loaded = torch.load(archive, weights_only=True)
        is_same = torch.equal(loaded["state_dict"]["w"], STATE["state_dict"]["w"]) and loaded["note"] == STATE["note"]
        return "harmless" if is_same else "wrong"

    size = archive.stat().st_size
    found = every_bit(archive, places(archive), read)
    assert "wrong" not in found.values()
    mark = range(8 * (size - seals._SEAL_BYTES), 8 * (size - 16))
    assert {bit for bit, outcome in found.items() if outcome == "harmless"} <= set(mark)


def test_every_flipped_bit_of_parquet_is_found_or_harmless(parquet: Path) -> None:
    def read() -> Outcome:
        if why_damaged(parquet) is not None:
            return "found"
        try:
            return "harmless" if pq.read_table(parquet).equals(TABLE) else "wrong"
        except (OSError, pa.ArrowException):
            return "found"

    found = every_bit(parquet, places(parquet), read)
    outcomes = list(found.values())
    assert outcomes.count("wrong") == 0
    assert outcomes.count("harmless") <= 8 * len(seals._MARK)


def test_files_of_before_are_taken_as_they_are(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "x.ckpt")
    pq.write_table(TABLE, tmp_path / "x.parquet")
    (tmp_path / "x.txt").write_text("a few words")
    assert [why_damaged(path) for path in sorted(tmp_path.iterdir())] == [None, None, None]


@pytest.mark.parametrize("left", [0, 1, 100, -1, -20, -40])
def test_what_was_cut_off_is_damaged(archive: Path, left: int) -> None:
    archive.write_bytes(archive.read_bytes()[:left])
    why = why_damaged(archive)
    if left == 0:
        assert why == "it is empty"
    elif left == 1:
        assert why is None, "one byte tells nothing; torch refuses it"
    else:
        assert why is not None


def test_an_answer_of_before_holds_for_the_same_file_only(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_damaged(archive, may_remember=True) is None
    with monkeypatch.context() as patch:
        patch.setattr(seals, "_sum", lambda *_: pytest.fail("it was read again"))
        assert why_damaged(archive, may_remember=True) is None
    every_bit(archive, [80], lambda: _is_found(archive))


def _is_found(path: Path) -> Outcome:
    assert why_damaged(path, may_remember=True) == DIFFERENT
    return "found"
