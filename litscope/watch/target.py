"""WatchedTraining: what people can change in a person's own training while it runs, and what they cannot."""

# ruff: noqa: ARG002 - a Steered is told more than this one needs
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from litscope.errors import ConfigError, did_you_mean
from litscope.ledger.journal.actions import Decisions
from litscope.live.steered import Moment
from litscope.watch.rates import Rates
from litscope.watch.samples.nesting import Ids
from litscope.watch.samples.own_ids import OwnIds, has_names
from litscope.watch.samples.roster import Roster

CAN_BE_SET = ("lr", "lr_scale", "weight_decay")

Save = Callable[[Path], Any]
"""Writes a checkpoint to a path."""


class WatchedTraining:
    """A training whose loop is a person's own (`live.steered.Steered`).

    Args:
        roster: the run's samples.
        rates: the rates of its optimizers.
        folder: where checkpoints are written when somebody asks for one.
        own: what ids of a person's own stand for.

    Attributes:
        save: how a checkpoint is written, where the loop told us.
        num_edits: edits of validation or test samples so far.
        are_weights_used: whether the loop asks for weights (`weight_of`).
    """

    def __init__(self, roster: Roster, rates: Rates, folder: Path, own: OwnIds | None = None) -> None:
        self.save: Save | None = None
        self.num_edits = 0
        self.are_weights_used = False
        self._roster, self._rates, self._folder = roster, rates, folder
        self._own = own
        self._weights: dict[int, float] = {}
        self._on_device: dict[tuple[str | None, torch.device], tuple[Tensor, Tensor]] = {}

    @property
    def num_samples(self) -> int:
        """How many samples are known so far."""
        return len(self._roster)

    @property
    def has_weights(self) -> bool:
        """Whether any sample has a weight other than 1."""
        return bool(self._weights)

    def weight_of(self, sample_id: Any, own_space: str | None = None) -> Tensor:
        """(B,) float32 on the ids' device: the factor of each sample's loss.

        Args:
            sample_id: (B,) as the batch carries them.
            own_space: where they count, if they are a person's own (`own_ids`); None: they are those of `with_ids`.
        """
        self.are_weights_used = True
        if has_names(sample_id):
            named = dict(self._weighted(own_space))
            return torch.tensor([named.get(name, 1.0) for name in sample_id], dtype=torch.float32)
        ids = torch.as_tensor(sample_id)
        if not self._weights:
            return torch.ones(ids.shape, device=ids.device)
        place = own_space, ids.device
        if place not in self._on_device:
            pairs = sorted(pair for pair in self._weighted(own_space) if isinstance(pair[0], int)) or [(0, 1.0)]
            keys, weights = zip(*pairs, strict=True)
            table = torch.tensor(keys, dtype=torch.int64), torch.tensor(weights, dtype=torch.float32)
            self._on_device[place] = table[0].to(ids.device), table[1].to(ids.device)
        known, factors = self._on_device[place]
        at = torch.searchsorted(known, ids).clamp_(max=len(known) - 1)
        return torch.where(known[at] == ids, factors[at], 1.0)

    def _weighted(self, own_space: str | None) -> Iterator[tuple[int | str, float]]:
        """The samples with a weight, by the ids that their batches carry."""
        for sample_id, weight in self._weights.items():
            own = None if self._own is None else self._own.own_id(sample_id)
            if own is None and own_space is None:
                yield sample_id, weight
            elif own is not None and own[0] == own_space:
                yield own[1], weight

    # ---- what steering asks ------------------------------------------------------------------

    def asked(self) -> dict[str, Any]:
        # settings belong to the script
        return {"settings": {}, "plan": None}

    def state(self) -> dict[str, Any]:
        # nothing is kept in checkpoints, because the journal is there
        return {}

    def restore(self, decisions: Decisions, state: Mapping[str, Any]) -> None:
        # a run that goes on applies its journal again
        raise AssertionError("a watched run keeps no actions in a checkpoint")

    def keep_plan(self, state: Mapping[str, Any]) -> None:
        """The schedule is the script's."""

    def follow(self, decisions: Decisions, moment: Moment, num_ranks: int) -> list[str]:
        """Take discards, labels, weights and rates into the loop, or refuse."""
        labels = {sample_id: self._class(name) for sample_id, name in decisions.labels.items()}
        weights = {sample_id: weight for sample_id, weight in decisions.weights.items() if weight != 1}
        self._check_settings(decisions.settings)
        self._check_samples(decisions, labels, weights, num_ranks)
        notes = self._follow_samples(decisions.discarded, labels)
        self._weights, self._on_device = weights, {}
        settings = decisions.settings
        self._rates.set(settings.get("lr"), settings.get("lr_scale", 1.0), settings.get("weight_decay"))
        return notes

    def save_copy(self, moment: Moment) -> str:
        """Have the loop write a checkpoint."""
        if self.save is None:
            raise ConfigError("This loop did not say how to save itself: litscope.watch.run(..., save=FUNCTION).")
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"step{moment.step:08d}.ckpt"
        self.save(path)
        return str(path)

    def evaluate_now(self, ids: Ids, moment: Moment) -> dict[str, float]:
        raise ConfigError("The loop is your own, and evaluates when it does: nothing can be evaluated on demand.")

    def ids_of(self, split: str) -> Ids:
        return self._roster.ids_of(split)

    def readable(self, ids: Ids) -> Ids:
        return ids

    def prepare_epoch(self) -> None:
        """Nothing to do: samplers follow the decisions by themselves."""

    def epoch_starts(self) -> None:
        """Nothing to do here either."""

    # ---- how -----------------------------------------------------------------------------------

    def _class(self, name: str) -> int:
        classes = self._roster.classes
        if name not in classes:
            raise ConfigError(f"{name!r} is not a class of this run.{did_you_mean(name, classes)}")
        return classes.index(name)

    def _check_settings(self, settings: Mapping[str, Any]) -> None:
        for name in settings:
            if name not in CAN_BE_SET:
                raise ConfigError(
                    f"{name} belongs to your own loop, so it cannot be changed from here; "
                    f"{', '.join(CAN_BE_SET)} can. Change it in your script."
                )
        if settings and not self._rates.has_optimizers:
            raise ConfigError("This loop did not say which optimizer it has: litscope.watch.run(..., optimizer=...).")

    def _check_samples(
        self, decisions: Decisions, labels: Mapping[int, int], weights: Mapping[int, float], num_ranks: int
    ) -> None:
        for sample_id in (*decisions.discarded, *labels, *weights):
            if sample_id >= len(self._roster):
                raise ConfigError(f"sample_id {sample_id}: the run has seen {len(self._roster)} samples, from 0.")
        for sample_id in (*decisions.discarded, *labels):
            part = self._roster.part_of(sample_id)
            if part is None or part.is_own:
                raise ConfigError(
                    f"sample_id {sample_id}: its batches carry ids of your own, so litscope cannot tell which sample "
                    "of the data set it is. Wrap the data set: litscope.watch.with_ids(dataset)."
                )
            if not part.was_carried:
                raise ConfigError(
                    f"sample_id {sample_id}: no loader has shown its data set since the run went on. Ask again once "
                    "one has."
                )
        for sample_id in decisions.discarded:
            part = self._roster.part_of(sample_id)
            if part is not None and not part.is_steered:
                raise ConfigError(
                    f"sample_id {sample_id}: no loader that litscope can steer draws it. Use a DataLoader with a batch "
                    "size, under Lightning with Scope, else litscope.watch.Loader(dataset, ...)."
                )
        if weights and not self.are_weights_used:
            raise ConfigError(
                "The loss is your own, and does not ask for weights: multiply it by "
                "litscope.watch.weight_of(sample_id) before you take its mean."
            )
        self._check_left(decisions.discarded, num_ranks)

    def _check_left(self, discarded: set[int], num_ranks: int) -> None:
        """Some sample of each split has to stay, and two of training for each rank."""
        gone = np.zeros(len(self._roster), bool)
        gone[list(discarded)] = True
        for split, least in (("train", 2 * num_ranks), ("val", 1), ("test", 1)):
            ids = np.flatnonzero(self._roster.is_in(split))
            if len(ids) and discarded and (left := int((~gone[ids]).sum())) < min(least, len(ids)):
                raise ConfigError(f"That would leave {left} samples of {split}; at least {least} are needed.")

    def _follow_samples(self, discarded: set[int], labels: Mapping[int, int]) -> list[str]:
        before = self._roster.is_discarded()
        self._roster.follow(discarded, labels)
        is_held_out = (before != self._roster.is_discarded()) & ~self._roster.is_in("train")
        if not is_held_out.any():
            return []
        self.num_edits += 1
        return ["metrics of val or test before and after this cannot be compared"]
