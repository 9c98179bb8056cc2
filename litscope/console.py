"""What a person reads while a command runs: lines and progress bars, always on standard error; and tables.

Standard output belongs to results (tables, ``--json``), so that a command can be piped.
On a terminal rich draws bars and measures tables; elsewhere every message is one plain line, and a table aligned text.

Names come from strangers: files, classes, tags, notes. What could move the cursor, colour the screen, turn the
direction of the text or begin a line of its own is shown as an escape (`one_line`, `printable`), here and in
`commands/`, where everything passes on its way out; so no caller has to think of it.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import shlex
import sys
import textwrap
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

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
    return text if isinstance(text, Styled) else _CONTROL.sub(_escape, text)


def printable(text: str) -> str:
    """As `one_line`, of text that has its own lines: their ends stay."""
    return _CONTROL_IN_LINES.sub(_escape, text)


def json_printable(text: str) -> str:
    """JSON text of the same meaning, in which what a terminal would obey is written as JSON's own escapes."""
    return _CONTROL_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def number_of(count: int, noun: str) -> str:
    """A count with its noun: `1 epoch`, `1,200 epochs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names in a line, of which the first are told.

    >>> listed(["a", "b", "c"], most=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shell_word(path: object) -> str:
    """A path as one word of a command that a person is told to type: quoted where a shell would take it apart.

    >>> shell_word("runs/my run")
    "'runs/my run'"
    """
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def from_here(path: object) -> str:
    """A path below the working directory without that directory; all else as it is."""
    here = f"{str(Path.cwd()).rstrip(os.sep)}{os.sep}"
    return str(path).removeprefix(here) or str(path)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def is_terminal() -> bool:
    """Whether standard error is a terminal that can redraw a line."""
    return sys.stderr.isatty()


_hearers: list[list[str]] = []


@contextmanager
def warnings_heard() -> Iterator[list[str]]:
    """A list to which every warning of the block is added, as it is said."""
    heard: list[str] = []
    _hearers.append(heard)
    try:
        yield heard
    finally:
        _hearers[:] = [hearer for hearer in _hearers if hearer is not heard]


def say(*lines: str) -> None:
    """Lines for the person at the terminal, each shown as one (`one_line`)."""
    for line in lines:
        print(one_line(line), file=sys.stderr, flush=True)


def say_prose(*sentences: str) -> None:
    """Sentences that explain a result, each from a line's beginning; on a terminal, broken between words.

    What a person may copy, such as a command, is for `say`: there only the terminal breaks it.
    """
    say(*prose_lines(sentences, sys.stderr))


def prose_lines(sentences: Iterable[str], stream: TextIO) -> list[str]:
    """Sentences as the lines that a stream needs: on a terminal broken between words, elsewhere one for each.

    A word that is wider than the screen, such as a path, stays whole.
    """
    width = screen_width(stream)
    whole = list(map(one_line, sentences))
    if width is None:
        return whole
    broken = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return [line for sentence in whole for line in broken.wrap(sentence)]


def say_fields(fields: Sequence[str], num_kept: int) -> None:
    """Fields side by side as one line; on a terminal, without those of the last for which its screen has no room.

    Args:
        fields: what stands side by side.
        num_kept: so many of the first are always said.
    """
    width = screen_width(sys.stderr)
    num = len(fields)
    while width is not None and num > num_kept and len((" " * GAP).join(fields[:num])) > width:
        num -= 1
    say((" " * GAP).join(fields[:num]))


def warn(message: str) -> None:
    """One line about something that is not as the person may expect."""
    for hearer in _hearers:
        hearer.append(message)
    say(f"warning: {message}")


FIRST_LINE_S, LINE_S = 15.0, 60.0
"""Seconds until the first line of what is `track`ed outside a terminal, and between it and the next ones."""


def _told(items: Iterable[T], what: str, total: int | None) -> Iterator[T]:
    began = time.monotonic()
    due = began + FIRST_LINE_S
    for done, item in enumerate(items):
        now = time.monotonic()
        if total and done and now >= due:
            due = now + LINE_S
            say(f"{what}: {done / total:.0%}, about {(now - began) * (total - done) / done:,.0f} s more")
        yield item


def track(items: Iterable[T], what: str, total: int | None = None, show: bool = True) -> Iterator[T]:
    """Yield `items`, with a rich progress bar named `what` when standard error is a terminal.

    In a log, what takes long says now and then how far it is.
    """
    if not show:
        yield from items
        return
    if not is_terminal():
        yield from _told(items, what, total)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import track as rich_track

    yield from rich_track(
        items, description=escape(one_line(what)), total=total, console=Console(stderr=True), transient=True
    )


# ---- tables ----------------------------------------------------------------------------------

GAP = 2
"""Columns of the screen between two columns of a table."""

SHORTEST = 12
"""To how many columns of the screen a text may be shortened, where there is too little room for all of it."""

SHORTEST_CURVE = 8
"""The same of a curve."""

LONGEST_CURVE = 20
"""Most characters of a sparkline: a longer curve is averaged over equal pieces."""

_BLOCKS = "▁▂▃▄▅▆▇█"


class Styled(str):
    """A line whose control characters are our own; all else of it went through `one_line`."""


def moment(when: Any) -> str:
    """A time in seconds since 1970 as a person reads it, in local time: `Nov 30 07:15`, of another year its date.

    A line that another program wrote may hold none, or something else: `?`.
    """
    try:
        then = time.localtime(when)
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"
    is_this_year = then.tm_year == time.localtime().tm_year
    return time.strftime("%b %d %H:%M" if is_this_year else "%Y-%m-%d", then)


def cell(value: Any) -> str:
    """One value for people: floats with four digits, nothing for None, lists with commas, text as one line."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(cell, value))
    return one_line(str(value))


def table_lines(
    head: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    right: Collection[str] = (),
    curves: Collection[str] = (),
) -> list[str]:
    """A table for people, a line for each row, as standard output needs it: call it where the lines are printed.

    Numbers stand on the right. In a pipe or a file every column is there in full. On a terminal no line is wider than
    the screen: long texts lose their middle, curves are drawn with fewer points, and if that is not enough, the last
    columns are left out and named below.

    Args:
        head: the columns' names.
        rows: a value for each column; see `cell`.
        right: names of columns of numbers that are formatted already.
        curves: names of columns that hold curves, a character for each point.
    """
    values = [list(row) for row in rows]
    columns = list(zip(*values, strict=True)) if values else [()] * len(head)
    texts = [[one_line(name), *map(cell, column)] for name, column in zip(head, columns, strict=True)]
    is_right = [name in right or _are_numbers(column) for name, column in zip(head, columns, strict=True)]
    width = screen_width(sys.stdout)
    if width is not None:
        return _drawn(texts, is_right, [name in curves for name in head], width)
    aligned = []
    for column, on_right in zip(texts, is_right, strict=True):
        longest = max(map(len, column))
        aligned.append([text.rjust(longest) if on_right else text.ljust(longest) for text in column])
    return [(" " * GAP).join(line).rstrip() for line in zip(*aligned, strict=True)]


def _are_numbers(values: Iterable[Any]) -> bool:
    kinds = {type(value) for value in values} - {type(None)}
    return bool(kinds) and kinds <= {int, float}


def screen_width(stream: TextIO) -> int | None:
    """Columns of the terminal that a stream is; None if it is none."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # a pipe or a file; or, in a notebook, no file at all
        return None


def _drawn(texts: list[list[str]], is_right: list[bool], is_curve: list[bool], width: int) -> list[str]:
    """The table on a terminal, as rich measures text and sets its head apart. (Its own `Table` takes 0.3 ms a row.)

    Args:
        texts: the cells of each column, its name first.
        is_right, is_curve: of each column.
        width: of the terminal.
    """
    from rich.cells import cell_len

    longest = [min(width, max(map(cell_len, column))) for column in texts]
    least = [
        long if on_right else min(long, max(SHORTEST_CURVE if curve else SHORTEST, cell_len(column[0])))
        for column, long, on_right, curve in zip(texts, longest, is_right, is_curve, strict=True)
    ]
    num = len(texts)
    while num > 1 and sum(least[:num]) + GAP * (num - 1) > width:
        num -= 1
    widths = _shared(longest[:num], least[:num], is_curve[:num], width - GAP * (num - 1))
    columns = [
        [_padded((_thinned if curve else _shortened)(text, room), room, on_right) for text in column]
        for column, room, on_right, curve in zip(texts, widths, is_right, is_curve, strict=False)
    ]
    head, *lines = ((" " * GAP).join(row).rstrip() for row in zip(*columns, strict=True))
    left_out = [column[0] for column in texts[num:]]
    note = f"no room for {', '.join(left_out)}: a wider screen has them, and so has a pipe (|\u00a0less\u00a0-S)"
    return [_bold(head), *lines, *(line.replace("\u00a0", " ") for line in textwrap.wrap(note, width) if left_out)]


def _padded(text: str, room: int, on_right: bool) -> str:
    from rich.cells import cell_len

    space = " " * (room - cell_len(text))
    return space + text if on_right else text + space


def _bold(line: str) -> Styled:
    """A line in bold, if the terminal can show that."""
    from rich.console import Console
    from rich.text import Text

    console = Console(force_terminal=True, file=io.StringIO())
    with console.capture() as drawn:
        console.print(Text(line, style="bold"), no_wrap=True, overflow="ignore", crop=False, end="")
    return Styled(drawn.get())


def _shared(longest: list[int], least: list[int], is_curve: list[bool], room: int) -> list[int]:
    """The widths of columns that have `room` together: curves shrink first, then the widest ones, to `least`."""
    widths = list(longest)
    while sum(widths) > room:
        can = [i for i, width in enumerate(widths) if width > least[i]]
        if not can:  # a single column, wider than the screen
            return [max(1, room)]
        widths[max(can, key=lambda i: (is_curve[i], widths[i]))] -= 1
    return widths


def _thinned(curve: str, room: int) -> str:
    """A curve with so many points: the first, the last, and evenly spaced ones between them.

    >>> _thinned("▁▂▃▄▅▆▇", 4)
    '▁▃▅▇'
    """
    last = len(curve) - 1
    return curve if last < room else "".join(curve[i * last // max(1, room - 1)] for i in range(room))


def _shortened(text: str, room: int) -> str:
    """`text` in so many columns of the screen; of a longer one its middle is an ellipsis.

    >>> _shortened("train/bee/00017.png", 12)
    'train…17.png'
    """
    from rich.cells import cell_len

    if cell_len(text) <= room:
        return text
    before, after = (room - 1) // 2, room - 1 - (room - 1) // 2
    start, end = text[:before], text[len(text) - after :]
    while cell_len(start) > before:
        start = start[:-1]
    while cell_len(end) > after:
        end = end[1:]
    return f"{start}…{end}"


# ---- curves ----------------------------------------------------------------------------------


def sparkline(values: Sequence[float | None]) -> str:
    """Values from 0 to 1 as one line of blocks; a dot where there is none.

    >>> sparkline([0.0, 0.5, None, 1.0])
    '▁▅·█'
    """
    num = min(len(values), LONGEST_CURVE)
    bounds = [i * len(values) // num for i in range(num)] + [len(values)] if num else []
    pieces = [values[start:end] for start, end in itertools.pairwise(bounds)]
    return "".join(_block([v for v in piece if v is not None and not math.isnan(v)]) for piece in pieces)


def _block(values: list[float]) -> str:
    if not values:
        return "·"
    mean = min(1.0, max(0.0, sum(values) / len(values)))
    return _BLOCKS[min(int(mean * len(_BLOCKS)), len(_BLOCKS) - 1)]
