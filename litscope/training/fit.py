"""The story of one run, top to bottom.

    recipe -> checks -> data -> choices -> run folder -> network, Trainer -> training
           -> evaluation with the best weights -> figures, summary.json

`fit` is the public function, `run_recipe` what `litscope fit` calls. With several devices every
process goes through `_train`; only the first one speaks and writes what is not the ledger's.
"""

from __future__ import annotations

import copy
import os
import random
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger

from litscope.config.flags import build as build_recipe
from litscope.config.flags import recipe_from_keywords
from litscope.config.recipe import Recipe
from litscope.config.resume import resolve_resume
from litscope.config.training import max_time_s
from litscope.config.yamlfile import dump
from litscope.console import say
from litscope.data.datamodule import ClassificationData
from litscope.data.pruning import DEFAULT_RATIO, Pruning
from litscope.errors import ConfigError, Interrupted
from litscope.launch.workers import rank_of_process, start_workers
from litscope.ledger.journal.actions import Action
from litscope.live.steering import Steering
from litscope.live.stop_requests import StopRequests, catch_stop_requests
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir, held, write_json
from litscope.training import build, choices, summary
from litscope.training.hardware import Plan, check_hardware
from litscope.training.job import Job, OnEpoch, Outcome, RunResult
from litscope.training.loggers import check_loggers, close_loggers, make_loggers, watch
from litscope.training.loop.canaries import Canaries
from litscope.training.loop.checkpoints import load_checkpoint, steering_state
from litscope.training.loop.metric_lines import metric_values
from litscope.training.loop.recorder import Recorder
from litscope.training.loop.stride import make_stride
from litscope.training.probes import speed_probe
from litscope.training.quiet import quiet_lightning
from litscope.training.run_folder import begin, carried_actions, check_epochs, finished, open_run
from litscope.training.settings import resumed


def fit(
    dataset: str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | None = None,
    callbacks: Sequence[L.Callback] = (),
    **flags: Any,
) -> RunResult:
    """Train a classifier.

    Args:
        dataset: as `litscope fit DATASET`: a name, a folder, a CSV, Parquet or .npz file.
        recipe: a whole configuration, instead of flags.
        callbacks: your own `lightning.pytorch` callbacks, on one device.
        flags: every flag of `litscope fit`, with underscores: ``lr=1e-3``, ``arch="resnet18"``.

    Raises:
        UserError: what the flags, the data or the machine do not allow; nothing was trained.
        NonFiniteLossError, LedgerError: the run failed; its folder stays.
        Interrupted: Ctrl-C or SIGTERM; the checkpoint is written, ``fit(resume=RUN)`` goes on.
        KeyboardInterrupt: Ctrl-C or SIGTERM before the first step, or when the run was over already.

    Example:
        >>> result = fit("digits", epochs=5)
        >>> result.metrics["val/accuracy"]
    """
    if recipe is None:
        recipe = recipe_from_keywords(**({"dataset": os.fspath(dataset)} if dataset is not None else {}), **flags)
    elif dataset is not None or flags:
        raise ConfigError("fit(recipe=...) takes everything from the recipe; give either that or flags.")
    with catch_stop_requests():  # a Ctrl-C in the run's last moments ends the caller's loop
        return run_recipe(recipe, callbacks)


def run_recipe(
    recipe: Recipe,
    callbacks: Sequence[L.Callback] = (),
    actions: Sequence[Action] | None = None,
    on_epoch: OnEpoch | None = None,
) -> RunResult:
    """Train as `recipe` says; errors as `fit`.

    Args:
        recipe: the whole configuration.
        callbacks: as `fit`.
        actions: requests with which the journal of a new run begins; None: those that `recipe.data.actions` names.
        on_epoch: told of each epoch that is over, and may end the run.
    """
    with catch_stop_requests() as stop_requests:
        recipe.check()
        check_loggers(recipe)
        checkpoint, folder = resolve_resume(recipe)
        if folder is not None and (done := finished(RunDir(folder), recipe, checkpoint)) is not None:
            return done
        steered = steering_state(checkpoint)
        if checkpoint is not None:
            check_epochs(resumed(recipe, steered).training.epochs, checkpoint)
        plan = check_hardware(recipe)
        _check_callbacks(callbacks, plan)
        source = build.make_source(recipe)
        recipe.check_kind(source.kind)
        facts = choices.look(source, device=plan.device_type, num_devices=plan.world_size)
        asked, chosen = choices.resolve(recipe, facts, _why_no_weights)
        recipe = resumed(asked, steered)
        data = build.make_data(recipe, source).open()
        build.check_monitor(recipe, data)
        stride = make_stride(recipe, plan, data, bool(callbacks))
        is_first = rank_of_process() == 0
        if is_first:
            for line in (*data.report.lines(), *chosen, *plan.notes):
                say(line)
        classifier = _seeded_classifier(recipe, data, checkpoint)
        if checkpoint is None:  # a run that goes on computes as it did
            plan, lines = speed_probe.settle(recipe, asked, plan, classifier, data)
            for line in lines:
                say(line)
        if actions is None:
            actions = carried_actions(recipe, data.manifest) if is_first and folder is None else []
        run = open_run(recipe, folder, data, is_first)
        with held(run) if is_first else nullcontext(), speed_probe.torch_threads(recipe.hardware.num_threads):
            attempt = begin(run, asked, data, checkpoint, actions) if is_first else 0
            job = Job(recipe, asked, plan, data, classifier, run, attempt, checkpoint, callbacks, stride, on_epoch)
            return _train_with_workers(job, stop_requests)


def run_worker(recipe_file: str, run_dir: str) -> None:
    """Train as one of several processes; `launch.main` comes here."""
    with catch_stop_requests() as stop_requests:
        asked = build_recipe({}, [recipe_file])
        checkpoint = Path(asked.training.resume) if asked.training.resume else None
        recipe = resumed(asked, steering_state(checkpoint))
        data = build.make_data(recipe, build.make_source(recipe)).open()
        classifier = _seeded_classifier(recipe, data, checkpoint)
        with speed_probe.torch_threads(recipe.hardware.num_threads):
            plan = check_hardware(recipe)
            _train(Job(recipe, asked, plan, data, classifier, RunDir(run_dir), 0, checkpoint), stop_requests)


# ---- before training -------------------------------------------------------------------------


def _check_callbacks(callbacks: Sequence[L.Callback], plan: Plan) -> None:
    for callback in callbacks:
        if not isinstance(callback, L.Callback):
            raise ConfigError(
                f"callbacks: {type(callback).__name__} is not a lightning.pytorch.Callback. (The package "
                "pytorch_lightning has classes of its own that do not fit: import from lightning.pytorch.)"
            )
    if callbacks and plan.world_size > 1:
        raise ConfigError("callbacks=... works on one device: other processes are started without them.")


def _seeded_classifier(recipe: Recipe, data: ClassificationData, checkpoint: Path | None) -> Classifier:
    """The network, built before the run has a folder: a wrong name or weights file leaves none behind."""
    _seed(recipe.training.seed)
    classifier = build.make_classifier(recipe, data, checkpoint)
    build.check_optimizer(recipe, classifier)
    return classifier


def _why_no_weights(arch: str) -> str | None:
    from litscope.models.networks.backbones import why_no_weights

    return why_no_weights(arch)


# ---- training --------------------------------------------------------------------------------


def _train_with_workers(job: Job, stop_requests: StopRequests) -> RunResult:
    """Train on all devices, and write the summary however it ends."""
    began = time.monotonic()
    passed_on = copy.deepcopy(job.asked)
    passed_on.training.resume = str(job.checkpoint) if job.checkpoint is not None else None

    def close(status: str, message: str, outcome: Outcome | None = None) -> dict[str, Any]:
        if not job.is_first:
            return {}
        facts = summary.make_summary(job, status, message, time.monotonic() - began, outcome)
        write_json(job.run.summary, facts)
        summary.draw_figures(job.run, outcome.confusion if outcome else None, job.data.classes)
        return facts

    def worker_died(message: str) -> None:
        say(f"error: {message}")
        close("failed", message)

    try:
        with start_workers(job.plan.num_devices, job.plan.num_nodes, dump(passed_on), job.run.path, worker_died):
            outcome = _train(job, stop_requests)
    except Interrupted as stop:
        close("interrupted", str(stop))
        raise Interrupted(f"{stop} To go on: litscope fit --resume {job.run.path}") from None
    except KeyboardInterrupt:
        close("interrupted", "Interrupted before the first step.")
        raise
    except BaseException as error:
        close("failed", str(error) or type(error).__name__)
        raise
    facts = close("finished", "", outcome)
    if job.is_first:
        for line in summary.closing_lines(facts):
            say(line)
    return RunResult(job.run, facts)


def _train(job: Job, stop_requests: StopRequests) -> Outcome:
    """What every process does: train, evaluate."""
    recipe, data, classifier, is_first = job.recipe, job.data, job.classifier, job.is_first
    data.stride = job.stride
    folder = summary.checkpoint_folder(recipe, job.run)
    data.pruning = _pruning(job)
    recorder = Recorder(
        job.run,
        job.attempt,
        stop_requests,
        Steering(job.run),
        asked=job.asked,
        last_checkpoint=folder / "last.ckpt",
        ledger=recipe.logging.ledger,
        saves_last=recipe.training.save_last,
        log_every_n_steps=recipe.logging.log_every_n_steps,
        max_time_s=max_time_s(recipe.training.max_time) if recipe.training.max_time else None,
        monitor=recipe.training.monitor,
        shows_bar=recipe.logging.progress,
        canaries=_canaries(job) if is_first else None,
        stride=job.stride,
        on_epoch=job.on_epoch,
    )
    if is_first:
        for note in classifier.notes:
            say(note)
        say(build.describe_model(recipe, job.plan, classifier, data))
        if (recipe.training.mixup or recipe.training.cutmix) and recipe.logging.ledger:
            say("ledger: mixup and cutmix blend labels, so training samples are recorded in a clean pass each epoch")
    loggers: list[Logger] = []
    try:
        with quiet_lightning(), stop_requests.deferred(quiet=not is_first):
            loggers += make_loggers(recipe, job.run, job.attempt) if is_first else []
            trainer = build.make_trainer(recipe, job.plan, job.run, [*job.callbacks, recorder], loggers)
            watch(loggers, classifier, recipe)
            trainer.fit(classifier, datamodule=data, ckpt_path=job.checkpoint)
            return _evaluate(trainer, classifier, data, recorder)
    finally:
        recorder.close()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        close_loggers(loggers)


def _pruning(job: Job) -> Pruning | None:
    training = job.recipe.training
    if training.prune == "none":
        return None
    ratio = DEFAULT_RATIO if training.prune_ratio is None else training.prune_ratio
    return Pruning(training.prune, ratio, training.seed, job.data.overlay)


def _canaries(job: Job) -> Canaries | None:
    training = job.recipe.training
    if not training.canaries:
        return None
    return Canaries(job.run, training.canaries, training.seed, job.data.classes)


def _seed(seed: int) -> None:
    """Every generator that training may draw from. (Lightning's seed_everything also sets environment variables.)"""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _evaluate(trainer: L.Trainer, classifier: Classifier, data: ClassificationData, recorder: Recorder) -> Outcome:
    """Evaluate the best weights: on the test set, or where there is none on the validation set."""
    best = next((c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), "")
    outcome = Outcome(recorder.num_epochs, trainer.global_step, best, build.num_parameters(classifier))
    if best and Path(best).exists():
        classifier.load_state_dict(load_checkpoint(best)["state_dict"])
    if len(data.test_ids):
        trainer.test(classifier, datamodule=data, verbose=False)
        counts = classifier.confusion("test")
    elif len(data.val_ids):
        recorder.is_evaluation_recorded = False  # the best epoch's validation is in the ledger already
        trainer.validate(classifier, datamodule=data, verbose=False)
        counts = classifier.confusion("val")
    else:
        return outcome
    confusion = None if counts is None else counts.numpy()
    return replace(outcome, evaluation=metric_values(trainer), confusion=confusion)
