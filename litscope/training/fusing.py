"""What an ensemble learns at the end of its run: its fusion, of the best weights' answers to validation samples; and
whether it beats its best member there.

While the run trains, its members count alike: a rule that learned from the answers of one epoch would be judged on the
samples that it learned from, and choose the best epoch by that. What is reported here is cross-fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import numpy.typing as npt
import torch

from litscope.config.recipe import Recipe
from litscope.config.section import refuse
from litscope.console import number_of, say
from litscope.data.datamodule import ClassificationData
from litscope.fusions import LEARNED, Fusion
from litscope.ledger.custom import CustomRows, CustomSegment
from litscope.ledger.writer import LedgerWriter
from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.forward import FUSION
from litscope.models.networks.fusion import fuse_by, mean_of_passes, parts_by, weights_by
from litscope.models.readout import READOUT, Readout
from litscope.rundir import LAST
from litscope.training.job import Job
from litscope.training.kept_readout import keep_value
from litscope.training.loop.clean_pass import clean_pass
from litscope.training.readouts import Answers, groups_of
from litscope.training.recorded import keep_record
from litscope.types import StepOutput
from litscope.uncertainty.entropies import expected_entropy, mutual_information
from litscope.uncertainty.fusion import against_best, cross_fitted, fit_fusion

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

LEAST = 2
"""Samples, or groups of them, without which nothing is judged."""


@dataclass(frozen=True)
class Parts:
    """What the members say of N samples of a split.

    Attributes:
        split: their split.
        sample_id, label: (N,); the label is negative where there is none.
        logits: (M, N, C), or (T, M, N, C) of T passes with dropout.
    """

    split: str
    sample_id: Ids
    label: Ids
    logits: Floats

    @property
    def log_p(self) -> Floats:
        """(M, N, C) the log-probabilities of each member."""
        z = torch.from_numpy(self.logits)
        return (mean_of_passes(z) if z.ndim == 4 else torch.log_softmax(z, 2)).numpy()

    def fused(self, fusion: Fusion) -> Floats:
        """(N, C) the log-probabilities of all together."""
        return fuse_by(fusion, torch.from_numpy(self.logits)).numpy()


def check_fusion(recipe: Recipe, data: ClassificationData) -> None:
    """Refuse a rule that has nothing to learn from.

    Raises:
        ConfigError: for data without validation samples, or a run that evaluates none of them.
    """
    rule = recipe.model.ensemble_strategy
    if rule not in LEARNED:
        return
    learns = "it learns on validation samples, of which"
    if not len(data.val_ids):
        raise refuse("ensemble_strategy", rule, f"{learns} there are none. Give a --val-split above 0, or give mean.")
    if recipe.training.limit_val_batches == 0:
        raise refuse("ensemble_strategy", rule, f"{learns} --limit-val-batches 0 leaves none. Leave it out.")


def fuse_at_end(trainer: L.Trainer, job: Job, best: str) -> tuple[dict[str, Any] | None, list[Parts]]:
    """Have an ensemble learn its fusion, keep it in the checkpoints, and judge it. All processes come here.

    Args:
        best: the checkpoint whose weights the classifier has; "" for the last ones.

    Returns:
        For summary.json, None where the run trains no ensemble, or there is nothing to judge it on; and what the
        members say of the validation and of the test samples, for `record_at_end`.
    """
    model, classifier = job.recipe.model, job.classifier
    if classifier.members is None or (model.model_type != "ensemble" and model.ensemble_strategy == "mean"):
        return None, []
    told = [_ask(trainer, job, split, ids) for split in ("val", "test") if len(ids := job.evaluated_ids(split))]
    parts = next((of_split for of_split in told if of_split.split == "val"), None)
    known = None if parts is None else np.flatnonzero(parts.label >= 0)
    if parts is not None and known is not None and len(known) and model.ensemble_strategy in LEARNED:
        classifier.fusion = fit_fusion(model.ensemble_strategy, parts.logits[..., known, :], parts.label[known])
        if job.is_first:
            _keep(job, best, classifier.fusion)
    return None if parts is None or known is None else _judged(job, parts, known), told


def record_at_end(trainer: L.Trainer, job: Job, told: Sequence[Parts], best: str) -> None:
    """Write down what members say, once it is known how it is read.

    Args:
        told, best: of `fuse_at_end`.
    """
    if not job.is_first or not job.recipe.logging.ledger or not told:
        return
    checkpoint = Path(best) if best else Path(job.recipe.training.checkpoint_dir or job.run.checkpoints) / LAST
    kept = load_checkpoint(checkpoint, mmap=True).get(READOUT) if checkpoint.is_file() else None
    readout = None if kept is None else Readout.from_dict(kept, job.data.num_classes)
    for parts in told:
        _keep_uncertainties(job, parts, checkpoint, readout)
        _record(trainer, job, parts)


def _ask(trainer: L.Trainer, job: Job, split: str, ids: Ids) -> Parts:
    """What the members say of a split's samples, of all processes; in the order of their ids."""
    kept: list[tuple[np.ndarray, ...]] = []
    classifier = job.classifier

    def record(output: StepOutput) -> None:
        kept.append(tuple(output[name].cpu().numpy() for name in ("label", "sample_id")))

    answers: list[np.ndarray] = []

    def says(x: torch.Tensor) -> torch.Tensor:
        own = classifier.parts(x)
        answers.append(own.double().cpu().numpy())
        return own if own.ndim == 2 else own.flatten(0, -3)[0]

    classifier.to(trainer.strategy.root_device)  # after a fit, Lightning may have left it on the CPU
    clean_pass(trainer, classifier, ids, record, says=says)
    mine = [(*of_batch, logits) for of_batch, logits in zip(kept, answers, strict=True)]
    shares: list[Any] = [mine]
    if torch.distributed.is_initialized():
        shares = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(shares, mine)
    label, asked, logits = zip(*chain(*shares), strict=True)
    found, first = np.unique(np.concatenate(asked), return_index=True)  # one that only fills up a share comes twice
    first = first[found >= 0]
    return Parts(
        split, np.concatenate(asked)[first], np.concatenate(label)[first], np.concatenate(logits, -2)[..., first, :]
    )


def _keep(job: Job, best: str, fusion: Fusion) -> None:
    """Put a fusion into the best checkpoint, and into the last one, which predicts by it too."""
    named = [Path(best)] if best else []
    folder = Path(job.recipe.training.checkpoint_dir or job.run.checkpoints)
    for path in (*named, folder / LAST):
        if path.is_file():
            keep_value(path, FUSION, fusion.plain(), job.claim.check)
    say(f"{fusion.rule}: learned on {number_of(fusion.num_samples, 'validation sample')}; {_in_words(fusion)}")


def _in_words(fusion: Fusion) -> str:
    told = []
    for name, values in (("temperatures", fusion.temperatures), ("weights", fusion.weights)):
        if values is not None:
            told.append(f"{name} {', '.join(f'{value:.3f}' for value in values)}")
    if fusion.rule == "stacked":
        told.append(f"a last temperature of {fusion.last_temperature:.3f}")
    return ", ".join(told)


def _judged(job: Job, parts: Parts, known: Ids) -> dict[str, Any] | None:
    """The ensemble beside its best member, on the validation samples that have a label."""
    label, rule = parts.label[known], job.recipe.model.ensemble_strategy
    groups = groups_of(job.data.manifest, parts.sample_id[known])
    if len(label if groups is None else np.unique(groups)) < LEAST:
        return None

    def apply(fusion: Fusion, logits: Floats) -> Floats:
        return fuse_by(fusion, torch.from_numpy(logits)).numpy()

    fused = cross_fitted(rule, parts.logits[..., known, :], label, apply, groups, seed=job.recipe.training.seed)
    members = parts.log_p[:, known]
    beside = against_best(fused, members, label, groups, seed=job.recipe.training.seed)
    settings, fusion = job.classifier.settings, job.classifier.fusion
    num_members = len(members)
    sizes: Sequence[int | None] = settings.member_image_size or (settings.image_size,) * num_members
    archs: Sequence[str | None] = settings.archs or (settings.arch,) * num_members
    of_label = members[:, np.arange(len(label)), label]
    return {
        "strategy": rule,
        "fusion": (fusion or Fusion(rule)).plain(),
        "num_samples": len(label),
        "members": [
            {
                "arch": archs[number],
                "image_size": sizes[number],
                "accuracy": float((own.argmax(1) == label).mean()),
                "nll": float(-of_label[number].mean()),
            }
            for number, own in enumerate(members)
        ],
        "accuracy": float((fused.argmax(1) == label).mean()),
        "nll": float(-fused[np.arange(len(label)), label].mean()),
        "against_best": {name: {**asdict(one), "verdict": one.verdict} for name, one in beside.items()},
    }


def verdict_line(found: dict[str, Any]) -> str:
    """Whether the ensemble beats its best member, in a line."""
    of = found["against_best"]["nll"]
    gain, best = of["gain"], found["members"][of["best_member"]]
    known = gain["low"] is not None
    span = f" (95 % of draws {gain['low']:+.4f} to {gain['high']:+.4f})" if known else ""
    name = f"member {of['best_member']} ({best['arch']})"
    said = {"better": "beats", "worse": "is worse than", "undecided": "is not clearly better or worse than"}
    return (
        f"ensemble ({found['strategy']}): {said[of['verdict']]} its best member on {found['num_samples']:,} validation "
        f"samples: NLL {found['nll']:.4f}, of {name} {of['best']:.4f}, gain {gain['value']:+.4f}{span}"
    )


# ---- the ledger ------------------------------------------------------------------------------


class _Ready:
    """Rows that are on the host already."""

    def __init__(self, rows: CustomRows) -> None:
        self._rows = rows

    def rows(self) -> CustomRows:
        return self._rows


def _keep_uncertainties(job: Job, parts: Parts, checkpoint: Path, readout: Readout | None) -> None:
    """Write down what they say together, and how much they disagree, by which `litscope worst` sorts."""
    rule = job.classifier.rule
    each = parts_by(rule, torch.from_numpy(parts.logits).flatten(0, -3))
    read = each if readout is None else readout.scaled(each)
    probs, weights = torch.softmax(read.double(), 2).numpy(), weights_by(rule, len(each))
    entropies = expected_entropy(probs, weights), mutual_information(probs, weights)
    answers = Answers(parts.sample_id, parts.fused(rule), parts.label, None, *entropies)
    keep_record(job.run, checkpoint, answers, readout, job.data.classes)


def _record(trainer: L.Trainer, job: Job, parts: Parts) -> None:
    """Write down what each member says of its samples' labels (`custom` in SQL)."""
    log_p, count = parts.log_p, len(parts.sample_id)
    hard = np.maximum(parts.label, 0)
    of_label = np.exp(log_p[:, np.arange(count), hard])
    of_label[:, parts.label < 0] = np.nan
    named = {f"p_label_member_{number}": values for number, values in enumerate(of_label)}
    epoch = max(0, trainer.current_epoch - 1)
    segments = tuple(CustomSegment(count, trainer.global_step, epoch, parts.split, "eval", name) for name in named)
    rows = CustomRows(np.tile(parts.sample_id, len(named)), np.concatenate(list(named.values())), segments)
    writer = LedgerWriter(job.run, job.attempt, folder=job.run.custom, guard=job.claim.check)
    try:
        writer.put(_Ready(rows))
    finally:
        writer.close()
