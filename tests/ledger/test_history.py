"""The visits of one sample: in their order, the valid ones only, whether all ids are scanned or some stretches."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from ledger_rows import make_rows
from places import GOLDEN

from litscope.attempts import begin_attempt
from litscope.errors import LedgerError
from litscope.ledger import history as asked
from litscope.ledger.compaction import compact
from litscope.ledger.history import Stretches, history
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import PART_SCHEMA, Rows
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir

COUNT = 40


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir.create(tmp_path / "it's=1")  # what SQL and Parquet readers could misread
    begin_attempt(run, 0, None)
    return run


def write(run: RunDir, *blocks: Rows, attempt: int = 1) -> None:
    with LedgerWriter(run, attempt) as writer:
        for block in blocks:
            writer.put(block)


def visit(sample: int, epoch: int, value: float, **facts: object) -> Rows:
    """One sample seen once; every float signal is `value`."""
    return make_rows(10 * epoch + 5, epoch=epoch, ids=[sample], value=value, **facts)  # type: ignore[arg-type]


def epoch_of(number: int) -> Rows:
    """All samples, in another order each time."""
    order = np.random.default_rng(number).permutation(COUNT).tolist()
    return make_rows(10 * number + 5, epoch=number, ids=order, value=float(number))


def by_filter(run: RunDir, sample_id: int) -> pa.Table:
    """The same rows, found by reading all."""
    found = LedgerReader(run).table()
    found = found.filter(pc.field("sample_id") == sample_id)
    return found.sort_by([("epoch", "ascending"), ("step", "ascending")])


def same(one: pa.Table, two: pa.Table) -> bool:
    """Whether two tables hold the same rows, however their words are stored."""
    return bool(one.schema.names == two.schema.names and one.to_pylist() == two.to_pylist())


def test_a_history_is_in_the_order_of_its_visits(run: RunDir) -> None:
    assert history(run, 4).num_rows == 0
    write(run, visit(4, 2, 0.2), visit(4, 0, 0.1, phase="eval"), visit(4, 0, 0.0), visit(5, 0, 0.9))
    found = history(run, 4)
    assert [round(v, 3) for v in found["loss"].to_pylist()] == [0.0, 0.1, 0.2]
    assert found.schema.equals(PART_SCHEMA)
    assert history(run, 77).num_rows == 0


@pytest.mark.thorough
@pytest.mark.parametrize(("rows", "far"), [(7, 255), (2, 3), (1, 1)])
def test_the_stretches_of_a_sample_hold_all_its_visits(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, rows: int, far: int
) -> None:
    """Also as parts come, and after they were joined; and of a sample that the manifest does not have.

    Where few are far, most of what is kept stands for stretches without a visit.
    """
    monkeypatch.setattr(asked, "ROWS_PER_STRETCH", rows)
    monkeypatch.setattr(asked, "_FAR", far)
    kept = Stretches(run, COUNT - 1, least_rows=0)
    for number in range(10):
        write(run, epoch_of(number))
        if number % 3 == 0:
            write(run, visit(3, number, 9.0, phase="eval"), visit(3, number, 8.0, phase="eval"))
        for sample_id in (0, 3, COUNT - 1, 77, -1):
            found = history(run, sample_id, kept)
            assert same(found, history(run, sample_id))
            assert found.num_rows == by_filter(run, sample_id).num_rows
    assert same(history(run, 5, kept), by_filter(run, 5))
    assert kept.of(5, [path for paths, _ in kept.reader.valid_files() for path in paths]) is not None
    compact(run.signals, PART_SCHEMA, is_over=True, may_join=lambda _: True)
    assert len(list(run.signals.iterdir())) == 1
    assert same(history(run, 5, kept), by_filter(run, 5))


def test_rows_that_a_later_attempt_superseded_are_left_out(run: RunDir) -> None:
    write(run, *map(epoch_of, range(3)))
    second = begin_attempt(run, 20, "last.ckpt")
    write(run, visit(5, 2, 7.0), attempt=second)
    kept = Stretches(run, COUNT, least_rows=0)
    assert history(run, 5)["loss"].to_pylist() == history(run, 5, kept)["loss"].to_pylist() == [0.0, 1.0, 7.0]


def test_of_few_rows_or_too_many_no_stretch_is_kept(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    write(run, *map(epoch_of, range(3)))
    files = [path for paths, _ in LedgerReader(run).valid_files() for path in paths]
    assert Stretches(run, COUNT).of(5, files) is None
    kept = Stretches(run, COUNT, least_rows=0)
    kept.read()
    assert kept.of(5, files) == {files[0]: [(0, asked.ROWS_PER_STRETCH - 1)]}
    monkeypatch.setattr(asked, "MOST_BYTES", 100)
    assert kept.of(5, files) is None
    assert same(history(run, 5, kept), by_filter(run, 5))


def test_a_damaged_part_is_named(run: RunDir) -> None:
    write(run, epoch_of(0))
    part = next(iter(run.signals.iterdir()))
    raw = bytearray(part.read_bytes())
    raw[20] ^= 1
    part.write_bytes(raw)
    for kept in (None, Stretches(run, COUNT, least_rows=0)):
        with pytest.raises(LedgerError, match=part.name):
            history(run, 5, kept)


def test_a_run_of_format_1_is_understood() -> None:
    run = RunDir(GOLDEN / "ledger_v1")
    for sample_id in range(3):
        assert same(history(run, sample_id), by_filter(run, sample_id))
