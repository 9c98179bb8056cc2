"""Capture: from a step's outputs to the ledger's parts on the disk, without waiting for the device."""

from __future__ import annotations

import time

import torch

from litscope.ledger.signal_buffer import SignalBuffer
from litscope.ledger.writer import LedgerWriter
from litscope.types import StepOutput


class Capture:
    """From step outputs to Parquet parts.

    Args:
        writer: where the rows go; None records nothing.
        device: where the step's outputs are.
        flush_s: rows older than this many seconds are handed to the writer.
    """

    def __init__(self, writer: LedgerWriter | None, device: torch.device, flush_s: float) -> None:
        self._writer = writer
        self._buffer = SignalBuffer(device=device) if writer is not None else None
        self._flush_s = flush_s
        self._flushed_at = time.monotonic()

    def add(self, output: StepOutput, *, step: int, epoch: int, split: str, phase: str) -> None:
        """Record one batch, and hand over what is older than `flush_s`."""
        if self._buffer is None:
            return
        is_full = self._buffer.add(output, step=step, epoch=epoch, split=split, phase=phase)
        self._flush_if(is_full)

    def add_stack(self, output: StepOutput, *, step: int, batches_per_step: int, epoch: int) -> None:
        """Record N training batches of one call; see `SignalBuffer.add_stack`."""
        if self._buffer is None:
            return
        is_full = self._buffer.add_stack(
            output, step=step, batches_per_step=batches_per_step, epoch=epoch, split="train", phase="train"
        )
        self._flush_if(is_full)

    def _flush_if(self, is_full: bool) -> None:
        if is_full or time.monotonic() - self._flushed_at > self._flush_s:
            self.flush()

    def flush(self, wait: bool = False) -> None:
        """Hand all rows to the writer; with `wait`, return when they are on the disk.

        Raises:
            LedgerError: if they, or earlier ones, could not be written.
        """
        if self._buffer is None or self._writer is None:
            return
        self._flushed_at = time.monotonic()
        if len(self._buffer):
            self._writer.put(self._buffer.drain())
        if wait:
            self._writer.flush(wait=True)

    def close(self) -> None:
        """Write what is left and end the writer's thread."""
        if self._writer is not None:
            try:
                self.flush()
            finally:
                self._writer.close()
