"""What a person reads while a command runs: lines and progress bars, always on standard error.

Standard output belongs to results (tables, ``--json``), so that a command can be piped.
On a terminal rich draws bars; elsewhere every message is one plain line.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def is_terminal() -> bool:
    """Whether standard error is a terminal that can redraw a line."""
    return sys.stderr.isatty()


def say(*lines: str) -> None:
    """Lines for the person at the terminal."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """One line about something that is not as the person may expect."""
    say(f"warning: {message}")


def track(items: Iterable[T], what: str, total: int | None = None, show: bool = True) -> Iterator[T]:
    """Yield `items`, with a rich progress bar named `what` when standard error is a terminal."""
    if not (show and is_terminal()):
        yield from items
        return
    from rich.console import Console
    from rich.progress import track as rich_track

    yield from rich_track(items, description=what, total=total, console=Console(stderr=True), transient=True)


def table_lines(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns for people, left-aligned; None is empty."""
    cells = [list(head), *(["" if value is None else str(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
