"""A time limit as Slurm reads it: `30` is half an hour, `4:00` four minutes, `4:00:00` four hours, `1-12` a day and a
half."""

from __future__ import annotations

import re

FORMS = "minutes (30), minutes:seconds (30:00), hours:minutes:seconds (4:00:00), days-hours (1-12), or UNLIMITED"

_DAYS = re.compile(r"(\d+)-(\d+)(?::(\d+)(?::(\d+))?)?")
_CLOCK = re.compile(r"(\d+)(?::(\d+))?(?::(\d+))?")
_ENDLESS = ("unlimited", "infinite")


def seconds_of(text: str) -> int | None:
    """The seconds of a time limit; None for one without end.

    Raises:
        ValueError: if Slurm does not read it.
    """
    if text.lower() in _ENDLESS:
        return None
    if found := _DAYS.fullmatch(text):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    elif found := _CLOCK.fullmatch(text):
        days, parts = 0, [int(part) for part in found.groups() if part is not None]
        hours, minutes, seconds = (0, *parts, 0)[:3] if len(parts) < 3 else parts
    else:
        raise ValueError(text)
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def refusal(text: str) -> str | None:
    """What is allowed instead, as a sentence; None if Slurm reads it."""
    try:
        length = seconds_of(text)
    except ValueError:
        return f"Slurm reads {FORMS}."
    return "a job needs some time." if length == 0 else None


def in_words(text: str) -> str:
    """A time limit for people.

    >>> in_words("4:00"), in_words("1-12")
    ('4 min', '1 d 12 h')
    """
    length = seconds_of(text)
    if length is None:
        return "no end"
    parts = zip(
        (length // 86400, length // 3600 % 24, length // 60 % 60, length % 60), ["d", "h", "min", "s"], strict=True
    )
    return " ".join(f"{number} {unit}" for number, unit in parts if number)
