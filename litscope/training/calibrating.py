"""What a run learns at its end of how its best weights' logits are read, on the validation samples of all processes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import lightning.pytorch as L
import numpy as np
import torch

from litscope.config.calibration import Asked
from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.console import number_of, say, shell_word, warn
from litscope.data.datamodule import ClassificationData
from litscope.errors import RunError
from litscope.ledger.journal.actions import decisions
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.classifier import Classifier
from litscope.models.readout import READOUT
from litscope.rundir import BEST
from litscope.training.job import Job, Outcome
from litscope.training.kept_readout import in_words, keep, outdated
from litscope.training.loop.clean_pass import clean_pass
from litscope.training.readouts import VERIFIED, Answers, groups_of, learn, unreached_line
from litscope.training.summary import checkpoint_folder
from litscope.types import StepOutput


def asked_by(recipe: Recipe) -> Asked:
    """What a recipe asks for."""
    training = recipe.training
    how = None if training.calibrate == "none" else training.calibrate
    return Asked(how, training.coverage, threshold=training.threshold)


def check_calibration(recipe: Recipe, data: ClassificationData) -> None:
    """Refuse to learn where there is nothing to learn from.

    Raises:
        ConfigError: for data without validation samples, or a threshold for more than two classes.
    """
    asked = asked_by(recipe)
    if not asked:
        return
    asked.check_classes(data.num_classes)
    if not len(data.val_ids):
        name = next(name for name in ("calibrate", "threshold", "coverage") if getattr(asked, name) is not None)
        raise refuse(name, getattr(asked, name), "it is learned on validation samples, of which there are none.")


@dataclass(frozen=True)
class BestBefore:
    """The best weights that a run had when it went on.

    Attributes:
        global_step: of theirs; None for a run that begins, and where there are none.
        is_calibrated: whether they had a readout.
    """

    global_step: int | None = None
    is_calibrated: bool = False


def best_before(job: Job) -> BestBefore:
    """Look at the best weights of a run that goes on, before training replaces them."""
    best = checkpoint_folder(job.recipe, job.run) / BEST
    if job.checkpoint is None or not job.is_first or not best.exists():
        return BestBefore()
    try:
        found = load_checkpoint(best, mmap=True)
    except RunError:  # told at the end of the training, which may have better ones then
        return BestBefore()
    return BestBefore(found.get("global_step"), READOUT in found)


def calibrate_at_end(trainer: L.Trainer, job: Job, outcome: Outcome, before: BestBefore) -> None:
    """Learn what the recipe asks for, and keep it in the best checkpoint. All processes come here, the first writes.

    Args:
        outcome: whose weights the classifier has.
        before: what was learned with other weights is gone with them, and that is told.
    """
    asked = asked_by(job.recipe)
    if before.global_step is not None and outcome.best:
        found = load_checkpoint(outcome.best, mmap=True)
        if found.get("global_step") != before.global_step:
            say(*outdated(job.run))
        if before.is_calibrated and not asked and READOUT not in found:
            how = f"litscope calibrate {shell_word(job.run.path)}"
            warn(f"the best weights were calibrated, and now others are the best, which are not. To do it: {how}")
    if not asked:
        return
    if not outcome.best:
        if job.is_first:
            warn("no epoch is the best, so nothing was calibrated; `litscope calibrate --checkpoint last` does it")
        return
    answers = _answers(trainer, job.classifier, job.data)
    if not job.is_first:
        return
    verified = decisions(job.run).tags.get(VERIFIED, set())
    learned = learn(answers, asked, verified=verified, classes=job.data.classes)
    if learned.unreached is not None:
        warn(unreached_line(learned, job.data.classes))
    keep(Path(outcome.best), learned.readout, job.claim.check)
    on = number_of(learned.readout.fitted_on.num_samples, "validation sample")
    words = f"calibrated: {in_words(learned.readout, job.data.classes)}; learned on {on}"
    say(*learned.notes, *learned.cautions, "nothing was calibrated" if learned.readout.is_plain else words)


def _answers(trainer: L.Trainer, classifier: Classifier, data: ClassificationData) -> Answers:
    """What the classifier says of the validation samples, of all processes; in the order of their ids."""
    kept: list[tuple[np.ndarray, ...]] = []

    def record(output: StepOutput) -> None:
        arrays = (output["logits"].double(), output["label"], output["sample_id"])
        kept.append(tuple(array.cpu().numpy() for array in arrays))

    classifier.to(trainer.strategy.root_device)  # after an evaluation, Lightning leaves it on the CPU
    clean_pass(trainer, classifier, data.active_ids("val"), record, says=lambda x: classifier.said(x).logits)
    shares = [kept]
    if torch.distributed.is_initialized():
        shares = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(shares, kept)
    logits, label, ids = (np.concatenate(parts) for parts in zip(*chain(*shares), strict=True))
    ids, first = np.unique(ids, return_index=True)  # an id that only fills up a share comes twice
    logits, label = logits[first], label[first]
    counts = (ids >= 0) & (label >= 0)
    ids = ids[counts]
    return Answers(ids, logits[counts], label[counts], groups_of(data.manifest, ids))
