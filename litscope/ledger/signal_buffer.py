"""SignalBuffer: what a step's logits tell about each sample, kept on the device until a flush.

This is the only file of the ledger that imports torch. `add` is called once per batch with tensors that
are already there; it launches a few copies and never waits for the device. Many small batches are
staged and their signals computed together, because on a small model the cost is the number of
operations, not their size. `drain` hands everything over as a `Block`, whose `rows` (called by the
writer's thread) is the only place that waits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from litscope.errors import LedgerError
from litscope.ledger.schema import FLOAT_SIGNALS, Rows, Segment
from litscope.types import StepOutput

STAGED_LOGITS = 65_536
"""How many logits (rows x classes) are staged before their signals are computed: 256 KiB, which stays in cache."""

STAGED_ROWS_MULTIPLE = 64
"""Staged rows are reduced in multiples of this. Without a vectorised loop's remainder, a row's signals have the same
bits wherever in the stage it lies, so that a resumed run records what an uninterrupted one does."""

DIRECT_LOGITS = 16_384
"""A batch with more logits than this is computed at once: staging would cost more than it saves."""


def compute_signals(logits: Tensor, label: Tensor, class_dim: int = 1) -> dict[str, Tensor]:
    """All signals of `schema.SIGNALS` from one shared log-softmax, in float32, on the logits' device.

    Args:
        logits: (B, C) with C >= 2, any floating dtype; (C, B) if `class_dim` is 0.
        label: (B,) integer class index; negative where a sample has no label. One beyond the classes is taken for the
            last: the one who gives it has to notice, an index error on a device would take the process with it.
        class_dim: the dimension of the classes.

    Returns:
        name -> (B,) float32, and `pred` (B,) int64. Where the label is negative, the signals that
        need one are NaN. A class whose logit is -inf makes `entropy` NaN.
    """
    dim = class_dim
    logp = torch.log_softmax(logits.detach().float(), dim)
    index = label.clamp(0, logits.shape[dim] - 1).unsqueeze(dim)
    logp_label = logp.gather(dim, index).squeeze(dim).masked_fill_(label < 0, torch.nan)
    logp_max, pred = logp.max(dim)
    p = logp.exp()
    entropy = (p * logp).sum(dim).neg_()
    # Differences of logits are differences of log-probabilities. The label's own is taken out in place.
    margin = logp_label - logp.scatter_(dim, index, -torch.inf).amax(dim)
    # p - onehot(label), with 1 - p[label] by expm1: near a perfect fit 1 - exp() would cancel to zero.
    residual = p.scatter_(dim, index, torch.expm1(logp_label).unsqueeze(dim))
    return {
        "loss": -logp_label,
        "p_label": logp_label.exp(),
        "p_max": logp_max.exp(),
        "margin": margin,
        "el2n": residual.square_().sum(dim).sqrt_(),
        "entropy": entropy,
        "pred": pred,
    }


class Block:
    """Rows on their way to the host. Returned by `SignalBuffer.drain`, written by `LedgerWriter.put`."""

    def __init__(self, pieces: list[list[Tensor]], segments: tuple[Segment, ...], stream: Any) -> None:
        self._segments = segments
        self._host, self._copied = _to_host(pieces, stream)

    def __len__(self) -> int:
        return sum(segment.num_rows for segment in self._segments)

    def rows(self) -> Rows:
        """The rows as numpy arrays. Waits for the copy from the device, so not for the training thread."""
        if self._copied is not None:
            self._copied.synchronize()
        signals, pred, label, sample_id = (tensor.numpy() for tensor in self._host)
        return Rows(
            sample_id=sample_id,
            label=label,
            pred=pred,
            signals=dict(zip(FLOAT_SIGNALS, signals, strict=True)),
            segments=self._segments,
        )


class SignalBuffer:
    """Collects the signals of batches on the device.

    Args:
        capacity: rows after which `add` asks for a `drain`. A row takes 40 bytes on the device.
        device: where the logits, labels and ids of every batch lie.

    Example:
        >>> if buffer.add(outputs, step=step, epoch=epoch, split="train", phase="train"):
        ...     writer.put(buffer.drain())
    """

    def __init__(self, capacity: int = 65_536, device: torch.device | str = "cpu") -> None:
        self.capacity = capacity
        self.device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0", as tensors say it
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._stage: tuple[Tensor, Tensor, Tensor] | None = None
        self._num_staged = 0
        self._pieces: list[list[Tensor]] = []
        self._segments: list[Segment] = []
        self._num_rows = 0

    def __len__(self) -> int:
        """Rows that wait for `drain`, padding included."""
        return self._num_rows

    def add(self, output: StepOutput, *, step: int, epoch: int, split: str, phase: str) -> bool:
        """Append one batch. Never waits for the device.

        Args:
            output: `logits` (B, C), `label` (B,) and `sample_id` (B,) int64, on the buffer's device.
                Id -1 marks padding, which is dropped on the host. A negative label means that the
                sample has none: its `p_max`, `entropy` and `pred` are recorded, and the rest is NaN.
            step: optimizer steps completed before this batch.
            epoch: from 0.
            split: the manifest's split of these samples: train, val, test.
            phase: `train` if the logits are the training step's own, `eval` if they come from an evaluation pass.

        Returns:
            Whether `capacity` rows are waiting: drain before the next batch.

        Raises:
            LedgerError: if ids are not int64, labels are soft (B, C), there are fewer than two
                classes, sizes differ, or a tensor lies on another device.
        """
        logits, label, sample_id = output["logits"].detach(), output["label"], output["sample_id"]
        size = label.numel()
        if not (
            logits.ndim == 2
            and label.ndim == 1
            and sample_id.dtype is torch.int64
            and sample_id.shape == label.shape
            and logits.shape[0] == size
            and logits.shape[1] > 1
            and logits.device == label.device == sample_id.device == self.device
            and not label.is_floating_point()
        ):
            raise LedgerError(self._refusal(logits, label, sample_id))
        if size == 0:
            return self._num_rows >= self.capacity
        if logits.numel() > DIRECT_LOGITS:
            self._reduce_stage()
            self._reduce(logits, label.long(), sample_id, size, class_dim=1)
        else:
            self._stage_batch(logits, label, sample_id)
        self._segments.append(Segment(size, step, epoch, split, phase))
        self._num_rows += size
        return self._num_rows >= self.capacity

    def add_stack(
        self, output: StepOutput, *, step: int, batches_per_step: int, epoch: int, split: str, phase: str
    ) -> bool:
        """Append N batches, as `add` would do one after the other, in fewer operations if they are staged.

        Args:
            output: as for `add`, with a further first dimension N.
            step: optimizer steps completed before the first batch.
            batches_per_step: number of batches after which `step` goes up by one.
            epoch, split, phase: as for `add`.

        Returns:
            As `add`.
        """
        logits, label, sample_id = output["logits"].detach(), output["label"], output["sample_id"]
        num_batches, size, num_classes = logits.shape
        at_once = 1 if size * num_classes > DIRECT_LOGITS else max(1, STAGED_LOGITS // num_classes // size)
        for start in range(0, num_batches, at_once):
            part = slice(start, start + at_once)
            if at_once == 1:
                batch: StepOutput = {**output, "logits": logits[start], "label": label[start]}
                batch["sample_id"] = sample_id[start]
                self.add(batch, step=step + start // batches_per_step, epoch=epoch, split=split, phase=phase)
                continue
            self._stage_batch(logits[part].flatten(0, 1), label[part].reshape(-1), sample_id[part].reshape(-1))
            for number in range(start, min(start + at_once, num_batches)):
                self._segments.append(Segment(size, step + number // batches_per_step, epoch, split, phase))
                self._num_rows += size
        return self._num_rows >= self.capacity

    def drain(self) -> Block:
        """Hand over all rows, in the order of their `add`, and start anew. Does not wait for a CUDA device.

        There the copy to pinned memory runs on its own stream; the block's device memory is not
        reused before that copy has ended.
        """
        self._reduce_stage()
        block = Block(self._pieces, tuple(self._segments), self._stream)
        self._pieces, self._segments, self._num_rows = [], [], 0
        return block

    def _stage_batch(self, logits: Tensor, label: Tensor, sample_id: Tensor) -> None:
        size, num_classes = logits.shape
        if self._stage is None or self._stage[0].shape[0] != num_classes:
            self._reduce_stage()
            self._stage = self._new_stage(num_classes)
        elif self._num_staged + size > self._stage[1].shape[0]:
            self._reduce_stage()
        staged_logits, staged_label, staged_id = self._stage
        start = self._num_staged
        staged_logits[:, start : start + size].copy_(logits.t())
        staged_label[start : start + size].copy_(label)
        staged_id[start : start + size].copy_(sample_id)
        self._num_staged += size

    def _new_stage(self, num_classes: int) -> tuple[Tensor, Tensor, Tensor]:
        """The class dimension comes first: reductions over few classes are several times faster across rows."""
        num_rows = _round_up(STAGED_LOGITS // num_classes)
        with torch.inference_mode(False):  # first filled in validation, it must stay writable in training
            return (
                torch.zeros(num_classes, num_rows, device=self.device),
                torch.zeros(num_rows, dtype=torch.int64, device=self.device),
                torch.zeros(num_rows, dtype=torch.int64, device=self.device),
            )

    def _reduce_stage(self) -> None:
        if self._stage is None or self._num_staged == 0:
            return
        logits, label, sample_id = self._stage
        end = _round_up(self._num_staged)
        self._reduce(logits[:, :end], label[:end], sample_id, self._num_staged, class_dim=0)
        self._num_staged = 0

    def _reduce(self, logits: Tensor, label: Tensor, sample_id: Tensor, num_rows: int, class_dim: int) -> None:
        """Turn logits into signals and keep copies of the first `num_rows` rows."""
        signals = compute_signals(logits, label, class_dim)
        floats = torch.stack([signals[name][:num_rows] for name in FLOAT_SIGNALS])  # (S, B)
        pred, label = signals["pred"][:num_rows].int(), label[:num_rows].to(torch.int32, copy=True)
        self._pieces.append([floats, pred, label, sample_id[:num_rows].clone()])

    def _refusal(self, logits: Tensor, label: Tensor, sample_id: Tensor) -> str:
        """Why a batch cannot be recorded."""
        if sample_id.dtype is not torch.int64:
            dtype = str(sample_id.dtype).removeprefix("torch.")
            return (
                f"sample_id must be int64, got {dtype}. Ids above 16,777,216 are not exact in float32; "
                'pass batch["sample_id"] unchanged from the sampler (docs/ledger.md#ids).'
            )
        if label.ndim != 1 or label.is_floating_point():
            return (
                f"label must be (B,) class indices, got {tuple(label.shape)} {label.dtype}: a margin needs one label "
                "per sample. For blended batches record a clean evaluation pass (docs/ledger.md#mixup)."
            )
        if logits.ndim != 2 or logits.shape[1] < 2:
            return (
                f"logits must be (B, C) with at least 2 classes, got {tuple(logits.shape)}. "
                "A binary model needs two outputs for a margin; stack [0, z] if it has one."
            )
        if logits.device != self.device or label.device != self.device or sample_id.device != self.device:
            return (
                f"logits, label and sample_id must be on {self.device}, got {logits.device}, {label.device} and "
                f"{sample_id.device}. Copying them would wait for the device; move the whole batch before the step."
            )
        return (
            f"logits {tuple(logits.shape)}, label {tuple(label.shape)} and sample_id {tuple(sample_id.shape)} "
            "must have the same number of rows. Return all three of one batch from the step."
        )


def _round_up(num_rows: int) -> int:
    return -(-num_rows // STAGED_ROWS_MULTIPLE) * STAGED_ROWS_MULTIPLE


def _to_host(pieces: list[list[Tensor]], stream: Any) -> tuple[list[Tensor], Any]:
    """Join the pieces and start their copy to the host.

    Returns:
        The host tensors (signals, pred, label, sample_id), and the CUDA event that ends the copy,
        or None when they can be read now.
    """
    if not pieces:
        none = torch.empty(0, dtype=torch.int32)
        return [torch.empty(len(FLOAT_SIGNALS), 0), none, none, none.long()], None
    joined = [torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True)]
    if stream is None:
        return [tensor.cpu() for tensor in joined], None
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        host = []
        for tensor in joined:
            host.append(torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True))
            tensor.record_stream(stream)  # the allocator keeps the block from reuse until the copy has ended
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record(stream)
    return host, copied
