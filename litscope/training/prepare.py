"""The beginning of a run, told once: from a recipe to everything that training needs, with nothing written yet.

    recipe -> its checks -> checkpoint -> hardware -> source -> choices -> data -> what only the open data can rule out
           -> the network, from the recipe's seed

`fit` goes on from here to the folder of a run; `litscope check` reports what was found; the finders, `tune` and `cv`
measure; the other processes of a run begin here too. So all of them refuse the same recipes with the same sentences.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from torchmetrics import Metric

from litscope.claims import Claim
from litscope.config.recipe import Recipe
from litscope.config.resume import asked_for, resolve_resume, run_settings
from litscope.console import number_of, shell_word
from litscope.curation.carry import carry, read_actions
from litscope.curation.recipe_source import make_source
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import Manifest
from litscope.data.sources.again import encoded_as
from litscope.data.sources.columns import group_of_run
from litscope.data.sources.source import Source
from litscope.data.transforms import SMALL
from litscope.defaults import is_defined
from litscope.errors import ConfigError, DataError, RunError
from litscope.launch.places import rank_of_process
from litscope.ledger.journal.actions import Action
from litscope.lightning_internals import epochs_in
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.classifier import Classifier
from litscope.models.learning.optim import build_optimizer
from litscope.models.networks.backbones import why_never_weights, why_no_weights
from litscope.rundir import RunDir
from litscope.starter import place_of
from litscope.training import build
from litscope.training.calibrating import check_calibration
from litscope.training.choosing import choices
from litscope.training.choosing.facts import look
from litscope.training.fusing import check_fusion
from litscope.training.hardware import Plan, check_hardware
from litscope.training.job import Job, OnEpoch
from litscope.training.loggers import check_loggers
from litscope.training.loop.checkpoints import steering_state
from litscope.training.loop.stride import Stride, make_stride
from litscope.training.mid_epoch import check_mid_epoch
from litscope.training.passed_on import packed
from litscope.training.settings import resumed
from litscope.training.strategies.sharding import check_wrap
from litscope.training.tuning.start_weights import check_reach, starting_weights, with_checkpoint


@dataclass(frozen=True)
class Prepared:
    """A run that can begin: every choice is made, and nothing is written yet.

    Attributes:
        recipe: resolved, so nothing that matters is open; with the settings that were changed while the run trained.
        asked: the same without those changes, as in recipe.yaml.
        chosen: a line for each choice that was made, with its reason.
        plan: the hardware.
        data: opened.
        checkpoint: what the run goes on from; None for step 0.
        folder: the folder of a run that goes on, or begins again; None for a new run.
        callbacks, metrics: the caller's own.
        files: name -> content of what the other processes need beside the recipe.
        stride: for a run that takes several steps in one call.
        actions: the requests with which the journal of a new run begins.
        notes: lines about the checkpoint, the hardware and the actions.
    """

    recipe: Recipe
    asked: Recipe
    chosen: list[str]
    plan: Plan
    data: ClassificationData
    checkpoint: Path | None
    folder: Path | None
    callbacks: Sequence[L.Callback]
    metrics: Mapping[str, Metric]
    files: Mapping[str, bytes]
    stride: Stride | None
    actions: Sequence[Action]
    notes: list[str]

    def lines(self) -> list[str]:
        """What to print before the run begins."""
        return [*self.data.report.lines(), *self.chosen, *self.notes]

    def job(
        self,
        plan: Plan,
        classifier: Classifier,
        claim: Claim,
        attempt: int,
        loggers: list[Logger],
        on_epoch: OnEpoch | None = None,
    ) -> Job:
        """The job that every process trains by, once the run has a folder."""
        return Job(
            recipe=self.recipe,
            asked=self.asked,
            plan=plan,
            data=self.data,
            classifier=classifier,
            claim=claim,
            attempt=attempt,
            loggers=loggers,
            checkpoint=self.checkpoint,
            callbacks=self.callbacks,
            files=self.files,
            stride=self.stride,
            on_epoch=on_epoch,
        )


def prepare(
    recipe: Recipe,
    callbacks: Sequence[L.Callback] = (),
    actions: Sequence[Action] | None = None,
    *,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
    ask_network: bool = True,
) -> Prepared:
    """Check a recipe, choose what it leaves open, and open its data. The network comes from `seeded_classifier`.

    Args:
        recipe: as given; it is not changed.
        callbacks: the caller's own.
        actions: requests with which a new run begins; None: those that `recipe.data.actions` names.
        metrics: the caller's own; `recipe.metrics` names them.
        ask_network: whether the host of pretrained weights may be asked, where weights are to be downloaded; else it
            counts as one that answers.

    Raises:
        UserError: for what the recipe, the data or the machine do not allow.
    """
    recipe.check()
    recipe = with_checkpoint(recipe)
    recipe, unmeasured = check_metrics(recipe, metrics)
    check_loggers(recipe)
    checkpoint, folder, note = resolve_resume(recipe)
    steered = steering_state(checkpoint)
    epochs_done = check_length(resumed(recipe, steered), checkpoint) if checkpoint is not None else 0
    plan = check_hardware(recipe)
    check_wrap(recipe, plan)
    check_callbacks(callbacks)
    if checkpoint is None and ask_network:
        check_reach(recipe)
    # The processes of srun and torchrun bring their own.
    files = packed(metrics, callbacks) if plan.world_size > 1 and place_of() is None else {}
    source = make_source(recipe) if folder is None else _source_of(RunDir(folder), recipe)
    check_classes(recipe, source.manifest.classes)
    if checkpoint is not None:
        check_start(recipe)
    recipe.check_kind(source.kind)
    facts = look(source, device=plan.device_type, num_devices=plan.world_size, epochs_done=epochs_done)
    find_start = partial(starting_weights, ask=ask_network) if checkpoint is None else None
    asked, chosen = choices.resolve(recipe, facts, why_no_weights if ask_network else why_never_weights, find_start)
    recipe = resumed(asked, steered)
    is_first = rank_of_process(plan.num_nodes) == 0
    data = build.make_data(recipe, source).open(progress=recipe.logging.progress and is_first)
    check_against_data(recipe, plan, data)
    if checkpoint is not None:
        check_mid_epoch(recipe, plan, checkpoint)
    stride = make_stride(recipe, plan, data, bool(callbacks))
    notes = [*([note] if note else []), *unmeasured, *plan.notes]
    where = recipe.data.actions
    if actions is None and folder is None and where is not None:
        actions, line = carry(read_actions(where), data.manifest)
        notes.append(line)
    return Prepared(
        recipe=recipe,
        asked=asked,
        chosen=chosen,
        plan=plan,
        data=data,
        checkpoint=checkpoint,
        folder=folder,
        callbacks=callbacks,
        metrics=metrics,
        files=files,
        stride=stride,
        actions=tuple(actions or ()),
        notes=notes,
    )


def _source_of(run: RunDir, recipe: Recipe) -> Source:
    """The data of a run that goes on, read as they were when it began."""
    if not run.manifest.exists():
        return make_source(recipe)
    known = Manifest.read(run.manifest)
    as_then = copy.deepcopy(recipe)
    as_then.data.group_column = group_of_run(known, recipe.data.origin, recipe.data.group_column)
    return encoded_as(make_source(as_then), str(recipe.data.origin), known.encoding)


def seeded_classifier(start: Prepared) -> Classifier:
    """The network of a prepared run. Training draws on from the random generators that are seeded here.

    Raises:
        ModelError: if there is no such architecture, or its weights cannot be used.
        ConfigError: for an optimizer that is not known, or whose package is missing; for metrics that do not fit; for
            a network that cannot be divided as asked.
    """
    recipe = start.recipe
    _seed(recipe.training.seed)
    classifier = build.make_classifier(recipe, start.data, start.checkpoint, start.metrics)
    if classifier.net is not None:
        build.divide(recipe, start.plan, classifier)
        training = recipe.training
        build_optimizer(classifier.net, training.optimizer, lr=training.lr or 1e-3, momentum=training.momentum)
    return classifier


def _seed(seed: int) -> None:
    """Seed every generator that training draws from. (Lightning's seed_everything also sets environment variables.)"""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ---- what is refused -------------------------------------------------------------------------


def check_callbacks(callbacks: Sequence[L.Callback]) -> None:
    """Refuse callbacks that Lightning would ignore.

    Raises:
        ConfigError: saying which.
    """
    for callback in callbacks:
        if not isinstance(callback, L.Callback):
            raise ConfigError(
                f"callbacks: {type(callback).__name__} is not a lightning.pytorch.Callback. (The package "
                "pytorch_lightning has classes of its own that do not fit: import from lightning.pytorch.)"
            )


def check_metrics(recipe: Recipe, metrics: Mapping[str, Metric]) -> tuple[Recipe, list[str]]:
    """Refuse a monitor that nobody brought. Other metrics that a recipe names and nobody brought are left out.

    Returns:
        The recipe without those; a line that says so.

    Raises:
        ConfigError: saying how they are brought.
    """
    missing = [name for name in recipe.metrics if name not in metrics]
    if not missing:
        return recipe, []
    again = f"litscope.fit(..., metrics={{{', '.join(f'{name!r}: ...' for name in missing)}}})"
    monitor = recipe.training.monitor or ""
    if monitor.rpartition("/")[2] in missing:
        raise ConfigError(
            f"--monitor {monitor}: it was brought by a call in Python, and a recipe holds its name alone. Bring it "
            f"again, {again}, or give another --monitor."
        )
    kept = {name: best for name, best in recipe.metrics.items() if name in metrics}
    line = f"no longer measured: {', '.join(missing)}, which a call in Python brought; to measure it, {again}"
    return replace(recipe, metrics=kept), [line]


def check_length(recipe: Recipe, checkpoint: Path) -> int:
    """Refuse a checkpoint beyond the last epoch. Lightning would do so too late, when the run's recipe is rewritten.

    Returns:
        The epochs that are done.

    Raises:
        ConfigError: with the epochs or the steps that are done.
        RunError: as `load_checkpoint`.
    """
    training, state = recipe.training, load_checkpoint(checkpoint, mmap=True)
    done, steps = epochs_in(state), int(state.get("global_step", 0))
    if training.epochs is not None and training.epochs < done:
        raise ConfigError(
            f"--epochs {training.epochs}: {checkpoint} has {number_of(done, 'epoch')} behind it, and they count. "
            f"Give at least as many, or start a new run from its weights: --weights {shell_word(checkpoint)}."
        )
    if training.max_steps is not None and training.max_steps < steps:
        raise ConfigError(
            f"--max-steps {training.max_steps}: {checkpoint} has {number_of(steps, 'step')} behind it, and they count. "
            f"Give at least as many, or start a new run from its weights: --weights {shell_word(checkpoint)}."
        )
    return done


def check_classes(recipe: Recipe, classes: Sequence[str]) -> None:
    """Refuse to go on with a run whose network tells other classes apart than the data have.

    Args:
        classes: of the data.

    Raises:
        RunError: naming the classes of the run, and those that came or went.
    """
    if recipe.training.resume is None:
        return
    _, folder = asked_for(recipe.training.resume, recipe.logging.run_dir, recipe.logging.name)
    if folder is None or not RunDir(folder).manifest.exists():
        return
    then = Manifest.read(RunDir(folder).manifest).classes
    if set(then) == set(classes) and list(then) != list(classes):
        raise RunError(
            f"The run {folder} was trained on {_listed(then)}, in this order; now it is {_listed(classes)}. A run goes "
            "on with the order that it began with: leave --positive-class out."
        )
    came, went = ([name for name in one if name not in other] for one, other in ((classes, then), (then, classes)))
    if not came and not went:
        return
    changes = [f"now also hold {_listed(came)}"] if came else []
    changes += [f"{'and ' if came else ''}no longer hold {_listed(went)}"] if went else []
    raise RunError(
        f"The run {folder} was trained on {_listed(then)}; the data {' '.join(changes)}. A run goes on with the "
        f"classes that it began with. Give those data, or start a new run with "
        f"its recipe: --config {shell_word(RunDir(folder).recipe)}."
    )


def check_start(recipe: Recipe) -> None:
    """Refuse weights to start from, where a checkpoint brings its own.

    Raises:
        ConfigError: naming the flag.
    """
    resume, model = recipe.training.resume, recipe.model
    if resume is None or not (model.weights or model.pretrained):
        return
    _, folder = asked_for(resume, recipe.logging.run_dir, recipe.logging.name)
    began = {} if folder is None else run_settings(folder).sections
    weights, pretrained = (began[key].value if key in began else None for key in ("model.weights", "model.pretrained"))
    if model.weights and (weights is None or Path(model.weights).resolve() != Path(weights).resolve()):
        flag = f"--weights {model.weights}"
    elif model.pretrained and folder is not None and not pretrained:
        flag = "--pretrained"
    else:
        return
    raise ConfigError(f"{flag}: --resume {resume} takes the weights of its checkpoint. Give one of the two.")


def _listed(names: Sequence[str], most: int = 5) -> str:
    """`cat, dog`, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_against_data(recipe: Recipe, plan: Plan, data: ClassificationData) -> None:
    """Refuse a recipe that asks for what these data do not have.

    Args:
        recipe: resolved.
        data: opened.

    Raises:
        ConfigError: naming the flag.
        DataError: if there are fewer training samples than devices, of which each takes a part.
    """
    _check_count("--num-classes", recipe.model.num_classes, data.num_classes, "classes")
    if recipe.model.task == "binary" and data.num_classes != 2:
        raise ConfigError(
            f"--task binary: it tells two classes apart, and the data have {data.num_classes}. Leave it out."
        )
    if data.kind == "image":
        _check_count("--in-channels", recipe.model.in_channels, data.in_channels, "channels")
        _check_views(recipe, data)
    check_calibration(recipe, data)
    check_fusion(recipe, data)
    if recipe.model.finetune == "head" and recipe.training.cutmix:
        raise ConfigError("--cutmix cuts patches out of images, and --finetune head trains on features: use --mixup.")
    _check_monitor(recipe, data)
    build.class_weights(recipe.training.class_weights, data)
    if recipe.hardware.use_distributed_sampler and len(data.train_ids) < plan.world_size:
        raise DataError(f"{len(data.train_ids)} training samples cannot be shared by {plan.world_size} devices.")


def _check_count(flag: str, given: int | None, found: int, what: str) -> None:
    if given is not None and given != found:
        raise ConfigError(f"{flag} {given}: the data have {found} {what}. Leave {flag} out to take what they have.")


def _check_views(recipe: Recipe, data: ClassificationData) -> None:
    """Refuse what the recipe does with images that these images do not allow."""
    tta, padding = recipe.data.tta, recipe.data.crop_padding
    if tta != "none" and not data.flips:
        raise ConfigError(f"--tta {tta}: it mirrors images, and these are of characters. Leave it out.")
    if padding is None:
        return
    side = data.manifest.encoding["stored_size"]
    if side > SMALL:
        raise ConfigError(
            f"--crop-padding {padding}: the images are {side} pixels wide, and those of more than {SMALL} are cropped "
            "without padding. Leave it out."
        )
    if padding >= side:
        raise ConfigError(f"--crop-padding {padding}: the images are {side} pixels wide; give at most {side - 1}.")


def _check_monitor(recipe: Recipe, data: ClassificationData) -> None:
    """Refuse a validation metric as monitor if there is no validation, and a metric that is undefined there."""
    training, monitor = recipe.training, recipe.training.monitor
    if monitor is None:
        return
    is_val = monitor.startswith("val/")
    has_val = bool(len(data.val_ids) or training.overfit_batches) and training.limit_val_batches != 0
    if is_val and not has_val:
        raise ConfigError(
            f"--monitor {monitor}: there is no validation. Use train/loss, or give validation samples "
            "(a --val-split above 0, a --limit-val-batches other than 0)."
        )
    ids = data.val_ids if is_val and not training.overfit_batches else data.train_ids
    counts = np.bincount(data.manifest.labels[ids], minlength=data.num_classes)
    metric = monitor.rpartition("/")[2]
    if is_defined(metric, counts.tolist()):
        return
    absent = [name for name, count in zip(data.classes, counts, strict=True) if not count]
    phase = "validation" if is_val else "training"
    raise ConfigError(
        f"--monitor {monitor}: the {phase} samples hold none of {_listed(absent)}, so {metric} is undefined in every "
        f"epoch. Use {monitor.replace(metric, 'loss')}, or give a split with samples of each class (--val-split, "
        "--split-seed)."
    )
