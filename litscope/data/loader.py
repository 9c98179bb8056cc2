"""Loader: ids in, batches of tensors out, with a position that resumes exactly in mid-epoch.

`gather_loader` serves data in memory or in a memory map, `stream_loader` decodes files in threads.
Both are plain iterables, not torch DataLoaders, so that Lightning leaves them alone: no
injected DistributedSampler that pads by repeating, no rebuilding under `overfit_batches` or
`predict`. They are sized, so Lightning does not prefetch: it asks for a batch when it trains on
it. Therefore a batch counts as consumed when it is handed over, whatever was decoded
ahead, and a state saved after a training step holds exactly the steps taken. Lightning never
runs an iterator to its end, so the state after an epoch's last batch is (epoch + 1, 0) at once.

`redraw` changes which samples are still to come while an epoch runs. What was decoded
ahead is thrown away then, so the change holds from the very next batch, and the batches do not
depend on how far ahead anybody was.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from litscope.data.draws import Draws, times_before
from litscope.data.overlay import Overlay
from litscope.data.redrawn import Redrawn, cut_rest
from litscope.data.sampler import EpochOrder, Ids, steps_left
from litscope.data.visits import Visits
from litscope.errors import ConfigError
from litscope.types import Batch

_ALL = "all"  # samples at once, wherever they lie


class Loader(ABC):
    """Yields the batches of one epoch after another; holds the position.

    Attributes:
        epoch: epoch of the next batch.
        batches_done: batches of that epoch that were handed over.
        regroups: whether an epoch may be taken up in its middle with steps of another size. It then has another number
            of steps than the next one, for which somebody must ask anew (`lightning_internals.ask_for_train_loader`).
        is_regrouped: whether the epoch was taken up in the middle, with steps of another size.
        last: (epoch, number in the epoch) of the batch handed over last; (-1, -1) before the first. Of a stack
            of batches, the number of its first.
        waited_s: seconds that whoever iterates has waited for batches, in all epochs.

    Args:
        order: the ids of each batch.
        overlay: labels and weights.
        pin_memory: hand over page-locked memory, for asynchronous copies to a GPU.
        epoch: epoch of the first batch.
        limit: batches of an epoch that will be asked for (`limit_train_batches`), if not all.
    """

    def __init__(
        self, order: EpochOrder, overlay: Overlay, *, pin_memory: bool = False, epoch: int = 0, limit: int | None = None
    ) -> None:
        self.order = order
        self.epoch = epoch
        self.batches_done = 0
        self.last = (-1, -1)
        self.waited_s = 0.0
        self._overlay = overlay
        self._pin_memory = pin_memory
        self._num_batches = len(order)
        self._limit = limit
        self._is_resumed = False
        self._redrawn: Redrawn | None = None
        self._visits: Visits | None = None
        self._is_cut_short = False
        self._is_behind = False  # samples have changed, and the epoch could not follow
        self.regroups = self.is_regrouped = False

    def __len__(self) -> int:
        """Batches in a whole epoch, also when the next pass is the rest of one."""
        return self._num_batches

    @property
    def limit(self) -> int:
        """Batches of an epoch that will be asked for; the position moves to the next epoch there."""
        return len(self) if self._limit is None else min(self._limit, len(self))

    def __iter__(self) -> Iterator[Batch]:
        """One epoch; after `load_state_dict` what is left of it.

        The position is read when the first batch is asked for: Lightning makes iterators that it
        throws away. An epoch that was left part-way is not taken up again, unless from a state.
        """
        if self.batches_done and not self._is_resumed:
            self.epoch, self.batches_done = self.epoch + 1, 0
        if not self.batches_done:
            self._redrawn, self._num_batches, self._is_behind = None, len(self.order), False
        epoch, number = self.epoch, self.batches_done
        asked_at = time.perf_counter()
        while number < len(self):
            self._is_cut_short = False
            for batch in self._load(self._batches(epoch, number)):
                count = num_stacked(batch)
                self._hand_over(epoch, number, count)
                if self._visits is not None:
                    batch["visit"] = self._visits.of(batch["sample_id"], number)
                number += count
                batch = self._finish(batch)
                self.waited_s += time.perf_counter() - asked_at
                yield batch
                asked_at = time.perf_counter()
                if self._is_cut_short:
                    break
            else:
                return

    def _batches(self, epoch: int, first: int) -> list[Ids]:
        """The ids of this rank's batches from number `first` on."""
        order, redrawn = self.order, self._redrawn
        if redrawn is None:
            ids, cut = order.shared(order.epoch_ids(epoch)), partial(order.cut, first=first)
        else:
            now = redrawn.at(first, self.limit)
            ids = np.concatenate([now.drawn, now.rest])
            cut = partial(cut_rest, order, len(now.drawn), self.limit - first)
        batches = cut(ids)
        self._visits = None if order.draws is None else Visits(first, batches, cut(times_before(ids)))
        return batches

    def _hand_over(self, epoch: int, number: int, count: int) -> None:
        self._is_resumed = False
        self.last = (epoch, number)
        is_last = number + count >= self.limit
        self.epoch, self.batches_done = (epoch + 1, 0) if is_last else (epoch, number + count)

    def _finish(self, batch: Batch) -> Batch:
        """Add what the overlay says now of the batch's samples; or that it is padding."""
        ids = batch["sample_id"]
        if self.order.is_padding:
            return {**batch, "sample_id": torch.full_like(ids, -1), "label": torch.full_like(ids, -1)}
        batch["label"] = self._overlay.labels[ids]
        weight = self._overlay.weight_of(ids)
        if weight is not None:
            batch["weight"] = weight.pin_memory() if self._pin_memory else weight
        soft = self._overlay.soft_of(ids)
        if soft is not None:
            batch["soft_label"] = soft.pin_memory() if self._pin_memory else soft
        if self._pin_memory:
            batch["label"] = batch["label"].pin_memory()
        return batch

    # ---- samples that come and go within an epoch ---------------------------------------------

    def redraw(self, active: Ids, draws: Draws | None = None) -> bool:
        """From the next batch on, train on `active`: all of it that this epoch has not drawn yet. Where an epoch draws
        with repetition, what is left of it is drawn anew.

        The number of batches stays. Called between two batches of an epoch (at its end the next
        epoch's loader takes the new ids).

        Args:
            active: int64 ids, the same on every rank.
            draws: how they are drawn from now on, where the order draws with repetition.

        Returns:
            Whether it is so. False leaves the epoch as it was, because its last batches would have
            too few samples (two for each rank, as batch norm needs); the next epoch will have them.
        """
        num_steps = self.limit - self.batches_done
        before = self._not_redrawn() if self._redrawn is None else self._redrawn.at(self.batches_done, self.limit)
        if draws is None:
            rest = self.order.arrange(np.setdiff1d(active, before.drawn), self.epoch)
        else:
            rest = self.order.drawing(draws).drawn(active, len(before.rest), self.epoch, self.batches_done)
        if self.limit < len(self):  # the epoch stops early: it goes on with as many samples as it would have had
            rest = rest[: num_steps * self.order.step_size]
        if len(rest) < num_steps * self.order.world * min(2, self.order.batch_size):
            self._is_behind = True
            return False
        self._redrawn = Redrawn(self.batches_done, rest, before.drawn)
        self._is_cut_short = True
        return True

    def _not_redrawn(self) -> Redrawn:
        """What the epoch has drawn so far, and what is left, while nobody changed it."""
        order = self.order.epoch_ids(self.epoch)
        at = self.batches_done * self.order.step_size
        return Redrawn(self.batches_done, order[at:], order[:at])

    def start_over(self, order: EpochOrder, epoch: int, limit: int | None) -> None:
        """Go on with `epoch`, from its start, in another order. Worker processes, where there are any, stay.

        Args:
            order, epoch, limit: as in a new loader.
        """
        self.order, self._num_batches, self._limit = order, len(order), limit
        self.epoch, self.batches_done = epoch, 0
        self._is_resumed, self._redrawn, self._is_behind = False, None, False
        self.is_regrouped = False

    # ---- the position ------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The position, the same on all ranks, and the facts under which it holds."""
        state: dict[str, Any] = {"epoch": self.epoch, "batches_done": self.batches_done, **self._facts()}
        if self._redrawn is not None and self.batches_done:
            now = self._redrawn.at(self.batches_done, self.limit)
            state |= {"rest": torch.tensor(now.rest), "drawn": torch.tensor(now.drawn)}
            state |= {"num_batches": len(self), "limit": self.limit}
        elif self._is_behind and self.batches_done:
            state |= {"ids": torch.tensor(self.order.ids), "limit": self.limit}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a position; the next pass yields what is left of that epoch.

        Raises:
            ConfigError: if the position lies inside an epoch whose order or batches were others.
        """
        has_other_steps = bool(state["batches_done"]) and state["samples_per_step"] != self.order.step_size
        self.is_regrouped = self.regroups and has_other_steps
        if self.is_regrouped:
            self._regroup(state)
        elif state["batches_done"]:
            if "limit" in state:  # that of a share, or of no limit, goes by the samples there were
                self._limit = int(state["limit"])
            if "num_batches" in state:
                self._num_batches = int(state["num_batches"])
                self._redrawn = Redrawn(state["batches_done"], state["rest"].numpy(), state["drawn"].numpy())
            if "ids" in state:
                self.order = self.order.of(state["ids"].numpy())
                self._num_batches, self._is_behind = len(self.order), True
            self._check_facts(state)
            if state["batches_done"] >= len(self):  # what is left joined the last step here, which is done there
                raise self._too_few(state, len(self.order.ids) - state["batches_done"] * self.order.step_size)
        self.epoch, self.batches_done = int(state["epoch"]), int(state["batches_done"])
        self._is_resumed = True

    def _regroup(self, state: dict[str, Any]) -> None:
        """Take up an epoch whose steps had another size, on more or fewer processes or with another batch size.

        What it had not drawn yet is spread over as many steps as that makes now. Every id still comes once.
        """
        done, order = int(state["batches_done"]), self.order
        if "rest" in state:
            rest, drawn = state["rest"].numpy(), state["drawn"].numpy()
        else:
            if "ids" in state:
                self.order = order = order.of(state["ids"].numpy())
            ids, at = order.epoch_ids(int(state["epoch"])), done * int(state["samples_per_step"])
            rest, drawn = ids[at:], ids[:at]
        is_limited = self._limit is not None and self._limit < self._num_batches
        of_rest = ("num_samples",) if "rest" in state else ()  # which says itself what is left
        self._check_facts(state, but=of_rest if is_limited else ("samples_per_step", *of_rest))
        num_left = steps_left(len(rest), order.batch_size, order.world)
        if not num_left:
            raise self._too_few(state, len(rest))
        self._redrawn, self._limit = Redrawn(done, rest, drawn), None
        self._num_batches = done + num_left

    def _too_few(self, state: dict[str, Any], num_left: int) -> ConfigError:
        return ConfigError(
            f"The checkpoint lies inside epoch {state['epoch'] + 1}, of which {num_left} samples are left: too few "
            f"for {self.order.world} devices. Resume on fewer, or from a checkpoint at the end of an epoch."
        )

    def _check_facts(self, state: dict[str, Any], but: Collection[str] = ()) -> None:
        """Refuse a position inside an epoch whose order or batches were others."""
        then: dict[str, Any] = {"sampler": "uniform", "shuffled in": _ALL, **state}  # earlier versions knew no other
        facts = {name: now for name, now in self._facts().items() if name not in but}
        changed = [f"{name}: {then[name]} then, {now} now" for name, now in facts.items() if then.get(name) != now]
        if changed:
            raise ConfigError(
                f"The checkpoint lies inside epoch {state['epoch'] + 1}, after {state['batches_done']} batches, "
                f"but the batches are others now ({'; '.join(changed)}). Resume with what it was trained with, or "
                "from a checkpoint at the end of an epoch."
            )

    def _facts(self) -> dict[str, int | str]:
        order = self.order
        facts: dict[str, int | str] = {
            "seed": order.seed,
            "samples_per_step": order.step_size,
            "sampler": "uniform" if order.draws is None else order.draws.name,
            "shuffled in": _ALL if order.nearby is None else order.nearby.name,
        }
        # A redrawn epoch says itself what is left of it.
        return facts if self._redrawn is not None else {**facts, "num_samples": len(order.ids)}

    def close(self) -> None:  # noqa: B027 - most loaders hold nothing
        """Let go of threads, where there are any."""

    @abstractmethod
    def _load(self, batches: list[Ids]) -> Iterator[Batch]:
        """Read the samples of each batch of ids, in order: `image` or `features`, and `sample_id`."""


def num_stacked(batch: Batch) -> int:
    """How many batches a batch is: 1, or N of a stack."""
    ids = batch["sample_id"]
    return len(ids) if ids.ndim == 2 else 1
