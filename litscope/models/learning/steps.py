"""Steps: several optimizer steps in one call of Lightning's loop, for networks so small that the loop costs more
than the step.

The loader hands over a stack of N batches (`types.Batch`). For each window of them (one batch, or as
many as gradients are accumulated over) the classifier runs forward, backward, clipping, optimizer step,
schedule and averaging: the operations of the plain path, in its order and with its random stream, so
that weights and recorded numbers are equal bit by bit. Only what Lightning does around a step
(progress counters, hooks, closures) happens once for the whole stack. Its counters are then moved
on, so that `global_step`, `batch_idx`, validation, limits and checkpoints count as they always do.

Where `compiled` holds a `CompiledStep`, it replaces those operations by one compiled graph a step; the
numbers are then equal within float precision, and no longer bit by bit.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from litscope.lightning_internals import count_call, steps_begun
from litscope.models.learning.losses import IGNORED, Target
from litscope.types import Batch, StepOutput

if TYPE_CHECKING:
    from litscope.models.classifier import Classifier
    from litscope.models.learning.compiled import CompiledStep

Outputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Of one batch, detached: loss (), logits and log-probabilities (B, C), the rows of what is minimised and the plain
cross-entropy (B,)."""


class Steps:
    """Trains a classifier on stacks of batches.

    Args:
        module: the classifier, attached to a trainer in `fit`.

    Attributes:
        compiled: the compiled step, where there is one; used for windows like the one that it was compiled for.
        after_step: called after each optimizer step with the number of steps so far.
        lr: the rate at the last step of the last call.
    """

    def __init__(self, module: Classifier) -> None:
        self._module = [module]  # in a list: no cycle of submodules
        self.compiled: CompiledStep | None = None
        self.after_step: Callable[[int], None] | None = None
        self.lr = 0.0
        self._clock = _StepClock()

    @property
    def step_s(self) -> float:
        """Seconds of a step in the last call whose time is known; 0 before the first."""
        return self._clock.step_s

    def run(self, batch: Batch) -> tuple[StepOutput, Tensor, Tensor]:
        """Train on a stack.

        Args:
            batch: N batches, a whole number of windows.

        Returns:
            The step's output, and log-probabilities (N, B, C) and row losses (N, B) for the metrics.
        """
        (module,) = self._module
        self._clock.start(module.device)
        trainer: Any = module.trainer
        optimizer, schedule = trainer.optimizers[0], module.schedule
        assert schedule is not None
        window, num_batches = trainer.accumulate_grad_batches, len(batch["label"])
        steps = itertools.count(steps_begun(trainer) + 1)
        after_step = self.after_step
        step_done = None if after_step is None else lambda: after_step(next(steps))
        batch = {**batch, "label": torch.where(batch["sample_id"] < 0, IGNORED, batch["label"])}
        if self.compiled is not None and self.compiled.fits(batch, optimizer):
            outputs = self.compiled.run(batch, optimizer, schedule.advance, step_done)
        else:
            of_batches: list[Outputs] = []
            for first in range(0, num_batches, window):
                if first:
                    schedule.advance()
                part: Any = {name: value[first : first + window] for name, value in batch.items()}  # type: ignore[index]
                of_batches += self._window(part, trainer, optimizer)
                if step_done is not None:
                    step_done()
            outputs = stack_outputs(of_batches)
        self.lr = float(optimizer.param_groups[0]["lr"])
        num_steps = num_batches // window
        count_call(trainer, num_batches, num_steps)
        module.automatic_optimization = True
        loss, logits, log_p, rows, sample_loss = outputs
        self._clock.stop(module.device, num_steps)
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
        target, window = Target.of(batch), len(inputs)
        outputs: list[Outputs] = []
        for i in range(window):
            logits, log_p, loss = module.losses(inputs[i], target.at(i))
            mean = loss.mean / window
            if i == 0:
                optimizer.zero_grad()
            with torch.autocast(inputs.device.type, enabled=False):  # Lightning calls backward outside its autocast
                mean.backward()  # type: ignore[no-untyped-call]
            outputs.append((mean.detach(), logits.detach(), log_p.detach(), loss.rows, loss.sample_loss))
        module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val)
        optimizer.step()
        torch.clear_autocast_cache()  # it holds casts of the weights as they were
        return outputs


def stack_outputs(of_batches: Sequence[Sequence[Tensor]]) -> Outputs:
    """The outputs of N batches in one: N in front."""
    loss, logits, log_p, rows, sample_loss = (torch.stack(parts) for parts in zip(*of_batches, strict=True))
    return loss, logits, log_p, rows, sample_loss


class _StepClock:
    """Seconds of a step. On a GPU by its own clock, read once the call is long done, so that nobody waits for it."""

    def __init__(self) -> None:
        self.step_s = 0.0
        self._began = 0.0
        self._running: tuple[Any, Any] | None = None
        self._done: tuple[Any, Any, int] | None = None

    def start(self, device: torch.device) -> None:
        """Start the clock at the beginning of a call."""
        if device.type != "cuda":
            self._began = time.perf_counter()
            return
        if self._done is not None and self._done[1].query():
            begin, end, num_steps = self._done
            self.step_s, self._done = begin.elapsed_time(end) / 1000 / num_steps, None
        if self._done is None:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            self._running = begin, end
            begin.record()

    def stop(self, device: torch.device, num_steps: int) -> None:
        """Stop it at the end of the call, when a GPU may still have all the work before it."""
        if device.type != "cuda":
            self.step_s = (time.perf_counter() - self._began) / num_steps
        elif self._running is not None:
            self._running[1].record()
            self._done, self._running = (*self._running, num_steps), None
