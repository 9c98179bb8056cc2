"""What a run's actions add up to: a fold over them, in their order, without files. No torch.

Replaying the same actions gives the same state, on every rank and in every process. An id counts
once, at its first place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from litscope.errors import ConfigError
from litscope.ledger.journal.verbs import check

Action = dict[str, Any]


def once(actions: Iterable[Action]) -> dict[str, Action]:
    """The actions by id, in order, each at its first place."""
    found: dict[str, Action] = {}
    for action in actions:
        found.setdefault(action["id"], action)
    return found


def undone(actions: Iterable[Action]) -> set[str]:
    """The ids of actions that a later one takes back. An undo that is itself undone takes nothing back."""
    listed = once(actions)
    place = {action_id: i for i, action_id in enumerate(listed)}
    gone: set[str] = set()
    for action_id, action in reversed(listed.items()):
        if action["what"] == "undo" and action_id not in gone:
            target = action.get("action")
            if isinstance(target, str) and target in place and place[target] < place[action_id]:
                gone.add(target)
    return gone


@dataclass
class Decisions:
    """What a run's actions add up to.

    Attributes:
        discarded: sample_ids that are left out.
        labels: sample_id -> class name, for labels that were changed (or changed back).
        weights: sample_id -> factor of its loss, where one was given, even 1.
        tags: name -> sample_ids; no tag is empty.
        settings: name -> value, as last set; an `lr` that went back to the schedule is not among them.
        is_paused: whether training waits.
    """

    discarded: set[int] = field(default_factory=set)
    labels: dict[int, str] = field(default_factory=dict)
    weights: dict[int, float] = field(default_factory=dict)
    tags: dict[str, set[int]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    is_paused: bool = False


def decide(actions: Iterable[Action]) -> Decisions:
    """Fold actions, in order, into what they add up to. Undone and invalid ones do not count."""
    listed = once(actions)
    gone = undone(listed.values())
    state = Decisions()
    for action_id, action in listed.items():
        if action_id not in gone and is_valid(action):
            _apply(state, action)
    state.tags = {name: ids for name, ids in state.tags.items() if ids}
    return state


def is_valid(action: Action) -> bool:
    """Whether an action passes `check`."""
    try:
        check(action)
    except ConfigError:
        return False
    return True


def _apply(state: Decisions, action: Action) -> None:
    ids = action.get("sample_id", [])
    match action["what"]:
        case "tag":
            state.tags.setdefault(action["tag"], set()).update(ids)
        case "untag":
            state.tags.get(action["tag"], set()).difference_update(ids)
        case "discard":
            state.discarded.update(ids)
        case "restore":
            state.discarded.difference_update(ids)
        case "relabel":
            state.labels.update(planted(action))
        case "reweight":
            state.weights.update(dict.fromkeys(ids, float(action["weight"])))
        case "set":
            state.settings |= action["settings"]
        case "pause":
            state.is_paused = True
        case "resume":
            if "schedule" in action:
                state.settings["lr"] = "schedule"
            else:
                state.is_paused = False
    if state.settings.get("lr") == "schedule":
        del state.settings["lr"]


def planted(action: Action) -> dict[int, str]:
    """sample_id -> class name, of a relabel."""
    ids, label = action["sample_id"], action["label"]
    return dict.fromkeys(ids, label) if isinstance(label, str) else dict(zip(ids, label, strict=True))
