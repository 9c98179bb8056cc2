"""Lines from a person at a terminal: with history, completion, and what became of what was asked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.shortcuts import CompleteStyle

from litscope.console import one_line
from litscope.data.reading.cache import default_folder
from litscope.errors import LitscopeError
from litscope.studio.doors.console.offers import Offers
from litscope.studio.doors.console.session import Answered, Console

WAKE_S = 0.2
"""So often Ctrl-C is looked for."""

_ASKING = "litscope-asking"

Show = Callable[[Sequence[str]], None]

HISTORY = "console_history"
"""In the cache folder; only its owner can read it."""


def converse(console: Console, show: Show, **options: Any) -> bool:
    """Answer the lines of a person until `exit` or Ctrl-D. Ctrl-C drops a line, or no longer waits for its answer.

    Args:
        console: answers.
        show: prints lines.
        options: of the prompt: where it reads and writes.

    Returns:
        Whether a query that nobody waits for still computes, in a thread that ends with this process.
    """
    session: PromptSession[str] = PromptSession(
        history=_history(),
        completer=_Completer(Offers(console)),
        complete_in_thread=True,
        complete_style=CompleteStyle.COLUMN,
        complete_while_typing=False,
        enable_open_in_editor=False,
        **options,
    )
    waiting = _Waiting(console)
    while not console.is_over:
        try:
            line = session.prompt(_prompt(console))
        except KeyboardInterrupt:
            continue
        except EOFError:
            break
        try:
            found = _interruptible(console, line)
            show(found.lines())
            waiting.note(found.found)
            show(list(waiting.news()))
        except KeyboardInterrupt:
            show(["interrupted"])
    return any(thread.name == _ASKING for thread in threading.enumerate())


def _interruptible(console: Console, line: str) -> Answered:
    """The answer to a line.

    A question is asked in a thread of its own, because a query that computes hears no Ctrl-C: nobody waits for it any
    more, and it ends at its limit. An action is asked here, so that none is taken up afterwards.

    Raises:
        KeyboardInterrupt: on Ctrl-C.
    """
    if console.is_action(line):
        return console.answer(line)
    found: list[Answered] = []
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            found.append(console.answer(line))
        except BaseException as error:  # noqa: BLE001 - raised where the person is
            failed.append(error)

    asking = threading.Thread(target=ask, name=_ASKING, daemon=True)
    asking.start()
    while asking.is_alive():
        asking.join(WAKE_S)
    if failed:
        raise failed[0]
    return found[0]


class _Waiting:
    """What was asked and has no answer yet."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ids: dict[str, str] = {}

    def note(self, found: Any) -> None:
        """Remember a request that waits."""
        action = getattr(found, "action", None)
        if action is not None and action.status == "pending" and self._console.run is not None:
            self._ids[action.id] = self._console.run

    def news(self) -> Iterator[str]:
        """What became of earlier requests."""
        for run in set(self._ids.values()):
            try:
                actions = self._console.studio.journal(run, 200).actions
            except (LitscopeError, OSError):  # gone; there is nothing to tell
                continue
            for one in actions:
                if one.id in self._ids and one.status != "pending":
                    del self._ids[one.id]
                    reason = f": {one.reason}" if one.reason else ""
                    yield f"{one.status}: {one.text}{reason}"


def _prompt(console: Console) -> str:
    if console.run is None:
        return "litscope> "
    try:
        return f"{one_line(console.ask('line').name)}> "
    except LitscopeError:
        return "(gone)> "


def _history() -> History:
    path = default_folder() / HISTORY
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    except OSError:  # a home that cannot be written
        return InMemoryHistory()
    return _Kept(path)


class _Kept(FileHistory):
    """A history that a full disk does not end."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))

    def store_string(self, string: str) -> None:
        """Keep a line, if there is room."""
        try:
            super().store_string(string)
        except OSError:
            return


class _Completer(Completer):
    """The offers, as prompt_toolkit asks for them."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        """How the line before the cursor can go on."""
        line = document.text_before_cursor
        for offer in self._offers.of(line):
            yield Completion(offer.text, offer.start - len(line), display_meta=offer.meaning)
