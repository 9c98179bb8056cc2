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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from litscope.console import say, warn
from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, Interrupted, LitscopeError, RunError
from litscope.models.classifier import Classifier
from litscope.rundir import RunDir, begin_attempt, write_json, write_text
from litscope.training import build, choices, environment, summary
from litscope.training.callbacks import Recorder, metric_values
from litscope.training.checkpoints import load_checkpoint
from litscope.training.checks import check_kind
from litscope.training.flags import build as build_recipe
from litscope.training.flags import recipe_from_keywords
from litscope.training.hardware import Plan, check_hardware
from litscope.training.interrupt import Signals, catch_signals
from litscope.training.launch import rank_of_process, start_workers
from litscope.training.loggers import check_loggers, make_loggers, watch
from litscope.training.quiet import quiet_lightning
from litscope.training.recipe import Recipe, max_time_s
from litscope.training.resume import RUNS, resolve_resume
from litscope.training.yamlfile import dump


@dataclass(frozen=True)
class RunResult:
    """A run that has ended.

    Attributes:
        run: its folder.
        summary: what summary.json holds.
    """

    run: RunDir
    summary: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics of the best epoch, and those of the test set with its weights."""
        return dict(self.summary["metrics"]["best"])


@dataclass(frozen=True)
class _Job:
    """What every process of a run knows before it trains."""

    recipe: Recipe
    plan: Plan
    data: ClassificationData
    run: RunDir
    attempt: int
    checkpoint: Path | None
    callbacks: Sequence[L.Callback] = ()


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

    Example:
        >>> result = fit("digits", epochs=5)
        >>> result.metrics["val/accuracy"]
    """
    if recipe is None:
        recipe = recipe_from_keywords(**({"dataset": os.fspath(dataset)} if dataset is not None else {}), **flags)
    elif dataset is not None or flags:
        raise ConfigError("fit(recipe=...) takes everything from the recipe; give either that or flags.")
    return run_recipe(recipe, callbacks)


def run_recipe(recipe: Recipe, callbacks: Sequence[L.Callback] = ()) -> RunResult:
    """Train as `recipe` says; errors as `fit`."""
    with catch_signals() as signals:
        recipe.check()
        check_loggers(recipe)
        checkpoint, folder = resolve_resume(recipe)
        if folder is not None and (done := _finished(RunDir(folder), recipe, checkpoint)) is not None:
            return done
        plan = check_hardware(recipe)
        _check_callbacks(callbacks, plan)
        source = build.make_source(recipe)
        check_kind(recipe, source.kind)
        facts = choices.look(source, device=plan.device_type, num_devices=plan.world_size)
        recipe, chosen = choices.resolve(recipe, facts, _why_no_weights)
        data = build.make_data(recipe, source).open()
        is_first = rank_of_process() == 0
        if is_first:
            for line in (*source.notes, *data.report.lines(), *chosen, *plan.notes):
                say(line)
        run = _open_run(recipe, folder, data, is_first)
        attempt = _begin(run, recipe, data, checkpoint) if is_first else 0
        job = _Job(recipe, plan, data, run, attempt, checkpoint, callbacks)
        return _train_with_workers(job, signals)


def run_worker(recipe_file: str, run_dir: str) -> None:
    """Train as one of several processes; `launch.main` comes here."""
    with catch_signals() as signals:
        recipe = build_recipe({}, [recipe_file])
        data = build.make_data(recipe, build.make_source(recipe)).open()
        checkpoint = Path(recipe.training.resume) if recipe.training.resume else None
        _train(_Job(recipe, check_hardware(recipe), data, RunDir(run_dir), 0, checkpoint), signals)


# ---- before training -------------------------------------------------------------------------


def _finished(run: RunDir, recipe: Recipe, checkpoint: Path | None) -> RunResult | None:
    """The result of a run that ended as this recipe wants it to end; None if there is more to train."""
    done = summary.read_summary(run)
    if done is None or done["status"] != "finished" or str(checkpoint) != str(done["checkpoints"]["last"]):
        return None
    then = build_recipe({}, [run.recipe]).training
    now = recipe.training
    limits = ("epochs", "max_steps", "max_time", "early_stopping", "patience", "min_delta")
    if any(getattr(then, name) != getattr(now, name) for name in limits):
        return None
    say(f"{run.path} is already finished ({done['epochs']} epochs). To train longer, give more --epochs.")
    return RunResult(run, done)


def _check_callbacks(callbacks: Sequence[L.Callback], plan: Plan) -> None:
    for callback in callbacks:
        if not isinstance(callback, L.Callback):
            raise ConfigError(
                f"callbacks: {type(callback).__name__} is not a lightning.pytorch.Callback. (The package "
                "pytorch_lightning has classes of its own that do not fit: import from lightning.pytorch.)"
            )
    if callbacks and plan.world_size > 1:
        raise ConfigError("callbacks=... works on one device: other processes are started without them.")


def _why_no_weights(arch: str) -> str | None:
    from litscope.models.backbones import why_no_weights

    return why_no_weights(arch)


def _open_run(recipe: Recipe, folder: Path | None, data: ClassificationData, is_first: bool) -> RunDir:
    """The folder of a new run, or of the one that goes on; made by the first process only."""
    if not is_first:
        path = folder or recipe.logging.run_dir or (RUNS / recipe.logging.name if recipe.logging.name else None)
        if path is None:
            raise ConfigError("--num-nodes: give --run-dir (on a shared disk), so that all machines use one folder.")
        return RunDir(path)
    if folder is not None:
        run = RunDir.open(folder)
        _check_manifest(run, data.manifest)
        run.summary.unlink(missing_ok=True)  # it tells the end of an earlier attempt
        return run
    return RunDir.create(recipe.logging.run_dir or RUNS / (recipe.logging.name or _new_name(recipe, data)))


def _new_name(recipe: Recipe, data: ClassificationData) -> str:
    """Data set, model and a number that is free."""
    stem = f"{data.source.name}-{recipe.model.arch}".replace("/", "_")
    number = 1
    while (RUNS / f"{stem}-{number}").exists():
        number += 1
    return f"{stem}-{number}"


def _check_manifest(run: RunDir, manifest: Manifest) -> None:
    """A run goes on only with the samples it began with: else ids, labels and splits would mean something else."""
    if run.manifest.exists():
        then = Manifest.read(run.manifest)
        columns = ["sample_id", "key", "label", "split"]
        if then.classes == manifest.classes and then.table.select(columns).equals(manifest.table.select(columns)):
            return
        raise RunError(
            f"The data are not those that {run.path} was trained on ({len(then)} samples then, {len(manifest)} now; "
            "or other labels or splits). Give the same data and the same split flags, or start a new run from its "
            "weights: --weights, or --resume with a new --run-dir."
        )


def _begin(run: RunDir, recipe: Recipe, data: ClassificationData, checkpoint: Path | None) -> int:
    """Write down what the run is made of, and the number of this attempt."""
    step = load_checkpoint(checkpoint, mmap=True)["global_step"] if checkpoint is not None else 0
    kept = copy.deepcopy(recipe)
    kept.logging.name = kept.logging.run_dir = kept.training.resume = None  # so that --config repeats the run
    if not run.manifest.exists():
        data.manifest.write(run.manifest)
    write_json(run.environment, environment.describe(recipe.training.seed))
    write_text(run.recipe, dump(kept))
    return begin_attempt(run, int(step), str(checkpoint) if checkpoint is not None else None)


# ---- training --------------------------------------------------------------------------------


def _train_with_workers(job: _Job, signals: Signals) -> RunResult:
    """Train on all devices, and write the summary however it ends."""
    began = time.monotonic()
    passed_on = copy.deepcopy(job.recipe)
    passed_on.training.resume = str(job.checkpoint) if job.checkpoint is not None else None

    def close(status: str, message: str, facts: dict[str, Any]) -> RunResult:
        if job.attempt == 0:  # another machine's process: the first one writes
            return RunResult(job.run, facts)
        facts = _summary(job, status, message, time.monotonic() - began, facts)
        summary.write_summary(job.run, facts)
        return RunResult(job.run, facts)

    try:
        with start_workers(
            job.plan.num_devices, job.plan.num_nodes, dump(passed_on), job.run.path, lambda m: close("failed", m, {})
        ):
            facts = _train(job, signals)
    except Interrupted as stop:
        close("interrupted", str(stop), {})
        raise Interrupted(f"{stop} To go on: litscope fit --resume {job.run.path}") from None
    except BaseException as error:
        close("failed", str(error) or type(error).__name__, {})
        raise
    result = close("finished", "", facts)
    if job.attempt:
        for line in summary.closing_lines(result.summary):
            say(line)
    return result


def _train(job: _Job, signals: Signals) -> dict[str, Any]:
    """What every process does: build, train, evaluate. Returns what the summary says about it."""
    recipe, data = job.recipe, job.data
    is_first = job.attempt > 0
    _seed(recipe.training.seed)
    classifier = build.make_classifier(recipe, data, job.checkpoint)
    folder = build.checkpoint_folder(recipe, job.run)
    recorder = Recorder(
        job.run,
        job.attempt,
        signals,
        last_checkpoint=folder / "last.ckpt",
        ledger=recipe.logging.ledger,
        saves_last=recipe.training.save_last,
        log_every_n_steps=recipe.logging.log_every_n_steps,
        max_time_s=max_time_s(recipe.training.max_time) if recipe.training.max_time else None,
        monitor=recipe.training.monitor,
        shows_bar=recipe.logging.progress,
    )
    if is_first:
        for note in classifier.notes:
            say(note)
        say(build.describe_model(recipe, job.plan, classifier, data))
        if (recipe.training.mixup or recipe.training.cutmix) and recipe.logging.ledger:
            say("ledger: mixup and cutmix blend labels, so training samples are recorded in a clean pass each epoch")
    try:
        with quiet_lightning(), signals.deferred(quiet=not is_first):
            loggers = make_loggers(recipe, job.run, job.attempt) if is_first else []
            has_val = bool(len(data.val_ids) or recipe.training.overfit_batches) and recipe.training.limit_val_batches != 0
            trainer = build.make_trainer(recipe, job.plan, job.run, [*job.callbacks, recorder], loggers, has_val=has_val)
            watch(loggers, classifier, recipe)
            trainer.fit(classifier, datamodule=data, ckpt_path=job.checkpoint)
            return _evaluate(trainer, classifier, data, recorder)
    finally:
        recorder.close()


def _seed(seed: int) -> None:
    """Every generator that training may draw from. (Lightning's seed_everything also sets environment variables.)"""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _evaluate(
    trainer: L.Trainer, classifier: Classifier, data: ClassificationData, recorder: Recorder
) -> dict[str, Any]:
    """Evaluate the best weights: on the test set, or where there is none on the validation set."""
    best = next((c.best_model_path for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)), "")
    facts = {
        "epochs": recorder.num_epochs,
        "global_step": trainer.global_step,
        "best": best,
        "num_parameters": build.num_parameters(classifier),
        "evaluation": {},
        "confusion": None,
    }
    if best and Path(best).exists():
        classifier.load_state_dict(load_checkpoint(best)["state_dict"])
    if len(data.test_ids):
        trainer.test(classifier, datamodule=data, verbose=False)
        split = "test"
    elif len(data.val_ids):
        recorder.is_evaluation_recorded = False  # the best epoch's validation is in the ledger already
        trainer.validate(classifier, datamodule=data, verbose=False)
        split = "val"
    else:
        return facts
    return {**facts, "evaluation": metric_values(trainer), "confusion": _numpy(classifier.confusion(split))}


def _numpy(counts: torch.Tensor | None) -> np.ndarray[Any, Any] | None:
    return None if counts is None else counts.numpy()


# ---- after training --------------------------------------------------------------------------


def _summary(job: _Job, status: str, message: str, wall_s: float, facts: dict[str, Any]) -> dict[str, Any]:
    """summary.json of a run that ended, well or not; draws the figures."""
    recipe, data, run = job.recipe, job.data, job.run
    rows = summary.epoch_rows(run)
    metrics = summary.metric_facts(rows, recipe.training.monitor, recipe.training.mode)
    metrics["metrics"]["best"] |= {k: v for k, v in facts.get("evaluation", {}).items() if k.startswith("test/")}
    confusion = facts.get("confusion")
    hardest = []
    try:
        summary.draw_figures(run, confusion, data.classes)
        hardest = summary.hardest_samples(run) if recipe.logging.ledger and rows else []
    except LitscopeError as error:
        warn(f"figures and hardest samples are left out: {error}")
    folder = build.checkpoint_folder(recipe, run)
    return {
        "status": status,
        "message": message,
        "name": run.path.name,
        "run_dir": str(run.path),
        "dataset": recipe.data.dataset,
        "arch": recipe.model.arch,
        "num_parameters": facts.get("num_parameters"),
        "classes": list(data.classes),
        "num_samples": {"train": len(data.train_ids), "val": len(data.val_ids), "test": len(data.test_ids)},
        "epochs": facts.get("epochs", len(rows)),
        "global_step": facts.get("global_step", rows[-1]["step"] if rows else 0),
        "monitor": recipe.training.monitor,
        "mode": recipe.training.mode,
        **metrics,
        "checkpoints": summary.checkpoint_facts(folder, facts.get("best")),
        "device": job.plan.device_type,
        "num_devices": job.plan.world_size,
        "precision": job.plan.precision,
        "wall_s": round(wall_s, 3),
        "resume": f"litscope fit --resume {run.path}",
        "confused_pairs": summary.confused_pairs(confusion, data.classes) if confusion is not None else [],
        "hardest": hardest,
    }
