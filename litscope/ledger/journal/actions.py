"""The journal of actions: what people asked of a run, and what became of it. No torch.

`actions.jsonl` is append-only. Commands and the page append *requests* (`submit`); the trainer polls
the file (`Journal`), applies what is new at its next step and appends *answers* (`answer`). The state
of a run's data and settings is a fold over the actions in the order of the file (`decide`), whatever
the clocks of their writers say. Replaying the same lines gives the same state, on every rank.

    {"id": "0c1d…", "who": "ada@lab", "when": 1764110000.0, "what": "discard", "why": "blurred", "sample_id": [7], …}
    {"answers": "0c1d…", "status": "applied", "step": 120, "epoch": 3, "attempt": 1, "when": …}

An answer is void if a later attempt of the run went on from before its step: those weights, and what
was done to them, are gone, and the action is pending again, unless it was addressed to the process that
trained then (`is_momentary`). A half-written line is skipped. A line that no reader could hold (`jsonlines`) is
refused, whoever reads it. Verbs of a newer version are kept and listed, but never counted.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from litscope.attempts import cut_steps
from litscope.errors import LedgerError, RunError
from litscope.jsonlines import UNUSABLE, parse_line
from litscope.ledger.journal.decisions import Action, Decisions, decide, is_valid, once, planted, undone
from litscope.ledger.journal.verbs import CANARY_KINDS, SETTINGS, VERBS, Verb, check, is_momentary, request, this_user
from litscope.rundir import RunDir, append_line, every_line, read_lines

__all__ = [
    "CANARY_KINDS",
    "SETTINGS",
    "VERBS",
    "Action",
    "Decisions",
    "Entry",
    "Journal",
    "Verb",
    "answer",
    "canaries",
    "canary_kinds",
    "check",
    "decide",
    "decisions",
    "entries",
    "is_answer",
    "is_momentary",
    "is_request",
    "planted",
    "request",
    "submit",
    "this_user",
    "undone",
    "wait_for_answer",
]

Status = Literal["pending", "applied", "refused", "undone"]

POLL_S = 0.1
"""Seconds between two looks of `wait_for_answer`."""

FAILING_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors that are not the writer's mistake, unlike a folder without write permission."""


def submit(run: RunDir, action: Action) -> None:
    """Write a request into the journal; it is on the disk when this returns.

    Raises:
        LedgerError: if the disk is full or fails. Nothing is recorded then, and nothing is lost.
        RunError: if the journal cannot be written for another reason, such as permissions.
    """
    _append(run, action, durable=True)


def answer(
    run: RunDir,
    action_id: str,
    status: Literal["applied", "refused"],
    *,
    step: int,
    epoch: int,
    attempt: int,
    **facts: Any,
) -> None:
    """Write the answer to a request. Only the trainer's rank 0 does this.

    Args:
        run: the run.
        action_id: the request's `id`.
        status: "applied" or "refused".
        step: optimizer steps completed when it took effect.
        epoch: the epoch then, from 0.
        attempt: the run's attempt, as numbered by `begin_attempt`.
        facts: `reason` (of a refusal), `note`, and results such as `metrics` or `path`.

    Raises:
        LedgerError, RunError: as `submit`.
    """
    line = {"answers": action_id, "status": status, "step": step, "epoch": epoch, "attempt": attempt}
    _append(run, {**line, "when": round(time.time(), 3), **facts}, durable=False)


def _append(run: RunDir, line: Action, durable: bool) -> None:
    try:
        append_line(run.actions, line, durable)
    except OSError as error:
        kind = LedgerError if error.errno in FAILING_DISK else RunError
        raise kind(
            f"The journal {run.actions} cannot be written: {error.strerror}. Nothing was recorded; mend it and repeat."
        ) from error


class Journal:
    """Reads a run's journal as it grows.

    A line is returned once, even if the file was cut or replaced meanwhile. Nothing is locked.
    """

    def __init__(self, run: RunDir) -> None:
        self._path = run.actions
        self._state = (0, 0, 0)  # inode, size, time of the last change
        self._offset = 0
        self._before = b""  # the last bytes before the offset: if they change, it is another file
        self._given: set[int] = set()  # hashes: a line may hold many thousand ids

    def poll(self) -> list[Action]:
        """The complete lines that are new since the last call: requests and answers, in order.

        Costs one `stat` when nothing is new. An unfinished last line waits for a later call.
        """
        try:
            now = self._path.stat()
            state = (now.st_ino, now.st_size, now.st_mtime_ns)
            if state == self._state:
                return []
            text = self._read()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # not there yet, or being replaced
                return []
            raise
        self._state = state
        return list(self._new_lines(text))

    def _new_lines(self, text: bytes) -> Iterator[Action]:
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        self._before = (self._before + whole)[-64:]
        for raw in whole.split(b"\n"):
            if hash(raw) in self._given:
                continue
            self._given.add(hash(raw))
            line = parse_line(raw)
            if line is not None and (is_request(line) or is_answer(line)):
                yield line

    def _read(self) -> bytes:
        """What follows the offset, or the whole file if it was cut or replaced."""
        with self._path.open("rb") as file:
            file.seek(self._offset - len(self._before))
            if file.read(len(self._before)) != self._before:
                self._offset, self._before = file.seek(0), b""
            return file.read()


def wait_for_answer(run: RunDir, action_id: str, wait_s: float) -> Action | None:
    """The answer to a request, or None if none comes within `wait_s` seconds."""
    journal = Journal(run)
    end = time.monotonic() + wait_s
    while True:
        for line in journal.poll():
            if line.get("answers") == action_id:
                return line
        left = end - time.monotonic()
        if left <= 0:
            return None
        time.sleep(min(POLL_S, left))


def is_request(line: Any) -> bool:
    """Whether a line of the journal is a request, whether its verb is known or not."""
    return isinstance(line, dict) and isinstance(line.get("id"), str) and isinstance(line.get("what"), str)


def is_answer(line: Any) -> bool:
    """Whether a line of the journal is the answer to a request."""
    return (
        isinstance(line, dict)
        and UNUSABLE not in line
        and isinstance(line.get("answers"), str)
        and line.get("status") in ("applied", "refused")
        and all(isinstance(line.get(name), int) for name in ("step", "epoch", "attempt"))
    )


@dataclass(frozen=True)
class Entry:
    """A request and its answer.

    Attributes:
        action: the request; of one that cannot be used, its head and why.
        answer: the trainer's last answer that is not void, or None.
        status: pending, applied, refused (by the trainer, or because it cannot be used), or undone by a later action
            that was not refused.
    """

    action: Action
    answer: Action | None
    status: Status


def entries(run: RunDir) -> list[Entry]:
    """The requests of a run in the journal's order, each id once, with their answers that are not void."""
    lines = every_line(run.actions)
    actions = once(line for line in lines if is_request(line))
    cuts = cut_steps(read_lines(run.attempts))
    answers: dict[str, Action] = {}
    for line in lines:
        if is_answer(line) and line["answers"] in actions:
            cut = cuts.get(line["attempt"])
            if cut is None or line["step"] <= cut or is_momentary(actions[line["answers"]]):
                answers[line["answers"]] = line
    gone = undone(a for a in actions.values() if not _is_refused(a, answers.get(a["id"])))
    return [Entry(a, answers.get(i), _status(a, answers.get(i), i in gone)) for i, a in actions.items()]


def _is_refused(action: Action, line: Action | None) -> bool:
    return UNUSABLE in action or (line is not None and line["status"] == "refused")


def _status(action: Action, line: Action | None, is_undone: bool) -> Status:
    if _is_refused(action, line):
        return "refused"
    if is_undone:
        return "undone"
    return "pending" if line is None else "applied"


def decisions(run: RunDir, *, with_pending: bool = True) -> Decisions:
    """What the actions of a run add up to, without refused ones and without canaries.

    Args:
        run: the run.
        with_pending: also count requests that no trainer has answered yet.
    """
    last = max(cut_steps(read_lines(run.attempts)), default=0)
    return decide(entry.action for entry in entries(run) if _counts(entry, with_pending, last))


def _counts(entry: Entry, with_pending: bool, last_attempt: int) -> bool:
    if entry.action.get("canary"):
        return False
    if entry.answer is None:
        return with_pending
    is_over = is_momentary(entry.action) and entry.answer["attempt"] < last_attempt  # a run that goes on is not paused
    return entry.answer["status"] == "applied" and not is_over


def canaries(run: RunDir) -> dict[int, str]:
    """sample_id -> the wrong class that was planted to measure the ranking, even if it has been removed since."""
    return {sample_id: name for action in _planting(run) for sample_id, name in planted(action).items()}


def canary_kinds(run: RunDir) -> dict[int, str]:
    """sample_id -> one of `CANARY_KINDS`, for each of `canaries`. In older journals all are of classes."""
    kinds: dict[int, str] = {}
    for action in _planting(run):
        ids = action["sample_id"]
        kinds |= zip(ids, action.get("drawn_from", ["classes"] * len(ids)), strict=True)
    return kinds


def _planting(run: RunDir) -> list[Action]:
    """The actions that planted canaries, and were applied."""
    return [
        entry.action
        for entry in entries(run)
        if entry.action.get("canary") and entry.answer is not None and entry.answer["status"] == "applied"
        if entry.action["what"] == "relabel" and is_valid(entry.action)
    ]
