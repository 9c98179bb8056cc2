"""`litscope console`: a command line with completion over runs, for people and for scripts. No torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write_lines
from litscope.console import say
from litscope.errors import ConfigError

if TYPE_CHECKING:
    from litscope.studio.doors.console.session import Console


def console(argv: list[str]) -> int:
    """Ask and steer runs line by line, with completion: look at samples, curves and labels, and act."""
    parser = make_parser(console)
    parser.add_argument("runs", nargs="*", metavar="RUN", help="runs, or folders that hold runs (default: runs/)")
    parser.add_argument("--read-only", action="store_true", help="look, and refuse all actions")
    parser.add_argument("--keep-going", action="store_true", help="in a script: go on after a refusal")
    given, as_json = parse(parser, argv)
    if as_json and sys.stdin.isatty():
        raise ConfigError("--json answers the lines of a script: litscope console RUN --json < lines.txt")
    with stdout_for_result() as out:
        from litscope.studio.doors.console.session import Console
        from litscope.studio.service import Studio

        here = Console(Studio(given["runs"], given["read_only"]))
    if as_json:
        _show_json(here, given, out)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        _converse(here)
    else:
        for found in _script(here, given):
            (_complain if found.error else _print)(found.lines())
            out.flush()
    return 0


def _script(here: Console, given: dict[str, Any]) -> Iterator[Any]:
    return here.answers(_lines(sys.stdin), given["keep_going"])


def _show_json(here: Console, given: dict[str, Any], out: TextIO) -> None:
    """All answers as one document, which is whole also where a refusal ends the script."""
    refusals: list[ConfigError] = []

    def answers() -> Iterator[dict[str, Any]]:
        try:
            for found in _script(here, given):
                yield found.to_dict()
        except ConfigError as error:
            refusals.append(error)

    show_json(answers(), out)
    if refusals:
        raise refusals[0]


def _lines(file: TextIO) -> Iterator[str]:
    """The lines of a script; what is no UTF-8 in them is kept as it is, and refused where it is read."""
    if hasattr(file, "reconfigure"):
        file.reconfigure(encoding="utf-8", errors="surrogateescape")
    yield from file


def _print(lines: Sequence[str]) -> None:
    if lines:
        write_lines(lines)


def _complain(lines: Sequence[str]) -> None:
    say(*lines)


def _converse(here: Console) -> None:
    from litscope.studio.doors.console.terminal import converse

    if here.run is None:
        say("There is no run here yet.")
    say("`help` lists what can be typed, Tab completes, Ctrl-D leaves; runs go on.")
    if converse(here, _print):
        sys.stdout.flush()
        os._exit(0)  # DuckDB must not compute while the interpreter is taken apart
