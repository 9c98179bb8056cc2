"""The `training` section of a recipe: how long, how fast, against which loss, and what is kept. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from litscope.config.calibration import AIMS, aim_of
from litscope.config.section import Section, flag_of, is_folder, refuse
from litscope.defaults import METRICS, NO_DIRECTION, Direction, best_of
from litscope.errors import ConfigError, did_you_mean
from litscope.settings import COUNT, PART, SEED, SHARE, Range, setting

LEAST_CANARY_EPOCHS = 5
"""With fewer epochs there is none between planting canaries and removing them."""

LEAST_PRUNED_EPOCHS = 3
"""With fewer epochs none is pruned, because the first and the last visit all samples."""


def max_time_s(text: str) -> float:
    """Seconds of a --max-time: `DD:HH:MM:SS`, `HH:MM:SS`, or a number with s, m, h or d.

    Raises:
        ConfigError: if it is neither, or zero.

    >>> max_time_s("00:01:30"), max_time_s("1.5h")
    (90.0, 5400.0)
    """
    seconds = _seconds(text)
    if seconds <= 0:
        raise refuse("max_time", text, _A_TIME)
    return seconds


_A_TIME = "it is HH:MM:SS, DD:HH:MM:SS, or a number with a unit (90s, 30m, 2h, 1d)."


def _seconds(text: str) -> float:
    """As `max_time_s`; 0 if the text is not a time."""
    number = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text.strip().lower())
    clock = re.fullmatch(r"(?:(\d+):)?(\d+):([0-5]?\d):([0-5]?\d)", text.strip())
    if number:
        return float(number[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[number[2]]
    if clock:
        days, hours, minutes, rest = (int(part or 0) for part in clock.groups())
        return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
    return 0.0


def _is_time(text: str) -> str | None:
    return None if _seconds(text) > 0 else _A_TIME


class SaveEvery(NamedTuple):
    """How often last.ckpt is written in the middle of an epoch: one of the two.

    Attributes:
        steps: optimizer steps.
        seconds: of time.
    """

    steps: int | None
    seconds: float | None


NEVER = SaveEvery(None, None)


def save_every(text: str) -> SaveEvery:
    """What a --checkpoint-every says: `500steps`, or a time as --max-time takes it.

    Raises:
        ConfigError: if it is neither, or zero.

    >>> save_every("500steps"), save_every("15m")
    (SaveEvery(steps=500, seconds=None), SaveEvery(steps=None, seconds=900.0))
    """
    allowed = _how_often(text)
    if allowed is not None:
        raise refuse("checkpoint_every", text, allowed)
    steps = _steps(text)
    return SaveEvery(steps, None) if steps else SaveEvery(None, _seconds(text))


def _steps(text: str) -> int:
    """Of "500steps" or "500 steps"; 0 if the text is none."""
    number = re.fullmatch(r"(\d+)\s*steps?", text.strip().lower())
    return int(number[1]) if number else 0


def _how_often(text: str) -> str | None:
    if _steps(text) or _seconds(text) > 0:
        return None
    which = f" {text.strip()}steps, or {text.strip()}m?" if text.strip().isdigit() and int(text) else ""
    return f"it is a number of steps (500steps) or a time (15m, 90s, 1h).{which}"


def _monitor(name: str, given: Iterable[str]) -> str | None:
    """Refuse a metric that nobody will log, and those of the test set, which decides nothing.

    Args:
        given: names of the caller's own metrics, which measure validation.
    """
    known = [f"{split}/{metric}" for split in ("val", "train") for metric in METRICS]
    known += [f"val/{metric}" for metric in given]
    if name.startswith("test/"):
        return "the test set decides nothing during training. Use val/...."
    hint = did_you_mean(re.sub(r"^(val|train)_", r"\1/", name), known)
    return None if name in known else f"it is one of {', '.join(known)}.{hint}"


def _class_weights(value: str) -> str | None:
    if value in ("none", "balanced") or Path(value).is_file():
        return None
    return f"neither none, nor balanced, nor an existing file.{did_you_mean(value, ['none', 'balanced'])}"


def _batches(value: int | float) -> str | None:
    """Refuse what is neither a number of batches nor a share of them."""
    return _batches_or_none(value) or (None if value > 0 else "it is a share (0.5) or a number of batches (10).")


def _batches_or_none(value: int | float) -> str | None:
    """As `_batches`, but 0 is allowed and means none."""
    if isinstance(value, float) and not 0 <= value <= 1:
        return "a decimal is a share, at most 1.0; a number of batches is whole (10)."
    return None if value >= 0 else "it is a share (0.5) or a number of batches (10)."


def _steps_per_call(value: int | str) -> str | None:
    return None if value == "auto" else COUNT(value)


def _aim(value: str) -> str | None:
    return None if aim_of(value) is not None else f"it is {AIMS}."


def _canary_share(value: float) -> str | None:
    wrong = Range(least=0, below=0.5)(value)
    return wrong and f"{wrong} 0.02 is usual."


_OF_ROBUST = {"gce_q": "gce", "elr_lambda": "elr", "elr_beta": "elr", "small_loss_share": "small_loss"}
"""Settings of one --robust alone."""


@dataclass
class TrainingConfig(Section, group="training"):
    """How long, how fast, against which loss, and what is kept."""

    epochs: int | None = setting(None, "max-epochs", check=COUNT)
    """Passes over the training data. Default: chosen from the data."""
    max_steps: int | None = setting(None, check=COUNT)
    """Stop after this many optimizer steps."""
    max_time: str | None = setting(None, check=_is_time)
    """Stop after this time: DD:HH:MM:SS, HH:MM:SS or a number with a unit (90s, 30m, 2h)."""
    lr: float | None = setting(None, "learning-rate", check=Range(above=0))
    """Learning rate at the schedule's peak. Default: chosen from the data."""
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    """What several devices make of --lr, the rate of one: none (the same rate), linear (times their number; Goyal et
    al. 2017) or sqrt (times its root)."""
    scale_lr_devices: int | None = setting(None, check=COUNT)
    """How many devices --scale-lr counts. Default: those of the run; a run that goes on keeps the number."""
    optimizer: str = "adamw"
    """adamw, adam, sgd (Nesterov), rmsprop, or any optimizer name that timm knows."""
    weight_decay: float | None = setting(None, check=Range(least=0))
    """Weight decay; never applied to norms and biases. Default: 0.05 for adamw, 5e-4 for sgd, 0 for adam."""
    momentum: float = setting(0.9, check=SHARE)
    """Momentum of sgd and rmsprop; the first beta of the Adam family."""
    scheduler_type: Literal["cosine", "onecycle", "step", "plateau", "constant"] = setting("cosine", "scheduler")
    """How the learning rate changes: cosine to zero, one cycle, ten-fold steps, on plateaus of the monitor, or not
    at all."""
    warmup_epochs: float | None = setting(None, check=Range(least=0))
    """Epochs of linear warm-up from near zero. Default: a twentieth of the run, at most five epochs."""
    label_smoothing: float = setting(0.0, check=SHARE)
    """Share of the target spread over all classes, in [0, 1)."""
    mixup: float = setting(0.0, check=Range(least=0), is_for_images=True)
    """Alpha of mixup (Zhang et al. 2018); 0 is off."""
    cutmix: float = setting(0.0, check=Range(least=0), is_for_images=True)
    """Alpha of CutMix (Yun et al. 2019); 0 is off. With both, each batch draws one of the two."""
    class_weights: str = setting("none", check=_class_weights, takes=(os.PathLike,))
    """Weights of the classes in the loss: none, balanced (inverse frequency), or a JSON or CSV file of class,weight."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """cross_entropy, or focal (Lin et al. 2017)."""
    focal_gamma: float | None = setting(None, check=Range(least=0))
    """How much less --loss focal counts samples that the network is already sure of; 0 is cross_entropy. Default: 2."""
    logit_adjustment: float = setting(0.0, check=Range(least=0))
    """Tau of the logit-adjusted loss (Menon et al. 2021), 1 in the paper: training sees the logits plus tau log of the
    classes' shares, and nothing else does, so that rare classes are predicted as if they were not; 0 is off."""
    robust: Literal["none", "gce", "elr", "small_loss"] = "none"
    """What is done about wrong labels: none, gce (generalised cross-entropy; Zhang and Sabuncu 2018), elr
    (early-learning regularisation; Liu et al. 2020) or small_loss (of each class, samples with large losses do not
    count; Han et al. 2018)."""
    gce_q: float | None = setting(None, check=PART)
    """q of --robust gce: near 0 it is cross-entropy, at 1 the mean absolute error. Default: 0.7."""
    elr_lambda: float | None = setting(None, check=Range(least=0))
    """Strength of --robust elr. Default: 3."""
    elr_beta: float | None = setting(None, check=SHARE)
    """Share of the past in the running targets of --robust elr. Default: 0.7."""
    small_loss_share: float | None = setting(None, check=Range(above=0, most=0.5))
    """Share of each class that --robust small_loss passes over, about that of its wrong labels. Default: estimated from
    the losses of each class before each epoch."""
    ema_decay: float = setting(0.0, check=SHARE)
    """Decay of an exponential moving average of the weights, used for validation and kept in checkpoints; 0 is off."""
    gradient_clip_val: float | None = setting(None, check=Range(above=0))
    """Clip the gradient's norm to this value."""
    accumulate_grad_batches: int = setting(1, check=COUNT)
    """Batches per optimizer step."""
    steps_per_call: int | Literal["auto"] = setting("auto", check=_steps_per_call)
    """Largest number of optimizer steps in one call of Lightning's loop, or auto; 1 is one step at a time."""
    early_stopping: bool = False
    """Stop when the monitor no longer improves."""
    patience: int | None = setting(None, check=COUNT)
    """Epochs without improvement before early stopping. Alone it turns early stopping on. Default: 5."""
    min_delta: float = setting(0.0, check=Range(least=0))
    """Smallest change of the monitor that counts as an improvement."""
    monitor: str | None = None
    """Metric that decides the best checkpoint. Default: val/accuracy, val/loss with few validation samples, val/ap
    for a rare positive class, train/loss without validation."""
    mode: Literal["min", "max"] | None = None
    """Whether the monitor should fall (min) or rise (max). Default: follows from its name."""
    checkpoint_dir: str | None = setting(None, check=is_folder, takes=(os.PathLike,))
    """Folder of the checkpoints. Default: checkpoints/ in the run's folder."""
    checkpoint_format: Literal["full", "sharded"] = "full"
    """Under fsdp: full (one file, gathered on the first process) or sharded (a file of each process beside it)."""
    save_top_k: int = setting(1, check=Range(least=-1))
    """How many of the best checkpoints are kept; -1 keeps all, 0 none."""
    calibrate: Literal["none", "temperature", "vector"] = "none"
    """How the logits of the best weights are scaled, learned on the validation split at the end and kept with them:
    none, temperature or vector; see `litscope calibrate`."""
    threshold: str | None = setting(None, check=_aim)
    """Of two classes: the aim of a threshold, learned and kept likewise: f1, youden, precision:0.9, recall:0.95 or
    fpr:0.001. Default: the more probable class is predicted."""
    coverage: float | None = setting(None, check=Range(above=0, below=1))
    """How often a set of classes is to hold the true one (0.9), by a limit that is learned and kept likewise. Default:
    no sets are made."""
    save_last: bool = True
    """Keep last.ckpt, from which an interrupted run resumes exactly."""
    checkpoint_every: str = setting("2m", check=_how_often)
    """How often last.ckpt is also written in the middle of an epoch: 500steps, or a time (15m, 90s, 1h). So much may be
    lost where a node dies."""
    resume: str | None = setting(None, "resume-from-checkpoint", takes=(os.PathLike,))
    """Continue a run: a checkpoint file, a run's folder, `last` or `best` (of --run-dir or --name, else of the
    newest run)."""
    prune: Literal["none", "infobatch", "random"] = "none"
    """Leave training samples out of an epoch: infobatch (some of those with low loss, at random; Qin et al. 2024),
    random (its control), none. The first epoch and the last eighth visit all samples."""
    prune_ratio: float | None = setting(None, check=Range(above=0, below=1))
    """Share of the samples with low loss (for random: of all) that an epoch leaves out, more than 0 and less than 1.
    Default: 0.5."""
    canaries: float = setting(0.0, check=_canary_share)
    """Share of training samples that get a wrong label for a while, to measure how well `litscope suspects`
    finds wrong labels, in [0, 0.5); 0 is off. It takes 5 epochs or more."""
    seed: int = setting(42, check=SEED)
    """Seed of weights, order, augmentation and splits."""
    deterministic: bool = False
    """Use deterministic algorithms only, so that runs repeat bit for bit on a GPU too."""
    fast_dev_run: bool = False
    """Run one batch of training, validation and test, to see whether everything works."""
    limit_train_batches: int | float | None = setting(None, check=_batches)
    """Training batches used in each epoch: a whole number counts them (10), a decimal is a share (0.5; 1.0 is all)."""
    limit_val_batches: int | float | None = setting(None, check=_batches_or_none)
    """Validation batches used in each epoch: a number or a share, as for --limit-train-batches; 0 validates on none."""
    limit_test_batches: int | float | None = setting(None, check=_batches_or_none)
    """Test batches used: a number or a share, as for --limit-train-batches; 0 tests on none."""
    overfit_batches: int | float | None = setting(None, check=_batches)
    """Train and validate on this number or share of training batches, the same in each epoch."""

    def check(self) -> None:
        """Check each value, the schedule, canaries and pruning."""
        super().check()
        warmup, epochs = self.warmup_epochs, self.epochs
        if warmup is not None and epochs is not None and warmup >= epochs:
            raise refuse("warmup_epochs", warmup, f"it is less than --epochs {epochs}.")
        if self.canaries and epochs is not None and epochs < LEAST_CANARY_EPOCHS:
            raise refuse("canaries", self.canaries, f"it needs at least {LEAST_CANARY_EPOCHS} epochs, not {epochs}.")
        if self.scale_lr_devices is not None and self.scale_lr == "none":
            raise refuse("scale_lr_devices", self.scale_lr_devices, "the rate is not scaled. Give --scale-lr linear.")
        if not self.save_last and self.checkpoint_every != type(self).checkpoint_every:
            allowed = "--no-save-last leaves last.ckpt out, which this writes. Give one of the two."
            raise refuse("checkpoint_every", self.checkpoint_every, allowed)
        for name in ("calibrate", "threshold", "coverage"):
            value = getattr(self, name)
            if value not in (None, "none") and self.save_top_k == 0:
                raise refuse(name, value, "--save-top-k 0 keeps no best weights, to which it belongs. Leave one out.")
        if self.prune != "none":
            self._check_pruning()
        elif self.prune_ratio is not None:
            raise refuse("prune_ratio", self.prune_ratio, "nothing is pruned. Give --prune infobatch.")
        self._check_losses()

    def _check_losses(self) -> None:
        """No value for a loss that is not the one, and no two losses."""
        if self.focal_gamma is not None and self.loss != "focal":
            raise refuse("focal_gamma", self.focal_gamma, f"--loss is {self.loss}. Give --loss focal.")
        for name, how in _OF_ROBUST.items():
            value = getattr(self, name)
            if value is not None and self.robust != how:
                raise refuse(name, value, f"--robust is {self.robust}. Give --robust {how}.")
        if self.logit_adjustment and self.class_weights != "none":
            counted = f"with --class-weights {self.class_weights} the loss would count rare classes a second time."
            raise refuse("logit_adjustment", self.logit_adjustment, f"{counted} Give one of the two.")
        if self.robust == "gce" and self.loss == "focal":
            raise refuse("robust", self.robust, "it is a loss of its own, and so is --loss focal. Give one of the two.")
        if self.robust in ("none", "gce"):
            return
        for name in ("mixup", "cutmix"):
            if getattr(self, name):
                alone = f"with {flag_of(name)} images are blended, and no sample has an answer of its own."
                raise refuse("robust", self.robust, f"{alone} Give one of the two, or --robust gce.")
        if self.robust == "small_loss" and self.prune != "none":
            allowed = f"--prune {self.prune} weights samples by their losses too. Give one of the two."
            raise refuse("robust", self.robust, allowed)

    def check_monitor(self, given: Mapping[str, Direction | None]) -> None:
        """Check the monitor and its mode.

        Args:
            given: the caller's own metrics, as `Recipe.metrics`.

        Raises:
            ConfigError: for a metric that nobody measures, or whose best end is unknown or another one.
        """
        monitor = self.monitor
        if monitor is None:
            return
        allowed = _monitor(monitor, given)
        if allowed is not None:
            raise refuse("monitor", monitor, allowed)
        best = best_of(monitor, given)
        if best is None and self.mode is None:
            raise refuse("monitor", monitor, NO_DIRECTION)
        if best is not None and self.mode not in (None, best):
            raise refuse("mode", self.mode, f"{monitor} is best at its {best}imum. Leave --mode out.")

    def _check_pruning(self) -> None:
        for name in ("mixup", "cutmix"):
            if getattr(self, name):
                allowed = f"with {flag_of(name)} images are blended, and no sample has a loss of its own."
                raise self._no_pruning(f"{allowed} Give one of the two.")
        if self.overfit_batches:
            raise self._no_pruning("--overfit-batches trains on the same few samples in each epoch.")
        if self.epochs is None and self.max_steps is not None:
            allowed = "the last eighth of the epochs visits all samples, so their number must be known."
            raise self._no_pruning(f"{allowed} Give --epochs beside --max-steps.")
        if self.epochs is not None and self.epochs < LEAST_PRUNED_EPOCHS:
            needed = f"so it needs {LEAST_PRUNED_EPOCHS} epochs or more, not {self.epochs}."
            raise self._no_pruning(f"the first and the last epoch visit all samples, {needed}")

    def _no_pruning(self, allowed: str) -> ConfigError:
        return refuse("prune", self.prune, allowed)
