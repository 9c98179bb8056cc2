"""WatchedLoader: the DataLoader that comes back for a data set. It may be iterated, or asked for batch after batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from litscope.console import say
from litscope.watch.samplers import Loader
from litscope.watch.samples.ids import WithIds
from litscope.watch.samples.nesting import Ids

MOST_DRY_PASSES = 1000
"""Passes without a batch that a loop may make after the run's end: more than the epochs that scripts have left."""


class WatchedData(WithIds):
    """A data set whose items carry their id in the second place."""

    @property
    def unique_ids(self) -> Ids:
        """(N,) int64, the `sample_id` of each item."""
        return self.ids()


class WatchedLoader(Loader):
    """A loader that is also an iterator without an end.

    `for batch in loader` is one pass over the data set, each time anew. `next(loader)` goes on where the last `next`
    was, and begins another pass at the end of one. Either way a pass over training data is an epoch.
    """

    _batches: Iterator[Any] | None = None
    _num_dry_passes = 0

    @property
    def wrapped_dataset(self) -> WatchedData:
        """The data set with its ids."""
        assert isinstance(self.dataset, WatchedData), "a watched loader is made of such data"
        return self.dataset

    tracked_dataset = wrapped_dataset

    def __iter__(self) -> Any:
        """A pass. Once somebody asked to end the run, passes over training data have no batches.

        Raises:
            SystemExit: after very many of those: a loop of passes for ever has no other end. The run is closed before.
        """
        if self.wrapped_dataset.is_over:
            self._num_dry_passes += 1
            if self._num_dry_passes == 2:
                say("litscope: somebody asked to end the run: loaders have no more batches, until the loop is done")
            if self._num_dry_passes > MOST_DRY_PASSES:
                _leave()
        return super().__iter__()

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            StopIteration: if there is no batch at all.
            SystemExit: once somebody asked to end the run (`litscope stop`): a loop that asks for batches for ever has
                no other end. The run is closed before.
        """
        if self._batches is not None:
            try:
                return next(self._batches)
            except StopIteration:
                self._batches = None
        self._batches = iter(self)
        try:
            return next(self._batches)
        except StopIteration:
            self._batches = None
            if self.wrapped_dataset.is_over:
                _leave()
            raise


def _leave() -> NoReturn:
    """End the run in order, and the script, because its loop does not."""
    from litscope.watch.wrapped.watched import end

    say("litscope: somebody asked to end the run, so the script ends here")
    end()
    raise SystemExit(0)
