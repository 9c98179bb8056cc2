"""Text in lines that fit: broken between words first, and cut only where that is not enough."""

from __future__ import annotations

import re
from collections.abc import Callable

Fits = Callable[[str], bool]
"""Whether a line is short enough; if one is, so is every part of it."""

_WORD = re.compile(r"[^\s_\-/.,]*[\s_\-/.,]*")
"""A word with what separates it from the next: names are written with blanks, and as file names are."""


def wrapped(text: str, fits: Fits, most: int) -> list[str]:
    """`text` in at most so many lines; what does not fit in these is cut from the middle of the last one.

    >>> wrapped("golden_retriever puppy", lambda line: len(line) <= 10, 3)
    ['golden_', 'retriever', 'puppy']
    """
    lines: list[str] = []
    rest = text.strip()
    while len(lines) < most - 1 and not fits(rest):
        line = ""
        for word in _WORD.findall(rest):
            if not word or not fits((line + word).rstrip()):
                break
            line += word
        line = line or _longest(rest, fits)
        lines.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    return [*lines, cut(rest, fits)]


def cut(text: str, fits: Fits) -> str:
    """`text` as one line, cut in the middle: the ends of paths and names tell the most."""
    if fits(text):
        return text
    keep = len(text) - 1
    while keep > 1 and not fits(shortened(text, keep)):
        keep -= 1
    return shortened(text, keep)


def shortened(text: str, length: int) -> str:
    """`text` as at most so many characters, cut in the middle.

    >>> shortened("train/cats/0017.jpg", 9)
    'trai….jpg'
    """
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def _longest(text: str, fits: Fits) -> str:
    """As much of the beginning of a text as fits; one character at least."""
    end = 1
    while end < len(text) and fits(text[: end + 1]):
        end += 1
    return text[:end]
