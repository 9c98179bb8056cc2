"""The questions that people ask about a run, answered from its parts and its manifest. No torch.

DuckDB does the grouping; `LedgerReader` hands it only the columns, splits and epochs that a
question needs. Means, last predictions and counts are over *visits*, the times that a sample was seen.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from litscope.console import shell_word
from litscope.errors import ConfigError, RunError, did_you_mean
from litscope.ledger.custom import NO_LOGITS, has_only_custom, how_to_ask
from litscope.ledger.database import open_database
from litscope.ledger.neighbours import NEIGHBOUR_SCORES, read_neighbours
from litscope.ledger.reader import LedgerReader
from litscope.ledger.schema import Phase
from litscope.ledger.uncertainties import UNCERTAINTIES, read_uncertainties
from litscope.rundir import RunDir
from litscope.runs import is_joined, is_watched, joined_from

By = Literal[
    "loss",
    "margin",
    "p_label",
    "entropy",
    "neighbour_distance",
    "neighbour_agreement",
    "predictive_entropy",
    "expected_entropy",
    "mutual_information",
    "set_size",
    "measured_p_pred",
    "measured_p_label",
]

_WORST_FIRST: dict[str, str] = {
    "loss": "DESC",
    "margin": "ASC",
    "p_label": "ASC",
    "entropy": "DESC",
    "neighbour_distance": "DESC",
    "neighbour_agreement": "ASC",
    **dict.fromkeys(UNCERTAINTIES, "DESC"),
    "measured_p_pred": "ASC",
    "measured_p_label": "ASC",
}

_OF_PARTS = ("expected_entropy", "mutual_information")
"""What only a network of several parts has."""

Counts = npt.NDArray[np.int64]


class Confusion(NamedTuple):
    """One class taken for another."""

    label: int
    pred: int
    label_name: str
    pred_name: str
    num_samples: int
    share: float
    """Share of the samples with this label."""


def worst(
    run: RunDir,
    n: int = 20,
    *,
    split: str = "train",
    by: By = "loss",
    last_epochs: int = 5,
    phase: Phase | None = None,
) -> list[dict[str, Any]]:
    """The `n` samples that the model finds hardest, by their mean over the last epochs of `split`.

    Args:
        run: an open run, which may still be going on.
        n: how many samples.
        split: train, val, test.
        by: highest `loss`, lowest `margin`, lowest `p_label` or highest `entropy`; or one number of each sample, no
            mean: of a run with neighbours the highest `neighbour_distance` or the lowest `neighbour_agreement`, of one
            that was recorded so the highest of `UNCERTAINTIES`, of probabilities the lowest.
        last_epochs: epochs that count, up to the last one in which this split was recorded.
        phase: rows of the training step (`train`) or of evaluation passes (`eval`). By default those of training
            where there are any, because an evaluation of a training split may cover a few samples only.

    Returns:
        Rows with `sample_id`, `key`, `label`, `label_name`, `pred`, `pred_name` (of the last visit),
        `mean` and `last` (of `by`), `num_visits`; worst first, ties by id. Samples without a label
        and values that are not a number are left out.

    Raises:
        ConfigError: if `by` is unknown.
        RunError: if the split was never recorded, or the run has no neighbours or uncertainties.
    """
    if by not in _WORST_FIRST:
        raise ConfigError(f"Samples cannot be ranked by {by!r}; choose {', '.join(_WORST_FIRST)}.")
    beside = _beside(run, by)
    reader = LedgerReader(run)
    last = reader.last_epoch(split)
    if last is None:
        unseen = _worst_unseen(run, split, by, beside, n) if by in UNCERTAINTIES and beside is not None else []
        if not unseen:
            raise RunError(_nothing(run, split))
        return _named(run, unseen)
    signal = "loss" if beside is not None else by
    columns = ["sample_id", "step", "epoch", "phase", "label", "pred", signal]
    visits = reader.table(columns, split=split, phase=phase, min_epoch=last - last_epochs + 1)
    if phase is None:
        visits = _prefer_training(visits)
    if beside is not None:
        visits = visits.drop_columns([signal]).join(beside.select(["sample_id", by]), "sample_id", join_type="inner")
    ranked = _query(
        f"""
        SELECT sample_id,
               arg_max(label, (epoch, step)) AS label,
               arg_max(pred, (epoch, step)) AS pred,
               avg("{by}"::DOUBLE) AS mean,
               arg_max("{by}", (epoch, step))::DOUBLE AS last,
               count(*) AS num_visits
        FROM visits
        WHERE label >= 0 AND "{by}" IS NOT NULL AND NOT isnan("{by}")
        GROUP BY sample_id
        ORDER BY mean {_WORST_FIRST[by]}, sample_id
        LIMIT $n
        """,
        visits=visits,
        n=n,
    ).to_pylist()
    return _named(run, ranked)


def _worst_unseen(run: RunDir, split: str, by: str, beside: pa.Table, n: int) -> list[dict[str, Any]]:
    """The worst of samples that were measured, and seen in no training: those of an ensemble that was joined."""
    manifest = pq.read_table(run.whole_manifest(), columns=["sample_id", "split"], partitioning=None)
    of_split = manifest.filter(pc.field("split") == split).select(["sample_id"])
    found: list[dict[str, Any]] = _query(
        f"""
        SELECT sample_id, label, pred, "{by}"::DOUBLE AS mean, "{by}"::DOUBLE AS last, 0 AS num_visits
        FROM visits WHERE label >= 0 AND pred >= 0 AND "{by}" IS NOT NULL
        ORDER BY mean {_WORST_FIRST[by]}, sample_id LIMIT $n
        """,
        visits=beside.join(of_split, "sample_id", join_type="inner"),
        n=n,
    ).to_pylist()
    return found


def _beside(run: RunDir, by: str) -> pa.Table | None:
    """The table of a number that stands beside the scores; None for a signal, which is recorded at each visit.

    Raises:
        RunError: if nobody has asked for these numbers yet.
    """
    word = shell_word(run.path)
    if by in NEIGHBOUR_SCORES:
        neighbours = read_neighbours(run)
        if neighbours is None:
            raise RunError(f"{run.path} has no neighbours yet. To look for them: litscope neighbours {word}")
        return neighbours.table
    if by not in UNCERTAINTIES:
        return None
    found = read_uncertainties(run, has_sets=False)
    if found is None or found.table[by].null_count == len(found.table):
        how = ", with --mc-dropout 20 where the network has no members" if by in _OF_PARTS else ""
        how = " after litscope calibrate --coverage 0.9" if by == "set_size" else how
        raise RunError(f"{run.path} has no {by} yet. To keep it: litscope evaluate {word} --record{how}")
    return found.table


def confusion(run: RunDir, split: str = "val") -> Counts:
    """The confusion matrix (C, C) of the last evaluation of `split`: rows are labels, columns predictions.

    If a split was only seen in training steps, the visits of its last epoch are counted.

    Raises:
        RunError: if the split was never recorded.
    """
    pairs = _query(
        "SELECT label, pred, count(*) AS num_samples FROM visits GROUP BY label, pred",
        visits=last_evaluation(run, split),
    )
    matrix = np.zeros((len(classes(run)),) * 2, np.int64)
    matrix[pairs["label"].to_numpy(), pairs["pred"].to_numpy()] = pairs["num_samples"].to_numpy()
    return matrix


def most_confused(matrix: Counts, names: Sequence[str], n: int = 10) -> list[Confusion]:
    """The `n` largest off-diagonal cells of a confusion matrix (C, C), most samples first."""
    wrong = matrix.copy()
    np.fill_diagonal(wrong, 0)
    cells = np.argsort(-wrong, axis=None, kind="stable")[:n]
    totals = matrix.sum(axis=1)
    return [
        Confusion(
            label, pred, names[label], names[pred], int(wrong[label, pred]), float(wrong[label, pred] / totals[label])
        )
        for label, pred in (divmod(int(cell), len(names)) for cell in cells)
        if wrong[label, pred] > 0
    ]


def confused_keys(run: RunDir, cells: Sequence[Confusion], split: str = "val", n: int = 10) -> list[list[str]]:
    """For each cell of `confusion`, the keys of at most `n` of its samples, by id."""
    visits = last_evaluation(run, split)
    ids = [
        visits.filter((pc.field("label") == cell.label) & (pc.field("pred") == cell.pred))["sample_id"]
        .unique()
        .sort()[:n]
        .to_pylist()
        for cell in cells
    ]
    keys = _keys(run, [sample_id for cell in ids for sample_id in cell])
    return [[keys[sample_id] for sample_id in cell if sample_id in keys] for cell in ids]


def classes(run: RunDir) -> list[str]:
    """The class names of a run, from its manifest.

    Raises:
        RunError: if the manifest is missing or damaged, or has no class names.
    """
    path = run.whole_manifest()
    try:
        metadata = pq.read_schema(path).metadata or {}
        return [str(name) for name in json.loads(metadata[b"litscope"])["classes"]]
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise RunError(f"{run.manifest} is missing or is not a manifest: {error!r}. Is {run.path} complete?") from error


def last_evaluation(run: RunDir, split: str) -> pa.Table:
    """The labelled visits (sample_id, label, pred, p_max) that `confusion` counts.

    Somebody may have evaluated a few tagged samples since the last evaluation of the split: one with fewer than half as
    many rows as the fullest is ignored. Evaluations after the training have its last step, and epochs of their own.

    Raises:
        RunError: if the split was never recorded.
    """
    reader = LedgerReader(run)
    last = reader.last_epoch(split)
    if last is None:
        raise RunError(_nothing(run, split))
    columns = ["sample_id", "step", "epoch", "phase", "label", "pred", "p_max"]
    return _query(
        """
        WITH evaluations AS (
            SELECT (epoch, step) AS moment, count(*) AS num FROM visits WHERE phase = 'eval' GROUP BY epoch, step
        )
        SELECT sample_id, label, pred, p_max FROM visits
        WHERE label >= 0 AND (
            phase = 'train'
            OR (epoch, step) = (SELECT max(moment) FROM evaluations WHERE 2 * num >= (SELECT max(num) FROM evaluations))
        )
        """,
        visits=_recent_visits(reader, columns, split, last),
    )


def _recent_visits(reader: LedgerReader, columns: list[str], split: str, last: int) -> pa.Table:
    """The training visits of the last epoch, if there are any; else the evaluations of the last two."""
    visits = reader.table(columns, split=split, min_epoch=last, phase="train")
    return visits if visits.num_rows else reader.table(columns, split=split, min_epoch=last - 1)


def _prefer_training(visits: pa.Table) -> pa.Table:
    """Only the rows of training steps, if there are any."""
    trained = visits.filter(pc.field("phase") == "train")
    return trained if trained.num_rows else visits


def _named(run: RunDir, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add what the manifest knows about each sample."""
    names = classes(run)
    keys = _keys(run, [row["sample_id"] for row in rows])
    return [
        {
            "sample_id": row["sample_id"],
            "key": keys.get(row["sample_id"]),
            "label": row["label"],
            "label_name": names[row["label"]],
            "pred": row["pred"],
            "pred_name": names[row["pred"]],
            "mean": row["mean"],
            "last": row["last"],
            "num_visits": row["num_visits"],
        }
        for row in rows
    ]


def _keys(run: RunDir, sample_ids: Sequence[int]) -> dict[int, str]:
    """sample_id -> key, of some samples."""
    wanted = pc.field("sample_id").isin(list(sample_ids))
    known = pq.read_table(run.whole_manifest(), columns=["sample_id", "key"], filters=wanted, partitioning=None)
    return dict(zip(known["sample_id"].to_pylist(), known["key"].to_pylist(), strict=True))


def _query(sql: str, *, visits: pa.Table, **values: Any) -> pa.Table:
    with open_database() as connection:
        connection.register("visits", visits)
        return connection.sql(sql, params=values or None).to_arrow_table()


def why_nothing(run: RunDir, yet: str) -> str:
    """Why a run has no rows, as a sentence.

    Args:
        yet: of a run that will have some, what it has not.
    """
    if has_only_custom(run):
        return f"{run.path}: {NO_LOGITS} {how_to_ask(run)}"
    if is_joined(run):
        return (
            f"{run.path} was joined from other runs, and no training recorded anything in it. Ask those: "
            f"{', '.join(joined_from(run))}."
        )
    return f"{run.path} {yet}." if is_watched(run) else f"{run.path} {yet}, or ran with --no-ledger."


def _nothing(run: RunDir, split: str) -> str:
    rows = LedgerReader(run).table(["split"])["split"]
    known = sorted(set(rows.cast(pa.string()).unique().to_pylist()))
    if not known:
        return why_nothing(run, "holds no signals: it has not got to its first flush")
    return f"{run.path} holds no rows of split {split!r}; it has {', '.join(known)}.{did_you_mean(split, known)}"
