"""The learning rate at every step: base rate x factor(step) x live scale, or a rate that a person set.

`factor` is a pure function of the step and the planned number of steps, so a resumed run lies
on the same curve, and one that resumes with more epochs or another rate lies on the new curve.
Only what a function of the step cannot know is kept in the state: the step, the scale or rate that a
person set, and where the plateau rule stands.
"""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from litscope.errors import ConfigError, did_you_mean
from litscope.models.settings import Kind

KINDS: tuple[Kind, ...] = get_args(Kind)

STEP_AT = (0.5, 0.75)
"""Shares of the run after which the `step` schedule divides the rate by ten (He et al. 2016, on CIFAR-10)."""

ONECYCLE_RISE = 0.3
ONECYCLE_START = 1 / 25
ONECYCLE_END = 1 / 25e4
"""`onecycle`: cosine from 1/25 to 1 over 30 % of the run, then to 1/250,000 (torch's OneCycleLR)."""

PLATEAU_FACTOR = 0.1
PLATEAU_PATIENCE = 3
PLATEAU_THRESHOLD = 1e-4
"""`plateau`: divided by ten after more than 3 observations in a row that improve by less than 1e-4 of the best."""


def factor(kind: Kind, step: int, total_steps: int | None, warmup_steps: int = 0, hold_steps: int = 0) -> float:
    """The share of the base rate at `step`, without the plateau rule.

    Args:
        step: optimizer steps completed before this one.
        total_steps: of the whole run; None (open end) makes every kind constant after its warm-up.
        warmup_steps: linear rise over the first steps, whose k-th has k / warmup_steps; `onecycle`
            has its own rise and does without.
        hold_steps: before all that, steps at rate zero: weights stay, the optimizer's moments settle.
    """
    if step < hold_steps:
        return 0.0
    step, total_steps = step - hold_steps, None if total_steps is None else total_steps - hold_steps
    if kind == "onecycle" and total_steps is not None:
        return _onecycle(step, total_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if total_steps is None or kind in ("plateau", "constant", "onecycle"):
        return 1.0
    if kind == "step":
        return 0.1 ** sum(step >= share * total_steps for share in STEP_AT)
    done = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _onecycle(step: int, total_steps: int) -> float:
    """torch's OneCycleLR with its defaults, without the momentum cycle."""
    peak = ONECYCLE_RISE * total_steps - 1
    last = total_steps - 1
    if step <= peak:
        start, end, done = ONECYCLE_START, 1.0, step / peak
    else:
        start, end, done = 1.0, ONECYCLE_END, min(1.0, (step - peak) / (last - peak))
    return end + (start - end) / 2.0 * (1.0 + math.cos(math.pi * done))


class Schedule(LRScheduler):
    """Sets ``lr = base_lr * factor(step) * plateau * lr_scale`` for every parameter group, at every step.

    The number of steps is not known when optimizers are made (asking Lightning for it then would
    load the data too early), so the classifier calls `plan` when training starts.

    Args:
        optimizer: its groups' `lr` is the base rate, reached at the peak.
        kind: cosine (to zero), onecycle, step, plateau or constant.
        mode: whether the value given to `observe` should fall ("min") or rise ("max").

    Attributes:
        lr_scale: live multiplier, 1.0 unless someone sets it; takes effect at once, kept in checkpoints.
        lr_value: live rate in place of the schedule's, which goes on underneath; None follows the schedule.
        total_steps, warmup_steps: as planned; None is an open end.
        hold_steps: see `factor`; kept in checkpoints.
    """

    def __init__(self, optimizer: Optimizer, kind: Kind = "cosine", mode: Literal["min", "max"] = "min") -> None:
        if kind not in KINDS:
            raise ConfigError(f"scheduler_type is {kind!r}; allowed: {', '.join(KINDS)}.{did_you_mean(kind, KINDS)}")
        self.kind = kind
        self.mode = mode
        self.total_steps: int | None = None
        self.warmup_steps = 0
        self.hold_steps = 0
        self.best: float | None = None
        self.num_bad = 0
        self.plateau = 1.0
        self._lr_scale = 1.0
        self._lr_value: float | None = None
        super().__init__(optimizer)
        # A checkpoint's optimizer state brings the old run's settings back; these are the new run's.
        self._settings = [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in optimizer.param_groups]

    @property
    def lr_scale(self) -> float:
        """The live multiplier; a new value takes effect at once."""
        return self._lr_scale

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        self._lr_scale = float(value)
        self._apply()

    @property
    def lr_value(self) -> float | None:
        """The live rate in place of the schedule's; None follows the schedule again."""
        return self._lr_value

    @lr_value.setter
    def lr_value(self, value: float | None) -> None:
        self._lr_value = None if value is None else float(value)
        self._apply()

    def plan(self, total_steps: int | None, warmup_steps: int = 0) -> None:
        """Say how long the run is, in optimizer steps; None for an open end."""
        self.total_steps = total_steps
        self.warmup_steps = warmup_steps if total_steps is None else min(warmup_steps, total_steps)
        self._apply()

    def advance(self) -> None:
        """Move on by a step, without the bookkeeping of torch's `step`; for the steps within one call."""
        self.last_epoch += 1
        self._step_count += 1
        self._apply()

    def observe(self, value: float) -> None:
        """Give the monitored value of one evaluation to the `plateau` rule; other kinds ignore it."""
        if self.kind != "plateau":
            return
        if self._is_better(value):
            self.best, self.num_bad = value, 0
        else:
            self.num_bad += 1
        if self.num_bad > PLATEAU_PATIENCE:
            self.plateau *= PLATEAU_FACTOR
            self.num_bad = 0
            self._apply()

    def get_lr(self) -> list[float]:  # type: ignore[override]
        """The rate of each group at the current step."""
        if self._lr_value is not None:
            return [self._lr_value * group["lr_share"] for group in self.optimizer.param_groups]
        share = factor(self.kind, self.last_epoch, self.total_steps, self.warmup_steps, self.hold_steps)
        return [float(base) * share * self.plateau * self._lr_scale for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers: the step, the scale, and where the plateau rule stands."""
        return {
            "step": self.last_epoch,
            "lr_scale": self._lr_scale,
            "lr_value": self._lr_value,
            "best": self.best,
            "num_bad": self.num_bad,
            "plateau": self.plateau,
            "hold_steps": self.hold_steps,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at the saved step, with this run's base rate, weight decay, betas and number of steps."""
        self.last_epoch = state_dict["step"]
        self._lr_scale = state_dict["lr_scale"]
        self._lr_value = state_dict.get("lr_value")
        self.best = state_dict["best"]
        self.num_bad = state_dict["num_bad"]
        self.plateau = state_dict["plateau"]
        self.hold_steps = state_dict.get("hold_steps", 0)
        for group, settings in zip(self.optimizer.param_groups, self._settings, strict=True):
            group.update(settings)
        self._apply()

    def _is_better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        if self.mode == "min":
            return value < self.best * (1.0 - PLATEAU_THRESHOLD)
        return value > self.best * (1.0 + PLATEAU_THRESHOLD)

    def _apply(self) -> None:
        """Write the current rate into the optimizer."""
        rates = self.get_lr()
        for group, lr in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = lr
        self._last_lr = list(rates)
