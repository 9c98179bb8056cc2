"""The last evaluation of each split of a run, read anew only where signals came: three tables are made of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from litscope.ledger.queries import last_evaluation
from litscope.rundir import RunDir
from litscope.studio.samples.shelf import Stamp, stamp
from litscope.studio.samples.turns import large_read
from litscope.studio.samples.values import Ids


@dataclass(frozen=True)
class Evaluation:
    """The labelled visits of one evaluation.

    Attributes:
        sample_id: (n,) int64.
        label, pred: (n,) int32 class indices.
        p_max: (n,) float32, the probability of the prediction.
    """

    sample_id: Ids
    label: NDArray[np.int32]
    pred: NDArray[np.int32]
    p_max: NDArray[np.float32]


class Evaluations:
    """Those of one run.

    Args:
        run: its folder.
    """

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._seen: Stamp | None = None
        self._known: dict[str, Evaluation] = {}

    def of(self, split: str) -> Evaluation:
        """The last one of a split, as `queries.last_evaluation` chooses it.

        Raises:
            RunError: if the split was never recorded.
        """
        with self._lock:
            now = stamp(self._run.signals, self._run.attempts)
            if now != self._seen:
                self._known, self._seen = {}, now
            if split not in self._known:
                with large_read():
                    found = last_evaluation(self._run, split)
                    columns = (found[name].to_numpy() for name in ("sample_id", "label", "pred", "p_max"))
                    self._known[split] = Evaluation(*columns)
            return self._known[split]
