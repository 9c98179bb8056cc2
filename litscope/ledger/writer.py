"""LedgerWriter: rows to Parquet parts in a run's `signals/` folder.

One thread owns the writing, the training thread only queues. A part is written aside and renamed into place, so that it
is whole or absent, and sealed (`seals`), so that a flipped bit is found by its readers.
"""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from litscope.claims import Guard, unguarded
from litscope.errors import LedgerError, Superseded
from litscope.ledger.parts import ROWS_PER_GROUP, list_parts, part_name, storage
from litscope.ledger.schema import part_metadata
from litscope.rundir import RunDir, whole_file
from litscope.runs import what_goes_on
from litscope.seals import sealed_parquet

ROWS_PER_PART = 524_288
"""Most rows that are joined into one part when blocks queue up: about 14 MB."""

QUEUED_BLOCKS = 64
"""How many blocks may wait for the disk. Beyond that, `put` waits, so that memory stays bounded."""


class Tabular(Protocol):
    """Rows on the host: `schema.Rows`, or `custom.CustomRows`."""

    def to_table(self) -> pa.Table:
        """The rows in the form in which they are written."""
        ...


class Queued(Protocol):
    """What `LedgerWriter.put` takes: `schema.Rows`, or a `signal_buffer.Block` that is still on its way."""

    def rows(self) -> Tabular:
        """The rows on the host. Called by the writer's thread, which may wait here."""
        ...


class _Flush:
    """A request that travels through the queue behind the blocks that came before it."""

    def __init__(self) -> None:
        self.done = threading.Event()


class _Stop(_Flush):
    """The last request: the thread ends when it comes."""


class LedgerWriter:
    """Writes one rank's rows of one attempt. `put`, `flush` and `close` belong to the training thread.

    Args:
        run: the run's folder.
        attempt: what `attempts.begin_attempt` returned.
        rank: global rank of this process.
        rows_per_part: number of rows at which a part is written even if more blocks are waiting.
        folder: where the parts go; default: the run's `signals`.
        guard: asked before a part gets its name.
    """

    def __init__(
        self,
        run: RunDir,
        attempt: int,
        rank: int = 0,
        rows_per_part: int = ROWS_PER_PART,
        folder: Path | None = None,
        guard: Guard = unguarded,
    ) -> None:
        self._folder = folder or run.signals
        self._attempt, self._rank = attempt, rank
        self._rows_per_part = rows_per_part
        self._guard = guard
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            mine = [p.last for p in list_parts(self._folder) if (p.attempt, p.rank) == (attempt, rank)]
        except OSError as error:
            raise _write_error(self._folder, error) from error
        self._next = max(mine, default=-1) + 1
        self._waiting: list[pa.Table] = []
        self._queue: queue.Queue[Queued | _Flush] = queue.Queue(QUEUED_BLOCKS)
        self._error: Exception | None = None
        self._is_error_raised = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="litscope-ledger", daemon=True)
        self._thread.start()

    def put(self, block: Queued) -> None:
        """Queue rows for writing. They are on the disk as soon as the thread gets to them.

        Waits only when `QUEUED_BLOCKS` are waiting for a slow disk. How often it is called decides how much
        a crash can lose, and how many parts there are.

        Raises:
            LedgerError: if writing has failed, now or at any time before, or the writer is closed.
            Superseded: if `guard` said so.
        """
        if self._is_closed:
            raise LedgerError(f"Rows came after the ledger in {self._folder} was closed.")
        self._raise_error()
        self._queue.put(block)

    def flush(self, wait: bool = True) -> None:
        """Write everything put so far. With `wait`, return when it is durable on the disk.

        Raises:
            LedgerError: if writing has failed.
        """
        self._raise_error()
        if self._is_closed:
            return
        request = _Flush()
        self._queue.put(request)
        if wait:
            request.done.wait()
            self._raise_error()

    def close(self) -> None:
        """Write what is left and end the thread. A second call does nothing.

        Raises:
            LedgerError: if writing has failed and no call has said so yet.
        """
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(_Stop())
            self._thread.join()
        if not self._is_error_raised:
            self._raise_error()

    def __enter__(self) -> LedgerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _raise_error(self) -> None:
        if self._error is None:
            return
        self._is_error_raised = True
        if isinstance(self._error, Superseded):
            raise self._error
        if isinstance(self._error, OSError | pa.ArrowException):
            raise _write_error(self._folder, self._error) from self._error
        raise LedgerError(f"The ledger's writer in {self._folder} failed: {self._error!r}.") from self._error

    def _work(self) -> None:
        """The writer's thread. After an error it only empties the queue, so that nobody waits for ever."""
        while True:
            item = self._queue.get()
            if self._error is None:
                try:
                    self._handle(item)
                except Exception as error:  # noqa: BLE001 - whatever it is, the training thread must hear of it
                    self._error = error
                    self._waiting.clear()
            if isinstance(item, _Flush):
                item.done.set()
            if isinstance(item, _Stop):
                return

    def _handle(self, item: Queued | _Flush) -> None:
        if isinstance(item, _Flush):
            self._write_part()
            return
        table = item.rows().to_table()
        if table.num_rows:
            self._waiting.append(table)
        num_rows = sum(table.num_rows for table in self._waiting)
        if num_rows >= self._rows_per_part or self._queue.empty():  # what queues up meanwhile becomes one part
            self._write_part()

    def _write_part(self) -> None:
        if not self._waiting:
            return
        table = pa.concat_tables(self._waiting).unify_dictionaries().combine_chunks()
        table = table.replace_schema_metadata(part_metadata(self._attempt, self._rank))
        path = self._folder / part_name(self._attempt, self._rank, self._next)
        content = pa.BufferOutputStream()
        pq.write_table(table, content, row_group_size=ROWS_PER_GROUP, **storage(table.schema))
        with whole_file(path) as file:
            file.writelines(sealed_parquet(content.getvalue()))
            self._guard()
        self._next += 1
        self._waiting.clear()


def _write_error(folder: Path, error: Exception) -> LedgerError:
    return LedgerError(
        f"The ledger in {folder} cannot be written: {error}. The parts written so far are whole and stay. "
        f"Make room or mend the disk; {what_goes_on(RunDir(folder.parent))} goes on with the run."
    )
