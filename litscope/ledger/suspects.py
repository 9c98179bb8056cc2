"""Suspected label errors of a run: the queue that a person reviews. No torch.

The ranking is the score `suspicion` (`score_schema`). Canaries never appear. Samples on which a person
has decided, and discarded ones, are done and leave the queue; a relabelled sample is judged by its
new label as soon as it has been seen with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from litscope.errors import ConfigError, RunError, did_you_mean
from litscope.ledger.journal.actions import canaries
from litscope.ledger.queries import classes, why_nothing
from litscope.ledger.scoring.recall import Floats
from litscope.ledger.scoring.recent import P_LABEL_IS, Recent, recent
from litscope.ledger.scoring.score_schema import SCORE_SCHEMA, SUSPICION_IS
from litscope.ledger.scoring.scorekeeper import Clock, Scores, refresh
from litscope.ledger.scoring.trust import Trust, clock_sentence, is_of_split, measure, verdicts
from litscope.ledger.tables import decided_table
from litscope.ledger.views import ask
from litscope.ledger.visits import Ints
from litscope.rundir import RunDir
from litscope.runs import is_training, what_goes_on

SCORES_READ = [
    "sample_id", "split", "label", "believed_label", "num_visits", "aum", "el2n", "first_learned_epoch", "suspicion"
]  # fmt: skip
"""The columns of the scores that a queue is made of."""

_SCHEMA = pa.schema([SCORE_SCHEMA.field(name) for name in SCORES_READ])

Trajectory = list[float | None]
"""Mean p_label of some epochs; None where the sample was not seen."""


@dataclass
class Suspects:
    """The queue of one split.

    Attributes:
        run: the run's folder.
        split: train, val, test.
        table: one row per sample, most suspicious first: rank (from 1), sample_id, key, label, label_name,
            believed_label, believed_name, suspicion, p_label (`recent`), aum, el2n, first_learned_epoch, num_visits,
            status (discarded, relabelled, tagged or null), tags, recall_low and recall_high (`recall.Recall`; null:
            not known).
        queue: (N,) suspicion of all samples in the queue, descending.
        trust: what is known about the ranking.
        clock: the memorisation clock.
        is_training: whether a process trains the run now; None: it was started on another machine.
    """

    run: Path
    split: str
    table: pa.Table
    queue: Floats
    trust: Trust
    clock: Clock
    is_training: bool | None

    @property
    def num_ranked(self) -> int:
        """Number of samples in the whole queue."""
        return len(self.queue)

    @property
    def warning(self) -> str | None:
        """Why this order is not to be decided by yet; None: the network has learned what it can be judged by."""
        if not self.clock.is_learning:
            return None
        what = "look again when more epochs are complete"
        if self.is_training is False:
            what = f"train longer ({what_goes_on(RunDir(self.run)).rstrip(',')} with more epochs), and look again"
        return (
            "the network is still learning, so many samples stand high only because they are not learned yet: do not "
            f"decide by this order; {what}."
        )

    def sentences(self) -> list[str]:
        """What the numbers mean, the clock and the trust, for people."""
        trust = self.trust.sentences(self.queue, self.table.num_rows)
        return [f"{SUSPICION_IS} {P_LABEL_IS}", clock_sentence(self.clock), *trust]

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        return {
            "meaning": {"suspicion": SUSPICION_IS, "p_label": P_LABEL_IS},
            "warning": self.warning,
            "clock": {**self.clock.to_dict(), "is_learning": self.clock.is_learning},
            "trust": self.trust.to_dict(self.queue, self.table.num_rows),
        }


@dataclass(frozen=True)
class Known:
    """What of a run somebody has in memory, and is not read again.

    Attributes:
        scores: as `scorekeeper.refresh` returns them; of their columns, `SCORES_READ` are enough, and their numbers may
            be of wider types.
        means: `recent.recent` of the run.
        keys: (n,) ids -> their keys.
    """

    scores: Scores
    means: Recent
    keys: Callable[[Ints], Sequence[str | None]]


def suspects(
    run: RunDir,
    n: int | None = 20,
    *,
    split: str = "train",
    with_decided: bool = False,
    known: Known | None = None,
) -> Suspects:
    """The `n` most suspicious samples of a split; None: all.

    Args:
        run: an open run, which may still be going on.
        n: how many.
        split: train, val, test.
        with_decided: include samples on which a person has decided, and discarded ones.
        known: what is in memory already; None: it is read.

    Raises:
        RunError: if the run recorded nothing of the split.
        LedgerError: if the signals cannot be read.
    """
    if n is not None and n < 1:
        raise ConfigError(f"-n {n}: it is 1 or more.")
    scores = refresh(run) if known is None else known.scores
    if not scores.table.num_rows:
        raise RunError(why_nothing(run, "has no scores yet: no epoch is complete"))
    trust = measure(run, scores, split)
    splits = sorted(pc.unique(scores.table["split"]).to_pylist())
    if split not in splits:
        raise RunError(
            f"{run.path} recorded nothing of split {split!r}; it has {', '.join(splits)}.{did_you_mean(split, splits)}"
        )
    decided = decided_table(run)
    at, everyone = _queue(scores.table, split, _left_out(run, decided, with_decided), n)
    top = scores.table.select(SCORES_READ).take(pa.array(at)).cast(_SCHEMA)
    ids = np.asarray(top["sample_id"].to_numpy(), np.int64)
    means = recent(run) if known is None else known.means
    keys = _keys(run, ids) if known is None else known.keys(ids)
    recall = trust.canaries.recall(everyone)
    columns = {
        "rank": pa.array(np.arange(1, len(ids) + 1)),
        "sample_id": top["sample_id"],
        "key": pa.array(keys, pa.string()),
        "label": top["label"],
        "label_name": _names(run, top["label"]),
        "believed_label": top["believed_label"],
        "believed_name": _names(run, top["believed_label"]),
        "suspicion": top["suspicion"],
        "p_label": pa.array(means.of("p_label", ids), pa.float32(), from_pandas=True),
        **{name: top[name] for name in ("aum", "el2n", "first_learned_epoch", "num_visits")},
        **_decided(decided, ids),
        "recall_low": pa.array(recall.low[: len(ids)], from_pandas=True),  # NaN becomes null
        "recall_high": pa.array(recall.high[: len(ids)], from_pandas=True),
    }
    return Suspects(run.path, split, pa.table(columns), everyone, trust, scores.clock, is_training(run))


def _left_out(run: RunDir, decided: pa.Table, with_decided: bool) -> Ints:
    """The ids that the queue does not have."""
    left_out = set(canaries(run))
    if not with_decided:
        left_out |= set(verdicts(run))
        left_out |= set(decided.filter(decided["is_discarded"])["sample_id"].to_pylist())
    return np.array(sorted(left_out), np.int64)


def _queue(scores: pa.Table, split: str, left_out: Ints, n: int | None) -> tuple[Ints, Floats]:
    """Rows of the first n samples of a queue, ties by id, and the suspicion (N,) of all, descending.

    Only those that may be among the first n are sorted by id too: the whole queue takes as long as all else together.
    """
    suspicion = scores["suspicion"].to_numpy()
    ids = scores["sample_id"].to_numpy()
    at = np.flatnonzero(is_of_split(scores, split) & ~np.isnan(suspicion))
    if len(left_out):
        at = at[~np.isin(ids[at], left_out)]
    found = suspicion[at]
    everyone = np.sort(found)[::-1]
    if n is not None and n < len(at):
        at = at[found >= everyone[n - 1]]
    order = np.lexsort([ids[at], -suspicion[at]])[:n]
    return at[order], everyone.astype(np.float64)


def _names(run: RunDir, labels: pa.ChunkedArray) -> pa.ChunkedArray:
    """(n,) names of class indices; null for what is none."""
    names = pa.array(classes(run), pa.string())
    is_one = pc.and_(pc.greater_equal(labels, 0), pc.less(labels, len(names)))
    return names.take(pc.if_else(is_one, labels, None))


def _keys(run: RunDir, ids: Ints) -> list[str | None]:
    """(n,) keys of samples; None for one that the manifest does not have."""
    table = pq.read_table(run.whole_manifest(), columns=["sample_id", "key"], partitioning=None)
    at = pc.index_in(pa.array(ids), table["sample_id"].cast(pa.int64()).combine_chunks())
    found: list[str | None] = table["key"].take(at).to_pylist()
    return found


def _decided(decided: pa.Table, ids: Ints) -> dict[str, pa.Array]:
    """What was decided about samples (n,): the columns status and tags."""
    about = decided.filter(pc.is_in(decided["sample_id"], pa.array(ids)))
    by_id = {row["sample_id"]: row for row in about.to_pylist()}
    rows = [by_id.get(i) for i in ids.tolist()]
    return {
        "status": pa.array([None if row is None else _status(row) for row in rows], pa.string()),
        "tags": pa.array([[] if row is None else row["tags"] for row in rows], pa.list_(pa.string())),
    }


def _status(row: dict[str, Any]) -> str | None:
    if row["is_discarded"]:
        return "discarded"
    if row["new_name"] is not None:
        return "relabelled"
    return "tagged" if row["tags"] else None


def trajectories(run: RunDir, sample_ids: list[int], epochs: Sequence[int] | None = None) -> dict[int, Trajectory]:
    """The mean p_label of some samples in each epoch, by one scan of the signals (of all epochs, or of some).

    Args:
        run: an open run.
        sample_ids: ids in any split.
        epochs: the epochs to return, ascending; None: all from 0 to the last that was recorded.
    """
    # as constants: DuckDB then skips files by the statistics in their footers
    chosen = "" if epochs is None else f"AND epoch IN ({', '.join(map(str, epochs)) or 'NULL'})"
    query = f"""
        SELECT sample_id, epoch, avg(p_label) FROM signals
        WHERE sample_id IN (SELECT unnest($ids::BIGINT[])) AND NOT isnan(p_label) {chosen}
        GROUP BY sample_id, epoch
    """
    found = ask(run, ["signals"], lambda connection: connection.execute(query, {"ids": sample_ids}).fetchall())
    means = {(sample_id, epoch): mean for sample_id, epoch, mean in found}
    if epochs is None:
        epochs = range(max((epoch for _, epoch, _ in found), default=-1) + 1)
    return {sample_id: [means.get((sample_id, epoch)) for epoch in epochs] for sample_id in sample_ids}
