"""The runs that are open, each with its samples as they are now: read anew only where a file of it changed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np

from litscope.rundir import RunDir
from litscope.runs import is_training
from litscope.studio.samples.scored import Scored, read_scored
from litscope.studio.samples.table import Base, Decided, Samples, read_base, read_decided

MOST_OPEN = 4
"""Runs whose samples are kept; of more, those that were asked for longest ago go."""

Stamp = tuple[int, ...]


def stamp(*paths: Path) -> Stamp:
    """What changes whenever one of the files does: inodes, sizes, times; zeros for what is not there."""
    found: list[int] = []
    for path in paths:
        try:
            facts = path.stat()
            found += [facts.st_ino, facts.st_size, facts.st_mtime_ns]
        except OSError:
            found += [0, 0, 0]
    return tuple(found)


class _Stamps(NamedTuple):
    base: Stamp
    scored: Stamp
    decided: Stamp
    others: Stamp


def _stamps(run: RunDir) -> _Stamps:
    is_kept_by_trainer = run.score_table.exists() and is_training(run)
    scored = (run.score_table,) if is_kept_by_trainer else (run.epoch_metrics, run.attempts, run.summary)
    measured = (run.uncertainties, run.best_checkpoint) if run.uncertainties.exists() else ()  # it may be outdated
    return _Stamps(
        stamp(run.manifest),
        stamp(*scored),  # while it trains, the trainer computes them: not twice on one machine
        stamp(run.actions, run.attempts),
        stamp(run.neighbours, run.custom, *measured),
    )


class _Open:
    """One run that is open."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stamps: _Stamps | None = None
        self.samples: Samples | None = None


class Shelf:
    """Keeps the samples of a few runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, _Open] = OrderedDict()

    def samples(self, run: RunDir) -> Samples:
        """The samples of a run as they are now.

        Raises:
            RunError: if it has no whole manifest.
        """
        with self._lock:
            kept = self._open.setdefault(run.path, _Open())
            self._open.move_to_end(run.path)
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        with kept.lock:
            now = _stamps(run)
            if kept.samples is None or now != kept.stamps:
                kept.samples, kept.stamps = _renewed(run, kept.samples, kept.stamps, now), now
            return kept.samples


def _renewed(run: RunDir, before: Samples | None, then: _Stamps | None, now: _Stamps) -> Samples:
    """The samples anew, with those parts of before whose files are the same."""
    old = before if before is not None and then is not None and now.base == then.base else None
    base: Base = old.base if old else read_base(run)
    is_same = old is not None and then is not None and now.scored == then.scored
    scored: Scored = old.scored if old is not None and is_same else read_scored(run, base.label, len(base.classes))
    is_decided = old is not None and then is not None and now.decided == then.decided
    decided: Decided = old.decided if old is not None and is_decided else read_decided(run, base.count)
    renewed = Samples(run, 1 + (before.revision if before else 0), base, scored, decided)
    is_as_recent = is_same and then is not None and now.decided[3:] == then.decided[3:]  # no later attempt
    if old is not None and is_as_recent and np.array_equal(old.decided.canaries, decided.canaries):
        renewed.take_recent(old)
    return renewed
