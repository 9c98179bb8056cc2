"""What the commands that act share: write an action into a run's journal, wait for the answer, print both."""

from __future__ import annotations

import argparse
import math
from typing import Any, TextIO

from litscope.commands.line import Parser, show_json, stdout_for_result, write
from litscope.console import say
from litscope.rundir import RunDir

Action = dict[str, Any]


def add_run(parser: Parser) -> None:
    """Add RUN, which may be left out."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's folder or name (default: the newest)")


def add_answer(parser: Parser) -> None:
    """Add the options of every command that writes an action."""
    parser.add_argument("--note", default="", metavar="TEXT", help="why; kept in the journal")
    parser.add_argument(
        "--wait",
        type=_seconds,
        metavar="S",
        help="seconds to wait for the trainer's answer (default: 5 while it trains)",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds, 0 or more")
    return value


def request_and_send(
    run: RunDir,
    what: str,
    given: dict[str, Any],
    as_json: bool,
    instead: str | None = None,
    detail: str = "",
    **arguments: Any,
) -> int:
    """Write an action about the run as a whole; errors of `request`, output and exit code as `send`.

    Args:
        run: the run.
        what: the verb.
        given: the command's `note` and `wait`.
        as_json: as `send`.
        instead: only for an action that makes sense while a trainer runs and would come as a surprise later:
            what can be done instead.
        detail: as `send`.
        arguments: the verb's arguments.
    """
    from litscope.ledger.journal.actions import request
    from litscope.runs import require_trainer

    action = request(what, why=given["note"], **arguments)
    if instead is not None:
        require_trainer(run, what, instead)
    with stdout_for_result() as out:
        return send(run, action, given["wait"], as_json, out, detail)


def send(run: RunDir, action: Action, wait_s: float | None, as_json: bool, out: TextIO, detail: str = "") -> int:
    """Write an action, wait for its answer, print both, and return the exit code: 2 if it was refused.

    Args:
        run: the run.
        action: a checked request.
        wait_s: seconds; None: 5 if a trainer runs or may run, else 0.
        as_json: print the action and its answer as one JSON document.
        out: where results go.
        detail: more about it, in words, for people.
    """
    from litscope.curation.expected import without_answer
    from litscope.ledger.journal.actions import submit, wait_for_answer
    from litscope.ledger.journal.describe import describe, describe_answer
    from litscope.runs import WAIT_S, is_training

    is_alive = is_training(run)
    submit(run, action)
    if not as_json:
        write(f"{action['id']}  {describe(action)}{f' ({detail})' if detail else ''}", out)
    if wait_s is None:
        wait_s = 0.0 if is_alive is False else WAIT_S
    answer = wait_for_answer(run, action["id"], wait_s)
    if as_json:
        show_json({"action": action, "answer": answer}, out, run.path)
    elif answer is not None:
        write("\n".join(describe_answer(answer)), out)
    if answer is None:
        say(without_answer(run, action, is_alive, wait_s))
    return 2 if answer is not None and answer["status"] == "refused" else 0
