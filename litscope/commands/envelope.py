"""The one JSON document that a command prints with --json, whatever it is about and however it ends: docs/json.md.

    {"litscope": "0.1.0", "command": "worst", "run": "runs/mine", "warnings": [], "error": null, "result": ...}

The keys are always the same six, in this order: `result` comes last, so that a table can be written row by row. A
command that fails has an `error` and no result. `litscope.cli` opens an envelope for each command, and commands fill it
by `line.show` and `line.show_json`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

import litscope
from litscope.console import json_printable, warnings_heard
from litscope.starter import is_first


class Envelope:
    """What one command prints, once.

    Attributes:
        command: its name, as typed; None where there was none.
        is_asked: whether --json was given.
        is_begun: whether something of it is on standard output.
    """

    def __init__(self, command: str | None, is_asked: bool, warnings: Sequence[str]) -> None:
        self.command, self.is_asked, self.is_begun = command, is_asked, False
        self._warnings = warnings

    def show(self, result: Any, out: TextIO, run: object = None) -> None:
        """Print the document of a command that has done its work.

        Args:
            result: plain values. NaN becomes null. Where an iterator of objects stands in place of a list, also as a
                value of the result's own keys, they are written one by one, a line for each.
            out: standard output.
            run: the folder of the run that the command was about.
        """
        self._write(out, run, None, result)

    def fail(self, kind: str, message: str, exit_code: int) -> None:
        """Print the document of a command that failed, if --json was given and nothing has been printed.

        Args:
            kind: the name of the exception's class.
            message: the whole message, as people read it.
            exit_code: with which the process will end.
        """
        if not self.is_asked or self.is_begun:
            return
        try:
            self._write(sys.stdout, None, {"type": kind, "message": message, "exit_code": exit_code}, None)
            sys.stdout.flush()
        except OSError:  # no reader, or a full disk; the sentence is on standard error
            leave_stdout()

    def _write(self, out: TextIO, run: object, error: Mapping[str, Any] | None, result: Any) -> None:
        self.is_begun = True
        if not is_first():  # of the processes of one run, one writes
            return
        facts = {
            "litscope": litscope.__version__,
            "command": self.command,
            "run": None if run is None else str(run),
            "warnings": list(self._warnings),
            "error": error,
        }
        out.writelines(json_printable(piece) for piece in _pieces({**facts, "result": result}))
        out.write("\n")


_current = Envelope(None, True, ())


def current() -> Envelope:
    """The envelope of the command that runs."""
    return _current


@contextmanager
def answering(words: Sequence[str]) -> Iterator[Envelope]:
    """Open the envelope of a command.

    Args:
        words: those after `litscope`.
    """
    global _current
    before = _current
    options = list(words[: words.index("--")] if "--" in words else words)
    with warnings_heard() as warnings:
        _current = Envelope(words[0] if words else None, "--json" in options, warnings)
        try:
            yield _current
        finally:
            _current = before


def leave_stdout() -> None:
    """What is still to be written to standard output, by Python at its end too, goes nowhere: nobody reads it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _pieces(value: Any, indent: str = "") -> Iterator[str]:
    """JSON text of plain values, piece by piece; what an iterator gives is never held as a whole."""
    if isinstance(value, Iterator):
        from litscope.ledger.encode import json_list

        yield from json_list(value, indent)
    elif isinstance(value, Mapping) and any(isinstance(inner, Iterator | Mapping) for inner in value.values()):
        inside, start = indent + "  ", "{"
        for name, inner in value.items():
            yield f"{start}\n{inside}{json.dumps(str(name), ensure_ascii=False)}: "
            yield from _pieces(inner, inside)
            start = ","
        yield f"\n{indent}}}"
    else:
        from litscope.rundir import json_text

        yield json_text(value).rstrip("\n").replace("\n", f"\n{indent}")
