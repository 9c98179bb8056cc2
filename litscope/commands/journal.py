"""`litscope actions` and `litscope undo`: list what people asked of a run, and take it back. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from litscope.commands.choose import find_run, names_a_run
from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write_lines
from litscope.commands.send import add_answer, add_run, request_and_send
from litscope.console import moment, one_line, say, table_lines
from litscope.errors import ConfigError

if TYPE_CHECKING:
    from litscope.ledger.journal.actions import Entry


def undo(argv: list[str]) -> int:
    """Take back the last action, or the one with that ID."""
    from litscope.ledger.journal.describe import describe
    from litscope.ledger.journal.undoing import undo_target

    parser = make_parser(undo)
    parser.usage = "litscope undo [RUN] [ID] [options]"
    parser.add_argument("words", nargs="*", metavar="[RUN] [ID]", help="a run (default: the newest), an action's id")
    add_answer(parser)
    given, as_json = parse(parser, argv)
    words = given["words"]
    if len(words) > 2:
        raise ConfigError(f"undo {' '.join(words)}: give one run and one id.")
    has_run = len(words) == 2 or (len(words) == 1 and names_a_run(words[0]))
    run = find_run(words[0] if has_run else None)
    action_id = words[-1] if len(words) == (2 if has_run else 1) else None
    target = undo_target(run, action_id)
    return request_and_send(run, "undo", given, as_json, detail=describe(target), action=target["id"])


def actions(argv: list[str]) -> int:
    """List what people asked of a run, and what came of it."""
    statuses = ("pending", "applied", "refused", "undone")
    parser = make_parser(actions)
    add_run(parser)
    parser.add_argument("--status", choices=statuses, help="only those")
    given, as_json = parse(parser, argv)
    with stdout_for_result() as out:
        from litscope.ledger.journal.actions import entries

        run = find_run(given["run"])
        found = [entry for entry in entries(run) if given["status"] in (None, entry.status)]
    if as_json:
        show_json([{"status": e.status, "action": e.action, "answer": e.answer} for e in found], out, run.path)
    elif found:
        write_lines(_log(found), out)
    else:
        say(f"No {given['status'] + ' ' if given['status'] else ''}actions in {run.actions}.")
    return 0


def _log(found: Sequence[Entry]) -> list[str]:
    """The requests as a table; who asked is a column only if there were several, for the sake of narrow screens."""
    from litscope.ledger.journal.describe import describe, describe_status

    who = {str(entry.action.get("who", "")) for entry in found}
    rows = []
    for entry in found:
        action = entry.action
        words = (describe(action), action.get("why", ""), describe_status(entry), action.get("who", ""))
        row = [action["id"], moment(action.get("when")), *(" ".join(str(text).split()) for text in words)]
        rows.append(row if len(who) > 1 else row[:-1])
    head = ["id", "when", "what", "why", "status", *(["who"] if len(who) > 1 else [])]
    return [*table_lines(head, rows), *([f"all by {one_line(*who)}"] if len(who) == 1 and "" not in who else [])]
