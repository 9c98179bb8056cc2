"""Recording: what a process of a run records with, once the ranks have met."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from litscope.claims import Claim
from litscope.ledger.upkeep import Upkeep
from litscope.ledger.writer import LedgerWriter
from litscope.live.capture import Capture
from litscope.live.ranks import Ranks
from litscope.rundir import RunDir
from litscope.training.loop.progress import Progress

FLUSH_S = 5.0
"""Seconds of signals that a crash may lose."""


@dataclass
class Recording:
    """The run's folder, opened for writing by one of its processes; complete as long as it exists.

    Attributes:
        run: the run's folder.
        attempt: number of this attempt, the same on every rank.
        claim: to write to the run, the same on every rank.
        ranks: all processes of the run.
        capture: takes what steps say about their samples.
        upkeep: works on scores and parts after each epoch; None without a ledger, and on all ranks but the first.
        progress: what a person sees.
    """

    run: RunDir
    attempt: int
    claim: Claim
    ranks: Ranks
    capture: Capture
    upkeep: Upkeep | None
    progress: Progress

    @classmethod
    def begin(
        cls, claim: Claim, attempt: int, device: torch.device, *, ledger: bool, shows_bar: bool, monitor: str | None
    ) -> Recording:
        """Meet the other ranks and open the ledger. Every rank comes here at the same point, after Lightning's setup.

        Args:
            claim: to the run's folder; that of rank 0 counts.
            attempt: from `attempts.begin_attempt`; that of rank 0 counts.
            device: of the steps' outputs.
            ledger: record signals of every sample.
            shows_bar: draw a progress bar on a terminal.
            monitor: metric that the epoch's line shows.
        """
        ranks = Ranks()
        attempt, token = ranks.first((attempt, claim.token))
        run, claim = claim.run, Claim(claim.run, token)
        is_first = ranks.rank == 0
        writer = LedgerWriter(run, attempt, ranks.rank, guard=claim.check) if ledger else None
        return cls(
            run,
            attempt,
            claim,
            ranks,
            Capture(writer, device, FLUSH_S),
            Upkeep(run, guard=claim.check) if ledger and is_first else None,
            Progress(show=is_first, bar=shows_bar, monitor=monitor),
        )

    @property
    def is_first(self) -> bool:
        """Whether this process prints, and writes all files but the ledger's."""
        return self.ranks.rank == 0

    def close(self, is_over: bool) -> None:
        """Write what is left of the ledger.

        Args:
            is_over: see `Upkeep.close`.

        Raises:
            LedgerError: if it cannot be written.
        """
        self.progress.stop()
        try:
            self.capture.close()
        finally:
            if self.upkeep is not None:
                self.upkeep.close(is_over)
