"""Steps: several optimizer steps in one call of Lightning's loop, for networks so small that the loop costs more.

The loader hands over a stack of N batches (`types.Batch`). For each window of them (one batch, or as
many as gradients are accumulated over) the classifier runs forward, backward, clipping, optimizer step,
schedule and averaging: the operations of the plain path, in its order and with its random stream, so
that weights and recorded numbers are the same bits. Only what Lightning does around a step
(progress counters, hooks, closures) happens once for the whole stack. Its counters are then moved
on, so that `global_step`, `batch_idx`, validation, limits and checkpoints count as they always do.

Where `compiled` holds a `CompiledStep`, it replaces those operations by one compiled graph a step; then
the numbers are equal to float precision, no longer bit for bit.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from litscope.models.losses import IGNORED
from litscope.types import Batch, StepOutput

if TYPE_CHECKING:
    from litscope.models.classifier import Classifier
    from litscope.models.compiled import CompiledStep

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Of one batch, detached: loss (), logits and log-probabilities (B, C), the rows of what is minimised and the plain
cross-entropy (B,)."""


class Steps:
    """Trains a classifier on stacks of batches.

    Args:
        module: the classifier, attached to a trainer in `fit`.

    Attributes:
        compiled: the compiled step, where there is one; used for the windows that it was compiled for.
        after_step: called after each optimizer step with the number of steps so far.
        lr: rate of the last step of the last call.
        step_s: seconds of a step in the last call.
    """

    def __init__(self, module: Classifier) -> None:
        self._module = [module]  # in a list: no cycle of submodules
        self.compiled: CompiledStep | None = None
        self.after_step: Callable[[int], None] | None = None
        self.lr = 0.0
        self.step_s = 0.0

    def run(self, batch: Batch) -> tuple[StepOutput, Tensor, Tensor]:
        """Train on a stack.

        Args:
            batch: N batches, a whole number of windows.

        Returns:
            The step's output, and log-probabilities (N, B, C) and row losses (N, B) for the metrics.
        """
        began = time.perf_counter()
        (module,) = self._module
        trainer: Any = module.trainer
        optimizer, schedule = trainer.optimizers[0], module.schedule
        assert schedule is not None
        window, num_batches = trainer.accumulate_grad_batches, len(batch["label"])
        steps = itertools.count(
            int(trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer_steps) + 1
        )
        after_step = self.after_step
        step_done = None if after_step is None else lambda: after_step(next(steps))
        batch = {**batch, "label": torch.where(batch["sample_id"] < 0, IGNORED, batch["label"])}
        if self.compiled is not None and self.compiled.fits(batch, optimizer):
            outputs = self.compiled.run(batch, optimizer, schedule.advance, step_done)
        else:
            outputs = []
            for first in range(0, num_batches, window):
                if first:
                    schedule.advance()
                part: Any = {name: value[first : first + window] for name, value in batch.items()}  # type: ignore[index]
                outputs += self._window(part, trainer, optimizer)
                if step_done is not None:
                    step_done()
        self.lr = float(optimizer.param_groups[0]["lr"])
        num_steps = num_batches // window
        _count(trainer, num_batches, num_steps)
        module.automatic_optimization = True
        loss, logits, log_p, rows, sample_loss = (torch.stack(parts) for parts in zip(*outputs, strict=True))
        self.step_s = (time.perf_counter() - began) / num_steps
        output: StepOutput = {
            "loss": loss,
            "logits": logits,
            "sample_loss": sample_loss,
            "label": batch["label"],
            "sample_id": batch["sample_id"],
        }
        return output, log_p, rows

    def _window(self, batch: Batch, trainer: Any, optimizer: torch.optim.Optimizer) -> list[Outputs]:
        """One optimizer step on a window of A batches, as Lightning does it."""
        (module,) = self._module
        inputs = batch["image"] if "image" in batch else batch["features"]
        soft_label, weight = batch.get("soft_label"), batch.get("weight")
        window = len(inputs)
        outputs: list[Outputs] = []
        for i in range(window):
            logits, log_p, loss = module.losses(
                inputs[i],
                batch["label"][i],
                None if soft_label is None else soft_label[i],
                None if weight is None else weight[i],
            )
            mean = loss.mean / window
            if i == 0:
                optimizer.zero_grad()
            with torch.autocast(inputs.device.type, enabled=False):  # as outside of the step's own context
                mean.backward()  # type: ignore[no-untyped-call]
            outputs.append((mean.detach(), logits.detach(), log_p.detach(), loss.rows, loss.sample_loss))
        trainer.precision_plugin.clip_gradients(optimizer, trainer.gradient_clip_val or 0.0)
        optimizer.step()
        torch.clear_autocast_cache()  # it holds casts of the weights as they were
        return outputs


def _count(trainer: Any, num_batches: int, num_steps: int) -> None:
    """Have Lightning's loops count all batches and steps of a call. It counts one batch, and one step of the
    schedule, by itself.
    """
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    fetcher.fetched += num_batches - 1
    fetcher.done = fetcher.fetched >= fetcher.length
    loop.batch_progress.increment_by(num_batches - 1, is_last_batch=fetcher.done)
    loop._batches_that_stepped += num_steps - 1
    loop.scheduler_progress.increment_by(num_steps - 1)
    progress = loop.automatic_optimization.optim_progress.optimizer
    progress.step.increment_by(num_steps)
    progress.zero_grad.increment_by(num_steps)
