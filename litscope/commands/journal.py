"""`litscope actions` and `litscope undo`: list what people asked of a run, and take it back. No torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from litscope.commands.choose import find_run, names_a_run
from litscope.commands.line import make_parser, parse, show_json, stdout_for_result, write
from litscope.commands.send import add_answer, add_run, request_and_send
from litscope.console import say, table_lines
from litscope.errors import ConfigError
from litscope.rundir import RunDir

if TYPE_CHECKING:
    from litscope.ledger.journal.actions import Entry


def undo(argv: list[str]) -> int:
    """Take back the last action, or the one with that ID."""
    from litscope.ledger.journal.describe import describe

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
    target = _target(run, action_id)
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
            show_json([{"status": e.status, "action": e.action, "answer": e.answer} for e in found], out)
        elif found:
            write("\n".join(_log(found)), out)
        else:
            say(f"No {given['status'] + ' ' if given['status'] else ''}actions in {run.actions}.")
    return 0


def _log(found: Sequence[Entry]) -> list[str]:
    from litscope.ledger.journal.describe import describe, describe_status

    rows = []
    for entry in found:
        action = entry.action
        words = (action.get("who", ""), describe(action), action.get("why", ""), describe_status(entry))
        rows.append([action["id"], _clock(action.get("when")), *(" ".join(str(text).split()) for text in words)])
    return table_lines(["id", "when", "who", "what", "why", "status"], rows)


def _clock(when: Any) -> str:
    """Local time of a time stamp, which may be missing or invalid in a line that another program wrote."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def _target(run: RunDir, action_id: str | None) -> dict[str, Any]:
    """The action that an undo is about.

    Raises:
        ConfigError: if there is none, or it cannot be undone; the message says why.
    """
    from litscope.ledger.journal.actions import VERBS, entries, is_momentary

    listed = entries(run)
    if action_id is None:
        for entry in reversed(listed):
            verb = VERBS.get(entry.action["what"])
            is_ours = not entry.action.get("canary") and verb is not None and verb.is_lasting and verb.name != "undo"
            if is_ours and not is_momentary(entry.action) and entry.status in ("pending", "applied"):
                return entry.action
        raise ConfigError(f"There is no action in {run.actions} that could be undone.")
    found = [entry for entry in listed if entry.action["id"].startswith(action_id)]
    if len(found) != 1:
        some = " and ".join(entry.action["id"] for entry in found[:3])
        problem = (
            f"{action_id!r} may be {some}: give more letters of it."
            if found
            else f"No action has the id {action_id!r}."
        )
        raise ConfigError(f"{problem} `litscope actions {run.path}` lists them.")
    _require_undoable(found[0].action, found[0].status)
    return found[0].action


def _require_undoable(action: dict[str, Any], status: str) -> None:
    from litscope.ledger.journal.actions import VERBS

    verb = VERBS.get(action["what"])
    if status in ("undone", "refused"):
        why = f"it was {status} already"
    elif verb is None:
        why = "this litscope does not know what it does"
    elif not verb.is_lasting:
        why = "it changes nothing that could be put back"
    elif action.get("canary"):
        why = "the run planted it to measure its ranking, and takes it out at its end"
    else:
        return
    raise ConfigError(f"{action['what']} {action['id']} cannot be undone: {why}.")
