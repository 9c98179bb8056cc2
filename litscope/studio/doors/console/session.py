"""One console: the run that is looked at, the last list, and what a line answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from typing import Any

from litscope.errors import ConfigError, LedgerError, LitscopeError, RunError, did_you_mean
from litscope.studio.doors import limits
from litscope.studio.doors.console.asking import ACTS, answer
from litscope.studio.doors.console.shown import lines_of
from litscope.studio.doors.console.typed import parse, tokens
from litscope.studio.doors.console.verbs import VERBS
from litscope.studio.refusals import AskedWrong, NotThere
from litscope.studio.runs.lines import RunLine
from litscope.studio.samples.blocks import Block
from litscope.studio.samples.grid import Row, Window
from litscope.studio.service import Studio

MOST_CHARACTERS = 1_000_000
"""Of a line."""


@dataclass(frozen=True)
class Answered:
    """What a line came to.

    Attributes:
        line: as typed.
        verb: its first name; None where the line has none.
        found: the service's answer; None of a refusal, and of what answers nothing.
        error: the refusal.
    """

    line: str
    verb: str | None = None
    found: Any = None
    error: LitscopeError | None = None

    def lines(self) -> list[str]:
        """The answer for people; a refusal's first line begins with `error:`."""
        if self.error is not None:
            first, *more = str(self.error).split("\n")
            return [f"error: {first}", *(f"  {line}" for line in more)]
        return lines_of(self.verb, self.found)

    def to_dict(self) -> dict[str, Any]:
        """The answer for programs."""
        error = None
        if self.error is not None:
            wrong = self.error if isinstance(self.error, AskedWrong) else None
            error = {
                "type": type(self.error).__name__,
                "message": str(self.error),
                "field": wrong and wrong.field,
                "position": wrong and wrong.position,
            }
        return {"line": self.line, "verb": self.verb, "error": error, "result": _plain(self.found)}


class Console:
    """A command line over a studio.

    Args:
        studio: the service.
        run: the id or the name of the run that is looked at; None: the newest.

    Attributes:
        studio: the service.
        run: the id of the run that is looked at; None: there is none yet.
        window: the last list.
        is_over: whether the person has left.

    Raises:
        NotThere: if there is no such run.
    """

    def __init__(self, studio: Studio, run: str | None = None) -> None:
        self.studio: Studio = studio
        self.is_over = False
        self.run: str | None = None
        self.window: Window | None = None
        if run is None:
            self._take_newest()
        else:
            self.use(run)

    def answer(self, line: str) -> Answered:
        """What a line comes to. Refusals are answers; an empty line and one that begins with # answer nothing."""
        text = line.strip()
        if not text or text.startswith("#"):
            return Answered(text)
        verb = None
        try:
            if len(text) > MOST_CHARACTERS:
                raise AskedWrong(f"A line may have {MOST_CHARACTERS:,} characters, not {len(text):,}.", "line")
            parsed = parse(text, VERBS)
            verb = parsed.verb.name
            return Answered(text, verb, answer(self, verb, parsed.given))
        except LitscopeError as error:
            return Answered(_writable(text), verb, None, error)
        except OSError as error:
            why = LedgerError(f"A file cannot be read or written: {error}.")
            return Answered(text, verb, None, why)

    def is_action(self, line: str) -> bool:
        """Whether a line would change something."""
        found = next(tokens(line), None)
        return found is not None and found.text in ACTS

    def answers(self, lines: Iterable[str], keep_going: bool = False) -> Iterator[Answered]:
        """What the lines of a script come to, up to the first refusal.

        Args:
            lines: they.
            keep_going: go on after a refusal.

        Raises:
            ConfigError: after the answer that refused, unless `keep_going`.
        """
        for number, line in enumerate(lines, 1):
            found = self.answer(line)
            if found.verb is not None or found.error is not None:
                yield found
            if self.is_over:
                return
            if found.error is not None and not keep_going:
                raise ConfigError(
                    f"Line {number} was refused; those after it were not asked. --keep-going asks them all the same."
                )

    def _take_newest(self) -> None:
        found = self.studio.runs().runs
        self.run = found[0].id if found else None

    # ---- for the verbs ---------------------------------------------------------------------------

    def ask(self, method: str, **arguments: Any) -> Any:
        """A question about the run, within the limits of every door.

        Raises:
            NotThere: if there is no run.
            AskedWrong: if an argument is not valid.
        """
        if self.run is None:
            self._take_newest()
        if self.run is None:
            folders = ", ".join(map(str, self.studio.places.folders))
            raise NotThere(f"There is no run in {folders} yet.")
        self.check(method, arguments)
        return getattr(self.studio, method)(self.run, **arguments)

    def check(self, method: str, arguments: Mapping[str, Any]) -> None:
        """Refuse what asks for too much; as `limits.check`."""
        limits.check(method, arguments)

    def find_run(self, name: str) -> RunLine:
        """A run by its id, name or path.

        Raises:
            NotThere: if there is none, or more than one of that name.
        """
        lines = self.studio.runs().runs
        found = [one for one in lines if name in (one.id, one.path)] or [one for one in lines if name == one.name]
        if len(found) == 1:
            return found[0]
        if found:
            raise NotThere(f"There are {len(found)} runs {name!r}: {', '.join(one.id for one in found)}.")
        raise NotThere(f"There is no run {name!r} here.{did_you_mean(name, [one.name for one in lines])}")

    def use(self, name: str) -> None:
        """Look at another run; errors as `find_run`."""
        self.run, self.window = self.find_run(name).id, None

    def find_sample(self, word: str) -> int:
        """A sample's id by its key, the end of its key, or the id itself; errors as `Studio.find`."""
        found: int = self.ask("find", name=word)
        return found

    def last_window(self) -> Window:
        """The last list.

        Raises:
            RunError: if there is none.
        """
        if self.window is None:
            raise RunError("There is no list of this run yet. `list` makes one.")
        return self.window

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """The rows of samples, in that order."""
        if not ids:
            return []
        window: Window = self.ask("samples", filter=f"sample_id in ({', '.join(map(str, ids))})", count=len(ids))
        found = {row.sample_id: replace(row, position=-1) for row in window.rows}
        return [found[i] for i in ids if i in found]


def _plain(found: Any) -> Any:
    """Values as JSON has them."""
    if isinstance(found, Block):
        columns = {name: [_number(value) for value in values.tolist()] for name, values in found.columns.items()}
        return {"facts": dict(found.facts), "columns": columns}
    if isinstance(found, list | tuple):
        return [_plain(one) for one in found]
    return asdict(found) if is_dataclass(found) and not isinstance(found, type) else found


def _number(value: Any) -> Any:
    return value if value == value else None


def _writable(text: str) -> str:
    """A line of which what is no UTF-8 is shown as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()
