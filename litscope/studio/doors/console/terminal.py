"""Lines from a person at a terminal: with history, completion, and what became of what was asked."""

from __future__ import annotations

import os
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
from litscope.studio.doors.console.session import Console

Show = Callable[[Sequence[str]], None]

HISTORY = "console_history"
"""In the cache folder; only its owner can read it."""


def converse(console: Console, show: Show, **options: Any) -> None:
    """Answer the lines of a person until `exit` or Ctrl-D. Ctrl-C drops a line, or ends what it asks.

    Args:
        console: answers.
        show: prints lines.
        options: of the prompt: where it reads and writes.
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
            return
        try:
            found = console.answer(line)
            show(found.lines())
            waiting.note(found.found)
            show(list(waiting.news()))
        except KeyboardInterrupt:
            show(["interrupted"])


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
