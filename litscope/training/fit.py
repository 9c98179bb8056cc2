"""The story of one run, top to bottom.

    recipe -> prepare: checks, data, choices -> the network -> run folder -> training on all devices
           -> evaluation with the best weights, their calibration -> figures, summary.json

`fit` is the public function, `run_recipe` what `litscope fit` calls. With several devices every
process goes through `train`; only the first one speaks and writes what is not the ledger's.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

import lightning.pytorch as L
import torch
from lightning.pytorch.loggers import Logger
from torchmetrics import Metric

from litscope.claims import Claim, held
from litscope.config.flags import recipe_from_keywords
from litscope.config.keywords import FitKeywords
from litscope.config.recipe import Recipe
from litscope.config.resume import resolve_resume
from litscope.config.signature import names_flags
from litscope.config.yamlfile import dump
from litscope.console import say, shell_word, warn
from litscope.errors import ConfigError, Interrupted, LitscopeError, Preempted, RunError, Superseded, UserError
from litscope.launch import lookout
from litscope.launch.joined import Joined, join
from litscope.launch.places import rank_of_process
from litscope.launch.workers import start_workers
from litscope.ledger.journal.actions import Action
from litscope.lightning_internals import set_rank
from litscope.live.records import Status
from litscope.live.stop_requests import StopRequests, catch_stop_requests
from litscope.models.checkpoint_file import map_checkpoint
from litscope.models.given_metrics import GivenMetrics
from litscope.models.shards import load_weights
from litscope.rundir import LAST, RunDir
from litscope.training import build, summary
from litscope.training.calibrating import best_before, calibrate_at_end
from litscope.training.fusing import Parts, fuse_at_end, record_at_end
from litscope.training.job import Job, OnEpoch, Outcome, RunResult
from litscope.training.loggers import close_loggers, open_loggers, watch
from litscope.training.loop.checkpoints import best_path
from litscope.training.loop.recorder import Recorder
from litscope.training.loop.trainer_parts import metrics_of
from litscope.training.preemption import Preemption, counted_in
from litscope.training.prepare import prepare, seeded_classifier
from litscope.training.probes import speed_probe
from litscope.training.quiet import quiet_lightning
from litscope.training.requeued import as_begun, as_started_again
from litscope.training.run_folder import abandon, begin, check_folder, check_name, finished, open_run
from litscope.training.summary import checkpoint_folder
from litscope.training.threads import torch_threads
from litscope.training.tuning.finetune import begin_tuning, threads_of_steps
from litscope.training.tuning.surroundings import look_around
from litscope.training.worker import follow

WORKER = "litscope.training.worker"
"""What the other processes of a run execute."""


@names_flags
def fit(
    dataset: str | os.PathLike[str] | None = None,
    *,
    recipe: Recipe | None = None,
    callbacks: Sequence[L.Callback] = (),
    metrics: Mapping[str, Metric] | None = None,
    **flags: Unpack[FitKeywords],
) -> RunResult:
    """Train a classifier.

    Args:
        dataset: as `litscope fit DATASET`: a name, a folder, a CSV, Parquet or .npz file.
        recipe: a whole configuration, instead of flags.
        callbacks: your own `lightning.pytorch` callbacks. On several devices each process has a copy of its own.
        metrics: torchmetrics of your own, measured on validation and test as `val/NAME` and `test/NAME`; each gets
            probabilities (B, C) float32 and labels (B,) int64. `monitor="val/NAME"` lets one choose the best epoch. A
            recipe cannot hold them: bring them again with ``fit(resume=RUN, metrics=...)``.
        flags: every flag of `litscope fit`, with underscores: ``lr=1e-3``, ``arch="resnet18"``.

    Raises:
        UserError: what the flags, the data or the machine do not allow; nothing was trained.
        NonFiniteLossError, LedgerError: the run failed; its folder stays.
        Interrupted: Ctrl-C or SIGTERM; the checkpoint is written, ``fit(resume=RUN)`` goes on.
        Preempted: the same, asked for by a scheduler; the batch job may be back in the queue, and goes on itself.
        KeyboardInterrupt: Ctrl-C or SIGTERM before training begins, or when the run was over already.

    Example:
        >>> result = fit("digits", epochs=5)
        >>> result.metrics["val/accuracy"]
    """
    given = GivenMetrics(metrics).directions()
    if recipe is None:
        words = {"dataset": os.fspath(dataset)} if dataset is not None else {}
        recipe = recipe_from_keywords(metrics=given, **words, **flags)
    elif dataset is not None or flags:
        raise ConfigError("fit(recipe=...) takes everything from the recipe; give either that or flags.")
    else:
        recipe = replace(recipe, metrics={**recipe.metrics, **given})
    with catch_stop_requests():  # a Ctrl-C in the run's last moments ends the caller's loop
        return run_recipe(recipe, callbacks, metrics=metrics or {}, requeues=True)


def run_recipe(
    recipe: Recipe,
    callbacks: Sequence[L.Callback] = (),
    actions: Sequence[Action] | None = None,
    on_epoch: OnEpoch | None = None,
    metrics: Mapping[str, Metric] = MappingProxyType({}),
    *,
    requeues: bool = False,
) -> RunResult:
    """Train as `recipe` says; errors as `fit`.

    Args:
        recipe: the whole configuration.
        callbacks, metrics: as `fit`; `recipe.metrics` names these.
        actions: requests with which the journal of a new run begins; None: those that `recipe.data.actions` names.
        on_epoch: called after each epoch; may end the run.
        requeues: this run is what its batch job is for: a scheduler's signal puts the job back into the queue, and a
            requeued job goes on with it.
    """
    joined = join()
    if joined is not None and not joined.is_first:
        return follow(joined, recipe, callbacks, metrics)
    work = partial(_run, recipe, callbacks, actions, on_epoch, metrics, requeues, joined)
    return work() if joined is None else joined.lead(work)


def _run(
    recipe: Recipe,
    callbacks: Sequence[L.Callback],
    actions: Sequence[Action] | None,
    on_epoch: OnEpoch | None,
    metrics: Mapping[str, Metric],
    requeues: bool,
    joined: Joined | None,
) -> RunResult:
    """Train as the process that speaks, with others that it starts or leads; arguments as `run_recipe`."""
    if requeues:
        recipe = as_begun(recipe)
    if joined is not None:
        recipe = as_started_again(recipe, joined.place)
    rank = rank_of_process(recipe.hardware.num_nodes)
    is_first = rank == 0
    set_rank(rank)
    hardware = recipe.hardware
    preemption = Preemption(hardware.signal, requeues and hardware.requeue and is_first, counted_in(recipe))
    with catch_stop_requests(hardware.signal) as stop_requests, ExitStack() as lock:
        with preemption.before_training():
            if (done := finished(recipe)) is not None:
                return done
            claim: Claim | None = None
            if is_first and (folder := resolve_resume(recipe)[1]) is not None:
                # Before anything of it is read that changes while it trains.
                claim = lock.enter_context(held(RunDir(folder)))
            elif is_first:
                check_name(recipe)
            start = prepare(recipe, callbacks, actions, metrics=metrics)
            if is_first:
                say(*start.lines())
            # Before anything that takes time.
            check_folder(start.recipe, start.folder, start.data.manifest, start.plan)
            classifier, plan = seeded_classifier(start), start.plan
            if start.checkpoint is None:  # a run that goes on computes as it did
                plan, lines = speed_probe.settle(start.recipe, start.asked, plan, classifier, start.data)
                say(*lines)
            begin_tuning(start, classifier)
            run = open_run(start, is_first)
            if is_first and start.folder is None:
                claim = lock.enter_context(held(run))
                run.check_free()  # another process may have been faster
            claim, preemption.run = claim or Claim(run, token=""), run
            lock.enter_context(torch_threads(threads_of_steps(start.recipe), plan.num_devices))
            lock.enter_context(stop_requests.deferred(quiet=not is_first))
        loggers: list[Logger] = []
        if is_first:
            try:
                loggers = lock.enter_context(open_loggers(start.recipe, run))
            except UserError:  # a key that is refused
                abandon(run, start)
                raise
        attempt = begin(run, start) if is_first else 0
        job = start.job(plan, classifier, claim, attempt, loggers, on_epoch)
        return _train_with_others(job, stop_requests, preemption, joined)


def _train_with_others(
    job: Job, stop_requests: StopRequests, preemption: Preemption, joined: Joined | None
) -> RunResult:
    """Train on all devices, and write the summary however it ends."""
    began = time.monotonic()
    passed_on = copy.deepcopy(job.asked)
    if passed_on.training.resume is not None:
        passed_on.training.resume = str(job.checkpoint or job.run.path)  # the run, where it begins again

    def close(status: Status, message: str, outcome: Outcome | None = None) -> dict[str, Any]:
        stop_requests.closes()
        if not job.is_first:
            return {}
        job.claim.check()
        wall_s = time.monotonic() - began
        try:
            if job.on_epoch is None:  # a part of a search or a cross-validation is looked at in what that writes
                summary.draw_figures(job, outcome)
        finally:  # last of all: a run that has its summary has all else, also where it was killed in between
            facts = summary.write_summary(job, status, message, wall_s, outcome)
        return facts

    def ended(status: lookout.Status, message: str) -> int:
        say(message if status == "interrupted" else f"error: {message}")
        try:
            close("failed" if status == "lost" else status, message)
        except Superseded:  # it has no say any more; it ends all the same
            return Superseded.exit_code
        if status == "lost":
            return preemption.lost(checkpoint_folder(job.recipe, job.run) / LAST)
        return Interrupted.exit_code if status == "interrupted" else LitscopeError.exit_code

    signs = lookout.Signs(
        has_met=torch.distributed.is_initialized,
        signals=frozenset(stop_requests.signals),
        has_heard=lambda: stop_requests.requested is not None,
        on_end=ended,
    )

    try:
        timeout_s = job.recipe.hardware.rank_timeout
        if joined is not None:
            others: AbstractContextManager[object] = joined.led(dump(passed_on), job.run.path, signs, timeout_s)
        else:
            devices, nodes = job.plan.num_devices, job.plan.num_nodes
            others = start_workers(WORKER, devices, nodes, dump(passed_on), job.run.path, signs, timeout_s, job.files)
        with others:
            outcome = train(job, stop_requests, preemption)
        if job.is_first:
            outcome = replace(outcome, near_duplicates=look_around(job, outcome))
    except Interrupted as stop:
        close("interrupted", str(stop))
        if isinstance(stop, Preempted) and stop.is_requeued:
            raise
        raise type(stop)(f"{stop} To go on: litscope fit --resume {shell_word(job.run.path)}") from None
    except BaseException as error:
        close("failed", str(error) or type(error).__name__)
        raise
    facts = close("finished", "", outcome)
    if job.is_first:
        say(*summary.closing_lines(facts))
    return RunResult(job.run, facts)


def train(job: Job, stop_requests: StopRequests, preemption: Preemption) -> Outcome:
    """What every process of a run does: train, evaluate the best weights, and calibrate them where that was asked. Stop
    requests are deferred meanwhile.
    """
    recipe, data, classifier = job.recipe, job.data, job.classifier
    classifier.asked_precision = recipe.hardware.precision
    data.stride, data.pruning, data.regroups = job.stride, build.make_pruning(recipe, data), True
    data.selection = build.make_selection(recipe, data)
    recorder = build.make_recorder(job, stop_requests, preemption)
    if job.is_first:
        say(*classifier.notes, *build.describe(job))
    try:
        with quiet_lightning():
            trainer = build.make_trainer(recipe, job.plan, job.run, [*job.callbacks, recorder], list(job.loggers))
            watch(job.loggers, classifier, recipe)
            before = best_before(job)
            trainer.fit(classifier, datamodule=data, ckpt_path=job.checkpoint)
            outcome, told = _evaluate(trainer, job, recorder)
            calibrate_at_end(trainer, job, outcome, before)
            record_at_end(trainer, job, told, outcome.best)
            return outcome
    finally:
        recorder.close()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        close_loggers(job.loggers)


def _evaluate(trainer: L.Trainer, job: Job, recorder: Recorder) -> tuple[Outcome, list[Parts]]:
    """Evaluate the best weights: on the test set, or where there is none on the validation set. An ensemble learns
    before that how its members' answers become one; what they said is the second value.
    """
    classifier, data = job.classifier, job.data
    best = best_path(trainer.checkpoint_callbacks)
    outcome = Outcome(recorder.num_epochs, trainer.global_step, best, build.num_parameters(classifier))
    if best and Path(best).exists():
        try:
            load_weights(classifier, map_checkpoint(best)["state_dict"])
        except RunError as error:  # the training is not lost with it
            if trainer.is_global_zero:
                last = f"litscope evaluate {shell_word(trainer.default_root_dir)} --checkpoint last"
                warn(f"{error} So nothing was evaluated; the last weights can be: {last}")
            return replace(outcome, best=""), []
    ensemble, told = fuse_at_end(trainer, job, outcome.best)
    outcome = replace(outcome, ensemble=ensemble)
    if len(data.test_ids):
        trainer.test(classifier, datamodule=data, verbose=False)
        counts = classifier.confusion("test")
    elif len(data.val_ids):
        recorder.is_evaluation_recorded = False  # the best epoch's validation is in the ledger already
        trainer.validate(classifier, datamodule=data, verbose=False)
        counts = classifier.confusion("val")
    else:
        return outcome, told
    confusion = None if counts is None else counts.numpy()
    return replace(outcome, evaluation=metrics_of(trainer), confusion=confusion), told
