"""WatchedRows: from the batches that a watched loop shows to the ledger, recording each visit once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from litscope.claims import Guard, unguarded
from litscope.console import say
from litscope.errors import ConfigError
from litscope.ledger.custom import NO_LOGITS, has_only_custom, how_to_ask
from litscope.ledger.writer import LedgerWriter
from litscope.live.capture import Capture
from litscope.rundir import RunDir
from litscope.watch.custom import CustomBuffer
from litscope.watch.doubts import CheckedWriter, Doubts
from litscope.watch.forms import classified
from litscope.watch.samples.own_ids import OwnIds, SampleIdWriter
from litscope.watch.samples.roster import Roster

FLUSH_S = 5.0
"""Seconds of signals that a crash may lose."""


class WatchedRows:
    """The rows of this process, on their way to the run's folder.

    Args:
        roster: told how many classes the first logits have.

    Attributes:
        has_moved_on: whether equal ids from here on are another visit, unless they are the very same tensor.
        has_signals: whether the current batch has told numbers of a person's own.
        num_told: training samples shown so far with such numbers alone.
    """

    def __init__(self, roster: Roster) -> None:
        self.has_moved_on = self.has_signals = False
        self.num_told = 0
        self._roster = roster
        self._capture: Capture | None = None
        self._custom = CustomBuffer()
        self._custom_writer: LedgerWriter | None = None
        self._last_ids: Tensor | None = None
        self._first_name: str | None = None

    def open(self, run: RunDir, attempt: int, rank: int, own: OwnIds | None = None, guard: Guard = unguarded) -> None:
        """Send rows to this run from now on. Its files are made with the first row.

        Args:
            own: what ids of a person's own stand for; None: all ids are written as they are.
            guard: asked before rows are written.
        """
        self._run = run
        self._writer = partial(SampleIdWriter, own, run, attempt, rank, guard=guard)
        self._doubts = Doubts(is_first_rank=rank == 0)
        self._checked_writer = partial(CheckedWriter, self._doubts, own, run, attempt, rank, guard=guard)

    @property
    def refusal(self) -> ConfigError | None:
        """What is wrong with the labels that were recorded, as far as is known; all is, when they are on the disk."""
        return self._doubts.refusal

    def close(self) -> None:
        """Write what is left; the next row begins anew, in the same attempt.

        Raises:
            LedgerError: if it cannot be written.
        """
        try:
            self.flush_custom()
            for part in (self._capture, self._custom_writer):
                if part is not None:
                    part.close()
        finally:
            self._capture = self._custom_writer = None

    def add(self, sample_id: Any, logits: Any, label: Any, signals: Mapping[str, Any], where: dict[str, Any]) -> int:
        """Record one batch; its logits are never recorded twice.

        Args:
            sample_id, logits, label, signals: see `litscope.watch.record`.
            where: the step, epoch, split and phase.

        Returns:
            How many rows of logits were added.

        Raises:
            ConfigError: if ids, logits and labels do not fit together, or labels that came before are no classes.
        """
        self._doubts.raise_refusal()
        ids = as_ids(sample_id, logits)
        num_rows = 0
        if logits is not None and not self._is_same_batch(ids):
            self._add_logits(ids, logits, label, where)
            num_rows = ids.numel()
        for name, values in signals.items():
            if self._custom_writer is None:
                self._custom_writer = self._writer(folder=self._run.custom)
                self._first_name = name
            self._custom.add(name, torch.as_tensor(values), ids, **where)
            self.has_signals = True
            if name == self._first_name and where["phase"] == "train":
                self.num_told += ids.numel()
        return num_rows

    @property
    def has_row(self) -> bool:
        """Whether the current batch has been recorded."""
        return self._last_ids is not None

    @property
    def has_logits(self) -> bool:
        """Whether any logits have been recorded."""
        return self._capture is not None

    def tell_if_no_logits(self) -> None:
        """Say what cannot be asked of a run that recorded numbers of a person's own alone."""
        if has_only_custom(self._run):
            say(f"litscope: {NO_LOGITS} {how_to_ask(self._run)}")

    def next_batch(self) -> None:
        """Note that another batch begins, which may be recorded."""
        self._last_ids, self.has_signals = None, False

    def flush(self, wait: bool = False) -> None:
        """Hand all rows to the writers; with `wait`, return when they are on the disk.

        Raises:
            LedgerError: if they cannot be written.
            ConfigError: with `wait`, if labels are no classes.
        """
        self.flush_custom(wait)
        if self._capture is not None:
            self._capture.flush(wait)
            if wait:
                self._doubts.raise_refusal()

    def flush_custom(self, wait: bool = False) -> None:
        """Hand only a person's own signals to the writers."""
        if self._custom_writer is not None and len(self._custom):
            self._custom_writer.put(self._custom.drain())
            self._custom_writer.flush(wait)

    def _is_same_batch(self, ids: Tensor) -> bool:
        """Whether another call has just recorded this batch: a loss and `save_signals` say the same thing twice."""
        last = self._last_ids
        if last is None:
            return False
        if last is ids or (last.data_ptr() == ids.data_ptr() and last.shape == ids.shape):
            return True
        is_on_host = last.device.type == ids.device.type == "cpu"
        return not self.has_moved_on and is_on_host and torch.equal(last, ids)

    def _add_logits(self, ids: Tensor, logits: Any, label: Any, where: dict[str, Any]) -> None:
        batch = classified(logits, label)
        if self._capture is None:
            self._roster.has_classes(batch.logits.shape[1])
            self._capture = Capture(self._checked_writer(), batch.logits.device, FLUSH_S)
        if not self._doubts.fits(batch):
            self._capture.flush()
        self._doubts.hold(batch)
        output: Any = {"logits": batch.logits, "label": batch.label, "sample_id": ids.to(batch.logits.device)}
        self._capture.add(output, **where)
        self._last_ids, self.has_moved_on = ids, False


def as_ids(sample_id: Any, logits: Any) -> Tensor:
    """(B,) int64, where it is.

    Raises:
        ConfigError: if they are no whole numbers of 64 bits, or not one for each row of logits.
    """
    try:
        ids = torch.as_tensor(sample_id)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        shown = repr(sample_id)
        raise ConfigError(
            "sample_id must be whole numbers of 64 bits, or names, one for each sample; got "
            f"{shown if len(shown) < 80 else shown[:77] + '...'}: {error}."
        ) from error
    if ids.is_floating_point() or ids.dtype is torch.bool:
        dtype = str(ids.dtype).removeprefix("torch.")
        raise ConfigError(f"sample_id must be whole numbers, got {dtype}: large ids are not exact in float32.")
    shape: tuple[int, ...] = tuple(getattr(logits, "shape", ()))
    if shape and ids.numel() != shape[0]:
        raise ConfigError(f"{ids.numel()} values of sample_id for logits {shape}: one for each row.")
    return ids if ids.dtype is torch.int64 and ids.ndim == 1 else ids.reshape(-1).long()
