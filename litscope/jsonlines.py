"""One line of a run's JSON files, whoever wrote it: read without harm, and with the reason where it cannot be used.

Other programs may append to a run's journal. What Python's own parser takes, but no reader behind it can hold, is found
here: numbers beyond 64 bits, text that no file can hold (a lone surrogate), lists in lists without end. No torch.
"""

from __future__ import annotations

import json
import re
from typing import Any

DEEPEST = 16
"""Most lists and objects inside each other that a line may have."""

UNUSABLE = "unusable"
"""Where a line that cannot be used says why; of the line itself its `id`, `what`, `who`, `when` and `why` are kept."""

_SUSPECT = re.compile(rb"\\u[dD][89a-fA-F]|[0-9]{19}")
"""Without these in its bytes, and with few brackets, a line is usable: a million ids are not looked at one by one."""

_HEAD = re.compile(rb'"(id|what)"\s*:\s*"([^"\\]{1,100})"')


def parse_line(raw: bytes) -> dict[str, Any] | None:
    """The object of a line; None for a half-written line, or one that is no object.

    Of an object that no reader could hold, what is left is its head and the reason under `UNUSABLE`.
    """
    try:
        value = json.loads(raw) if raw.strip() else None
    except (json.JSONDecodeError, UnicodeDecodeError):  # the latter where the cut went through a character
        return None
    except (ValueError, RecursionError) as error:
        head = {name.decode(): text.decode(errors="replace") for name, text in _HEAD.findall(raw)}
        return head | {UNUSABLE: _TOO_DEEP if isinstance(error, RecursionError) else _TOO_LARGE}
    if not isinstance(value, dict):
        return None
    if not _SUSPECT.search(raw) and raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return value
    reason = why_unusable(value)
    if reason is None:
        return value
    head = {name: value[name] for name in ("id", "what", "who", "when", "why") if name in value}
    return {name: kept for name, kept in head.items() if why_unusable(kept) is None} | {UNUSABLE: reason}


_TOO_LARGE = "it holds a number of more than 64 bits"
_TOO_DEEP = f"it holds more than {DEEPEST} lists or objects inside each other"
_NO_TEXT = "it holds text that is not Unicode (half of a surrogate pair)"


def why_unusable(value: Any) -> str | None:
    """Why a value of JSON can be neither stored nor printed, or None."""
    level = [value]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list | tuple):
                below += item
            elif isinstance(item, str) and not is_unicode(item):
                return _NO_TEXT
            elif isinstance(item, int) and not -(2**63) <= item < 2**63:
                return _TOO_LARGE
        if not below:
            return None
        level = below
    return _TOO_DEEP


def is_unicode(text: str) -> bool:
    """Whether a text can be written to a file as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
