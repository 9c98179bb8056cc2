"""A run that has to make room: it stops where it can go on, and its batch job waits in the queue again. No torch.

A scheduler says so by SIGTERM or by the signal of `--signal`. Of a job that may be requeued, the next start finds the
run of the start before it (`requeued`) and goes on with it. A run that has lost a machine ends as it is, and its job
goes back for other machines. Where start after start comes no further, the job is left to its user.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from litscope.batch_job import BatchJob, this_job
from litscope.config.recipe import Recipe
from litscope.config.resume import asked_folder, asked_for
from litscope.console import say
from litscope.errors import Interrupted, LitscopeError, Preempted, RunError
from litscope.launch.requeue import Requeued, requeue
from litscope.live.stop_requests import PREEMPTION, preemption_signal
from litscope.rundir import RunDir, append_line, read_lines
from litscope.runs import RUNS

MOST_FRUITLESS = 3
"""So many starts of a job in a row may come no further than they began; the last of them is not requeued."""


class Preemption:
    """Ends a run that is asked to stop, or that has lost a machine.

    Args:
        name: the signal by which a scheduler wants the machine back, beside SIGTERM ("USR1").
        requeues: put the batch job, if this is one, back into the queue.
        run: where it is kept which starts came no further; None: not known yet.

    Attributes:
        run: the same.
    """

    def __init__(self, name: str = PREEMPTION, requeues: bool = False, run: RunDir | None = None) -> None:
        self.run = run
        self._number = preemption_signal(name)
        self._job = this_job() if requeues else None

    def ended(self, number: int, where: str, step: int | None) -> Interrupted:
        """What ends the run; the job is requeued where that is due.

        Args:
            number: of the signal that asked for it.
            where: "at step 5; last.ckpt is written".
            step: that the run has come to; None before training.
        """
        back = Requeued(False, "")
        if self._job is not None and number in (signal.SIGTERM, self._number):
            say(
                f"stopped {where}; asking whether job {self._job.id} may go back into the queue"
            )  # it may be ended then
            came_further = step is not None and self.run is not None and step > _start_of(self.run)["start_step"]
            if (why_not := self._why_it_is_left(self._job, came_further)) is not None:
                return Interrupted(f"Interrupted {where}. {why_not}")
            back = requeue(self._job, has_trained=step is not None)
        words = f" {back.words}" if back.words else ""
        if back.is_done or number == self._number != signal.SIGTERM:
            return Preempted(f"Preempted ({signal.Signals(number).name}) {where}.{words}", is_requeued=back.is_done)
        return Interrupted(f"Interrupted {where}.{words}")

    def lost(self, checkpoint: Path) -> int:
        """Another machine of the run is gone, and this process ends: its job goes back into the queue, if it may.

        Args:
            checkpoint: from which the next start goes on; it need not be there.

        Returns:
            The exit code of this process.
        """
        if self._job is None or self.run is None:
            return LitscopeError.exit_code
        has_saved = checkpoint.exists() and checkpoint.stat().st_mtime > _start_of(self.run)["started_at"]
        if (why_not := self._why_it_is_left(self._job, has_saved)) is not None:
            say(why_not)
            return LitscopeError.exit_code
        say(f"asking whether job {self._job.id} may go back into the queue, for another machine")
        say(requeue(self._job).words)
        return Preempted.exit_code

    @contextmanager
    def before_training(self) -> Iterator[None]:
        """Inside, where a signal raises `KeyboardInterrupt`, one that is a scheduler's ends the run as it would later.

        Raises:
            Preempted, Interrupted: if it is; as `ended`.
        """
        try:
            yield
        except KeyboardInterrupt as stop:
            number = signal.Signals.__members__.get(str(stop), signal.SIGINT)  # Python's own says nothing
            where = "before the first step; nothing was trained in this start"
            if number == signal.SIGINT:
                raise
            ended = self.ended(number, where, None)
            if self._job is None and not isinstance(ended, Preempted):
                raise
            raise ended from None  # it says what becomes of the job

    def _why_it_is_left(self, job: BatchJob, came_further: bool) -> str | None:
        """Why another start of the job would be in vain; None if it may help. What this one came to is kept."""
        if came_further or self.run is None:
            return None
        count = _add_fruitless(self.run, job)
        if count < MOST_FRUITLESS:
            return None
        return (
            f"Job {job.id} is not requeued: {count} starts in a row came no further, so another one would not either. "
            "Give it more time before it is told to end, or a checkpoint more often (--checkpoint-every)."
        )


def counted_in(recipe: Recipe) -> RunDir:
    """Where it is kept which starts came no further before the folder of the run is known: there, or in runs/."""
    folder = asked_folder(recipe)
    if folder is None and recipe.training.resume is not None:
        try:
            folder = asked_for(recipe.training.resume)[1]
        except RunError:  # which the run will tell
            folder = None
    return RunDir(folder or RUNS)


def _start_of(run: RunDir) -> dict[str, float]:
    """The line of this start of a run that has begun."""
    return read_lines(run.attempts)[-1]


def _add_fruitless(run: RunDir, job: BatchJob) -> int:
    """Note that this start of a job came no further; how many in a row have not, with this one."""
    run.path.mkdir(parents=True, exist_ok=True)
    append_line(run.fruitless, {"job": job.id, "restart": job.num_restarts, "at": time.time()}, durable=True)
    restarts = {line["restart"] for line in read_lines(run.fruitless) if line["job"] == job.id}
    count = 1
    while job.num_restarts - count in restarts:
        count += 1
    return count
