"""The verbs of the journal: what may be asked of a run, with which arguments. No torch.

A request is one JSON object: `id`, `who`, `when`, `what` (the verb), `why`, and the verb's arguments.
`request` makes one and `check` refuses one that is not valid: the commands before it is written, the
trainer before it is applied, `decide` before it is counted.
"""

from __future__ import annotations

import getpass
import math
import operator
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from litscope.errors import ConfigError, did_you_mean
from litscope.jsonlines import UNUSABLE, is_unicode

SPLITS = ("train", "val", "test")

CANARY_KINDS = ("classes", "sample")
"""What a canary's wrong label was drawn from: how the network confuses classes, or what it thinks of the sample."""


@dataclass(frozen=True)
class Verb:
    """One kind of action.

    Attributes:
        name: its name in the journal's `what`.
        meaning: what it does, and when it takes effect.
        arguments: arguments that it must have.
        optional: arguments that it may have.
        is_lasting: whether it changes a state that `undo` can take back.
    """

    name: str
    meaning: str
    arguments: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    is_lasting: bool = True


_SAMPLES = ("where", "key")

VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("tag", "Give samples a name of your own; training does not change.", ("tag", "sample_id"), _SAMPLES),
        Verb("untag", "Take that name away again.", ("tag", "sample_id"), _SAMPLES),
        Verb("discard", "Leave samples out, from the next batch to be drawn.", ("sample_id",), _SAMPLES),
        Verb("restore", "Take discarded samples back in, from the next batch to be drawn.", ("sample_id",), _SAMPLES),
        Verb(
            "relabel",
            "Give samples another label, from the next batch.",
            ("sample_id", "label"),
            (*_SAMPLES, "canary", "drawn_from"),
        ),
        Verb("reweight", "Multiply samples' loss by a weight, from the next batch.", ("sample_id", "weight"), _SAMPLES),
        Verb("set", "Change a setting of the run.", ("settings",)),
        Verb("pause", "Stop training until `resume`; the process keeps its memory and goes on answering."),
        Verb("resume", "End a pause; with `schedule`, put the learning rate back on its schedule.", (), ("schedule",)),
        Verb("checkpoint", "Write a checkpoint after this step.", is_lasting=False),
        Verb("evaluate", "Evaluate now, on a split or on the samples of a tag.", (), ("split", "tag"), False),
        Verb(
            "stop", "End the run after this step as if it were complete: validation, test, summary.", is_lasting=False
        ),
        Verb("undo", "Take back an action, or an undo.", ("action",), ("canary",)),
    )
}
"""Every verb by its name."""

_COMMON = ("id", "who", "when", "what", "why")

_ANY = ("at_step",)
"""Arguments of every verb: the optimizer steps after which it takes effect, as in a replay. Without it, at once."""

Check = Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return type(value) is int and abs(value) < 2**63


def _is_count(value: Any) -> bool:
    return type(value) is int and 1 <= value < 2**63


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.strip() != "" and is_unicode(value)


SETTINGS: dict[str, tuple[str, Check]] = {
    "lr": ("a number above 0, or schedule", lambda v: v == "schedule" or (_is_number(v) and v > 0)),
    "lr_scale": ("a number above 0", lambda v: _is_number(v) and v > 0),
    "weight_decay": ("a number from 0", lambda v: _is_number(v) and v >= 0),
    "epochs": ("a whole number from 1", _is_count),
    "patience": ("a whole number from 1", _is_count),
    "early_stopping": ("true or false", lambda v: isinstance(v, bool)),
    "batch_size": ("a whole number from 1", _is_count),
}
"""What `set` may change: name -> (allowed values in words, whether a value is one of them)."""


def typed_setting(word: str) -> tuple[str, Any]:
    """`lr=0.01` -> ("lr", 0.01). Whether the name and the value are valid is checked with the action.

    Raises:
        ConfigError: without an equals sign.
    """
    name, equals, text = word.partition("=")
    if not equals:
        raise ConfigError(f"{word}: settings are given as NAME=VALUE, as in lr=0.01.")
    words: dict[str, Any] = {"true": True, "on": True, "false": False, "off": False}
    for read in (lambda t: words[t.lower()], int, float):
        try:
            return name.replace("-", "_"), read(text)
        except (KeyError, ValueError):
            continue
    return name.replace("-", "_"), text


_ARGUMENTS: dict[str, tuple[str, Check]] = {
    "sample_id": (
        "a list of whole numbers from 0, not empty",
        lambda v: isinstance(v, list) and bool(v) and all(type(i) is int and 0 <= i < 2**63 for i in v),
    ),
    "key": ("a list of names", lambda v: isinstance(v, list) and all(isinstance(k, str) and is_unicode(k) for k in v)),
    "label": (
        "a class name or a list of them",
        lambda v: _is_text(v) or (isinstance(v, list) and all(_is_text(name) for name in v)),
    ),
    "weight": ("a finite number from 0", lambda v: _is_number(v) and v >= 0),
    "tag": ("a name", _is_text),
    "settings": ("an object of settings, not empty", lambda v: isinstance(v, dict) and bool(v)),
    "split": ("train, val or test", lambda v: v in SPLITS),
    "action": ("the id of an action", _is_text),
    "where": ("an SQL condition", lambda v: isinstance(v, str) and is_unicode(v)),
    "schedule": ("true", lambda v: v is True),
    "canary": ("true", lambda v: v is True),
    "drawn_from": (
        f"a list of {' and '.join(CANARY_KINDS)}",
        lambda v: isinstance(v, list) and all(kind in CANARY_KINDS for kind in v),
    ),
    "at_step": ("a whole number from 0", lambda v: type(v) is int and 0 <= v < 2**63),
}


def request(what: str, *, why: str = "", who: str | None = None, **arguments: Any) -> dict[str, Any]:
    """A new action, checked, with a new id; it is not written yet (see `submit`).

    Args:
        what: the verb.
        why: a note for the people who read the journal.
        who: default: $LITSCOPE_USER, or user@host.
        arguments: the verb's. `sample_id` and `key` may be any iterable, also of numpy's integers.

    Raises:
        ConfigError: if the verb or an argument is not valid.
    """
    for name, convert in (("sample_id", operator.index), ("key", str)):
        if isinstance(arguments.get(name), Iterable) and not isinstance(arguments[name], str):
            arguments[name] = [convert(value) for value in arguments[name]]
    action = {
        "id": secrets.token_hex(6),
        "who": who or this_user(),
        "when": round(time.time(), 3),
        "what": what,
        "why": why,
        **arguments,
    }
    check(action)
    return action


def check(action: dict[str, Any]) -> None:
    """Refuse an action that no trainer could apply.

    Raises:
        ConfigError: if its verb is unknown, an argument is missing, unknown or not valid.
    """
    if UNUSABLE in action:
        raise ConfigError(f"The line cannot be used: {action[UNUSABLE]}.")
    what = action.get("what")
    verb = VERBS.get(what) if isinstance(what, str) else None
    if verb is None:
        hint = did_you_mean(str(what), VERBS) or f" Known are {', '.join(VERBS)}."
        raise ConfigError(f"{what!r} is not an action that this litscope knows.{hint}")
    allowed = (*verb.arguments, *verb.optional, *_ANY)
    for name in verb.arguments:
        if name not in action:
            raise ConfigError(f"{what} needs `{name}`: {_ARGUMENTS[name][0]}.")
    for name, value in action.items():
        if name in _COMMON:
            if isinstance(value, str) and not is_unicode(value):
                raise ConfigError(f"{what}: `{name}` is {_short(value)}, which is not Unicode text.")
        else:
            _check_argument(verb.name, allowed, name, value)
    _check_parallel(action)
    for name, value in action.get("settings", {}).items():
        _check_setting(name, value)
    if what == "evaluate" and ("split" in action) == ("tag" in action):
        raise ConfigError("evaluate needs either `split` (train, val or test) or `tag`.")


def _check_argument(what: str, allowed: tuple[str, ...], name: str, value: Any) -> None:
    if name not in allowed:
        hint = did_you_mean(name, allowed) or f" It takes {', '.join(allowed) or 'nothing'}."
        raise ConfigError(f"{what} does not take `{name}`.{hint}")
    meaning, is_valid = _ARGUMENTS[name]
    if not is_valid(value):
        raise ConfigError(f"{what}: `{name}` is {_short(value)}; it must be {meaning}.")


def _check_parallel(action: dict[str, Any]) -> None:
    """Lists that belong to `sample_id` have one entry for each id."""
    for name in ("key", "label", "drawn_from"):
        values = action.get(name)
        if isinstance(values, list) and len(values) != len(action["sample_id"]):
            raise ConfigError(f"{action['what']}: {len(values)} values of `{name}` for {len(action['sample_id'])} ids.")


def _check_setting(name: str, value: Any) -> None:
    if name not in SETTINGS:
        hint = did_you_mean(name, SETTINGS) or f" What can be set is {', '.join(SETTINGS)}."
        raise ConfigError(f"{name!r} is not a setting that can be changed while a run trains.{hint}")
    meaning, is_valid = SETTINGS[name]
    if not is_valid(value):
        raise ConfigError(f"{name}={_short(value)}: it must be {meaning}.")


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # thousands of digits, or of brackets
        return f"a very large {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_momentary(action: dict[str, Any]) -> bool:
    """Whether an action is addressed to the process that trains now, so that a later one does not repeat it."""
    if action["what"] == "resume":
        return "schedule" not in action
    return action["what"] in ("pause", "checkpoint", "evaluate", "stop")


def this_user() -> str:
    """The name of the person who acts: $LITSCOPE_USER, or user@host."""
    given = os.environ.get("LITSCOPE_USER", "").strip()
    if given:
        return given
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # in a container, the process's user number may belong to no user
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"
