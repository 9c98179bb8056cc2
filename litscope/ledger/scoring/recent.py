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
import pyarrow.parquet as pq

from litscope.errors import LitscopeError, RunError
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import SIGNALS
from litscope.ledger.scoring.tally import RunNow, groups_of
from litscope.ledger.visits import VISIT_SIGNALS, Array, Ints, counted_rows
from litscope.limits import give_back_freed
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
        means: name -> (N,) float32, for each of `RECENT`, by sample_id; NaN where a sample was not visited in these
            epochs, or a signal needs a label and there is none.
    """

    means: dict[str, npt.NDArray[np.float32]]

    def of(self, name: str, ids: Ints) -> npt.NDArray[np.float32]:
        """(n,) float32: one of the means of n samples; NaN where there is none."""
        means, found = self.means[name], np.full(len(ids), np.nan, np.float32)
        is_known = (ids >= 0) & (ids < len(means))
        found[is_known] = means[ids[is_known]]
        return found


def recent(run: RunDir, is_thrifty: bool = False) -> Recent:
    """The means of all samples of a run, which may still be going on.

    Args:
        run: its folder.
        is_thrifty: as of `LedgerReader`.

    Raises:
        LedgerError: if a part cannot be read.
        RunError: if the manifest is missing or damaged.
    """
    now = RunNow(LedgerReader(run, is_thrifty=is_thrifty))
    sums = _Sums(_num_samples(run))
    for epoch in range(now.last_epoch, max(-1, now.last_epoch - LAST_EPOCHS), -1):
        _add_epoch(sums, now, epoch)
    return sums.means()


def _num_samples(run: RunDir) -> int:
    path = run.whole_manifest()
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{run.manifest} is missing or is not a manifest: {error!r}. Is {run.path} complete?") from error


def _add_epoch(sums: _Sums, now: RunNow, epoch: int) -> None:
    """Add the visits of one epoch, in a function of its own: no epoch's rows are held while the next are read."""
    for group in groups_of(now.reader.table(_READ, min_epoch=epoch, max_epoch=epoch)):
        give_back_freed()  # Arrow read in small blocks and made whole columns of them
        sums.add(group.rows, counted_rows(group.rows, group.split == "train", now.pinned, group.at))


class _Sums:
    """Sums over visits of N samples, from the last epoch to earlier ones: the first that is met has the label of now.

    In float32, as of a few numbers of one magnitude.
    """

    def __init__(self, num_samples: int) -> None:
        self._label = np.full(num_samples, -1, np.int32)
        self._num_visits = np.zeros(num_samples, np.uint8)
        self._totals = {name: np.zeros(num_samples, np.float32) for name in RECENT}

    def add(self, rows: Mapping[str, Array], chosen: Ints) -> None:
        """Add one epoch and split: the chosen rows, one for each sample."""
        ids = rows["sample_id"][chosen]
        is_there = ids < len(self._label)
        if not is_there.all():
            ids, chosen = ids[is_there], chosen[is_there]
        label, is_new = rows["label"][chosen], self._num_visits[ids] == 0
        self._label[ids[is_new]] = label[is_new]
        is_of_now = self._label[ids] == label
        if not is_of_now.all():
            ids, chosen = ids[is_of_now], chosen[is_of_now]
        self._num_visits[ids] += 1
        for name, total in self._totals.items():
            total[ids] += rows[name][chosen]

    def means(self) -> Recent:
        """The means, which takes the sums apart."""
        num_visits = self._num_visits.astype(np.float32)
        num_visits[num_visits == 0] = np.nan
        means = {name: np.divide(self._totals.pop(name), num_visits, dtype=np.float32) for name in RECENT}
        for name, mean in means.items():
            if SIGNALS[name].needs_label:
                mean[self._label < 0] = np.nan
        return Recent(means)


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
