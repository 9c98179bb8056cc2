r"""A line that a person types at the console -> a verb and its arguments.

    VERB words and --options, in any order

A word is what stands between spaces; quotes (' or ") hold spaces together, and two of them inside stand for one, as
in a filter. An option is --name VALUE or --name=VALUE; lists take the words up to the next option. A condition and a
query are taken as they are typed, quotes included.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from litscope.errors import did_you_mean
from litscope.jsonlines import is_unicode
from litscope.studio.refusals import AskedWrong

Kind = Literal["text", "texts", "integer", "integers", "number", "ranges", "flag", "condition"]
Offered = Literal[
    "", "column", "axis", "condition", "sort", "tag", "class", "split", "metric", "run", "setting", "sample", "verb"
]

_TOKEN = re.compile(
    r"""\s*(?P<all>(?:
        (?<![^\s=~<>(,!])'(?:[^']|'')*'    # quotes begin where a value may begin: it's is a word
      | (?<![^\s=~<>(,!])"(?:[^"]|"")*"
      | (?P<open>(?<![^\s=~<>(,!])['"].*$)
      | \S
    )+)""",
    re.VERBOSE,
)
_OPTION = re.compile(r"(?:--(?P<name>[a-z][a-z0-9-]*)|-n)(?P<value>=.*)?", re.DOTALL)
"""-n is --count, as the commands have it."""
_WHOLE = re.compile(r"(?s)'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


@dataclass(frozen=True)
class Argument:
    """A word or an option of a verb.

    Attributes:
        name: in the verb's arguments; of an option, after the two hyphens, with _ as -.
        kind: of its value.
        help: what it means.
        offered: what completion offers for it.
        words: all that it may be; empty: anything.
        is_needed: of a positional word.
    """

    name: str
    kind: Kind = "text"
    help: str = ""
    offered: Offered = ""
    words: tuple[str, ...] = ()
    is_needed: bool = False

    @property
    def flag(self) -> str:
        """As an option is typed."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def shown(self) -> str:
        """As the usage shows a value."""
        if self.words:
            return "|".join(self.words)
        return {"condition": "CONDITION", "integers": "N ...", "ranges": "FROM-TO ..."}.get(self.kind) or (
            self.name.upper() + (" ..." if self.kind == "texts" else "")
        )


@dataclass(frozen=True)
class Verb:
    """What can be typed first.

    Attributes:
        name: of it.
        doc: what it does, in a sentence.
        words: positional; only the last may be a list or a condition.
        options: they.
        is_raw: all that follows the name is one text, `words[0]`.
        also: other names.
    """

    name: str
    doc: str
    words: tuple[Argument, ...] = ()
    options: tuple[Argument, ...] = ()
    is_raw: bool = False
    also: tuple[str, ...] = ()

    def usage(self) -> str:
        """How it is typed."""
        words = [one.shown if one.is_needed else f"[{one.shown}]" for one in self.words]
        options = [f"[{one.flag}{'' if one.kind == 'flag' else ' ' + one.shown}]" for one in self.options]
        return " ".join([self.name, *words, *options])


@dataclass
class Line:
    """A parsed line.

    Attributes:
        verb: what is asked.
        given: arguments by name; those that were not given are missing.
    """

    verb: Verb
    given: dict[str, Any] = field(default_factory=dict)


class Token(NamedTuple):
    """A word of a line: as typed, and where it is."""

    text: str
    start: int
    end: int

    @property
    def value(self) -> str:
        """Without the quotes around it."""
        return unquoted(self.text)


def tokens(text: str, start: int = 0) -> Iterator[Token]:
    """The words of a line from a character on; one whose quote is still open goes to the end."""
    for found in _TOKEN.finditer(text, start):
        yield Token(found["all"], found.start("all"), found.end("all"))


def unquoted(text: str) -> str:
    """A word without quotes around it."""
    if not _WHOLE.fullmatch(text):
        return text
    return text[1:-1].replace(text[0] * 2, text[0])


def quoted(text: str) -> str:
    """A word as it has to be typed.

    >>> quoted("cat"), quoted("a cat"), quoted('5" cat')
    ('cat', '"a cat"', "'5\\" cat'")
    """
    if text and not re.search(r"[\s'\"]", text) and not text.startswith("--"):
        return text
    mark = "'" if '"' in text and "'" not in text else '"'
    return f"{mark}{text.replace(mark, mark * 2)}{mark}"


def parse(text: str, verbs: Mapping[str, Verb]) -> Line:
    """The verb of a line, and its arguments.

    Args:
        text: the line.
        verbs: by all their names.

    Raises:
        AskedWrong: saying what cannot be read, and how the verb is used.
    """
    if not is_unicode(text):
        raise AskedWrong("The line is no UTF-8 text.", "line")
    found = next(tokens(text), None)
    if found is None or found.text not in verbs:
        name = "" if found is None else found.text
        raise AskedWrong(
            f"{name!r} is no command of the console.{did_you_mean(name, verbs)} `help` lists them.", "line"
        )
    verb = verbs[found.text]
    if verb.is_raw:
        return Line(verb, _needed(verb, {verb.words[0].name: text[found.end :].strip()}))
    words, given = _options(verb, text, list(tokens(text, found.end)))
    return Line(verb, _needed(verb, _positional(verb, text, words) | given))


def _options(verb: Verb, text: str, found: Sequence[Token]) -> tuple[list[Token], dict[str, Any]]:
    """The words that belong to no option, and the options."""
    known = {one.flag: one for one in verb.options}
    given: dict[str, Any] = {}
    left: list[Token] = []
    i = 0
    while i < len(found):
        match = _OPTION.fullmatch(found[i].text)
        if match is None:
            _check_closed(found[i])
            left.append(found[i])
            i += 1
            continue
        flag, at = f"--{match['name'] or 'count'}", i
        if flag not in known:
            raise _wrong(verb, f"{flag} is no option of {verb.name}.{did_you_mean(flag, known)}", flag)
        option, i = known[flag], i + 1
        if option.kind == "flag":
            given[option.name] = True
            continue
        if match["value"]:
            values = [Token(match["value"][1:], found[at].end - len(match["value"]) + 1, found[at].end)]
        else:
            end = i
            while end < len(found) and (end == i or _takes_more(option)) and not _OPTION.fullmatch(found[end].text):
                end += 1
            values, i = list(found[i:end]), end
        if not values:
            raise _wrong(verb, f"{flag} needs a value.", option.name)
        for value in values:
            _check_closed(value)
        given[option.name] = _read(verb, option, text, values)
    return left, given


def _takes_more(option: Argument) -> bool:
    return option.kind in ("texts", "integers", "ranges", "condition")


def _positional(verb: Verb, text: str, words: list[Token]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    left = list(words)
    for argument in verb.words:
        if not left:
            break
        if argument.kind == "condition":  # as it is typed, without the options inside
            given[argument.name] = " ".join(part for part in _stretches(text, left))
            left = []
            continue
        taken, left = (left, []) if _takes_more(argument) else (left[:1], left[1:])
        given[argument.name] = _read(verb, argument, text, taken)
    if left:
        raise _wrong(verb, f"{left[0].text!r} is too much.", "line")
    return given


def _stretches(text: str, words: Sequence[Token]) -> Iterator[str]:
    """The text of words, as typed where nothing stands between them but spaces."""
    start = end = words[0].start
    for word in words:
        if text[end : word.start].strip():
            yield text[start:end]
            start = word.start
        end = word.end
    yield text[start:end]


def _read(verb: Verb, argument: Argument, text: str, values: Sequence[Token]) -> Any:
    words = [value.value for value in values]
    match argument.kind:
        case "condition":
            return words[0] if len(words) == 1 else text[values[0].start : values[-1].end]
        case "texts":
            return words
        case "integers":
            return [_number(verb, argument, part, int) for word in words for part in word.split(",") if part]
        case "ranges":
            return [_range(verb, argument, part) for word in words for part in word.split(",") if part]
        case "integer":
            return _number(verb, argument, words[0], int)
        case "number":
            return _number(verb, argument, words[0], float)
    if argument.words and words[0] not in argument.words:
        near = did_you_mean(words[0], argument.words)
        raise _wrong(verb, f"{words[0]!r}: it is {', '.join(argument.words)}.{near}", argument.name)
    return words[0]


def _number(verb: Verb, argument: Argument, word: str, read: Callable[[str], Any]) -> Any:
    try:
        if len(word) > 30 or not word.isascii() or "_" in word:
            raise ValueError
        return read(word)
    except ValueError:
        what = "a whole number" if read is int else "a number"
        raise _wrong(verb, f"{argument.name} {word!r}: it is {what}.", argument.name) from None


def _range(verb: Verb, argument: Argument, word: str) -> tuple[int, int]:
    """`3-7` -> (2, 7): rows are numbered from 1, and both ends are meant."""
    first, hyphen, last = word.partition("-")
    low = _number(verb, argument, first, int)
    high = _number(verb, argument, last, int) if hyphen else low
    if not 1 <= low <= high < 2**31:
        raise _wrong(verb, f"{argument.name} {word}: rows are numbered from 1, as in 1-20.", argument.name)
    return low - 1, high


def _needed(verb: Verb, given: dict[str, Any]) -> dict[str, Any]:
    for argument in verb.words:
        if argument.is_needed and given.get(argument.name) in (None, "", []):
            raise _wrong(verb, f"{verb.name} needs {argument.shown}.", argument.name)
    return given


def _check_closed(word: Token) -> None:
    found = _TOKEN.fullmatch(word.text)
    if found is not None and found["open"]:
        raise AskedWrong(f"A quote is not closed: {word.text[:40]}", "line")


def _wrong(verb: Verb, message: str, name: str) -> AskedWrong:
    return AskedWrong(f"{message} Usage: {verb.usage()}", name)
