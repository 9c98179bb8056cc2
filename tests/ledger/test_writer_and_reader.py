"""Parts on the disk and back: queueing, filters, live readers, one row per visit after any number of resumes."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ledger_rows import BATCH, SAMPLES, STEPS_PER_EPOCH, make_rows, steps, visits, write

from litscope.attempts import begin_attempt
from litscope.errors import LedgerError
from litscope.ledger import writer as ledger_writer
from litscope.ledger.parts import list_parts
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import FLOAT_SIGNALS, PART_SCHEMA, Rows
from litscope.ledger.writer import LedgerWriter
from litscope.rundir import RunDir, append_line


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path / "run")


# ---- writing and reading back ----------------------------------------------------------------


def test_rows_come_back_as_they_were_put(run: RunDir) -> None:
    rng = np.random.default_rng(0)
    rows = make_rows(3, epoch=7, split="val", phase="eval", ids=[5, 2**60, 0], label=2, pred=1)
    for values in rows.signals.values():
        values[:] = rng.normal(size=3)
    rows.signals["margin"][1] = np.nan
    write(run, rows, attempt=begin_attempt(run, 0, None))
    table = LedgerReader(run).table()
    assert table.schema.equals(PART_SCHEMA)
    assert table["sample_id"].to_pylist() == [5, 2**60, 0]
    for name, expected in (("step", 3), ("epoch", 7), ("split", "val"), ("phase", "eval"), ("label", 2), ("pred", 1)):
        assert table[name].to_pylist() == [expected] * 3
    for name in FLOAT_SIGNALS:
        np.testing.assert_array_equal(table[name].to_numpy(), rows.signals[name])


def test_parts_are_named_by_attempt_rank_and_number_and_say_so_inside(run: RunDir) -> None:
    write(run, make_rows(0), make_rows(1), attempt=12, rank=3)
    assert sorted(path.name for path in run.signals.iterdir()) == [
        "a0012-r003-000000000.parquet",
        "a0012-r003-000000001.parquet",
    ]
    metadata = pq.read_metadata(run.signals / "a0012-r003-000000001.parquet").metadata
    keys = (b"litscope.format_version", b"litscope.attempt", b"litscope.rank")
    assert [metadata[key] for key in keys] == [b"1", b"12", b"3"]


def test_a_second_writer_of_the_same_attempt_adds_and_never_overwrites(run: RunDir) -> None:
    write(run, make_rows(0), attempt=1)
    write(run, make_rows(1), attempt=1)
    assert steps(run) == [0, 1]


def test_put_alone_reaches_the_disk(run: RunDir) -> None:
    with LedgerWriter(run, 1) as writer:
        writer.put(make_rows(0))
        deadline = time.monotonic() + 10
        while not list_parts(run.signals):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert steps(run) == [0]


class Gate:
    """A block whose copy from the device has not ended yet."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def rows(self) -> Rows:
        self.open.wait()
        return make_rows(0)


def test_what_queues_up_behind_a_slow_disk_becomes_one_part(run: RunDir) -> None:
    gate = Gate()
    with LedgerWriter(run, 1) as writer:
        writer.put(gate)
        for step in range(1, 30):
            writer.put(make_rows(step))  # returns although the writer waits
        gate.open.set()
        writer.flush(wait=True)
        assert len(list_parts(run.signals)) == 1
        assert steps(run) == list(range(30))


def test_a_part_does_not_grow_without_bound(run: RunDir) -> None:
    gate = Gate()
    with LedgerWriter(run, 1, rows_per_part=4 * BATCH) as writer:
        writer.put(gate)
        for step in range(1, 12):
            writer.put(make_rows(step))
        gate.open.set()
    assert [pq.read_metadata(part.path).num_rows for part in list_parts(run.signals)] == [4 * BATCH] * 3


def test_the_queue_is_bounded(run: RunDir) -> None:
    gate = Gate()
    writer = LedgerWriter(run, 1)
    writer.put(gate)
    filler = threading.Thread(
        target=lambda: [writer.put(make_rows(step)) for step in range(ledger_writer.QUEUED_BLOCKS + 2)]
    )
    filler.start()
    filler.join(0.3)
    assert filler.is_alive()  # it waits for room, rather than filling the memory
    gate.open.set()
    filler.join(10)
    assert not filler.is_alive()
    writer.close()
    assert LedgerReader(run).table().num_rows == (ledger_writer.QUEUED_BLOCKS + 3) * BATCH


def test_closing_twice_is_fine_and_rows_after_it_are_refused(run: RunDir) -> None:
    writer = LedgerWriter(run, 1)
    writer.put(make_rows(0))
    writer.close()
    writer.close()
    writer.flush()
    assert steps(run) == [0]
    with pytest.raises(LedgerError, match="closed"):
        writer.put(make_rows(1))


def test_columns_and_filters(run: RunDir) -> None:
    write(
        run,
        make_rows(0, epoch=0),
        make_rows(1, epoch=1),
        make_rows(2, epoch=1, split="val", phase="eval"),
        make_rows(2, epoch=1, phase="eval"),
        attempt=1,
    )
    reader = LedgerReader(run)
    assert reader.table(["loss", "step"]).column_names == ["loss", "step"]
    assert steps(run, split="train") == [0, 1, 2]
    assert steps(run, split="train", phase="train") == [0, 1]
    assert steps(run, min_epoch=1, phase="train") == [1]
    assert steps(run, max_epoch=0) == [0]
    assert steps(run, min_epoch=1, max_epoch=1) == [1, 2]
    assert steps(run, without=lambda part: part.path.name == "a0001-r000-000000000.parquet") == [1, 2]
    assert steps(run, split="test") == []
    assert reader.table(sample_id=9)["step"].to_pylist() == [1]
    assert [reader.last_epoch(split) for split in ("train", "val", "test", None)] == [1, 1, None, 1]


def test_any_folder_name_will_do(tmp_path: Path) -> None:
    run = RunDir.create(tmp_path / "_lr=0.1" / ".tmp" / "it's [a-z]*? é")
    write(run, make_rows(0), make_rows(1), attempt=1)
    assert steps(run) == [0, 1]


def test_an_empty_run_has_no_rows(run: RunDir) -> None:
    assert LedgerReader(run).table().num_rows == 0
    assert LedgerReader(run).last_epoch("train") is None
    run.signals.rmdir()
    assert LedgerReader(run).table().schema.equals(PART_SCHEMA)


def test_parts_that_cannot_hold_an_answer_are_not_read(run: RunDir) -> None:
    write(run, make_rows(0, epoch=0), make_rows(1, epoch=1), make_rows(2, split="val", epoch=1), attempt=1)
    for number in (0, 2):  # destroy the data, leave the footer
        path = run.signals / f"a0001-r000-{number:09d}.parquet"
        raw = bytearray(path.read_bytes())
        raw[4:200] = bytes(196)
        path.write_bytes(raw)
    assert steps(run, split="train", min_epoch=1) == [1]
    assert steps(run, max_epoch=0, without=lambda part: part.path.name == "a0001-r000-000000000.parquet") == []
    with pytest.raises(LedgerError, match=r"a0001-r000-000000000\.parquet cannot be read"):
        steps(run, split="train")


def test_a_reader_follows_a_run_that_goes_on(run: RunDir) -> None:
    reader = LedgerReader(run)
    with LedgerWriter(run, begin_attempt(run, 0, None)) as writer:
        seen = []
        for step in range(40):
            writer.put(make_rows(step))
            found = reader.table(["step"])["step"].to_pylist()
            assert len(found) % BATCH == 0  # whole batches only
            seen.append(len(found))
        writer.flush(wait=True)
        assert seen == sorted(seen)
        assert reader.table().num_rows == 40 * BATCH


def test_opening_a_ledger_needs_no_torch() -> None:
    modules = "litscope.ledger.queries, litscope.ledger.reader, litscope.ledger.writer"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


# ---- superseding -----------------------------------------------------------------------------


@pytest.mark.slow
def test_each_sample_has_one_row_per_epoch_after_three_attempts(run: RunDir) -> None:
    write(run, *[make_rows(s, value=1) for s in range(100)], attempt=begin_attempt(run, 0, None))
    write(run, *[make_rows(s, value=2) for s in range(60, 90)], attempt=begin_attempt(run, 60, "last.ckpt"))
    write(run, *[make_rows(s, value=3) for s in range(75, 120)], attempt=begin_attempt(run, 75, "last.ckpt"))
    found = visits(run)
    assert [(step, sample) for step, sample, _ in found] == [
        (step, sample) for step in range(120) for sample in sorted(make_rows(step).sample_id.tolist())
    ]
    assert {step: attempt for step, _, attempt in found} == {s: 1 if s < 60 else 2 if s < 75 else 3 for s in range(120)}
    counts = (
        LedgerReader(run).table(["sample_id", "epoch"]).group_by(["sample_id", "epoch"]).aggregate([([], "count_all")])
    )
    assert counts.num_rows == SAMPLES * 120 // STEPS_PER_EPOCH
    assert set(counts["count_all"].to_pylist()) == {1}


def test_going_back_further_than_the_last_resume_drops_both_attempts(run: RunDir) -> None:
    write(run, *[make_rows(s, value=1) for s in range(10)], attempt=begin_attempt(run, 0, None))
    write(run, *[make_rows(s, value=2) for s in range(8, 12)], attempt=begin_attempt(run, 8, "last.ckpt"))
    write(run, make_rows(4, value=3), attempt=begin_attempt(run, 4, "best.ckpt"))
    assert {step: attempt for step, _, attempt in visits(run)} == {0: 1, 1: 1, 2: 1, 3: 1, 4: 3}


def test_a_resumed_attempt_that_has_written_nothing_yet_supersedes_too(run: RunDir) -> None:
    write(run, *[make_rows(s) for s in range(10)], attempt=begin_attempt(run, 0, None))
    begin_attempt(run, 6, "last.ckpt")
    assert steps(run) == [0, 1, 2, 3, 4, 5]


def test_an_old_attempt_that_lived_on_is_ignored(run: RunDir) -> None:
    old = LedgerWriter(run, begin_attempt(run, 0, None))
    old.put(make_rows(0, value=1))
    write(run, make_rows(1, value=2), make_rows(2, value=2), attempt=begin_attempt(run, 1, "last.ckpt"))
    for step in (1, 2, 3):  # a node that was thought dead
        old.put(make_rows(step, value=1))
    old.close()
    assert {step: attempt for step, _, attempt in visits(run)} == {0: 1, 1: 2, 2: 2}


def evaluation(step: int, attempt: int, split: str = "val") -> Rows:
    return make_rows(step, split=split, phase="eval", ids=[100, 101, 102], value=attempt)


def test_an_evaluation_at_the_checkpoint_s_step_stays_when_it_is_not_repeated(run: RunDir) -> None:
    write(run, make_rows(9, value=1), evaluation(10, 1), attempt=begin_attempt(run, 0, None))
    write(run, make_rows(10, value=2), attempt=begin_attempt(run, 10, "last.ckpt"))
    assert visits(run, split="val") == [(10, i, 1) for i in (100, 101, 102)]
    assert {step: attempt for step, _, attempt in visits(run, split="train")} == {9: 1, 10: 2}


def test_a_repeated_evaluation_replaces_the_first_for_its_split_only(run: RunDir) -> None:
    write(run, evaluation(10, 1), evaluation(10, 1, "test"), evaluation(12, 1), attempt=begin_attempt(run, 0, None))
    write(run, evaluation(10, 2), attempt=begin_attempt(run, 10, "last.ckpt"))
    assert visits(run, split="val") == [(10, i, 2) for i in (100, 101, 102)]
    assert visits(run, split="test") == [(10, i, 1) for i in (100, 101, 102)]
    write(run, evaluation(10, 3), evaluation(11, 3), attempt=begin_attempt(run, 10, "last.ckpt"))
    assert visits(run, split="val") == [(step, i, 3) for step in (10, 11) for i in (100, 101, 102)]


def test_ranks_are_merged_and_superseded_alike(run: RunDir) -> None:
    first = begin_attempt(run, 0, None)
    for rank in range(4):
        write(run, *[make_rows(s, ids=[10 * rank + s], value=1) for s in range(6)], attempt=first, rank=rank)
    second = begin_attempt(run, 3, "last.ckpt")
    for rank in range(2):  # resumed on fewer devices
        write(run, *[make_rows(s, ids=[10 * rank + s], value=2) for s in range(3, 5)], attempt=second, rank=rank)
    expected = [(s, 10 * r + s, 1) for s in range(3) for r in range(4)]
    expected += [(s, 10 * r + s, 2) for s in range(3, 5) for r in range(2)]
    assert visits(run) == sorted(expected)


def test_parts_of_an_attempt_that_is_not_on_record_are_an_error(run: RunDir) -> None:
    write(run, make_rows(0), attempt=1)
    assert steps(run) == [0]  # a single attempt needs no record
    write(run, make_rows(1), attempt=2)
    append_line(run.attempts, {"attempt": 1, "start_step": 0})
    with pytest.raises(LedgerError, match=r"parts of attempt 2, which .*attempts\.jsonl does not list"):
        steps(run)


def test_a_part_has_row_groups_that_readers_can_pass_over(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_writer, "ROWS_PER_GROUP", BATCH // 2)
    with LedgerWriter(run, 1) as writer:
        writer.put(make_rows(0))
    footer = pq.read_metadata(list_parts(run.signals)[0].path)
    assert (footer.num_rows, footer.num_row_groups) == (BATCH, 2)
    assert LedgerReader(run, is_thrifty=True).table().equals(LedgerReader(run).table())
