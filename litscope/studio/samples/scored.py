"""The scores of a run's samples in memory: what is shown and filtered by, and the table that the review ranks by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from litscope.errors import LitscopeError
from litscope.ledger.scoring.score_schema import SCORES
from litscope.ledger.scoring.scorekeeper import Clock, Scores, refresh
from litscope.ledger.suspects import SCORES_READ
from litscope.rundir import RunDir
from litscope.studio.samples.turns import large_read
from litscope.studio.samples.values import Words

_CLASSES = ("label", "last_pred", "believed_label")


@dataclass(frozen=True)
class Scored:
    """What the visits of the samples add up to.

    Attributes:
        scores: name -> (N,) float32, NaN where there is none; empty where the run has no scores.
        classes: label (that the scores are about), last_pred and believed_label -> (N,) int32 class indices, negative
            where there is none; empty likewise.
        clock: the memorisation clock; None without scores.
        num_wrong: split -> how many labels look wrong in it, as `scorekeeper.Scores` has them.
        problem: why there are no scores, where something is wrong.
    """

    scores: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    classes: dict[str, NDArray[np.int32]] = field(default_factory=dict)
    clock: Clock | None = None
    num_wrong: dict[str, tuple[int, int]] = field(default_factory=dict)
    problem: str | None = None

    def of_class(self, name: str, count: int) -> NDArray[np.int32]:
        """(N,) one of `classes`; -1 everywhere in a run without scores."""
        return self.classes[name] if name in self.classes else np.full(count, -1, np.int32)

    def table(self, split: Words) -> Scores | None:
        """The scores as `suspects` reads them, of the samples that were visited; None in a run without scores.

        Args:
            split: (N,) of the samples.
        """
        if self.clock is None:
            return None
        codes = pa.array(split.codes, mask=~split.known)
        columns = {
            "sample_id": pa.array(np.arange(len(split.codes))),
            "split": pa.DictionaryArray.from_arrays(codes, pa.array(split.names, pa.string())),
            **{name: pa.array(self.classes[name]) for name in ("label", "believed_label")},
            **{name: pa.array(self.scores[name], from_pandas=True) for name in SCORES_READ if name in self.scores},
        }
        is_visited = ~np.isnan(self.scores["num_visits"])
        table = pa.table(columns)
        return Scores(table if is_visited.all() else table.filter(is_visited), self.clock, self.num_wrong)


def read_scored(run: RunDir, label: NDArray[np.int32], num_classes: int) -> Scored:
    """Read, or compute, the scores of a run; what cannot be read is a problem to be told.

    Args:
        run: its folder.
        label: (N,) of the manifest, which is kept only once where no sample was learned with another.
        num_classes: how many there are.
    """
    try:
        with large_read():
            table, clock, num_wrong = refresh(run)
            if not table.num_rows:
                return Scored()
            ids = table["sample_id"].to_numpy()
            scores, classes = {}, {}
            for name in ("num_visits", "label", *SCORES):
                column = table[name]
                if name in _CLASSES:
                    codes = np.full(len(label), -1, np.int32)
                    codes[ids] = column.fill_null(-1).to_numpy()
                    codes[codes >= num_classes] = -1
                    classes[name] = label if np.array_equal(codes, label) else codes
                    continue
                values = np.full(len(label), np.nan, np.float32)
                values[ids] = column.cast(pa.float32()).to_numpy(zero_copy_only=False)
                scores[name] = values
        return Scored(scores, classes, clock, num_wrong)
    except (LitscopeError, IndexError) as error:
        return Scored(problem=f"There are no scores: {error}")
