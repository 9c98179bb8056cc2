"""Canaries: a few wrong labels that the run plants itself, to measure how well its ranking finds wrong labels.

After the first epoch a small share of the training samples get a wrong label, drawn from the model's
own confusions. Before the last fifth of the run they get their own label back, so that
the weights recover. Both are actions in the journal, marked `canary`: they are replayed like any
other, are never shown as suspects and never exported. No torch.
"""

from __future__ import annotations

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

    def epoch_ended(self, epoch: int, ids: Ids, done: float) -> None:
        """Plant after the first epoch, take out near the end.

        Args:
            epoch: the epoch that ended, from 0.
            ids: (n,) int64 the training samples that count now.
            done: share of the run that is over: 1 when it ends here, 0 if its end is not known.
        """
        self._look()
        if self._planted is None:
            if done < LEAVE_AT:
                self._plant(epoch, ids)
        elif not self._is_over and done >= LEAVE_AT:
            self._is_over = True
            why = "the canaries' own labels"
            submit(self._run, request("undo", who=WHO, why=why, action=self._planted, canary=True))
            if done >= 1:
                say("the run ends with its canaries in place: its weights were trained with their wrong labels")

    def _look(self) -> None:
        """What the journal says about canaries, from an earlier attempt or from another run's checkpoint."""
        if self._has_looked:
            return
        self._has_looked = True
        lines = [line for line in Journal(self._run).poll() if is_request(line) and line.get("canary")]
        self._planted = next((line["id"] for line in lines if line["what"] == "relabel"), None)
        self._is_over = any(line["what"] == "undo" for line in lines)

    def _plant(self, epoch: int, ids: Ids) -> None:
        rows = LedgerReader(self._run).table(
            ["sample_id", "label", "pred"], split="train", min_epoch=epoch, max_epoch=epoch
        )
        sample_id, label, pred = (rows[name].to_numpy().astype(np.int64) for name in ("sample_id", "label", "pred"))
        chosen, labels = draw(sample_id, label, pred, ids, len(self._classes), self._share, self._seed)
        action = request(
            "relabel",
            who=WHO,
            why=f"{len(chosen)} canaries: planted wrong labels, which measure the ranking of suspects",
            sample_id=chosen,
            label=[self._classes[k] for k in labels.tolist()],
            canary=True,
        )
        submit(self._run, action)
        self._planted = action["id"]


def draw(sample_id: Ids, label: Ids, pred: Ids, ids: Ids, num_classes: int, share: float, seed: int) -> tuple[Ids, Ids]:
    """Which samples get which wrong label.

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
    odds = np.cumsum(counts / counts.sum(1, keepdims=True), axis=1)[own[at]]  # (k, C)
    wrong = (rng.random(len(at))[:, None] >= odds).sum(1)
    return known[at], np.minimum(wrong, num_classes - 1).astype(np.int64)
