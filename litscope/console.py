"""What a person reads while a command runs: lines and progress bars, always on standard error.

Standard output belongs to results (tables, ``--json``), so that a command can be piped.
On a terminal rich draws bars; elsewhere every message is one plain line.

Names come from strangers: files, classes, tags, notes. What could move the cursor, colour the screen, turn the
direction of the text or begin a line of its own is shown as an escape (`one_line`, `printable`), here and in
`commands/`, where everything passes on its way out; so no caller has to think of it.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


CONTROL = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
"""Characters that no person can read, as the inside of a regular expression's brackets: C0 and C1 controls, marks that
turn the direction of text, separators of lines, and halves of surrogate pairs, which no file can hold."""

_CONTROL = re.compile(f"[{CONTROL}]")
_CONTROL_IN_LINES = re.compile(f"(?!\n)[{CONTROL}]")


def one_line(text: str) -> str:
    r"""`text` as one line that does nothing but show: control characters and line ends as escapes.

    >>> one_line("cat\x1b[31m\n")
    'cat\\x1b[31m\\n'
    """
    return _CONTROL.sub(_escape, text)


def printable(text: str) -> str:
    """As `one_line`, of text that has its own lines: their ends stay."""
    return _CONTROL_IN_LINES.sub(_escape, text)


def json_printable(text: str) -> str:
    """JSON text of the same meaning, in which what a terminal would obey is written as JSON's own escapes."""
    return _CONTROL_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def number_of(count: int, noun: str) -> str:
    """A count with its noun: `1 epoch`, `1,200 epochs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def shell_word(path: object) -> str:
    """A path as one word of a command that a person is told to type: quoted where a shell would take it apart.

    >>> shell_word("runs/my run")
    "'runs/my run'"
    """
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def is_terminal() -> bool:
    """Whether standard error is a terminal that can redraw a line."""
    return sys.stderr.isatty()


def say(*lines: str) -> None:
    """Lines for the person at the terminal, each shown as one (`one_line`)."""
    for line in lines:
        print(one_line(line), file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """One line about something that is not as the person may expect."""
    say(f"warning: {message}")


def track(items: Iterable[T], what: str, total: int | None = None, show: bool = True) -> Iterator[T]:
    """Yield `items`, with a rich progress bar named `what` when standard error is a terminal."""
    if not (show and is_terminal()):
        yield from items
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track as rich_track

    yield from rich_track(
        items, description=escape(one_line(what)), total=total, console=Console(stderr=True), transient=True
    )


def table_lines(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Columns for people, left-aligned; None is empty, and every cell is one line."""
    cells = [list(head), *(["" if value is None else one_line(str(value)) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
