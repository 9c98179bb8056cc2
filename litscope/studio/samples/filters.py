"""The filter's grammar: a text that a person typed -> a condition. Nothing of it ever reaches SQL.

    split = train and (mean_loss > 1.5 or label_name != pred_name) and not tags = ok
    key ~ "cat/"            contains, without regard to case; a quoted text alone asks that of the key
    label_name in (cat, dog)     p_label between 0.1 and 0.5     suspicion is missing
    is_discarded            a flag
    steps(120, 180)         seen in training in these steps
    inside(variability, confidence, 0.1 0.2, 0.3 0.4, 0.2 0.5)    within a polygon over two columns

`masks` says which samples meet a condition.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from litscope.jsonlines import is_unicode
from litscope.studio.refusals import AskedWrong

MOST_CHARACTERS = 20_000
"""Of a filter: a lasso of a few hundred corners."""

DEEPEST = 40
"""Most brackets and `not`s inside each other."""

MOST_CORNERS = 500

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
      | (?P<word>[^\W\d][\w./:\-]*)
      | (?P<mark>==|!=|<>|<=|>=|!~|[=<>~(),])
    )""",
    re.VERBOSE,
)
_OPERATORS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_OPERATORS |= {"~": "~", "!~": "!~"}


@dataclass(frozen=True)
class Word:
    """A word on the right of an operator: a column if there is one of that name, else a text."""

    text: str
    at: int


@dataclass(frozen=True)
class Text:
    """A quoted text."""

    text: str
    at: int


@dataclass(frozen=True)
class Number:
    """A number."""

    value: float
    at: int


Value = Word | Text | Number


@dataclass(frozen=True)
class Compare:
    """`name op value`; op is one of = != < <= > >= ~ !~."""

    name: Word
    op: str
    value: Value


@dataclass(frozen=True)
class Within:
    """`name in (value, ...)`."""

    name: Word
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Between:
    """`name between low and high`."""

    name: Word
    low: Number
    high: Number


@dataclass(frozen=True)
class Missing:
    """`name is missing`."""

    name: Word


@dataclass(frozen=True)
class Flag:
    """A column alone."""

    name: Word


@dataclass(frozen=True)
class Contains:
    """A quoted text alone."""

    text: str


@dataclass(frozen=True)
class Steps:
    """`steps(first, last)`."""

    first: int
    last: int


@dataclass(frozen=True)
class Inside:
    """`inside(x, y, corners)`."""

    x: Word
    y: Word
    corners: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Not:
    """The contrary."""

    inner: Condition


@dataclass(frozen=True)
class All:
    """All of them."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True)
class Any:
    """At least one of them."""

    parts: tuple[Condition, ...]


Condition = Compare | Within | Between | Missing | Flag | Contains | Steps | Inside | Not | All | Any


def parse(text: str) -> Condition | None:
    """The condition of a filter; None for an empty one, which every sample meets.

    Raises:
        AskedWrong: with the place, if it is no condition.
    """
    if len(text) > MOST_CHARACTERS:
        raise AskedWrong(f"The filter has {len(text):,} characters; it may have {MOST_CHARACTERS:,}.", "filter")
    if not is_unicode(text):
        raise AskedWrong("The filter holds half of a surrogate pair, which is no Unicode.", "filter")
    if not text.strip():
        return None
    parser = _Parser(text)
    found = parser.any_of(0)
    if parser.peek() is not None:
        parser.refuse("After a whole condition come `and`, `or`, or the end")
    return found


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[_Token] = []
        at = 0
        while at < len(text):
            if not text[at:].strip():
                break
            found = _TOKEN.match(text, at)
            if found is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise AskedWrong(f"Character {at + 1} of the filter, {text[at]!r}, begins nothing.", "filter", at)
            kind = str(found.lastgroup)
            self._tokens.append(_Token(kind, found[kind], found.start(kind)))
            at = found.end()
        self._next = 0

    def peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def refuse(self, wanted: str) -> NoReturn:
        token = self.peek()
        at = len(self._text) if token is None else token.at
        got = "it ends there" if token is None else f"there is {token.text!r}"
        raise AskedWrong(f"{wanted}; at character {at + 1} of the filter {got}.", "filter", at)

    def any_of(self, depth: int) -> Condition:
        parts = [self._all_of(depth)]
        while self._takes("or"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _all_of(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._takes("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self, depth: int) -> Condition:
        if depth > DEEPEST:
            self.refuse(f"At most {DEEPEST} brackets and `not`s stand inside each other")
        if self._takes("not"):
            return Not(self._one(depth + 1))
        if self._takes("("):
            found = self.any_of(depth + 1)
            self._needs(")")
            return found
        token = self.peek()
        if token is not None and token.kind == "text":
            self._next += 1
            return Contains(_unquoted(token.text))
        return self._about_a_column()

    def _about_a_column(self) -> Condition:
        name = self._name()
        lower = name.text.lower()
        if lower in ("steps", "inside") and self._takes("("):
            return self._steps() if lower == "steps" else self._inside()
        token = self.peek()
        if token is not None and token.kind == "mark" and token.text in _OPERATORS:
            self._next += 1
            return Compare(name, _OPERATORS[token.text], self._value())
        if self._takes("between"):
            low = self._number()
            self._needs("and")
            return Between(name, low, self._number())
        if self._takes("is"):
            is_not = self._takes("not")
            if not (self._takes("missing") or self._takes("null")):
                self.refuse("After `is` comes `missing` or `not missing`")
            return Not(Missing(name)) if is_not else Missing(name)
        is_not = self._takes("not")
        if self._takes("in"):
            found = self._within(name)
            return Not(found) if is_not else found
        if is_not:
            self.refuse("After a column and `not` comes `in`")
        return Flag(name)

    def _within(self, name: Word) -> Within:
        self._needs("(")
        values = [self._value()]
        while self._takes(","):
            values.append(self._value())
        self._needs(")")
        return Within(name, tuple(values))

    def _steps(self) -> Steps:
        first = self._number()
        self._needs(",")
        last = self._number()
        self._needs(")")
        for number in (first, last):
            if not (0 <= number.value < 2**31 and number.value == int(number.value)):
                raise AskedWrong("steps(first, last) takes two whole numbers from 0.", "filter", number.at)
        return Steps(int(first.value), int(last.value))

    def _inside(self) -> Inside:
        x = self._name()
        self._needs(",")
        y = self._name()
        corners = []
        while self._takes(","):
            corners.append((self._number().value, self._number().value))
        if not 3 <= len(corners) <= MOST_CORNERS:
            self.refuse(f"inside(x, y, corners) takes 3 to {MOST_CORNERS} corners, each two numbers")
        self._needs(")")
        return Inside(x, y, tuple(corners))

    def _name(self) -> Word:
        token = self.peek()
        if token is None or token.kind != "word" or token.text.lower() in ("and", "or", "not", "in", "is", "between"):
            self.refuse("A condition begins with a column, `not`, a bracket or a quoted text")
        self._next += 1
        return Word(token.text, token.at)

    def _value(self) -> Value:
        token = self.peek()
        if token is None or token.kind == "mark":
            self.refuse("A number, a text or a column is needed")
        self._next += 1
        if token.kind == "number":
            return Number(float(token.text), token.at)
        if token.kind == "text":
            return Text(_unquoted(token.text), token.at)
        return Word(token.text, token.at)

    def _number(self) -> Number:
        token = self.peek()
        if token is None or token.kind != "number":
            self.refuse("A number is needed")
        self._next += 1
        return Number(float(token.text), token.at)

    def _takes(self, word: str) -> bool:
        token = self.peek()
        is_it = token is not None and token.kind in ("word", "mark") and token.text.lower() == word
        self._next += is_it
        return is_it

    def _needs(self, word: str) -> None:
        if not self._takes(word):
            self.refuse(f"`{word}` is needed")


def _unquoted(text: str) -> str:
    return text[1:-1].replace(text[0] * 2, text[0])


def quoted(text: str) -> str:
    """A text as a filter holds it, whatever is in it: in quotes, with quotes inside doubled."""
    return '"' + text.replace('"', '""') + '"'
