"""One sample: its row, its history, its scores explained in place, what was done to it, what is most alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.errors import LitscopeError
from litscope.ledger.history import Stretches, history
from litscope.ledger.lookup import neighbours_of
from litscope.ledger.scoring.score_schema import SCORES
from litscope.ledger.views import ask
from litscope.rundir import RunDir
from litscope.studio.refusals import NotThere
from litscope.studio.runs.journal import Action, told
from litscope.studio.samples.grid import Row, rows
from litscope.studio.samples.pictures import Pictures, Size
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Numbers

NUM_NEIGHBOURS = 12
MOST_VISITS = 5000
_SHOWN = ("loss", "p_label", "p_max", "margin", "el2n", "entropy")


@dataclass(frozen=True)
class Feature:
    """A number of a row of a table."""

    name: str
    value: float | None


@dataclass(frozen=True)
class Explained:
    """A score of a sample.

    Attributes:
        name, title, meaning, unit: of the score.
        value: of this sample; None: not known.
        source: the paper.
        rank: from 1, among the samples of its split, those first that deserve a look first.
        share_below: of the samples of its split whose value is smaller, 0 to 1.
    """

    name: str
    title: str
    value: float | None
    meaning: str
    unit: str
    source: str
    rank: int | None
    share_below: float | None


@dataclass(frozen=True)
class Change:
    """A prediction that is another than at the visit before."""

    epoch: int
    step: int
    was: str
    now: str


@dataclass(frozen=True)
class Neighbour:
    """A sample that the network finds alike."""

    sample_id: int
    key: str
    label_name: str | None
    distance: float


@dataclass(frozen=True)
class SamplePage:
    """Everything about one sample; fields as docs/studio.md has them."""

    sample: Row
    image: Size | None
    features: list[Feature] | None
    visits: dict[str, list[Any]]
    custom: dict[str, dict[str, list[Any]]]
    scores: list[Explained]
    changes: list[Change]
    actions: list[Action]
    neighbours: list[Neighbour] | None


def sample_page(
    samples: Samples,
    sample_id: int,
    pictures: Pictures,
    has_image: bool,
    curve: Callable[[], list[float | None]],
    stretches: Stretches,
) -> SamplePage:
    """The page of one sample.

    Args:
        samples: of its run.
        sample_id: which.
        pictures: of its run.
        has_image: whether there may be a picture.
        curve: its sparkline.
        stretches: where its visits are.

    Raises:
        NotThere: if the run has no such sample.
        LedgerError: if its history cannot be read.
    """
    run = samples.run
    require_sample(samples, sample_id)
    names = [name for name in samples.names if name not in Row.__dataclass_fields__]
    row = replace(rows(samples, np.array([sample_id]), names, has_image)[0], sparkline=curve())
    visits = _visits(run, samples.base.classes, sample_id, stretches)
    features = pictures.features(sample_id)
    return SamplePage(
        sample=row,
        image=pictures.size(sample_id) if has_image else None,
        features=None if features is None else [Feature(name, _number(value)) for name, value in features],
        visits=visits,
        custom=_custom(run, sample_id) if samples.custom_names else {},
        scores=_scores(samples, sample_id),
        changes=_changes(visits),
        actions=[told(entry) for entry in samples.decided.entries if _is_about(entry.action, sample_id)][::-1],
        neighbours=_neighbours(run, sample_id),
    )


def require_sample(samples: Samples, sample_id: int) -> None:
    """Refuse an id that the run does not have, or shows to nobody.

    Raises:
        NotThere: saying so.
    """
    if not 0 <= sample_id < samples.count or not samples.shown[sample_id]:
        raise NotThere(f"There is no sample {sample_id} to be seen; the run has {samples.count:,}, from 0.")


def _is_about(action: dict[str, Any], sample_id: int) -> bool:
    ids = action.get("sample_id")
    return isinstance(ids, list) and sample_id in ids and not action.get("canary")


def _visits(run: RunDir, names: Sequence[str], sample_id: int, stretches: Stretches) -> dict[str, list[Any]]:
    table: pa.Table = history(run, sample_id, stretches).slice(0, MOST_VISITS)
    found: dict[str, list[Any]] = {name: table[name].to_pylist() for name in ("epoch", "step")}
    found["phase"] = table["phase"].cast(pa.string()).to_pylist()
    for name, column in (("label_name", "label"), ("pred_name", "pred")):
        found[name] = [names[i] if 0 <= i < len(names) else None for i in table[column].to_pylist()]
    return found | {name: [_number(value) for value in table[name].to_pylist()] for name in _SHOWN}


def _number(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _changes(visits: dict[str, list[Any]]) -> list[Change]:
    trained = [i for i, phase in enumerate(visits["phase"]) if phase == "train"] or list(range(len(visits["phase"])))
    found = []
    for before, now in pairwise(trained):
        was, is_now = visits["pred_name"][before], visits["pred_name"][now]
        if was != is_now and was is not None and is_now is not None:
            found.append(Change(visits["epoch"][now], visits["step"][now], was, is_now))
    return found


def _custom(run: RunDir, sample_id: int) -> dict[str, dict[str, list[Any]]]:
    query = "SELECT name, epoch, step, value FROM custom WHERE sample_id = $id ORDER BY name, epoch, step LIMIT 20000"
    found: dict[str, dict[str, list[Any]]] = {}
    for name, epoch, step, value in ask(run, ["custom"], lambda c: c.execute(query, {"id": sample_id}).fetchall()):
        columns = found.setdefault(name, {"epoch": [], "step": [], "value": []})
        for column, one in zip(columns.values(), (epoch, step, _number(value)), strict=True):
            column.append(one)
    return found


def _scores(samples: Samples, sample_id: int) -> list[Explained]:
    among = samples.shown & (samples.base.split.codes == samples.base.split.codes[sample_id])
    found = []
    for name in samples.names:
        column = samples.column(name)
        if column.group not in ("score", "signal"):
            continue
        values = samples.values(name)
        if not isinstance(values, Numbers):
            continue
        value = _number(float(values.values[sample_id]))
        below = rank = None
        if value is not None:
            numbers, num = values.values, int(np.count_nonzero(among & values.known))
            num_below = int(np.count_nonzero(among & (numbers < value)))  # a missing one is not below, and not above
            below = num_below / num if num else None
            if column.is_high_bad is not None:
                num_above = int(np.count_nonzero(among & (numbers > value)))
                rank = 1 + (num_above if column.is_high_bad else num_below)
        source = SCORES[name].source if name in SCORES else ""
        found.append(Explained(name, column.title, value, column.meaning, column.unit, source, rank, below))
    return found


def _neighbours(run: RunDir, sample_id: int) -> list[Neighbour] | None:
    if not run.neighbours.exists():
        return None
    try:
        found = neighbours_of(run, sample_id, NUM_NEIGHBOURS)["neighbours"]
    except LitscopeError:  # this one has none
        return None
    return [Neighbour(one["sample_id"], one["key"], one["label_name"], one["distance"]) for one in found]
