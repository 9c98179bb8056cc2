"""Canaries: a few wrong labels that the run plants itself, to measure how well its ranking finds wrong labels.

After the first epoch a small share of the training samples get a wrong label. Before the last fifth of the run they
get their own label back, so that the weights recover. Both are actions in the journal, marked `canary`: they are
replayed like any other, are never shown as suspects and never exported.

There are two kinds, half of the canaries each, because real errors lie between them. For `classes` the wrong label
is drawn from how the network confused the classes in that epoch; such labels stand out. For `sample` it is drawn from
what the network thinks of this very sample after that epoch, in which it trained on it once: the mistake that tempts it
most, which it gives up last. No torch: the network is asked by the recorder.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from litscope.console import say
from litscope.ledger.journal.actions import Journal, is_request, request, submit
from litscope.ledger.reader import LedgerReader
from litscope.rundir import RunDir

WHO = "litscope"

LEAVE_AT = 0.8
"""Share of the run after which the true labels come back."""

_KEY = 0x63616E617279  # keeps these draws apart from those of splits

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Plan(NamedTuple):
    """Canaries that are about to be planted.

    Attributes:
        sample_id: (K,) int64, ascending.
        label: (K,) int64, a wrong class for each, drawn from confused classes.
        asked: ids of those whose wrong class is to be drawn from what the network thinks of them.
        luck: a number in [0, 1) for each of `asked`, which decides that draw.
    """

    sample_id: Ids
    label: Ids
    asked: Ids
    luck: Floats

    def tempting(self, sample_id: Ids, label: Ids, p: npt.NDArray[np.float32]) -> dict[int, int]:
        """A wrong class for samples of `asked`, by the network's own probabilities of the other classes.

        Args:
            sample_id, label: (B,) rows of an evaluation; ids of padding (-1) are passed over.
            p: (B, C) probabilities.

        Returns:
            sample_id -> class.
        """
        real = sample_id >= 0
        ids, own = sample_id[real], label[real]
        odds = p[real].astype(np.float64) + 1e-12  # so that there is a wrong class, whatever the network rules out
        odds[np.arange(len(ids)), own] = 0.0
        wrong = _pick(odds, self.luck[np.searchsorted(self.asked, ids)])
        return dict(zip(ids.tolist(), wrong.tolist(), strict=True))


class Canaries:
    """Plants canaries and takes them out. For rank 0, at each epoch's end, when the epoch's signals are on the disk.

    Args:
        run: the run's folder.
        share: share of the training samples, in (0, 0.5).
        seed: decides which samples, and which labels.
        classes: names of the classes.
    """

    def __init__(self, run: RunDir, share: float, seed: int, classes: tuple[str, ...]) -> None:
        self._run, self._share, self._seed, self._classes = run, share, seed, classes
        self._planted: str | None = None
        self._is_over = False
        self._has_looked = False

    def epoch_ended(self, epoch: int, ids: Ids, done: float) -> Plan | None:
        """Say what to plant after the first epoch; take out near the end.

        Args:
            epoch: the epoch that ended, from 0.
            ids: (n,) int64 the training samples that count now.
            done: share of the run that is over: 1 when it ends here, 0 if its end is not known.

        Returns:
            What `plant` is to be called with now.
        """
        self._look()
        if self._planted is None:
            return self._plan(epoch, ids) if done < LEAVE_AT else None
        if not self._is_over and done >= LEAVE_AT:
            self._is_over = True
            why = "the canaries' own labels"
            submit(self._run, request("undo", who=WHO, why=why, action=self._planted, canary=True))
            if done >= 1:
                say("the run ends with its canaries in place: its weights were trained with their wrong labels")
        return None

    def plant(self, plan: Plan, tempting: dict[int, int]) -> None:
        """Plant them.

        Args:
            plan: from `epoch_ended`.
            tempting: sample_id -> class for those of `asked`, from `Plan.tempting`. One that is missing, because the
                network could not be asked, stays of the other kind.
        """
        labels = [tempting.get(i, k) for i, k in zip(plan.sample_id.tolist(), plan.label.tolist(), strict=True)]
        action = request(
            "relabel",
            who=WHO,
            why=f"{len(labels)} canaries: planted wrong labels, which measure the ranking of suspects",
            sample_id=plan.sample_id,
            label=[self._classes[k] for k in labels],
            canary=True,
            drawn_from=["sample" if i in tempting else "classes" for i in plan.sample_id.tolist()],
        )
        submit(self._run, action)
        self._planted = action["id"]

    def _look(self) -> None:
        """What the journal says about canaries, from an earlier attempt or from another run's checkpoint."""
        if self._has_looked:
            return
        self._has_looked = True
        lines = [line for line in Journal(self._run).poll() if is_request(line) and line.get("canary")]
        self._planted = next((line["id"] for line in lines if line["what"] == "relabel"), None)
        self._is_over = any(line["what"] == "undo" for line in lines)

    def _plan(self, epoch: int, ids: Ids) -> Plan:
        rows = LedgerReader(self._run).table(
            ["sample_id", "label", "pred"], split="train", min_epoch=epoch, max_epoch=epoch
        )
        sample_id, label, pred = (rows[name].to_numpy().astype(np.int64) for name in ("sample_id", "label", "pred"))
        chosen, wrong = draw(sample_id, label, pred, ids, len(self._classes), self._share, self._seed)
        rng = np.random.default_rng([self._seed, _KEY, 1])
        asked = np.sort(rng.choice(chosen, len(chosen) // 2, replace=False))
        return Plan(chosen, wrong, asked, rng.random(len(asked)))


def draw(sample_id: Ids, label: Ids, pred: Ids, ids: Ids, num_classes: int, share: float, seed: int) -> tuple[Ids, Ids]:
    """Which samples get which wrong label, by the confusions of classes.

    A sample of class y gets class k with a probability proportional to how often the model took y for k in
    these rows, plus one spread over all other classes, so that every wrong class can come.

    Args:
        sample_id, label, pred: (n,) int64, the rows of one epoch.
        ids: (m,) int64 samples that may be chosen.
        num_classes: C.
        share: of `ids`, rounded, at least one sample.

    Returns:
        (k,) sample ids, ascending, and (k,) wrong class indices.
    """
    rng = np.random.default_rng([seed, _KEY])
    may = np.isin(sample_id, ids) & (label >= 0)
    order = np.argsort(sample_id[may], kind="stable")
    known, own = sample_id[may][order], label[may][order]
    known, first = np.unique(known, return_index=True)
    own = own[first]
    at = np.sort(rng.choice(len(known), max(1, round(share * len(known))), replace=False))
    counts = np.full((num_classes, num_classes), 1.0 / max(1, num_classes - 1))
    np.add.at(counts, (label[may], pred[may]), 1.0)
    np.fill_diagonal(counts, 0.0)
    return known[at], _pick(counts[own[at]], rng.random(len(at)))


def _pick(odds: Floats, luck: Floats) -> Ids:
    """(k,) a class each, by odds (k, C) of which some are positive, for numbers (k,) in [0, 1)."""
    sums = np.cumsum(odds, axis=1)
    wrong: Ids = (luck[:, None] >= sums / sums[:, -1:]).sum(1).astype(np.int64)
    return wrong
