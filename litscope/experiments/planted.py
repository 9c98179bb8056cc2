"""`litscope suspects --validate`: how well the ranking finds wrong labels that are known.

Wrong labels are planted in a copy of the training labels, the run's recipe is trained on them anew, and the
ranking of that training is judged by how it places them. There are two kinds, each with a training of its own:

    symmetric        any other class, all equally likely
    class-dependent  as the run itself confuses the classes (`canaries.draw`, from the believed labels)

To the new trainings these are plain relabels; only the judging here knows which samples they are.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from litscope.console import number_of, say, table_lines
from litscope.curation.carry import net_actions
from litscope.data.manifest import Ids, Manifest
from litscope.errors import ConfigError, RunError
from litscope.experiments.reruns import duration, epoch_s, numbered_folder, recipe_of, require_data, train_aside
from litscope.ledger.journal.actions import Action, decide, request
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.live.records import epoch_rows
from litscope.rundir import RunDir, read_lines, write_json
from litscope.starter import refuse_company
from litscope.training.loop.canaries import draw

DEPTHS = (0.5, 1.0, 2.0)
"""How far down the ranking is judged, in numbers of planted labels."""

CAVEAT = "Labels that were wrong before count as false alarms here, so the true precision is at least this."

_KEY = 0x706C616E74  # keeps these draws apart from those of canaries


class Depth(NamedTuple):
    """How good the ranking is down to one rank.

    Attributes:
        rank: how many samples are looked at.
        precision: share of them that were planted.
        recall: share of the planted ones that are among them.
    """

    rank: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Judged:
    """One kind of wrong labels.

    Attributes:
        kind: symmetric or class-dependent.
        num_planted: wrong labels.
        num_ranked: training samples in the ranking.
        average_precision: that of the ranking; by chance it would be about num_planted / num_ranked.
        depths: precision and recall at a half, one and two times the number planted.
    """

    kind: str
    num_planted: int
    num_ranked: int
    average_precision: float
    depths: list[Depth]


@dataclass(frozen=True)
class Validation:
    """What the ranking of a run's recipe is worth.

    Attributes:
        run: the run's folder.
        share: share of the training labels that were planted wrong.
        kinds: the result for each kind of wrong labels.
        notes: what differs from the run itself.
        report: the file that keeps all this.
    """

    run: str
    share: float
    kinds: list[Judged]
    notes: list[str]
    report: str

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json and the report."""
        kinds = [{**asdict(one), "depths": [depth._asdict() for depth in one.depths]} for one in self.kinds]
        return {**asdict(self), "kinds": kinds, "caveat": CAVEAT}

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        rows = []
        for one in self.kinds:
            chance = one.num_planted / max(1, one.num_ranked)
            start = [one.kind, f"{one.num_planted:,}", f"{one.average_precision:.3f}", f"{chance:.3f}"]
            for depth in one.depths:
                rows.append([*start, f"{depth.rank:,}", f"{depth.precision:.3f}", f"{depth.recall:.3f}"])
                start = [""] * len(start)
        head = ["planted", "number", "AP", "chance", "to rank", "precision", "recall"]
        return [*table_lines(head, rows, right=head[1:]), *self.notes, CAVEAT]


def validate(run: RunDir, share: float = 0.1, keep: bool = False) -> Validation:
    """Plant, train, and judge the ranking.

    Args:
        run: an open run with scores.
        share: share of the training labels to plant, in (0, 0.5).
        keep: keep the folders of the trainings, beside the report.

    Raises:
        ConfigError: if the share is out of range.
        RunError: if the run has no scores, or too few samples.
        UserError: if its data are not there any more.
        Interrupted: after Ctrl-C or SIGTERM; nothing is left.
    """
    refuse_company("litscope suspects --validate")
    if not 0 < share < 0.5:
        raise ConfigError(f"--share {share}: it is more than 0 and less than 0.5.")
    recipe = recipe_of(run)
    if not recipe.logging.ledger:
        raise RunError(f"{run.path} ran with --no-ledger, so a training with its recipe ranks nothing.")
    recipe.training.canaries = 0.0
    require_data(run, recipe)
    decided = net_actions(run)
    planted = dict(plant(run, decided, share, recipe.training.seed))
    one_s, num_epochs = epoch_s(run), len(epoch_rows(run))
    about = duration(None if one_s is None else one_s * num_epochs * len(planted))
    say(
        f"validation: {len(planted)} trainings with {share:.1%} wrong labels, {number_of(num_epochs, 'epoch')} each "
        f"as in {run.path}: {about}"
    )
    names = Manifest.read(run.manifest).classes
    kinds = []
    with numbered_folder(run.validation, keep) as folder:
        for kind, (ids, labels) in planted.items():
            began = time.monotonic()
            trained = train_aside(copy.deepcopy(recipe), folder / kind, [*decided, _wrong(ids, labels, names)])
            kinds.append(_judge(trained, kind, ids))
            say(f"{kind}: average precision {kinds[-1].average_precision:.3f} ({time.monotonic() - began:.0f} s)")
        report = run.validation / f"{folder.name}.json"
        found = Validation(str(run.path), share, kinds, _notes(run), str(report))
        write_json(report, found.to_dict())
    return found


def _wrong(ids: Ids, labels: Ids, names: tuple[str, ...]) -> Action:
    given = [names[k] for k in labels.tolist()]
    return request("relabel", who="litscope", why="wrong labels, for validation", sample_id=ids, label=given)


def plant(run: RunDir, decided: list[Action], share: float, seed: int) -> Iterator[tuple[str, tuple[Ids, Ids]]]:
    """Draw the wrong labels of each kind.

    Args:
        run: a run with scores.
        decided: what people decided there: discarded samples get none; for relabelled ones, the new label is right.
        share: share of the training samples that the run saw.
        seed: seed of the draws.

    Returns:
        (kind, (ids, classes)): (k,) int64 each, ids ascending, no class that of its sample.
    """
    manifest, state = Manifest.read(run.manifest), decide(decided)
    label = manifest.labels.copy()
    for sample_id, name in state.labels.items():
        label[sample_id] = manifest.classes.index(name)
    scores = refresh(run, save=False).table
    if not scores.num_rows:
        raise RunError(f"{run.path} has no scores yet: no epoch is complete.")
    scored = scores["sample_id"].to_numpy()
    believed = label.copy()
    believed[scored] = scores["believed_label"].to_numpy()
    ids = np.setdiff1d(scored[np.array(scores["split"].to_pylist()) == "train"], list(state.discarded))
    ids = ids[label[ids] >= 0].astype(np.int64)
    num_classes = len(manifest.classes)
    if round(share * len(ids)) < 2 or num_classes < 2:
        raise RunError(f"{run.path}: {share:.1%} of {len(ids)} training samples are too few to tell anything.")
    rng = np.random.default_rng([seed, _KEY])
    chosen = np.sort(rng.choice(ids, round(share * len(ids)), replace=False))
    yield "symmetric", (chosen, (label[chosen] + rng.integers(1, num_classes, len(chosen))) % num_classes)
    believed = np.where(believed < 0, label, believed)
    yield "class-dependent", draw(ids, label[ids], believed[ids], ids, num_classes, share, seed)


def _judge(trained: RunDir, kind: str, planted: Ids) -> Judged:
    table = refresh(trained, save=False).table
    suspicion = np.asarray(table["suspicion"].to_numpy(), np.float64)
    is_ranked = (np.array(table["split"].to_pylist()) == "train") & ~np.isnan(suspicion)
    ranked, value = table["sample_id"].to_numpy()[is_ranked], suspicion[is_ranked]
    hits = np.isin(ranked[np.lexsort((ranked, -value))], planted)
    return Judged(kind, len(planted), len(hits), average_precision(hits, len(planted)), depths(hits, len(planted)))


def average_precision(hits: NDArray[np.bool_], num_planted: int) -> float:
    """The mean, over all planted samples, of the precision at the sample's rank; 0 for one that is not ranked.

    Args:
        hits: (N,) whether the sample at each rank was planted, most suspicious first.
        num_planted: including those that are not ranked.
    """
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].sum() / num_planted)


def depths(hits: NDArray[np.bool_], num_planted: int) -> list[Depth]:
    """Precision and recall at `DEPTHS`; arguments as `average_precision`."""
    ranks = [min(len(hits), max(1, round(depth * num_planted))) for depth in DEPTHS]
    found = [int(hits[:rank].sum()) for rank in ranks]
    return [Depth(rank, n / max(1, rank), n / num_planted) for rank, n in zip(ranks, found, strict=True)]


def _notes(run: RunDir) -> list[str]:
    began = min(read_lines(run.attempts), key=lambda line: line["attempt"], default={})
    if began.get("resumed_from") is None:
        return []
    return [f"{run.path.name} began from {Path(began['resumed_from'])}; these trainings started from scratch."]
