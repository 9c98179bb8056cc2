"""Suspected label errors of a run: the queue that a person reviews. No torch.

The ranking is the score `suspicion` (`score_schema`). Canaries never appear. Samples on which a person
has decided, and discarded ones, are done and leave the queue; a relabelled sample is judged by its
new label as soon as it has been seen with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.errors import ConfigError, RunError, did_you_mean
from litscope.ledger.journal.actions import canaries
from litscope.ledger.queries import why_nothing
from litscope.ledger.scoring.recall import Floats
from litscope.ledger.scoring.recent import P_LABEL_IS, Recent, recent
from litscope.ledger.scoring.score_schema import SUSPICION_IS
from litscope.ledger.scoring.scorekeeper import Clock, refresh
from litscope.ledger.scoring.trust import Trust, clock_sentence, measure, verdicts
from litscope.ledger.views import ask, connect
from litscope.rundir import RunDir
from litscope.runs import is_training, what_goes_on

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


def suspects(
    run: RunDir,
    n: int | None = 20,
    *,
    split: str = "train",
    with_decided: bool = False,
    means: Recent | None = None,
) -> Suspects:
    """The `n` most suspicious samples of a split; None: all.

    Args:
        run: an open run, which may still be going on.
        n: how many.
        split: train, val, test.
        with_decided: include samples on which a person has decided, and discarded ones.
        means: of the run, where they are known already; None: they are read.

    Raises:
        RunError: if the run recorded nothing of the split.
        LedgerError: if the signals cannot be read.
    """
    if n is not None and n < 1:
        raise ConfigError(f"-n {n}: it is 1 or more.")
    scores = refresh(run)
    if not scores.table.num_rows:
        raise RunError(why_nothing(run, "has no scores yet: no epoch is complete"))
    trust = measure(run, scores, split)
    left_out = set(canaries(run))
    if not with_decided:
        left_out |= set(verdicts(run))
    with connect(run, ["manifest", "decided"]) as connection:
        connection.register("scores", scores.table)
        splits = [row[0] for row in connection.execute("SELECT DISTINCT split FROM scores ORDER BY 1").fetchall()]
        if split not in splits:
            known = f"it has {', '.join(splits)}.{did_you_mean(split, splits)}"
            raise RunError(f"{run.path} recorded nothing of split {split!r}; {known}")
        queue = f"""
            FROM scores s LEFT JOIN decided d USING (sample_id)
            WHERE s.split = $split AND s.suspicion IS NOT NULL AND NOT isnan(s.suspicion)
              AND s.sample_id NOT IN (SELECT unnest($left_out::BIGINT[]))
              {"" if with_decided else "AND NOT coalesce(d.is_discarded, false)"}
        """
        given = {"split": split, "left_out": sorted(left_out)}
        ordered = f"SELECT s.suspicion {queue} ORDER BY s.suspicion DESC"
        found = connection.execute(ordered, given).fetchnumpy()["suspicion"]
        table = connection.sql(_RANKING.format(queue=queue, limit="" if n is None else f"LIMIT {n}"), params=given)
        rows = table.to_arrow_table()
    everyone = np.asarray(found, np.float64)
    recall = trust.canaries.recall(everyone)
    for name, limit in (("recall_low", recall.low), ("recall_high", recall.high)):
        rows = rows.append_column(name, pa.array(limit[: len(rows)], from_pandas=True))  # NaN becomes null
    p_label = (means or recent(run)).of("p_label", np.asarray(rows["sample_id"].to_numpy(), np.int64))
    at = rows.column_names.index("suspicion") + 1
    rows = rows.add_column(at, "p_label", pa.array(p_label, pa.float32(), from_pandas=True))
    return Suspects(run.path, split, rows, everyone, trust, scores.clock, is_training(run))


_RANKING = """
    WITH top AS (
        SELECT s.*, d.is_discarded, d.new_name, d.tags {queue} ORDER BY s.suspicion DESC, s.sample_id {limit}
    )
    SELECT row_number() OVER (ORDER BY t.suspicion DESC, t.sample_id) AS rank,
           t.sample_id, m.key, t.label, a.label_name, t.believed_label, b.label_name AS believed_name,
           t.suspicion, t.aum, t.el2n, t.first_learned_epoch, t.num_visits,
           CASE WHEN t.is_discarded THEN 'discarded' WHEN t.new_name IS NOT NULL THEN 'relabelled'
                WHEN len(t.tags) > 0 THEN 'tagged' END AS status,
           coalesce(t.tags, []) AS tags
    FROM top t LEFT JOIN manifest m USING (sample_id)
    LEFT JOIN classes a ON a.label = t.label LEFT JOIN classes b ON b.label = t.believed_label
    ORDER BY rank
"""


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
