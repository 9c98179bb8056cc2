"""How a line of the console can go on: verbs, options, columns, their values, tags, classes, metrics, keys."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from litscope.console import one_line
from litscope.errors import LitscopeError
from litscope.ledger.journal.verbs import SETTINGS
from litscope.studio.doors.console.session import Console
from litscope.studio.doors.console.typed import Argument, Token, Verb, quoted, tokens
from litscope.studio.doors.console.verbs import VERBS
from litscope.studio.runs.pages import RunPage
from litscope.studio.samples.values import Column

MOST_OFFERS = 50
FRESH_S = 2.0
"""For so long the columns, tags and metrics of a run are taken to be as they were."""

_OPERATOR = re.compile(r"==|!=|<>|<=|>=|!~|[=<>~]")
_WORDS = ("and", "or", "not", "in", "between", "is")


class Offer(NamedTuple):
    """A way to go on.

    Attributes:
        text: in place of what is typed from `start` on.
        start: a position in the line.
        meaning: a few words.
    """

    text: str
    start: int
    meaning: str = ""


class Offers:
    """Finds how lines can go on.

    Args:
        console: whose run, lists and verbs are meant.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._page: tuple[str, float, RunPage] | None = None

    def of(self, line: str) -> list[Offer]:
        """The offers for a line up to the cursor; none where the run cannot be read."""
        typed = list(tokens(line))
        is_between = not typed or (line[-1:].isspace() and typed[-1].end < len(line))
        last = Token("", len(line), len(line)) if is_between else typed.pop()
        try:
            if not typed:
                return self._fitting(last, ((name, verb.doc) for name, verb in VERBS.items()))
            verb = VERBS.get(typed[0].text)
            if verb is None or verb.is_raw:
                return []
            return self._of_verb(verb, typed[1:], last, line)
        except (LitscopeError, OSError):
            return []

    def _of_verb(self, verb: Verb, before: Sequence[Token], last: Token, line: str) -> list[Offer]:
        if last.text.startswith("--"):
            return self._fitting(last, ((one.flag, one.help) for one in verb.options))
        argument, inside = _argument(verb, before)
        if argument is None:
            return []
        if argument.offered == "condition":
            start = inside[0].start if inside else last.start
            return self._of_condition(line[start : last.start], last)
        return self._of(argument, last)

    def _of(self, argument: Argument, last: Token) -> list[Offer]:
        if argument.words:
            return self._fitting(last, ((word, "") for word in argument.words))
        known: Iterable[tuple[str, str]] = ()
        match argument.offered:
            case "verb":
                known = ((name, verb.doc) for name, verb in VERBS.items())
            case "run":
                known = ((one.name, one.state) for one in self._console.studio.runs().runs)
            case "setting":
                known = ((f"{name}=", what) for name, (what, _) in SETTINGS.items())
            case "class":
                known = (*((name, "") for name in self._of_run().classes), ("believed", "what the model believes"))
            case "tag":
                known = ((name, f"{count:,} samples") for name, count in self._of_run().tags.items())
            case "metric":
                known = ((name, "") for name in self._of_run().metrics)
            case "column":
                known = ((one.name, one.meaning) for one in self._of_run().columns)
            case "axis":
                known = ((one.name, one.meaning) for one in self._of_run().columns if one.kind in ("number", "integer"))
            case "sort":
                return self._of_sort(last)
            case "sample":
                return self._of_keys(last)
        return self._fitting(last, known)

    def _of_sort(self, last: Token) -> list[Offer]:
        done, comma, part = last.text.rpartition(",")
        minus = "-" if part.startswith("-") else ""
        columns = (one for one in self._of_run().columns if one.is_sortable)
        found = ((f"{done}{comma}{minus}{one.name}", one.meaning) for one in columns)
        return self._fitting(last, found, is_literal=True)

    def _of_keys(self, last: Token) -> list[Offer]:
        part = last.text.lstrip("'\"")
        if len(part) < 2:
            return []
        found = self._console.ask("samples", filter=f"key ~ {_text(part)}", sort="sample_id", count=MOST_OFFERS)
        keys = ((row.key, row.current_name or "") for row in found.rows)
        return [
            Offer(quoted(key), last.start, one_line(meaning)) for key, meaning in keys if key == one_line(key)
        ]  # a key that cannot be shown is found by its id

    def _of_condition(self, before: str, last: Token) -> list[Offer]:
        """Columns; after one and an operator, its values."""
        start = max((found.end() for found in re.finditer(r"==|!=|<>|<=|>=|!~|[=<>~(,]", last.text)), default=0)
        typed = Token(last.text[start:], last.start + start, last.end)
        columns = {one.name: one for one in self._of_run().columns}
        found = re.search(r"([\w./:\-]+)\s*(?:==|!=|<>|[=~]|!~|\bin\s*\([^)]*)\s*$", before + last.text[:start])
        if found is not None and found[1] in columns:
            return self._fitting(typed, ((value, "") for value in self._values(columns[found[1]])))
        words = ((word, "") for word in _WORDS) if before.strip() else [("not", "")]
        return self._fitting(typed, [*((name, one.meaning) for name, one in columns.items()), *words])

    def _values(self, column: Column) -> list[str]:
        if column.values is not None:
            return column.values
        if column.name == "tags":
            return list(self._of_run().tags)
        return self._of_run().classes if column.group == "label" and column.kind == "class" else []

    def _of_run(self) -> RunPage:
        run, now = self._console.run or "", time.monotonic()
        if self._page is None or self._page[0] != run or now - self._page[1] > FRESH_S:
            self._page = (run, now, self._console.ask("page"))
        return self._page[2]

    @staticmethod
    def _fitting(last: Token, known: Iterable[tuple[str, str]], is_literal: bool = False) -> list[Offer]:
        """What begins as the word that is typed; else what contains it."""
        part = last.text.lstrip("'\"").lower()
        shown = [(text, meaning) for text, meaning in known if text == one_line(text)]
        found = [pair for pair in shown if pair[0].lower().startswith(part)]
        found = found or [pair for pair in shown if part in pair[0].lower()]
        return [
            Offer(text if is_literal else _as_typed(text), last.start, one_line(meaning))
            for text, meaning in found[:MOST_OFFERS]
        ]


def _as_typed(text: str) -> str:
    return text if text.startswith("--") or text.endswith("=") else quoted(text)


def _text(part: str) -> str:
    """A quoted text of a filter."""
    doubled = part.replace('"', '""')
    return f'"{doubled}"'


def _argument(verb: Verb, before: Sequence[Token]) -> tuple[Argument | None, Sequence[Token]]:
    """The argument that comes next after some words, and those of them that it has already."""
    options = {one.flag: one for one in verb.options}
    words = 0
    i = 0
    while i < len(before):
        option = options.get(before[i].text)
        if option is None or option.kind == "flag":
            words += 0 if option else 1
            i += 1
            continue
        is_list = option.kind in ("texts", "integers", "ranges", "condition")
        end = next((j for j in range(i + 1, len(before)) if before[j].text.startswith("--")), len(before))
        end = end if is_list else min(i + 2, end)
        if end == len(before) and (is_list or end == i + 1):
            return option, before[i + 1 :]
        i = end
    if words < len(verb.words):
        argument = verb.words[words]
        return argument, before[-words:] if argument.kind == "condition" and words else ()
    if verb.words and verb.words[-1].kind in ("texts", "condition"):
        at = len(verb.words) - 1
        return verb.words[-1], before[at:]
    return None, ()
