"""A query that a person wrote: one SELECT, stopped where it takes more time or memory than it may.

DuckDB's own limit of memory counts neither the rows of an answer nor what one function holds, and a function that takes
long does not look whether it is to stop. A command, whose process does nothing else, has the system hold it to both.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import duckdb
import pyarrow as pa

from litscope.console import say
from litscope.errors import ConfigError, exit_code_of, words_of
from litscope.limits import address_space_limited, memory_bytes

GB = 1e9

LEAST_BYTES = 32_000_000
"""With less memory no database opens."""

STOPPING_S = 5.0
"""How long a query may take to notice that it is to stop."""

_SPARE_BYTES = 2**30
"""Address space that threads and allocators reserve without using it."""

_ROWS_AT_ONCE = 65_536


class Limits(NamedTuple):
    """What a query may take.

    Attributes:
        seconds: after which it is stopped.
        memory_bytes: for the work of DuckDB, and as much for the answer; None: a quarter of what the process may use.
        is_alone: the process does nothing else, so it may be ended where the query does not react.
    """

    seconds: float = 60.0
    memory_bytes: int | None = None
    is_alone: bool = False

    @property
    def most_bytes(self) -> int:
        """`memory_bytes`, once it is known what the process may use."""
        return memory_bytes() // 4 if self.memory_bytes is None else self.memory_bytes

    def too_late(self) -> ConfigError:
        """The error of a query that takes too long."""
        return ConfigError(
            f"The query took longer than {self.seconds:g} s and was stopped: ask for less, or allow more "
            f"(litscope sql --timeout {max(1.0, 10 * self.seconds):g})."
        )

    def too_large(self, what: str) -> ConfigError:
        """The error of a query that takes too much memory."""
        return ConfigError(
            f"{what} more than {self.most_bytes / GB:.3g} GB: ask for less (LIMIT, fewer columns, a WHERE), or allow "
            f"more (litscope sql --memory {4 * self.most_bytes / GB:.3g})."
        )


def answer(connection: duckdb.DuckDBPyConnection, text: str, limits: Limits) -> pa.Table:
    """The answer to one SELECT, within limits.

    Raises:
        ConfigError: if it takes longer, or more memory.
        duckdb.Error: if DuckDB refuses it.
        KeyboardInterrupt: on Ctrl-C, where the process does nothing else.
    """
    if limits.is_alone:
        return _heeding_ctrl_c(connection, lambda: _answer(connection, text, limits))
    return _answer(connection, text, limits)


def _heeding_ctrl_c(connection: duckdb.DuckDBPyConnection, work: Callable[[], pa.Table]) -> pa.Table:
    """What `work` returns or raises. It is done in a thread: the main one hears no Ctrl-C inside a call of DuckDB."""
    found: list[pa.Table] = []
    errors: list[BaseException] = []
    is_over = threading.Event()  # Python 3.11 takes a thread whose join was interrupted for one that has ended

    def in_thread() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001 raised below, in the thread that waits
            errors.append(error)
        finally:
            is_over.set()

    threading.Thread(target=in_thread, name="litscope-query-alone", daemon=True).start()
    try:
        is_over.wait()
    except KeyboardInterrupt as interrupt:
        connection.interrupt()
        if not is_over.wait(STOPPING_S):
            say(str(words_of(interrupt)))
            os._exit(exit_code_of(interrupt))  # as where it is too late: inside one call that does not end
        raise
    if errors:
        raise errors[0]
    return found[0]


def _answer(connection: duckdb.DuckDBPyConnection, text: str, limits: Limits) -> pa.Table:
    held = address_space_limited(2 * limits.most_bytes + _SPARE_BYTES) if limits.is_alone else nullcontext()
    with _stopped_after(connection, limits) as is_late, held:
        try:
            return _collected(connection.sql(text).to_arrow_reader(_ROWS_AT_ONCE), limits)
        except (duckdb.OutOfMemoryException, MemoryError) as error:
            raise limits.too_large("The query needs") from error
        except (duckdb.Error, OSError, pa.ArrowException) as error:  # the latter two, once the first rows are there
            if is_late.is_set():
                raise limits.too_late() from error
            if str(error).startswith("Out of Memory Error"):
                raise limits.too_large("The query needs") from error
            if isinstance(error, duckdb.Error):
                raise
            raise duckdb.Error(str(error)) from error


@contextmanager
def _stopped_after(connection: duckdb.DuckDBPyConnection, limits: Limits) -> Iterator[threading.Event]:
    """While inside, the query is interrupted once its time is over; then the event is set."""
    is_late, is_over = threading.Event(), threading.Event()

    def watch() -> None:
        if is_over.wait(limits.seconds):
            return
        is_late.set()
        connection.interrupt()
        if limits.is_alone and not is_over.wait(STOPPING_S):
            error = limits.too_late()
            say(f"error: {error}")
            os._exit(error.exit_code)  # the main thread is inside one call that does not end

    watcher = threading.Thread(target=watch, name="litscope-query", daemon=True)
    watcher.start()
    try:
        yield is_late
    finally:
        is_over.set()
        watcher.join()  # not while the connection is closed


def _collected(batches: pa.RecordBatchReader, limits: Limits) -> pa.Table:
    """The rows of an answer."""
    found, num_bytes = [], 0
    for batch in batches:
        num_bytes += batch.nbytes
        if num_bytes > limits.most_bytes:
            raise limits.too_large("The answer has")
        found.append(batch)
    return pa.Table.from_batches(found, batches.schema)
