"""Guards: blocks that say whether a batch trains or is only evaluated."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from litscope.watch.place import Place
from litscope.watch.wrapped.watched import current


class _Guard(AbstractContextManager["_Guard"]):
    """Says which phase the batches inside belong to; changes no mode, no gradient, and swallows no exception.

    Used as it is, or called: `with guard_training_context:` and `with guard_training_context():` are the same.
    """

    def __init__(self, phase: str) -> None:
        self._phase = phase
        self._before: list[tuple[Place, str, str]] = []

    def __call__(self, *_: Any, **__: Any) -> _Guard:
        """Return the guard itself, for code that calls it."""
        return self

    def __enter__(self) -> _Guard:
        session = current().session
        place = session.place
        self._before.append((place, place.split, place.phase))
        place.split, place.phase = ("train" if self._phase == "train" else session.evaluated_split), self._phase
        return self

    def __exit__(self, *_: object) -> None:
        place, split, phase = self._before.pop()  # the run may have ended inside
        place.split, place.phase = split, phase


guard_training_context = _Guard("train")
guard_testing_context = _Guard("eval")
