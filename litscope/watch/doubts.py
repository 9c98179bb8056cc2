"""Doubts: what only values can tell about logits and labels, looked at by the thread that writes them.

In a step nothing may wait for the device, so a label that is no class, or probabilities in place of logits, are noticed
when the rows are on the host: seconds later, or at the end of the epoch. Rows that cannot be right are not written.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from litscope.claims import Guard, unguarded
from litscope.console import warn
from litscope.errors import ConfigError
from litscope.ledger.schema import Rows
from litscope.ledger.writer import Queued
from litscope.rundir import RunDir
from litscope.watch.forms import Classified, beyond, not_whole
from litscope.watch.samples.own_ids import OwnIds, SampleIdWriter

NUM_LOOKED_AT = 64
"""Rows of logits that are looked at, at the start of a run, to see whether they are probabilities."""

NUM_OF_ONE_LOGIT = 256
"""The same for models with one logit, of which a single value tells little."""

_CLOSE = 0.01
"""How far from 1 a row of probabilities may sum up to, in half precision too."""

_SURE = 1 / (1 + math.exp(-1))
"""The greatest probability that one logit within [0, 1] can mean."""


@dataclass(frozen=True)
class _Seen:
    """What was held back since the last rows were handed over."""

    num_classes: int
    is_one_logit: bool
    floats: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]


class Doubts:
    """Looks at what a watched run records.

    Args:
        is_first_rank: it says what it notices; the others only refuse.

    Attributes:
        refusal: what is wrong with the labels, once it is known.
    """

    def __init__(self, is_first_rank: bool) -> None:
        self.refusal: ConfigError | None = None
        self._says = is_first_rank
        self._num_classes, self._is_one_logit = 0, False
        self._floats: list[Tensor] = []
        self._logits: list[Tensor] = []
        self._num_held = 0
        self._one_logit = _OneLogit()
        self._are_probabilities = False

    def raise_refusal(self) -> None:
        """Raise what is wrong with the labels, if anything is.

        Raises:
            ConfigError: naming a value.
        """
        if self.refusal is not None:
            raise self.refusal

    def fits(self, batch: Classified) -> bool:
        """Whether a batch has as many classes as those that were held back; else they have to be handed over first."""
        return self._num_classes in (0, batch.logits.shape[1])

    def hold(self, batch: Classified) -> None:
        """Keep what has to be looked at. Only the first rows of a run and labels that are no whole numbers are."""
        self._num_classes, self._is_one_logit = batch.logits.shape[1], batch.is_one_logit
        if batch.floats is not None:
            self._floats.append(batch.floats)
        if self._num_held < NUM_LOOKED_AT:
            self._logits.append(batch.logits[:NUM_LOOKED_AT].clone())
            self._num_held += len(self._logits[-1])

    def about(self, block: Queued) -> Queued:
        """Rows that are looked at when they are on the host."""
        seen = _Seen(self._num_classes, self._is_one_logit, tuple(self._floats), tuple(self._logits))
        self._num_classes, self._floats, self._logits = 0, [], []
        return _LookedAt(block, lambda rows: self._look(rows, seen))

    def _look(self, rows: Rows, seen: _Seen) -> None:
        """In the writer's thread."""
        if seen.floats:
            values = torch.cat(seen.floats).cpu().numpy()
            if len(odd := values[values != np.rint(values)]):
                rows.sample_id[:] = -1  # as padding: what their labels are is not known
                self.refusal = self.refusal or not_whole(float(odd[0]))
        if len(wrong := np.flatnonzero((rows.label >= seen.num_classes) & (rows.sample_id >= 0))):
            first = wrong[0]
            self.refusal = self.refusal or beyond(
                int(rows.label[first]), int(rows.sample_id[first]), seen.num_classes, seen.is_one_logit
            )
            rows.sample_id[wrong] = -1
        if self._says:
            self._look_for_probabilities(rows, seen)

    def _look_for_probabilities(self, rows: Rows, seen: _Seen) -> None:
        if seen.is_one_logit:
            if self._one_logit.are_probabilities(rows):
                warn(
                    f"the logits of the first {NUM_OF_ONE_LOGIT} rows all lie within [0, 1]: if they are outputs of a "
                    "sigmoid, record what goes into it (BCEWithLogitsLoss takes it, too); as they are, loss, p_label "
                    "and scores are wrong"
                )
        elif seen.logits and not self._are_probabilities and _sum_to_one(torch.cat(seen.logits)):
            self._are_probabilities = True  # told once
            most = math.e / (math.e + seen.num_classes - 1)
            warn(
                f"the logits are probabilities: each row lies within [0, 1] and sums to 1. Record what goes into the "
                f"softmax (log-probabilities are fine, too); as they are, no p_label can be above {most:.2f}, and "
                "loss, margin and scores are wrong"
            )


class CheckedWriter(SampleIdWriter):
    """A ledger's writer that looks at its rows.

    Args:
        doubts: they look.
        own, run, attempt, rank, guard: as of `SampleIdWriter`.
    """

    def __init__(
        self, doubts: Doubts, own: OwnIds | None, run: RunDir, attempt: int, rank: int, guard: Guard = unguarded
    ) -> None:
        super().__init__(own, run, attempt, rank, guard=guard)
        self._doubts = doubts

    def named(self, block: Queued) -> Queued:
        """Rows that get the ids of the manifest, then are looked at: -1 may be an id before, and is padding after."""
        return self._doubts.about(super().named(block))


class _LookedAt:
    """Rows on their way to the host, that somebody looks at when they are there."""

    def __init__(self, block: Queued, look: Callable[[Rows], None]) -> None:
        self._block, self._look = block, look

    def rows(self) -> Rows:
        rows = self._block.rows()
        assert isinstance(rows, Rows)
        self._look(rows)
        return rows


class _OneLogit:
    """Whether all logits of a model that has one lie within [0, 1], as far as has been seen."""

    def __init__(self) -> None:
        self._num_rows, self._most, self._is_told = 0, 0.0, False

    def are_probabilities(self, rows: Rows) -> bool:
        """True once, when enough rows are all within [0, 1] and are not all 0, as those of a new layer may be."""
        if self._is_told:
            return False
        p_max, is_one = rows.signals["p_max"], rows.pred == 1
        is_inside = (is_one & (p_max <= _SURE + 1e-4)) | (p_max <= 0.5 + 1e-6)
        self._is_told = not is_inside.all()
        self._num_rows += len(p_max)
        self._most = max(self._most, float(p_max.max(initial=0.0)))
        if self._is_told or self._num_rows < NUM_OF_ONE_LOGIT or self._most < 0.6:
            return False
        self._is_told = True
        return True


def _sum_to_one(logits: Tensor) -> bool:
    values = logits.float().cpu()
    is_inside = bool(((values >= 0) & (values <= 1)).all())
    return is_inside and bool(((values.sum(1) - 1).abs() < _CLOSE).all())
