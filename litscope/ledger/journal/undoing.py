"""Which action an undo takes back, and why some cannot be taken back. No torch."""

from __future__ import annotations

from typing import Any

from litscope.console import shell_word
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import VERBS, entries, is_momentary
from litscope.rundir import RunDir


def undo_target(run: RunDir, action_id: str | None) -> dict[str, Any]:
    """The action that an undo is about.

    Args:
        run: an open run.
        action_id: the first letters of its id; None: the last one that can be undone.

    Raises:
        ConfigError: if there is none, or it cannot be undone; the message says why.
    """
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
        raise ConfigError(f"{problem} `litscope actions {shell_word(run.path)}` lists them.")
    require_undoable(found[0].action, found[0].status)
    return found[0].action


def require_undoable(action: dict[str, Any], status: str) -> None:
    """Refuse an action that cannot be taken back.

    Raises:
        ConfigError: saying why.
    """
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
