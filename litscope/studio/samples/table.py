"""The samples of one run as columns in memory, as they were at one moment; `shelf` keeps them up to date.

A column is made when somebody asks for it. Of 1.3 million samples, what is always there takes some 150 MB.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from litscope.errors import LitscopeError
from litscope.ledger.journal.actions import Entry, Status, canaries, decisions, entries
from litscope.ledger.neighbours import NEIGHBOUR_SCORES, read_neighbours
from litscope.ledger.queries import classes
from litscope.ledger.scoring.recent import RECENT, Recent, recent
from litscope.ledger.scoring.score_schema import SCORES
from litscope.ledger.suspects import Known
from litscope.ledger.uncertainties import MEASURED, UNCERTAINTIES
from litscope.ledger.views import ask, source_columns
from litscope.rundir import RunDir
from litscope.studio.samples.described import own_column
from litscope.studio.samples.measured import measured_columns
from litscope.studio.samples.scored import Scored
from litscope.studio.samples.turns import large_read
from litscope.studio.samples.values import (
    Column,
    Flags,
    Ids,
    Mask,
    Numbers,
    Tags,
    Texts,
    Values,
    Words,
    encoded,
    exact_for,
    few,
)

MOST_WORDS = 2000
"""A column of the source with more different texts than that is kept as texts."""

_LABELS = ("label_name", "current_name", "pred_name", "believed_name", "is_right")
_DECIDED = ("is_discarded", "weight", "tags")
CUSTOM = "custom."
"""How the names of a person's own signals begin."""


@dataclass(frozen=True)
class Base:
    """What the manifest says; it does not change.

    Attributes:
        count: N.
        classes: their names.
        encoding: how samples are read; `kind` is image or table.
        label: (N,) int32 class indices, -1 for none.
        split: (N,) names.
        columns: the source's own, by name, and the key.
    """

    count: int
    classes: tuple[str, ...]
    encoding: dict[str, Any]
    label: NDArray[np.int32]
    split: Words
    columns: dict[str, Values]


def read_base(run: RunDir) -> Base:
    """Read the manifest of a run.

    Raises:
        RunError: if it is missing or damaged.
    """
    names = classes(run)
    with large_read():
        chosen = [name for name in source_columns(run) if name != "sample_id"]
        table = pq.read_table(run.whole_manifest(), columns=chosen, partitioning=None)
    beside = (*NEIGHBOUR_SCORES, *UNCERTAINTIES, *MEASURED)
    taken = {"sample_id", *_LABELS, *_DECIDED, *SCORES, *RECENT, *beside, "num_visits"}
    own: dict[str, Values] = {}
    for name in chosen:
        if name not in ("label", "split") and (values := _source(name, table[name])) is not None:
            own[f"source_{name}" if name in taken else name] = values
    label = np.asarray(table["label"].to_numpy(), np.int32)
    encoding = _encoding(run)
    return Base(table.num_rows, tuple(names), encoding, label, encoded(table["split"]), own)


def _encoding(run: RunDir) -> dict[str, Any]:
    import json

    facts = json.loads((pq.read_schema(run.manifest).metadata or {})[b"litscope"])
    found: dict[str, Any] = facts.get("encoding") or {}
    return found


def _source(name: str, column: pa.ChunkedArray) -> Values | None:
    """A column of the data set; None for one that is neither numbers nor text, nor can be told as text."""
    kind = column.type
    if name == "key":
        return Texts(column)
    if pa.types.is_boolean(kind):
        values = np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), bool)
        return Flags(values, Texts(column).known)
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return Numbers(np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        words = encoded(column)
        return words if len(words.names) <= MOST_WORDS else Texts(column.cast(pa.string()))
    try:
        return Texts(column.cast(pa.string()))
    except pa.ArrowException:  # bytes, lists
        return None


@dataclass(frozen=True)
class Decided:
    """What people decided so far, and what of it waits for the trainer.

    Attributes:
        discarded: (n,) ascending ids.
        labels: sample_id -> name.
        weights: sample_id -> factor.
        tags: as the column.
        canaries: (n,) ids that are planted, and are shown to nobody.
        pending: sample_id -> the verbs that no trainer has answered.
        statuses: id of an action -> its status, to tell what changed.
        entries: the journal.
    """

    discarded: Ids
    labels: dict[int, str]
    weights: dict[int, float]
    tags: Tags
    canaries: Ids
    pending: dict[int, list[str]]
    statuses: dict[str, Status]
    entries: list[Entry]


def read_decided(run: RunDir, count: int) -> Decided:
    """Read the journal of a run. Ids that the manifest does not have are left out."""
    state, listed = decisions(run), entries(run)
    pending: dict[int, list[str]] = {}
    for entry in listed:
        if entry.status == "pending" and not entry.action.get("canary"):
            for sample_id in entry.action.get("sample_id", ()):
                pending.setdefault(sample_id, []).append(str(entry.action["what"]))
    return Decided(
        discarded=_ids(state.discarded, count),
        labels={i: name for i, name in state.labels.items() if i < count},
        weights={i: weight for i, weight in state.weights.items() if i < count},
        tags=Tags({name: _ids(ids, count) for name, ids in state.tags.items()}, count),
        canaries=_ids(canaries(run), count),
        pending=pending,
        statuses={entry.action["id"]: entry.status for entry in listed},
        entries=listed,
    )


def _ids(found: Any, count: int) -> Ids:
    return np.array(sorted(i for i in found if 0 <= i < count), np.int64)


class Samples:
    """The columns of a run's samples at one moment.

    Attributes:
        run: its folder.
        revision: counts up whenever something changed.
        base, scored, decided: what they are made of.
    """

    def __init__(self, run: RunDir, revision: int, base: Base, scored: Scored, decided: Decided) -> None:
        self.run, self.revision = run, revision
        self.base, self.scored, self.decided = base, scored, decided
        self._made: dict[str, Values] = {}
        self._recent: Recent | None = None
        self._lock, self._recent_lock = threading.RLock(), threading.Lock()

    @property
    def count(self) -> int:
        """N, canaries included."""
        return self.base.count

    @cached_property
    def shown(self) -> Mask:
        """(N,) the samples that people see: all but canaries."""
        found = np.ones(self.count, bool)
        found[self.decided.canaries] = False
        return found

    @cached_property
    def custom_names(self) -> list[str]:
        """Names of a person's own signals."""
        if not self.run.custom.is_dir():
            return []
        try:
            query = "SELECT DISTINCT name FROM custom ORDER BY 1"
            return [row[0] for row in ask(self.run, ["custom"], lambda c: c.execute(query).fetchall())]
        except (LitscopeError, duckdb.Error):  # the run's page tells what is damaged
            return []

    @cached_property
    def measured(self) -> tuple[dict[str, Values], str | None]:
        """See `measured.measured_columns`."""
        return measured_columns(self.run, self.count, self.base.classes)

    @cached_property
    def names(self) -> list[str]:
        """All columns, the most asked for first."""
        score_names = [*self.scored.scores, *(RECENT if self.scored.scores else ())]
        near = [*(NEIGHBOUR_SCORES if self.run.neighbours.exists() else ()), *self.measured[0]]
        custom = [f"{CUSTOM}{name}" for name in self.custom_names]
        own = ["key", *(name for name in self.base.columns if name != "key")]
        return ["sample_id", own[0], "split", *_LABELS, *_DECIDED, *score_names, *near, *custom, *own[1:]]

    def values(self, name: str) -> Values:
        """A column of `names`."""
        if name in RECENT:
            self.recent()  # which takes seconds: nobody who asks for another column waits for it
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def recent(self) -> Recent:
        """The means of signals over the last epochs, of each of the N samples; read once."""
        with self._recent_lock:
            if self._recent is None:
                with large_read():
                    self._recent = recent(self.run, is_thrifty=True)
            return self._recent

    def take_recent(self, before: Samples) -> None:
        """Take over those means from the samples of before, if they were read."""
        self._recent = before._recent

    @property
    def keys(self) -> pa.ChunkedArray:
        """(N,) the keys."""
        texts = self.base.columns["key"]
        assert isinstance(texts, Texts)
        return texts.values

    def known(self) -> Known | None:
        """What `suspects` would read else; None in a run without scores."""
        scores = self.scored.table(self.base.split)
        return None if scores is None else Known(scores, self.recent(), self.base.columns["key"].at)

    def column(self, name: str) -> Column:
        """What a column is."""
        if name.startswith(CUSTOM):
            meaning = "Recorded by the script under a name of its own; the last value."
            return Column(name, name.removeprefix(CUSTOM), "number", meaning, "", "custom")
        if name in self.base.columns and name != "key":
            values = self.base.columns[name]
            kinds: dict[type, Any] = {Numbers: "number", Words: "class", Flags: "flag"}
            kind = kinds.get(type(values), "text")
            return Column(name, name, kind, "A column of the data set.", "", "source", values=few(values))
        return own_column(name, few(self.values(name)) if name in ("split", *_LABELS, *MEASURED) else None)

    def step_losses(self, first: int, last: int) -> NDArray[np.float32]:
        """(N,) the greatest loss in training steps first to last, NaN where a sample was not seen in them."""
        found = np.full(self.count, np.nan, np.float32)
        query = """
            SELECT sample_id, max(loss) AS loss FROM signals
            WHERE phase = 'train' AND step BETWEEN $first AND $last AND NOT isnan(loss) GROUP BY sample_id
        """
        given = {"first": first, "last": last}
        rows = ask(self.run, ["signals"], lambda c: c.execute(query, given).fetchnumpy())
        found[np.asarray(rows["sample_id"], np.int64)] = np.asarray(rows["loss"], np.float32)
        return found

    def _make(self, name: str) -> Values:
        base, decided, scored = self.base, self.decided, self.scored
        match name:
            case "sample_id":
                return Numbers(np.arange(self.count, dtype=exact_for(self.count)))
            case "split":
                return base.split
            case "label_name":
                return Words(base.label, base.classes)
            case "current_name":
                return self._current()
            case "pred_name":
                return Words(scored.of_class("last_pred", self.count), base.classes)
            case "believed_name":
                return Words(scored.of_class("believed_label", self.count), base.classes)
            case "is_right":
                pred, current = self.values("pred_name"), self.values("current_name")
                assert isinstance(pred, Words)
                assert isinstance(current, Words)
                place = {text: i for i, text in enumerate(current.names)}
                in_current = np.array([*(place.get(text, -2) for text in pred.names), -1])[pred.codes]
                return Flags(in_current == current.codes, pred.known & current.known)
            case "is_discarded":
                return Flags(self._mark(decided.discarded), np.ones(self.count, bool))
            case "weight":
                weight = np.ones(self.count, np.float32)
                weight[list(decided.weights)] = list(decided.weights.values())
                return Numbers(weight)
            case "tags":
                return decided.tags
        if name in base.columns:
            return base.columns[name]
        if name in scored.scores:
            values = scored.scores[name]
            return Flags(values == 1, values >= 0) if name == "never_learned" else Numbers(values)
        if name in RECENT:
            return Numbers(self.recent().means[name])
        if name in NEIGHBOUR_SCORES:
            return self._near(name)
        if name in self.measured[0]:
            return self.measured[0][name]
        return self._custom(name.removeprefix(CUSTOM))

    def _current(self) -> Words:
        changed = self.decided.labels
        if not changed:
            return Words(self.base.label, self.base.classes)
        names = list(dict.fromkeys([*self.base.classes, *changed.values()]))
        codes, place = self.base.label.copy(), {name: i for i, name in enumerate(names)}
        codes[list(changed)] = [place[name] for name in changed.values()]
        return Words(codes, tuple(names))

    def _mark(self, ids: Ids) -> Mask:
        found = np.zeros(self.count, bool)
        found[ids] = True
        return found

    def _near(self, name: str) -> Numbers:
        values, found = np.full(self.count, np.nan, np.float32), read_neighbours(self.run)
        if found is not None:
            values[found.table["sample_id"].to_numpy()] = found.table[name].to_numpy(zero_copy_only=False)
        return Numbers(values)

    def _custom(self, name: str) -> Numbers:
        query = """
            SELECT sample_id, arg_max(value, (epoch, step)) AS value FROM custom WHERE name = $name GROUP BY sample_id
        """
        rows = ask(self.run, ["custom"], lambda c: c.execute(query, {"name": name}).fetchnumpy())
        values, ids = np.full(self.count, np.nan, np.float32), np.asarray(rows["sample_id"], np.int64)
        is_known = ids < self.count
        values[ids[is_known]] = np.asarray(rows["value"], np.float32)[is_known]
        return Numbers(values)
