"""What is written down while a run trains: signals, losses, clocks. None of it waits for the device in a step.

`Capture` carries signals from the step's outputs to the ledger's writer. `LossWatch` keeps the
losses on the device, and looks at them only where a number is written down anyway. `EpochClock`
measures an epoch, also one that an interruption cut in two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from litscope.errors import NonFiniteLossError
from litscope.ledger.capture import SignalBuffer
from litscope.ledger.store import LedgerWriter
from litscope.types import Batch, StepOutput


class Capture:
    """From step outputs to Parquet parts.

    Args:
        writer: where the rows go; None records nothing.
        device: of the step's outputs.
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
        """Likewise N training batches of one call; see `SignalBuffer.add_stack`."""
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


class LossWatch:
    """The losses of recent batches, on the device, with the sample ids of each.

    Attributes:
        keys: sample_id -> key, to name samples in an error.
    """

    def __init__(self) -> None:
        self.keys: Sequence[str] = ()
        self._losses: list[Tensor] = []
        self._batches: list[tuple[int, int, Tensor]] = []
        self._sum = 0.0
        self._count = 0

    def add(self, loss: Tensor, sample_id: Tensor, *, step: int, epoch: int) -> None:
        """Keep one batch's loss (), detached, and its ids (B,). Nothing is computed."""
        self._losses.append(loss)
        self._batches.append((step, epoch, sample_id))

    def add_stack(self, loss: Tensor, sample_id: Tensor, *, step: int, batches_per_step: int, epoch: int) -> None:
        """Keep N batches' losses (N,) and ids (N, B)."""
        for i, (one, ids) in enumerate(zip(loss.unbind(), sample_id.unbind(), strict=True)):
            self.add(one, ids, step=step + i // batches_per_step, epoch=epoch)

    def look(self) -> None:
        """Read the losses since the last look. Waits for the device.

        Raises:
            NonFiniteLossError: at the first loss that is NaN or infinite, with its step and samples.
        """
        if not self._losses:
            return
        losses = torch.stack(self._losses).double().tolist()
        batches, self._losses, self._batches = self._batches, [], []
        for loss, (step, epoch, sample_id) in zip(losses, batches, strict=True):
            if not math.isfinite(loss):
                raise NonFiniteLossError(self._describe(loss, step, epoch, sample_id.tolist()))
        self._sum += math.fsum(losses)
        self._count += len(losses)

    def take_mean(self) -> float | None:
        """The mean loss since it was last taken, None without a batch. Looks, and raises, as `look`."""
        self.look()
        mean = self._sum / self._count if self._count else None
        self._sum, self._count = 0.0, 0
        return mean

    def _describe(self, loss: float, step: int, epoch: int, ids: list[int]) -> str:
        named = [f"{i} ({self.keys[i]})" for i in ids[:5] if 0 <= i < len(self.keys)]
        return (
            f"The loss became {loss} at step {step} (epoch {epoch}). Sample ids of that batch: "
            f"{', '.join(map(str, ids))}. The first of them: {', '.join(named)}. Checkpoints from before it stay. "
            "Look at these samples, or try a lower --lr, --gradient-clip-val 1 or --precision 32."
        )


class EpochClock:
    """Seconds and samples of the epoch that runs.

    Attributes:
        epoch_s: the whole epoch so far, validation included.
        train_s: its training batches alone.
        num_samples: training samples so far, on all ranks.
    """

    def __init__(self) -> None:
        self.start()

    def start(self, earlier: dict[str, float] | None = None) -> None:
        """Start an epoch, or go on with one of which `earlier` (a `state`) was done before an interruption."""
        earlier = earlier or {}
        self._epoch_began = time.monotonic() - earlier.get("epoch_s", 0.0)
        self._train_began = time.monotonic() - earlier.get("train_s", 0.0)
        self._train_s: float | None = None
        self.num_samples = int(earlier.get("num_samples", 0))

    def training_ends(self) -> None:
        """The epoch's last training batch is done, and the device with it."""
        self._train_s = time.monotonic() - self._train_began

    def skip(self, seconds: float) -> None:
        """Seconds of a pause do not count."""
        self._epoch_began += seconds
        self._train_began += 0.0 if self._train_s is not None else seconds

    @property
    def epoch_s(self) -> float:
        """Seconds since the epoch began."""
        return time.monotonic() - self._epoch_began

    @property
    def train_s(self) -> float:
        """Seconds in training batches."""
        return time.monotonic() - self._train_began if self._train_s is None else self._train_s

    def state(self) -> dict[str, float]:
        """What `start` needs to go on after an interruption."""
        return {"epoch_s": self.epoch_s, "train_s": self.train_s, "num_samples": float(self.num_samples)}


@torch.no_grad()
def clean_pass(
    trainer: L.Trainer,
    module: L.LightningModule,
    ids: NDArray[np.int64],
    record: Callable[[StepOutput], None],
    is_stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Show samples to the model as evaluation would, and record what it says; training goes on unchanged.

    No random number is drawn, and batch-norm statistics stay. For training samples whose own rows cannot be
    taken, because mixup or cutmix blended the images and left them no single label, and for evaluations that
    somebody asks for while a run trains.

    Args:
        trainer: of this fit, with our data module.
        module: maps a batch's input to logits (B, C).
        ids: (n,) int64 samples, of all ranks.
        record: takes each batch's output.
        is_stopped: asked before each batch.

    Returns:
        Whether the pass came to its end.
    """
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    loader = data.dataloader_of(ids)
    try:
        for batch in loader:
            if is_stopped():
                return False
            batch = data.transfer_batch_to_device(batch, module.device, 0)
            batch = trainer.precision_plugin.convert_input(data.evaluation_batch(batch))
            with trainer.precision_plugin.val_step_context():
                logits = module(batch["image"] if "image" in batch else batch["features"])
            record(_output(logits, batch))
    finally:
        for part, mode in modes:
            part.training = mode
        if loader:
            data.release(loader)
    return True


def _output(logits: Tensor, batch: Batch) -> StepOutput:
    sample_loss = F.cross_entropy(logits.float(), batch["label"], reduction="none", ignore_index=-1)
    return {
        "loss": sample_loss.mean(),
        "logits": logits,
        "sample_loss": sample_loss,
        "label": batch["label"],
        "sample_id": batch["sample_id"],
    }
