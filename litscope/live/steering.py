"""Steering: here people's requests reach a run, between two steps, and are answered.

People append requests to the run's `actions.jsonl` (`ledger.actions`). Rank 0 looks at the file's
size every half second and passes on what is new; every rank applies the same actions after the same
step, and rank 0 writes the answers. What was applied is kept in the checkpoint. When a run goes on
from one, actions that took effect after it are applied again, each at its own step, so that the weights
become what they were. A replay is a run whose journal gives the step of every action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from litscope.claims import Guard, unguarded
from litscope.console import say, warn
from litscope.errors import ConfigError
from litscope.ledger.journal.actions import (
    Action,
    Decisions,
    Journal,
    answer,
    check,
    decide,
    is_answer,
    is_momentary,
    is_request,
    request,
    submit,
)
from litscope.ledger.journal.describe import describe, describe_answer
from litscope.live.ranks import Ranks
from litscope.live.steered import Later, Moment, Steered
from litscope.live.stop_requests import StopRequests
from litscope.rundir import RunDir, read_lines

POLL_S = 0.5
"""How often rank 0 looks at the journal while training, in seconds."""

PAUSED_POLL_S = 0.2
"""How often it does during a pause, in seconds."""


class Steering:
    """Applies actions to a run. Each process has one; `start` comes first.

    Args:
        run: the run's folder.
        guard: asked before an answer is written.

    Attributes:
        is_ending: whether somebody asked to end the run in order.
    """

    def __init__(self, run: RunDir, guard: Guard = unguarded) -> None:
        self.is_ending = False
        self._guard = guard
        self._run = run
        self._journal = Journal(run)
        self._applied: list[Action] = []
        self._decisions = Decisions()
        self._script: list[tuple[int, Action]] = []
        self._inbox: list[Action] = []
        self._queue: list[Action] = []
        self._behind: list[Action] = []
        self._known: set[str] = set()
        self._next_poll = 0.0
        self._has_warned = False
        self._say: Callable[[str], None] = say

    @property
    def num_edits(self) -> int:
        """Edits of validation or test samples so far."""
        return self._live.num_edits

    def start(
        self,
        live: Steered,
        ranks: Ranks,
        stop_requests: StopRequests,
        attempt: int,
        restored: Mapping[str, Any],
        moment: Moment,
        tell: Callable[[str], None] = say,
    ) -> None:
        """Begin to steer the run, and apply what is due before the first step.

        Args:
            live: the training that the actions change.
            ranks: all processes of the run.
            stop_requests: a stop request ends a pause.
            attempt: number of this attempt, for the answers.
            restored: what `state` returned, from a checkpoint; else empty.
            moment: where the run starts.
            tell: prints a line for the person at the run's terminal; rank 0's is called for each answer.
        """
        self._say = tell
        self._live, self._ranks, self._stop_requests, self._attempt = live, ranks, stop_requests, attempt
        self._applied = [dict(action) for action in restored.get("applied", [])]
        self._decisions = decide(self._applied)
        if self._applied:
            self._live.restore(self._decisions, restored["live"])
            if ranks.rank == 0:
                self._inbox = self._asked_otherwise(restored["asked"]["settings"])
            if restored["asked"]["plan"] == live.asked()["plan"]:
                self._live.keep_plan(restored["live"])
        if self._ranks.rank == 0:
            self._take_stock(moment)
        self._script, self._inbox = self._ranks.first((self._script, self._inbox))
        self._work(moment)
        if not moment.batches_done and not moment.is_over:
            self._live.prepare_epoch()

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint, in plain values; empty if nothing was applied. A resumed run is not paused."""
        lasting = [action for action in self._applied if not is_momentary(action)]
        if not lasting:
            return {}
        return {"applied": lasting, "asked": self._live.asked(), "live": self._live.state()}

    # ---- at each step --------------------------------------------------------------------------

    def has_news(self) -> bool:
        """Whether requests are waiting. Looks at the file every half second; always False on other ranks."""
        now = time.monotonic()
        if now >= self._next_poll and self._ranks.rank == 0:
            self._next_poll = now + POLL_S
            self._look()
        return bool(self._inbox)

    def is_scripted(self, step: int) -> bool:
        """Whether an action is due after `step` steps, on every rank alike."""
        return bool(self._script) and self._script[0][0] <= step

    def next_scripted(self) -> int | None:
        """The step after which the next action is due, if one is known beforehand."""
        return self._script[0][0] if self._script else None

    def take(self, moment: Moment) -> float:
        """Apply what is due and what is new, and wait out a pause. Every rank comes here at the same moment.

        Returns:
            Seconds of the pause.
        """
        self._look()
        self._inbox = self._ranks.first(self._inbox)
        self._work(moment)
        return self._wait(moment)

    def prepare_epoch(self) -> None:
        """Called before an epoch starts."""
        self._live.prepare_epoch()

    def epoch_starts(self) -> None:
        """Called when an epoch starts and has its loader."""
        self._live.epoch_starts()

    # ---- what is to be done --------------------------------------------------------------------

    def _take_stock(self, moment: Moment) -> None:
        """Sort the present journal: done before the checkpoint, due at a step, new."""
        lines = self._journal.poll()
        answers = {line["answers"]: line for line in lines if is_answer(line)}
        requests = [line for line in lines if is_request(line)]
        self._known = {line["id"] for line in requests}
        new = {action["id"] for action in self._inbox}
        done = {action["id"] for action in self._applied}
        for action in self._applied:
            if action["id"] not in answers:  # this run starts from another one's checkpoint
                if action["id"] not in self._known:
                    submit(self._run, action)
                self._answer(action, moment, "applied", {"note": "before this run, in the checkpoint it starts from"})
        began = max((line["started_at"] for line in read_lines(self._run.attempts)), default=0.0)
        for action in requests:
            before = answers.get(action["id"])
            if action["id"] in done | new or (before and (before["status"] == "refused" or is_momentary(action))):
                continue
            if is_momentary(action) and "at_step" not in action and _asked_at(action) < began:
                self._answer(action, moment, "refused", {"reason": "no process trained the run when it was asked"})
                continue
            step = before["step"] if before else action.get("at_step")
            if step is None:
                self._inbox.append(action)
            else:
                self._script.append((step, action))
        self._script.sort(key=lambda due: due[0])  # stable: of one step, in the journal's order

    def _asked_otherwise(self, then: Mapping[str, Any]) -> list[Action]:
        """Settings that the person who resumes gave another value: that is an action like any other, and the last."""
        now = self._live.asked()["settings"]
        changed = {name: value for name, value in now.items() if value != then[name] and value is not None}
        if not changed:
            return []
        action = request("set", why="given when the run was resumed", settings=changed)
        submit(self._run, action)
        return [action]

    def _look(self) -> None:
        if self._ranks.rank:
            return
        try:
            lines = self._journal.poll()
        except OSError as error:  # a network share that is gone for a moment must not end the training
            if not self._has_warned:
                self._has_warned = True
                warn(f"the journal cannot be read, so no action arrives for now: {error}")
            return
        for line in lines:
            if is_request(line) and line["id"] not in self._known:
                self._known.add(line["id"])
                self._inbox.append(line)

    def _wait(self, moment: Moment) -> float:
        """Wait out a pause: memory stays, and actions are applied meanwhile. A stop request ends it."""
        began = time.monotonic()
        is_pausing = self._decisions.is_paused and not self.is_ending
        if is_pausing and self._ranks.rank == 0:
            self._say(f"paused; to go on: litscope resume {self._run.path}")
        while self._decisions.is_paused and not self.is_ending:
            if self._ranks.any(self._stop_requests.requested is not None)[0]:
                break
            time.sleep(PAUSED_POLL_S)
            self._look()
            self._inbox = self._ranks.first(self._inbox)
            self._work(moment)
        paused_s = time.monotonic() - began
        if is_pausing and self._ranks.rank == 0:
            self._say(f"the pause is over after {paused_s:.0f} s")
        return paused_s

    # ---- doing it ------------------------------------------------------------------------------

    def _work(self, moment: Moment) -> None:
        """Apply what is due and what has come in, in the journal's order.

        What has a step of its own was asked for before everything that is new, so what is new and lasting waits
        until it is done (only after a crash, for the seconds since the last checkpoint). A request that means this
        moment does not wait.
        """
        new, self._inbox = self._inbox, []
        due = [action for at, action in self._script if at <= moment.step]
        self._script = self._script[len(due) :]
        self._queue += due
        if not self._script:
            self._queue, self._behind = self._queue + self._behind, []
        self._drain(moment)
        for action in new:
            if is_momentary(action):
                self._handle(action, moment)
            elif self._script:
                self._behind.append(action)
            else:
                self._queue.append(action)
                self._drain(moment)

    def _drain(self, moment: Moment) -> None:
        while self._queue and self._handle(self._queue[0], moment):
            self._queue.pop(0)

    def _handle(self, action: Action, moment: Moment) -> bool:
        """Apply and answer one action. False if it has to wait, and all later ones with it."""
        try:
            facts = self._apply(action, moment)
        except Later:
            return False
        except ConfigError as refusal:
            self._answer(action, moment, "refused", {"reason": str(refusal)})
        else:
            self._answer(action, moment, "applied", facts)
        return True

    def _answer(self, action: Action, moment: Moment, status: Any, facts: Mapping[str, Any]) -> None:
        if self._ranks.rank == 0:
            self._guard()
            place = {"step": moment.step, "epoch": moment.epoch, "attempt": self._attempt}
            answer(self._run, action["id"], status, **place, **facts)
            if not action.get("canary"):
                first, *more = describe_answer({"status": status, **place, **facts})
                self._say(f"{action.get('who', 'somebody')}: {describe(action)}: {first}")
                for line in more:
                    self._say(line)

    def _apply(self, action: Action, moment: Moment) -> dict[str, Any]:
        check(action)
        match action["what"]:
            case "checkpoint":
                return {"path": self._live.save_copy(moment)}
            case "evaluate":
                return {"metrics": self._live.evaluate_now(self._samples_to_evaluate(action), moment)}
            case "stop":
                self.is_ending = True
                return {}
            case "undo":
                self._check_undo(action)
        wanted = decide([*self._applied, action])
        notes = self._live.follow(wanted, moment, self._ranks.world_size)
        self._applied.append(action)
        self._decisions = wanted
        return {"note": "; ".join(notes)} if notes else {}

    def _check_undo(self, action: Action) -> None:
        if action["action"] not in {applied["id"] for applied in self._applied}:
            raise ConfigError(f"No action {action['action']} is in force here that could be undone.")

    def _samples_to_evaluate(self, action: Action) -> Any:
        if "split" in action:
            ids = self._live.ids_of(action["split"])
            if not len(ids):
                raise ConfigError(f"The run has no samples of split {action['split']}.")
            return ids
        tagged = self._decisions.tags.get(action["tag"], set())
        ids = self._live.readable(np.array([i for i in tagged if i < self._live.num_samples], np.int64))
        if not len(ids):
            raise ConfigError(f"No sample that can be evaluated has the tag {action['tag']!r}.")
        return ids


def _asked_at(action: Action) -> float:
    """When it was asked for, by the clock of the person who asked; 0 if a foreign line does not say."""
    when = action.get("when")
    return float(when) if isinstance(when, int | float) else 0.0
