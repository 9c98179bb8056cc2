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
from dataclasses import dataclass
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
from litscope.config.resume import resolve_resume
from litscope.curation.carry import carry, read_actions
from litscope.curation.recipe_source import make_source
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import Manifest
from litscope.data.sources.again import encoded_as
from litscope.data.sources.columns import group_of_run
from litscope.data.sources.source import Source
from litscope.launch.places import rank_of_process
from litscope.ledger.journal.actions import Action
from litscope.models.classifier import Classifier
from litscope.models.learning.optim import build_optimizer
from litscope.models.networks.backbones import why_never_weights, why_no_weights
from litscope.rundir import RunDir
from litscope.starter import place_of
from litscope.training import build
from litscope.training.choosing import choices
from litscope.training.choosing.facts import look
from litscope.training.hardware import Plan, check_hardware
from litscope.training.job import Job, OnEpoch
from litscope.training.loggers import check_loggers
from litscope.training.loop.checkpoints import steering_state
from litscope.training.loop.stride import Stride, make_stride
from litscope.training.mid_epoch import check_mid_epoch
from litscope.training.passed_on import packed
from litscope.training.refused import (
    check_against_data,
    check_callbacks,
    check_classes,
    check_length,
    check_metrics,
    check_start,
)
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
