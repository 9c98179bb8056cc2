"""From a recipe to the objects that train: the data, the network, Lightning's Trainer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import lightning.pytorch as L
import numpy as np
from lightning.fabric.plugins.environments import LightningEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.strategies import Strategy
from torchmetrics import Metric

from litscope.config.recipe import Recipe
from litscope.config.training import NEVER, max_time_s, save_every
from litscope.console import number_of
from litscope.data.datamodule import ClassificationData
from litscope.data.pruning import DEFAULT_RATIO, Pruning
from litscope.data.settings import DataSettings
from litscope.data.small_loss import SmallLoss
from litscope.data.sources.source import Source
from litscope.defaults import DEFAULT_PATIENCE
from litscope.errors import ConfigError
from litscope.lightning_internals import adapt_callback_states, callbacks_of, leave_scheduler_alone
from litscope.live.steering import Steering
from litscope.live.stop_requests import StopRequests
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.classifier import Classifier
from litscope.models.settings import ClassifierSettings
from litscope.rundir import LAST, RunDir
from litscope.training.choosing.class_weights import read_class_weights
from litscope.training.choosing.global_batch import global_batch_line, rate_factor
from litscope.training.hardware import Plan
from litscope.training.job import Job
from litscope.training.loggers import make_profiler
from litscope.training.loop.canaries import Canaries
from litscope.training.loop.checkpoints import AtomicCheckpointIO, best_checkpoints
from litscope.training.loop.early_stopping import make_early_stopping
from litscope.training.loop.ema import AveragedWeights
from litscope.training.loop.recorder import Recorder
from litscope.training.preemption import Preemption
from litscope.training.strategies.sharded_strategy import ShardedStrategy
from litscope.training.strategies.sharding import Sharding
from litscope.training.summary import checkpoint_folder


def make_data(recipe: Recipe, source: Source) -> ClassificationData:
    """The data module of a resolved recipe, over an open source."""
    return ClassificationData(**{**_of_same_name(recipe, DataSettings), "dataset": None, "source": source})


def make_classifier(
    recipe: Recipe,
    data: ClassificationData,
    checkpoint: Path | None = None,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
) -> Classifier:
    """The network of a resolved recipe, for opened data.

    Args:
        metrics: the caller's own.
        checkpoint: will bring the weights, so none are fetched; it decides the normalisation and the stem.

    Raises:
        ConfigError: as `class_weights`; for another network than that of the checkpoint; for metrics that do not fit.
        ModelError: if there is no such architecture, or its weights cannot be used.
    """
    model, is_image = recipe.model, data.kind == "image"
    given = _of_same_name(recipe, ClassifierSettings)
    given["num_classes"] = data.num_classes
    if model.archs:
        given |= {"archs": model.member_archs, "num_members": model.count}
    if is_image:
        given |= {"in_channels": data.in_channels, "image_size": data.image_size}
    else:
        given["num_features"] = data.num_features
    factor = rate_factor(recipe)
    given |= {name: _scaled(given[name], factor) for name in ("lr", "member_lr") if factor != 1 and name in given}
    given["class_weights"] = class_weights(recipe.training.class_weights, data)
    has_settings = bool(model.member_lr or model.member_weight_decay or recipe.data.num_folds)
    given["same_start"] = has_settings and not model.archs and not model.member_seed
    given["pretrained"] = bool(model.pretrained) and checkpoint is None
    if checkpoint is not None:
        state = load_checkpoint(checkpoint, mmap=True)
        made = state.get("hyper_parameters", {})
        given |= {"weights": None, **{name: made.get(name) for name in ("mean", "std", "stem")}}
        classifier = Classifier(**given, metrics=metrics)
        _check_fits(classifier, given, state, checkpoint)
        return classifier
    classifier = Classifier(**given, metrics=metrics)
    classifier.meet(data)
    return classifier


def _scaled(rate: float | list[float], factor: float) -> float | list[float]:
    return [one * factor for one in rate] if isinstance(rate, list) else rate * factor


_SHAPES = ("arch", "archs", "hidden", "num_members", "image_size", "member_image_size")
"""Settings that decide which weights a network has."""


def _check_fits(classifier: Classifier, given: Mapping[str, Any], state: Mapping[str, Any], checkpoint: Path) -> None:
    """Refuse another network than the checkpoint's. Lightning would do so too late, when the run's recipe is rewritten.

    Args:
        given: the classifier's settings.
        state: what the checkpoint holds.

    Raises:
        ConfigError: naming the flags that make the difference.
    """
    here, there = _net_shapes(classifier.state_dict()), _net_shapes(state["state_dict"])
    if here == there or classifier.net is None:
        return
    made = state.get("hyper_parameters", {})
    flags = [
        f"--{name.replace('_', '-')} {', '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for name in _SHAPES
        if (value := given.get(name)) is not None and value != made.get(name)
    ]
    odd = next(name for name in (*there, *here) if here.get(name) != there.get(name))
    raise ConfigError(
        f"{' and '.join(flags) or '--resume'}: a run goes on with the network that it began with, and the weights of "
        f"{checkpoint} do not fit this one ({odd}: {there.get(odd, 'none')} there, {here.get(odd, 'none')} here). "
        "Leave the flag out, or start a new run without --resume."
    )


def _net_shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in weights.items() if name.startswith("net.")}


def _of_same_name(recipe: Recipe, settings: type) -> dict[str, Any]:
    """The recipe's values for the fields of `settings`, without those that it leaves open."""
    values = {name: value for section in recipe.sections() for name, value in vars(section).items()}
    left_open: tuple[Any, ...] = (None, "auto", [])
    return {f.name: values[f.name] for f in dataclasses.fields(settings) if values.get(f.name) not in left_open}


def class_weights(how: str, data: ClassificationData) -> list[float] | None:
    """One weight per class, of mean 1 over the training samples; None for equal weights.

    Args:
        how: "none", "balanced" (inverse frequency), or a JSON ({class: weight}) or CSV (class,weight) file.

    Raises:
        ConfigError: as `read_class_weights`.
    """
    if how == "none":
        return None
    counts = np.bincount(data.manifest.labels[data.train_ids], minlength=data.num_classes)
    if how == "balanced":
        weights = np.where(counts > 0, counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
    else:
        given = read_class_weights(Path(how), data.classes)
        weights = np.array([given[name] for name in data.classes])
    mean = float((weights * counts).sum() / counts.sum())
    return [float(weight / mean) for weight in weights]


def make_trainer(
    recipe: Recipe, plan: Plan, run: RunDir, last: Sequence[L.Callback], loggers: list[Logger]
) -> L.Trainer:
    """Lightning's Trainer for a resolved recipe. What it would print or create by itself is off.

    Args:
        last: the callbacks that come after those of the recipe; our recorder is the last of them.
    """
    training = recipe.training
    io = AtomicCheckpointIO()
    io.maps = plan.is_sharded
    trainer = L.Trainer(
        **{**plan.trainer_arguments(), "strategy": _strategy(recipe, plan)},
        max_epochs=training.epochs or -1,
        max_steps=training.max_steps or -1,
        accumulate_grad_batches=training.accumulate_grad_batches,
        gradient_clip_val=training.gradient_clip_val,
        deterministic=training.deterministic,
        fast_dev_run=training.fast_dev_run,
        limit_train_batches=training.limit_train_batches,
        limit_val_batches=training.limit_val_batches,
        limit_test_batches=training.limit_test_batches,
        overfit_batches=training.overfit_batches or 0.0,
        callbacks=[*_callbacks(recipe, run), *last],
        logger=loggers or False,
        profiler=make_profiler(recipe, run),
        log_every_n_steps=recipe.logging.log_every_n_steps,
        plugins=[io, LightningEnvironment()],
        use_distributed_sampler=False,  # our loaders divide the samples among the ranks, without padding
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=run.path,
    )
    leave_scheduler_alone(trainer)
    io.adapt = lambda checkpoint: adapt_callback_states(checkpoint, callbacks_of(trainer))
    return trainer


def _strategy(recipe: Recipe, plan: Plan) -> str | Strategy:
    if not plan.is_sharded:
        return plan.strategy
    is_in_parts = recipe.training.checkpoint_format == "sharded"
    return ShardedStrategy(plan.world_size, is_in_parts=is_in_parts, offloads=recipe.hardware.cpu_offload)


def divide(recipe: Recipe, plan: Plan, classifier: Classifier) -> None:
    """Have the network divided when training starts, where the plan says so; `notes` gets a line about it.

    Raises:
        ConfigError: as `Sharding.of`.
    """
    if not plan.is_sharded:
        return
    classifier.use_channels_last(False)  # shares of weights are contiguous
    sharding = Sharding.of(recipe, plan, classifier)
    classifier.divide = sharding.apply
    classifier.notes.append(sharding.line(plan.world_size))


def _callbacks(recipe: Recipe, run: RunDir) -> list[L.Callback]:
    training = recipe.training
    callbacks: list[L.Callback] = []
    if training.ema_decay:
        callbacks.append(AveragedWeights(training.ema_decay))
    if training.early_stopping and training.monitor:
        callbacks.append(make_early_stopping(recipe, training.patience or DEFAULT_PATIENCE))
    if training.save_top_k:
        folder = checkpoint_folder(recipe, run)
        callbacks.append(best_checkpoints(folder, training.monitor, training.mode, training.save_top_k))
    return callbacks


def make_recorder(job: Job, stop_requests: StopRequests, preemption: Preemption) -> Recorder:
    """The callback that records, saves, steers and ends a run."""
    recipe, training = job.recipe, job.recipe.training
    return Recorder(
        job.claim,
        job.attempt,
        stop_requests,
        preemption,
        Steering(job.run, job.claim.check),
        asked=job.asked,
        last_checkpoint=checkpoint_folder(recipe, job.run) / LAST,
        ledger=recipe.logging.ledger,
        saves_last=training.save_last,
        save_every=save_every(training.checkpoint_every) if training.save_last else NEVER,
        log_every_n_steps=recipe.logging.log_every_n_steps,
        max_time_s=max_time_s(training.max_time) if training.max_time else None,
        monitor=training.monitor,
        shows_bar=recipe.logging.progress,
        has_canaries=bool(training.canaries),
        canaries=make_canaries(job) if job.is_first else None,
        stride=job.stride,
        has_guests=bool(job.callbacks),
        on_epoch=job.on_epoch,
    )


def make_canaries(job: Job) -> Canaries | None:
    """Who plants wrong labels in a run that measures its ranking with them."""
    training = job.recipe.training
    if not training.canaries:
        return None
    return Canaries(job.run, training.canaries, training.seed, job.data.classes)


def make_pruning(recipe: Recipe, data: ClassificationData) -> Pruning | None:
    """What the epochs of a run leave out, for opened data; None: nothing."""
    training = recipe.training
    if training.prune == "none":
        return None
    ratio = DEFAULT_RATIO if training.prune_ratio is None else training.prune_ratio
    return Pruning(training.prune, ratio, training.seed, data.overlay)


def make_selection(recipe: Recipe, data: ClassificationData) -> SmallLoss | None:
    """What counts in the epochs of a run, for opened data; None: everything."""
    training = recipe.training
    return SmallLoss(training.small_loss_share, data.overlay) if training.robust == "small_loss" else None


def describe(job: Job) -> list[str]:
    """What trains, in a line; what several devices change, and what its ledger holds, where that is not obvious."""
    recipe, plan, data = job.recipe, job.plan, job.data
    training, size = recipe.training, num_parameters(job.classifier)
    shape = f"{data.image_size} px" if data.kind == "image" else f"{data.num_features} features"
    accumulated = training.accumulate_grad_batches
    batch = f"batch {recipe.data.batch_size}" + (f" x {accumulated}" if accumulated > 1 else "")
    length = f"{training.max_steps} steps" if training.max_steps else number_of(training.epochs or 0, "epoch")
    device = plan.device_type + (f" x {plan.world_size}" if plan.world_size > 1 else "")
    lines = [
        f"{recipe.model.name}: {_short(size)} parameters, {shape}, {batch}, lr {training.lr:g}, {length}, "
        f"{device}, {plan.precision}"
    ]
    if recipe.model.task == "binary":
        other, positive = data.classes
        lines.append(f"one logit: the log-odds of {positive!r} against {other!r} (--positive-class turns them round)")
    if plan.world_size > 1:
        lines.append(global_batch_line(recipe, len(data.epoch_ids()), plan.world_size))
    if (training.mixup or training.cutmix) and plan.world_size > 1:
        lines.append(
            f"mixup and cutmix blend samples of one device: other pairs on {plan.world_size} devices than on one"
        )
    if (training.mixup or training.cutmix) and recipe.logging.ledger:
        lines.append(
            "ledger: mixup and cutmix blend labels, so training samples are recorded in a clean pass each epoch"
        )
    return lines


def num_parameters(module: Any) -> int:
    """Number of trainable parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def _short(number: int) -> str:
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f} {letter}"
    return str(number)
