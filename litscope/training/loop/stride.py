"""Stride: how many optimizer steps one call of Lightning's loop takes, and whether they are compiled.

Several steps in a call cost nothing and change no number (`models.steps`), so `--steps-per-call auto`
takes them wherever that is possible. A call ends where something is due: a line of steps.jsonl, a checkpoint,
`--max-steps`, an action that a replay or a resumed run has at that step. And it stays short, because
Ctrl-C and people's actions wait for the end of a call.

Compiling changes numbers within float precision and takes a while, so it has to pay: after
`DECIDE_AFTER` steps the time of a step is known, and the step is compiled if what is still to do
times the saving exceeds the time to compile. The decision is kept in checkpoints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as L
from torch.optim import Optimizer

from litscope.config.recipe import Recipe
from litscope.console import say, warn
from litscope.data.datamodule import ClassificationData
from litscope.errors import ConfigError
from litscope.models.classifier import Classifier
from litscope.models.learning.compiled import CompiledStep, why_not_compiled
from litscope.models.learning.graphed import GraphedStep
from litscope.training.hardware import Plan, cpp_compiler
from litscope.training.loop.trainer_parts import data_of
from litscope.types import Batch

AUTO_STEPS = 64
"""Largest number of steps of a call with `auto`: Lightning then takes less than a hundredth of a plain step."""

CALL_S = 0.1
"""How long a call may last with `auto`, in seconds."""

MOST_CALL_S = 0.5
"""How long a call may last with a given number of steps, in seconds: people should wait less than a second."""

DECIDE_AFTER = 50
"""How many optimizer steps are done before the decision whether to compile the step."""

COMPILE_S = 40.0
"""Time to compile a step, in seconds, of which only the order of magnitude is known beforehand (20 to 60)."""

SAVED_SHARE = 0.5
"""Share of a step's time that compiling is expected to save; measured once it is compiled."""

LEAST_GAIN = 1.1
"""A compiled step is used if it is faster by this factor."""


def why_plain(recipe: Recipe, plan: Plan, data: ClassificationData, has_callbacks: bool) -> str | None:
    """The reason against several steps in a call, or None."""
    if plan.device_type not in ("cpu", "cuda"):
        return f"it works on a CPU or a CUDA device, and this run trains on {plan.device_type}"
    if plan.world_size > 1:
        return f"it works in one process, and this run has {plan.world_size}"
    if plan.precision not in ("32-true", "bf16-mixed"):
        return f"it works with --precision 32 or bf16-mixed, not {plan.precision}"
    if not data.is_resident and recipe.model.finetune != "head":  # features are
        return "the images are decoded by workers in each epoch; it needs data in memory or in the cache (--cache)"
    if has_callbacks and recipe.training.steps_per_call == "auto":
        return "callbacks=... are called once a step"
    return None


def make_stride(recipe: Recipe, plan: Plan, data: ClassificationData, has_callbacks: bool) -> Stride | None:
    """The stride of a run, None where each call is one step.

    Raises:
        ConfigError: if more steps were asked for, but are not possible.
    """
    asked = recipe.training.steps_per_call
    reason = why_plain(recipe, plan, data, has_callbacks)
    if asked == 1 or recipe.training.fast_dev_run or (reason is not None and asked == "auto"):
        return None
    if reason is not None:
        raise ConfigError(f"--steps-per-call {asked}: {reason}. Leave it out, or give 1.")
    is_as_written = recipe.model.compile or recipe.logging.wandb_watch or recipe.hardware.activation_checkpointing
    may_compile = not is_as_written
    if asked == "auto":
        return Stride(AUTO_STEPS, CALL_S, may_compile)
    return Stride(int(asked), MOST_CALL_S, may_compile)


class Stride:
    """Tells the loader how many batches make the next call.

    Args:
        most_steps: largest number of steps of one call.
        call_s: seconds that a call may last.
        may_compile: whether the step may be compiled.
    """

    def __init__(self, most_steps: int, call_s: float, may_compile: bool) -> None:
        self.most_steps = most_steps
        self._call_s = call_s
        self._may_compile = may_compile
        self._decide_at = DECIDE_AFTER
        self._is_compiled: bool | None = None
        self._is_ready = False
        self._fastest_s = 0.0

    def start(
        self,
        trainer: L.Trainer,
        module: Classifier,
        due: Callable[[], int | None],
        every: Sequence[int],
        restored: dict[str, Any] | None,
    ) -> None:
        """Note that training starts, or goes on.

        Args:
            trainer, module: of the fit.
            due: gives the step after which an action is due, if that is known beforehand.
            every: numbers of steps at whose multiples a call ends: a line of steps.jsonl, a checkpoint.
            restored: what `state` returned, from a checkpoint.
        """
        self._trainer, self._due, self._every = trainer, due, every
        self._module = module
        self._decide_at = trainer.global_step + DECIDE_AFTER
        if restored is not None:
            self._decide_at, self._is_compiled = restored["decide_at"], restored["is_compiled"]
            self._fastest_s = restored["fastest_s"]
        self._is_ready = False

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint."""
        return {"decide_at": self._decide_at, "is_compiled": self._is_compiled, "fastest_s": self._fastest_s}

    def __call__(self, number: int, run: int) -> int:
        """How many batches to stack; 0 for a plain one.

        Args:
            number: number of the next batch in its epoch.
            run: how many batches of one size come from there on.
        """
        window = self._trainer.accumulate_grad_batches
        if number % window:
            return 0  # the epoch's last window, whose batches differ in size
        step = self._trainer.global_step
        if not self._is_ready:
            self._consider_compiling(step)
        ends = [self._fitting_steps(), run // window, *(number - step % number for number in self._every)]
        if self._trainer.max_steps > 0:
            ends.append(self._trainer.max_steps - step)
        if self._is_compiled is None and step < self._decide_at:
            ends.append(self._decide_at - step)
        due = self._due()
        if due is not None:
            ends.append(max(1, due - step))
        return max(0, min(ends)) * window

    def _fitting_steps(self) -> int:
        """As many as fit into the time of a call; one before anything is known."""
        step_s = self._module.steps.step_s
        if not step_s:
            return 1
        self._fastest_s = min(step_s, self._fastest_s or step_s)
        return max(1, min(self.most_steps, int(self._call_s / step_s)))

    # ---- compiling -----------------------------------------------------------------------------

    def _consider_compiling(self, step: int) -> None:
        """Compile where the checkpoint says so, or where it pays; once."""
        if self._is_compiled is None and step < self._decide_at:
            return
        self._is_ready = True
        if self._is_compiled is None:
            self._is_compiled = self._pays(step)
        elif self._is_compiled:
            self._compile(0)

    def _pays(self, step: int) -> bool:
        schedule, step_s = self._module.schedule, self._fastest_s
        assert schedule is not None
        to_do = (schedule.total_steps or 0) - step
        saved_s = to_do * step_s * SAVED_SHARE
        if not self._may_compile or saved_s < COMPILE_S:
            return False
        return self._compile(to_do)

    def _make(self, module: Classifier, optimizer: Optimizer, batch: Batch) -> CompiledStep:
        clip = float(self._trainer.gradient_clip_val or 0.0)
        if module.device.type == "cuda":
            return GraphedStep(module, optimizer, batch, clip, self.most_steps)
        return CompiledStep(module, optimizer, batch, clip)

    def _compile(self, to_do: int) -> bool:
        """Compile the step, and use it if it is faster; without `to_do`, use it whatever its speed."""
        module, optimizer = self._module, self._trainer.optimizers[0]
        reason = why_not_compiled(module, optimizer) or (None if cpp_compiler() else "there is no C++ compiler")
        if reason is not None:
            if not to_do:
                say(f"steps: uncompiled, unlike before, so this run goes on but not with the same bits: {reason}")
            return False
        data = data_of(self._trainer)
        began = time.monotonic()
        try:
            batch = data.example_batch(self._trainer.accumulate_grad_batches, module.device)
            compiled = self._make(module, optimizer, batch)
            compile_s = time.monotonic() - began
            step_s = compiled.measure(batch, optimizer)
        except Exception as error:  # noqa: BLE001 - a compiler's errors are of every kind, and the run does without
            reason = (str(error) or type(error).__name__).splitlines()[0]
            warn(f"the step could not be compiled, so the run goes on uncompiled ({reason})")
            return False
        is_used = not to_do or step_s * LEAST_GAIN < self._fastest_s
        if not to_do:
            say(f"steps: compiled as before, in {compile_s:.0f} s")
        else:
            facts = f"{step_s * 1e6:,.0f} us a step instead of {self._fastest_s * 1e6:,.0f}"
            saved = f"saves about {to_do * (self._fastest_s - step_s):,.0f} s on {to_do:,} steps"
            gain = saved if is_used else "not used, it gains nothing"
            say(f"steps: {facts}, compiled in {compile_s:.0f} s; {gain}")
        if is_used:
            module.steps.compiled = compiled
        return is_used
