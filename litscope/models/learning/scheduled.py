"""Scheduled: a LightningModule whose optimizer follows a planned learning rate."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import Optimizer

from litscope.defaults import METRICS, NO_DIRECTION, best_of
from litscope.errors import ConfigError
from litscope.lightning_internals import batches_behind, has_grad_scaler
from litscope.models.forward import Forward
from litscope.models.learning.optim import build_optimizer
from litscope.models.learning.schedule import Schedule
from litscope.models.learning.step_plan import StepPlan
from litscope.models.measured import Measured
from litscope.models.networks.members import MemberHeads, Members, scale_steps
from litscope.models.settings import ClassifierSettings


class Scheduled(Forward, Measured):
    """The base of the classifier that makes its optimizer, plans its schedule, and plans it anew when the run changes.

    Attributes:
        schedule: the live learning-rate schedule (`lr_scale`), once training is set up.
        epoch_batches: (first, stop) -> the batches expected in each of these epochs, for a run whose epochs differ in
            length; the first epoch visits all samples. None: every epoch is as long as the current one.
        kept_plan: all steps and those of the warm-up, for a run that goes on as it was planned; None: work them out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.schedule: Schedule | None = None
        self.epoch_batches: Callable[[int, int], list[int]] | None = None
        self.kept_plan: tuple[int | None, int] | None = None
        self._settled: tuple[dict[str, Any], ClassifierSettings] | None = None

    @property
    def settings(self) -> ClassifierSettings:
        """The hyperparameters as they stand: what was given, and what the data decided since."""
        given = {field.name: self.hparams[field.name] for field in fields(ClassifierSettings)}
        if self._settled is None or self._settled[0] != given:  # each step asks, and checking takes longer than a head
            self._settled = copy.deepcopy(given), ClassifierSettings(**given)
        return self._settled[1]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and a schedule that moves at every step.

        Raises:
            ConfigError: if the schedule is to follow a metric of which nobody says whether less or more is better.
        """
        assert self.net is not None
        settings = self.settings
        optimizer = build_optimizer(
            self.net,
            settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            momentum=settings.momentum,
            fused=not has_grad_scaler(self.trainer),  # Lightning cannot clip gradients that it would unscale by itself
            head=None if settings.body_lr_scale == settings.layer_decay == 1 else self.head or nn.Identity(),
            body_lr_scale=settings.body_lr_scale,
            layer_decay=settings.layer_decay,
        )
        if isinstance(self.members, Members | MemberHeads):
            scale_steps(optimizer, self.members)
        mode = settings.mode or best_of(settings.monitor or "loss", self.given.directions())
        if mode is None and settings.scheduler_type == "plateau":
            raise ConfigError(f"monitor={settings.monitor!r}: {NO_DIRECTION}")
        self.schedule = Schedule(optimizer, settings.scheduler_type, mode or "min")
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,  # noqa: ARG002  Lightning's; ours is always the norm
    ) -> None:
        """Clip the norm of the gradients: of each of several networks by itself, as it would be alone."""
        whole, precision = self.whole_members, self.trainer.precision_plugin
        if whole is None or not gradient_clip_val:
            precision.clip_gradients(optimizer, gradient_clip_val or 0.0)
            return
        for number in range(whole.num_members):
            own = [p for group in optimizer.param_groups if group["member"] == number for p in group["params"]]
            nn.utils.clip_grad_norm_(own, gradient_clip_val)

    def on_train_start(self) -> None:
        """Plan the schedule, now that the loaders are there (before, asking for them would disturb a resumed one)."""
        if self.schedule is None:
            return
        if self.kept_plan is not None:
            self.schedule.plan(*self.kept_plan)
            return
        run = StepPlan(self.trainer, self.epoch_batches)
        total_steps = run.total(self.trainer.current_epoch, batches_behind(self.trainer))
        if total_steps is None and self.schedule.kind in ("cosine", "onecycle", "step"):
            self.notes.append(
                f"the {self.schedule.kind} schedule needs an end: without epochs or steps the rate stays constant"
            )
        if self.settings.finetune == "lp-ft" and self.schedule.last_epoch == 0:
            self.schedule.hold_steps = run.hold()
        self.schedule.plan(total_steps, run.warmup(total_steps, self.settings.warmup_epochs))

    def plan_again(self, epochs_done: int, batches_done: int = 0) -> None:
        """Plan the rest of the run anew, after its epochs or the number of their steps changed. The warm-up stays.

        Args:
            epochs_done: epochs that are complete.
            batches_done: batches done in the current epoch; 0 at its start.
        """
        if self.schedule is not None:
            total_steps = StepPlan(self.trainer, self.epoch_batches).total(epochs_done, batches_done)
            self.schedule.plan(total_steps, self.schedule.warmup_steps)

    def on_measured(self, phase: str, values: dict[str, float]) -> None:
        """Give a plateau schedule the metric that it watches, after the phase that measures it."""
        if self.schedule is None or self.schedule.kind != "plateau" or phase == "test" or self.trainer.sanity_checking:
            return
        has_validation = bool(sum(self.trainer.num_val_batches))
        monitor = self.settings.monitor or ("val/loss" if has_validation else "train/loss")
        is_of_validation = has_validation and monitor in {f"val/{name}" for name in (*METRICS, *self.given)}
        if (phase == "val") == is_of_validation:
            self.schedule.observe(_monitored(monitor, {**self.trainer.callback_metrics, **values}))


def _monitored(monitor: str, known: Mapping[str, Any]) -> float:
    if monitor not in known:
        raise ConfigError(f"monitor is {monitor!r}, which is not logged. Logged are: {', '.join(sorted(known))}.")
    return float(known[monitor])
