"""Scores kept up to date while a run goes on: `refresh`, which `upkeep` calls for the trainer. No torch.

`scores/state.npz` holds the sums per sample (`scores.ScoreState`) and how far they have read, so that
a new epoch only costs reading its own rows, whatever came before. `scores/scores.parquet` is the
table that others read. Both are written whole and follow from the parts alone. So two processes that
refresh at once write the same, and a state that is damaged, or that a resumed run has overtaken, is
thrown away and made anew. Only complete epochs count.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from litscope.console import warn
from litscope.ledger.parts import Part
from litscope.ledger.reader import LedgerReader
from litscope.ledger.scoring.clock import Clock
from litscope.ledger.scoring.score_schema import SCORE_FORMAT_VERSION, SCORE_SCHEMA, SCORE_VERSION_KEY
from litscope.ledger.scoring.scores import ScoreState
from litscope.ledger.scoring.tally import Progress, RunNow, Tally
from litscope.rundir import RunDir, whole_file
from litscope.seals import check, sealed_parquet

__all__ = ["Clock", "Scores", "known_parts", "refresh", "refresh_with"]

CLOCK_KEY = b"litscope.clock"
WRONG_KEY = b"litscope.num_wrong"
PROGRESS_KEY = b"litscope.progress"


class Scores(NamedTuple):
    """The scores of a run.

    Attributes:
        table: one row per sample, `score_schema.SCORE_SCHEMA`.
        clock: the memorisation clock.
        num_wrong: split -> how many labels look wrong in it (`suspicion.held_for`): of canaries, and of all others.
    """

    table: pa.Table
    clock: Clock
    num_wrong: dict[str, tuple[int, int]]


def refresh(run: RunDir, *, save: bool = True) -> Scores:
    """The scores over all complete epochs, brought up to date if needed.

    Args:
        run: an open run, which may still be going on.
        save: keep the result in the run's folder, if that can be written.

    Raises:
        LedgerError: if a part cannot be read.
    """
    return refresh_with(LedgerReader(run), save=save)


def refresh_with(reader: LedgerReader, *, save: bool = True) -> Scores:
    """As `refresh`, with a reader that knows the footers of earlier parts."""
    now = RunNow(reader)
    stored = _stored_scores(now)
    if stored is not None:
        return stored
    tally = Tally.load(now)
    if tally is None or not tally.take_late(now):
        tally = Tally(ScoreState(), Progress(pinned=now.pinned_digest))
    tally.take_epochs(now)
    scores = _scores(tally, now)
    if save:
        _save(reader.run, tally, scores.table)
    return scores


def known_parts(scores: Scores) -> Callable[[Part], bool]:
    """Whether a part was there when the scores were made. Joined with one that was not, it would have to count anew."""
    return Progress(**json.loads(scores.table.schema.metadata[PROGRESS_KEY])).knows


def _scores(tally: Tally, now: RunNow) -> Scores:
    """The scores; all that is not per sample is in the table's metadata, too, with format and progress."""
    ranking = tally.state.ranking()
    num_wrong = tally.state.num_wrong(ranking, now.pinned.sample_id)
    clock = tally.progress.clock()
    metadata = {
        SCORE_VERSION_KEY: str(SCORE_FORMAT_VERSION),
        CLOCK_KEY: json.dumps(clock.to_dict()),
        PROGRESS_KEY: json.dumps(asdict(tally.progress)),
        WRONG_KEY: json.dumps(num_wrong),
    }
    table = tally.state.table(ranking).replace_schema_metadata(metadata)
    return Scores(table, clock, num_wrong)


def _stored_scores(now: RunNow) -> Scores | None:
    """The saved table, if it is up to date."""
    try:
        check(now.reader.run.score_table)
        # Opened once, so that it stays the same file if another process replaces it; and opened by Arrow: if one of
        # its threads releases a Python file while the interpreter ends, the process aborts (apache/arrow#33975).
        with pa.OSFile(str(now.reader.run.score_table)) as opened:
            file = pq.ParquetFile(opened)
            metadata = file.schema_arrow.metadata or {}
            progress = Progress(**json.loads(metadata[PROGRESS_KEY]))
            num_wrong = {split: (wrong, others) for split, (wrong, others) in json.loads(metadata[WRONG_KEY]).items()}
            if progress.last_epoch != now.last_epoch or not progress.holds(now):
                return None
            table = file.read()
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError):
        return None  # absent, damaged, or of another format
    is_ours = table.schema.equals(SCORE_SCHEMA) and metadata.get(SCORE_VERSION_KEY) == b"%d" % SCORE_FORMAT_VERSION
    if not is_ours or progress.late_rows(now, ["epoch"]).num_rows:
        return None
    return Scores(table, progress.clock(), num_wrong)


def _save(run: RunDir, tally: Tally, table: pa.Table) -> None:
    """Keep state and table. The scores are right without them, so a read-only folder is no error."""
    try:
        with whole_file(run.score_state) as file:
            tally.save(file)
        words = [name for name in SCORE_SCHEMA.names if not pa.types.is_floating(SCORE_SCHEMA.field(name).type)]
        content = pa.BufferOutputStream()
        pq.write_table(table, content, compression="zstd", compression_level=1, use_dictionary=words[1:])
        with whole_file(run.score_table) as file:
            file.writelines(sealed_parquet(content.getvalue()))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):  # meant to be read only
            warn(f"The scores could not be kept in {run.scores}: {error}. The next look computes them again.")
