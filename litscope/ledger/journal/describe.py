"""Actions and answers in words, for people. No torch."""

from __future__ import annotations

from typing import Any

from litscope.jsonlines import UNUSABLE
from litscope.ledger.journal.actions import Entry

Action = dict[str, Any]

_NAMES = 3
"""How many class names and keys a line spells out."""


def describe(action: Action) -> str:
    """What an action asks for, in one line: `relabel 12 samples to cat where suspicion > 0.9`."""
    what = str(action["what"])
    words = [what, str(action["tag"])] if "tag" in action else [what]
    ids = action.get("sample_id")
    if isinstance(ids, list):
        words.append(f"{len(ids):,} sample{'' if len(ids) == 1 else 's'}")
    if "label" in action:
        words.append(f"to {_labels(action['label'])}")
    if "weight" in action:
        words.append(f"to weight {action['weight']}")
    if isinstance(action.get("settings"), dict):
        words += [f"{name}={_value(value)}" for name, value in action["settings"].items()]
    if action.get("schedule"):
        words.append("schedule")
    words += [str(action[name]) for name in ("split", "action") if name in action]
    if action.get("where"):
        words.append(f"where {action['where']}")
    if "at_step" in action:
        words.append(f"at step {action['at_step']}")
    if action.get("canary"):
        words.append("(planted to measure the ranking)")
    return " ".join(words)


def _labels(label: Any) -> str:
    if not isinstance(label, list):
        return str(label)
    names = list(dict.fromkeys(map(str, label)))
    return ", ".join(names[:_NAMES]) + (f" and {len(names) - _NAMES} more" if len(names) > _NAMES else "")


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def describe_answer(answer: Action) -> list[str]:
    """The answer to an action in words, with its results. The epoch counts from 1, as in the progress."""
    at = f"at step {answer['step']} (epoch {answer['epoch'] + 1})"
    if answer["status"] == "refused":
        return [f"refused {at}: {answer.get('reason') or 'no reason given'}"]
    lines = [f"applied {at}{'. ' + str(answer['note']) if answer.get('note') else ''}"]
    if answer.get("path"):
        lines.append(f"  {answer['path']}")
    metrics = answer.get("metrics")
    if isinstance(metrics, dict):
        lines += [
            f"  {name:<20} {value:.4f}" if isinstance(value, float) else f"  {name:<20} {value}"
            for name, value in metrics.items()
        ]
    return lines


def describe_status(entry: Entry) -> str:
    """Whether an action is pending, applied, refused or undone, with the step or the reason."""
    if entry.answer is None and UNUSABLE in entry.action:
        return f"refused: {entry.action[UNUSABLE]}"
    if entry.answer is None or entry.status == "undone":
        return entry.status
    reason = f": {entry.answer.get('reason') or 'no reason given'}" if entry.status == "refused" else ""
    return f"{entry.status}, step {entry.answer['step']}{reason}"
