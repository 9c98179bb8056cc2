"""What the network thinks of each sample now: means of signals over the last epochs. No torch.

A score adds up all visits of a sample, and so tells how it was learned. These tell where it stands, such as the
probability that the network gives its label. They are read from the signals when somebody asks, which takes a few
epochs' rows and costs a training nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from litscope.errors import LitscopeError
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import SIGNALS
from litscope.ledger.scoring.tally import RunNow, groups_of
from litscope.ledger.visits import VISIT_SIGNALS, Array, Ints, counted_rows
from litscope.rundir import RunDir

LAST_EPOCHS = 5
"""Complete epochs of the run that count."""

RECENT = ("p_label", "p_max", "margin", "entropy")
"""The signals of which there is a mean. (`el2n` is the name of a score; the loss has scores of its own.)"""

P_LABEL_IS = f"p(label) is the probability that the network gives the label, mean over the last {LAST_EPOCHS} epochs."
"""What is said where a person is shown `p_label`."""

_READ = ["sample_id", "step", "epoch", "split", "phase", "label", "pred", *VISIT_SIGNALS, "entropy"]


@dataclass(frozen=True)
class Recent:
    """Means over the counted visits (`visits`) of the last epochs with the label that the sample has now.

    Attributes:
        sample_id: (N,) int64, ascending: the samples that were visited in these epochs; None: those from 0 on.
        means: name -> (N,) float32, for each of `RECENT`; NaN where a signal needs a label and there is none.
    """

    sample_id: Ints | None
    means: dict[str, npt.NDArray[np.float32]]

    def of_all(self, count: int) -> Recent:
        """The same for the samples from 0 to `count`, NaN of those that were not visited; takes these means apart."""
        ids = np.arange(count)
        return Recent(None, {name: self._spread(self.means.pop(name), ids) for name in list(self.means)})

    def of(self, name: str, ids: Ints) -> npt.NDArray[np.float32]:
        """(n,) float32: one of the means of n samples; NaN where there is none."""
        return self.means[name][ids] if self.sample_id is None else self._spread(self.means[name], ids)

    def _spread(self, means: npt.NDArray[np.float32], ids: Ints) -> npt.NDArray[np.float32]:
        assert self.sample_id is not None
        found = np.full(len(ids), np.nan, np.float32)
        if len(self.sample_id):
            at = np.searchsorted(self.sample_id, ids).clip(max=len(self.sample_id) - 1)
            is_known = self.sample_id[at] == ids
            found[is_known] = means[at[is_known]]
        return found


def recent(run: RunDir) -> Recent:
    """The means of all samples of a run, which may still be going on.

    Raises:
        LedgerError: if a part cannot be read.
    """
    now = RunNow(LedgerReader(run))
    sums = _Sums()
    for epoch in range(now.last_epoch, max(-1, now.last_epoch - LAST_EPOCHS), -1):
        _add_epoch(sums, now, epoch)
    return sums.means()


def _add_epoch(sums: _Sums, now: RunNow, epoch: int) -> None:
    """Add the visits of one epoch, in a function of its own: no epoch's rows are held while the next are read."""
    for group in groups_of(now.reader.table(_READ, min_epoch=epoch, max_epoch=epoch)):
        sums.add(group.rows, counted_rows(group.rows, group.split == "train", now.pinned, group.at))


class _Sums:
    """Sums over visits, from the last epoch to earlier ones: so the first visit that is met has the label of now."""

    def __init__(self) -> None:
        self._ids = np.empty(0, np.int64)
        self._label = np.empty(0, np.int32)
        self._num_visits = np.empty(0, np.int32)
        self._totals = {name: np.empty(0, np.float64) for name in RECENT}

    def add(self, rows: Mapping[str, Array], chosen: Ints) -> None:
        """Add one epoch and split: the chosen rows, one for each sample, by ascending id."""
        ids, label = rows["sample_id"][chosen], rows["label"][chosen]
        at = self._admit(ids, label)
        is_of_now = self._label[at] == label
        if not is_of_now.all():
            at, chosen = at[is_of_now], chosen[is_of_now]
        self._num_visits[at] += 1
        for name, total in self._totals.items():
            total[at] += rows[name][chosen]

    def _admit(self, ids: Ints, label: Array) -> Ints:
        """The positions of samples, (n,) ascending ids; those that are new are inserted."""
        at = np.searchsorted(self._ids, ids)
        is_new = np.ones(len(ids), bool)
        inside = at < len(self._ids)
        is_new[inside] = self._ids[at[inside]] != ids[inside]
        if not is_new.any():
            return at
        before = at[is_new]
        self._ids = np.insert(self._ids, before, ids[is_new])
        self._label = np.insert(self._label, before, label[is_new])
        self._num_visits = np.insert(self._num_visits, before, 0)
        for name in self._totals:  # one after the other: of all at once there would be two copies
            self._totals[name] = np.insert(self._totals[name], before, 0.0)
        return np.searchsorted(self._ids, ids)

    def means(self) -> Recent:
        means = {name: (self._totals.pop(name) / self._num_visits).astype(np.float32) for name in RECENT}
        for name, mean in means.items():
            if SIGNALS[name].needs_label:
                mean[self._label < 0] = np.nan
        return Recent(self._ids, means)


class RecentWhenAsked:
    """The means of a run, read when the first one is asked for: columns that cost nothing to a query without them.

    Attributes:
        error: why they cannot be read, once that is known. DuckDB passes on only an exception's text.
    """

    def __init__(self, run: RunDir) -> None:
        self.error: LitscopeError | None = None
        self._run = run
        self._found: Recent | None = None
        self._lock = threading.Lock()

    def column(self, name: str, sample_id: pa.ChunkedArray | pa.Array) -> pa.Array:
        """(n,) float32: the means of n samples, null where there is none. DuckDB calls it in threads of its own."""
        with self._lock:
            if self._found is None:
                try:
                    self._found = recent(self._run)
                except LitscopeError as error:
                    self.error = error
                    raise
        ids = np.asarray(sample_id.to_numpy(zero_copy_only=False), np.int64)
        return pa.array(self._found.of(name, ids), pa.float32(), from_pandas=True)
