"""A run that has to make room: it stops where it can go on, and its batch job waits in the queue again. No torch.

A scheduler says so by SIGTERM or by the signal of `--signal`. Of a job that may be requeued, the next start finds the
run of the start before it (`requeued`) and goes on with it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from litscope.batch_job import this_job
from litscope.console import say
from litscope.errors import Interrupted, Preempted
from litscope.launch.requeue import Requeued, requeue
from litscope.live.stop_requests import PREEMPTION, preemption_signal


class Preemption:
    """Ends a run that is asked to stop.

    Args:
        name: the signal by which a scheduler wants the machine back, beside SIGTERM ("USR1").
        requeues: put the batch job, if this is one, back into the queue.
    """

    def __init__(self, name: str = PREEMPTION, requeues: bool = False) -> None:
        self._number = preemption_signal(name)
        self._job = this_job() if requeues else None

    def ended(self, number: int, where: str, has_trained: bool = True) -> Interrupted:
        """What ends the run; the job is requeued where that is due.

        Args:
            number: of the signal that asked for it.
            where: "at step 5; last.ckpt is written".
            has_trained: as `launch.requeue.requeue`.
        """
        back = Requeued(False, "")
        if self._job is not None and number in (signal.SIGTERM, self._number):
            say(
                f"stopped {where}; asking whether job {self._job.id} may go back into the queue"
            )  # it may be ended then
            back = requeue(self._job, has_trained)
        words = f" {back.words}" if back.words else ""
        if back.is_done or number == self._number != signal.SIGTERM:
            return Preempted(f"Preempted ({signal.Signals(number).name}) {where}.{words}", is_requeued=back.is_done)
        return Interrupted(f"Interrupted {where}.{words}")

    @contextmanager
    def before_training(self) -> Iterator[None]:
        """Inside, where a signal raises `KeyboardInterrupt`, one that is a scheduler's ends the run as it would later.

        Raises:
            Preempted: if it is.
        """
        try:
            yield
        except KeyboardInterrupt as stop:
            number = signal.Signals.__members__.get(str(stop), signal.SIGINT)  # Python's own says nothing
            where = "before the first step; nothing was trained in this start"
            if number == signal.SIGINT or not isinstance(ended := self.ended(number, where, False), Preempted):
                raise
            raise ended from None
