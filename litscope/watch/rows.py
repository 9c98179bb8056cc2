"""WatchedRows: from the batches that a watched loop shows to the ledger, recording each visit once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from litscope.errors import ConfigError
from litscope.ledger.writer import LedgerWriter
from litscope.live.capture import Capture
from litscope.rundir import RunDir
from litscope.watch.custom import CustomBuffer
from litscope.watch.roster import Roster

FLUSH_S = 5.0
"""Seconds of signals that a crash may lose."""


class WatchedRows:
    """The rows of this process, on their way to the run's folder.

    Args:
        roster: told how many classes the first logits have.

    Attributes:
        has_moved_on: whether equal ids from here on are another visit, unless they are the very same tensor.
    """

    def __init__(self, roster: Roster) -> None:
        self.has_moved_on = False
        self._roster = roster
        self._capture: Capture | None = None
        self._custom = CustomBuffer()
        self._custom_writer: LedgerWriter | None = None
        self._last_ids: Tensor | None = None

    def open(self, run: RunDir, attempt: int, rank: int) -> None:
        """Send rows to this run from now on. Its files are made with the first row."""
        self._run = run
        self._writer = partial(LedgerWriter, run, attempt, rank)

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

    def add(
        self, sample_id: Any, logits: Tensor | None, label: Any, signals: Mapping[str, Any], where: dict[str, Any]
    ) -> int:
        """Record one batch; its logits are never recorded twice.

        Args:
            sample_id, logits, label, signals: see `litscope.watch.record`.
            where: the step, epoch, split and phase.

        Returns:
            How many rows of logits were added.
        """
        ids = _ids(sample_id, logits)
        num_rows = 0
        if logits is not None and not self._is_same_batch(ids):
            self._add_logits(ids, logits, label, where)
            num_rows = ids.numel()
        for name, values in signals.items():
            if self._custom_writer is None:
                self._custom_writer = self._writer(folder=self._run.custom)
            self._custom.add(name, torch.as_tensor(values), ids, **where)
        return num_rows

    @property
    def has_row(self) -> bool:
        """Whether the current batch has been recorded."""
        return self._last_ids is not None

    def next_batch(self) -> None:
        """Note that another batch begins, which may be recorded."""
        self._last_ids = None

    def flush(self, wait: bool = False) -> None:
        """Hand all rows to the writers; with `wait`, return when they are on the disk."""
        self.flush_custom(wait)
        if self._capture is not None:
            self._capture.flush(wait)

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

    def _add_logits(self, ids: Tensor, logits: Tensor, label: Any, where: dict[str, Any]) -> None:
        if label is None:
            raise ConfigError("record(logits=...) needs the labels too: record(sample_id=..., logits=..., label=...).")
        logits = _two_columns(logits.detach())
        label = torch.as_tensor(label, device=logits.device)
        if self._capture is None:
            self._roster.has_classes(logits.shape[1])
            self._capture = Capture(self._writer(), logits.device, FLUSH_S)
        output: Any = {"logits": logits, "label": label, "sample_id": ids.to(logits.device)}
        self._capture.add(output, **where)
        self._last_ids, self.has_moved_on = ids, False


def _ids(sample_id: Any, logits: Tensor | None) -> Tensor:
    """(B,) int64, where it is."""
    ids = torch.as_tensor(sample_id)
    if ids.is_floating_point() or ids.dtype is torch.bool:
        dtype = str(ids.dtype).removeprefix("torch.")
        raise ConfigError(f"sample_id must be whole numbers, got {dtype}: large ids are not exact in float32.")
    if logits is not None and ids.numel() != logits.shape[0]:
        raise ConfigError(f"{ids.numel()} values of sample_id for logits {tuple(logits.shape)}: one for each row.")
    return ids if ids.dtype is torch.int64 and ids.ndim == 1 else ids.reshape(-1).long()


def _two_columns(logits: Tensor) -> Tensor:
    """(B, C) with C of at least 2: one logit z of a binary model is the class pair (0, z)."""
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] == 1):
        z = logits.reshape(-1)
        return torch.stack([torch.zeros_like(z), z], 1)
    if logits.ndim != 2:
        raise ConfigError(
            f"logits must be (B, C), one row for each sample, got {tuple(logits.shape)}. litscope.watch records "
            "classifiers; other models can record numbers of their own: record(sample_id=..., signals={...})."
        )
    return logits
