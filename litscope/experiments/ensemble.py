"""`litscope ensemble`: networks of separate runs joined into one, without training.

    open the members -> which samples may judge them -> one network of all -> its rule, fitted on samples that validated
    every member, or of cross-validations out of fold -> beside its best member, cross-fitted -> a run folder like any
    other

What is written is one checkpoint with everything inside (`models.joined`), in a folder with a recipe, the samples and
their splits, so that `evaluate`, `predict` and `export` take it as they take any run.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from litscope.console import number_of, warn
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, DataError, RunError, did_you_mean
from litscope.evaluation.known_data import KnownData, with_decisions
from litscope.evaluation.network import Network
from litscope.evaluation.opened_run import OpenedRun
from litscope.experiments.ensemble_folder import check_free, joined_network, write_ensemble
from litscope.experiments.ensemble_folds import CommonFolds, check_rule_of_folds, common_folds, is_of_folds
from litscope.experiments.ensemble_members import Member, open_members
from litscope.experiments.ensemble_result import FOLDS, EnsembleResult, MemberFacts
from litscope.experiments.ensemble_splits import JointSplits, joint_splits, unknown_splits
from litscope.fusions import LEARNED, NEEDS_DROPOUT, RULES, Fusion, Rule
from litscope.models.networks.dropout import dropouts_of
from litscope.models.networks.fusion import fuse_by
from litscope.uncertainty.fusion import Against, against_best, cross_fitted, fit_fusion, member_log_probabilities
from litscope.uncertainty.proper import log_losses

USUAL: Rule = "stacked"
"""The rule where nobody names one, and there is something to fit it on."""

LEAST = 2
"""Samples, or groups of them, without which nothing is compared."""

FEW = 100
"""With fewer samples to learn from, a rule is not to be trusted much."""

_NUM_COMPARED = 64
_MOST_OFF = 0.01
"""A probability that is further from the member's own is told: the member is shown other pixels than alone."""

Floats = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class _Judged:
    """What the members say of samples that none of them was trained on.

    Attributes:
        split: val, or where no sample validated all of them test; folds: out of fold, of M
            cross-validations.
        logits: (M, N, C), or (T, M, N, C) of T passes with dropout.
        label: (N,).
        groups: (N,) what belongs together; None where nothing is known of it.
    """

    split: str
    logits: Floats
    label: Ids
    groups: NDArray[np.object_] | None

    @property
    def teaches(self) -> bool:
        """Whether a rule may learn from them: the test set is for the end."""
        return self.split in ("val", FOLDS)

    @property
    def num_units(self) -> int:
        """How many samples, or groups of them, there are."""
        return len(self.label) if self.groups is None else len(set(self.groups.tolist()))


def ensemble(
    runs: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
    strategy: str | None = None,
    output: str | os.PathLike[str] | None = None,
    *,
    checkpoint: str = "best",
    dataset: str | None = None,
    data_dir: str | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    accelerator: str | None = None,
) -> EnsembleResult:
    """Join the networks of separate runs into one, without training.

    Args:
        runs: folders of runs, folders of checkpoints, checkpoint files, or folders of cross-validations, whose folds
            become members. Of several cross-validations alone, a rule learns by what they predicted out of fold.
        strategy: mean, median, vote, weighted, uncertainty_weighted or stacked; default: stacked, or where there is
            nothing to fit it on mean.
        output: the folder of the new run; default: runs/ensemble-N.
        checkpoint: of runs: "best" or "last".
        dataset, data_dir: where the data of the first run are now; default: where they were.
        batch_size, num_workers: default: as in the training of the first run.
        accelerator: default: the best device here.

    Returns:
        What was written, which samples may judge it, and how it stands to its best member.

    Raises:
        ConfigError: for another strategy, too few members, or a strategy that has nothing to learn from.
        DataError: for members that do not take the same samples or know other classes; for data that are not there.
        RunError: for a run or a checkpoint that is missing or damaged, or a folder that is taken.

    Example:
        >>> found = litscope.ensemble(["runs/a", "runs/b", "runs/c"])
        >>> found.against["accuracy"].verdict
    """
    rule = None if strategy is None else _rule(strategy)
    check_free(output)
    members = open_members([runs] if isinstance(runs, str | os.PathLike) else list(runs), checkpoint, accelerator)
    is_cv = is_of_folds(members)
    if is_cv:
        check_rule_of_folds(rule)
    if rule in NEEDS_DROPOUT:
        _require_dropout(members)
    folds = _folds(rule, members) if is_cv else None
    network = joined_network(members, rule or "mean", accelerator, batch_size, num_workers)
    base = next((member for member in members if member.run is not None), None)
    splits, judged, data = None, None, None
    if base is not None and base.run is not None and base.manifest is not None:
        splits = _splits(base.manifest, members)
        data = _data(base.run, splits, dataset, data_dir)
        judged = _out_of_fold(folds) if folds is not None else _judge(network, members, *data)
    if rule in LEARNED and (judged is None or not judged.teaches):
        raise ConfigError(f"--strategy {rule}: {_nothing_to_learn(members)}")
    may_learn = judged is not None and judged.teaches and judged.num_units >= LEAST
    if judged is not None and rule in LEARNED and not may_learn:
        what = "sample" if judged.groups is None else "group"
        does = "validated every member" if folds is None else "was predicted by all out of fold"
        raise ConfigError(
            f"--strategy {rule}: only {number_of(judged.num_units, what)} {does}, and a rule is judged on others than "
            "it learns from. Use mean, median or vote, which learn nothing."
        )
    rule = rule or (USUAL if may_learn else "mean")
    fusion = Fusion(rule)
    if judged is not None and rule in LEARNED:
        fusion = fit_fusion(rule, judged.logits, judged.label)
        if len(judged.label) < FEW:
            warn(f"{rule} was fitted on {number_of(len(judged.label), 'sample')}: it may be no better than mean")
    of_networks = fusion if folds is None else folds.spread(fusion)
    network.predictor.fusion = of_networks
    if base is not None and data is not None:
        _compare_with_alone(members, network, data[0])
    against, figures = ({}, None) if judged is None else _against(rule, judged)
    own = None if folds is not None else figures
    facts = [_facts(number, member, of_networks, splits, own) for number, member in enumerate(members)]
    result = EnsembleResult(
        rule=rule,
        members=facts,
        splits={} if splits is None or base is None or base.manifest is None else splits.counts(base.manifest),
        num_mixed=0 if splits is None else splits.num_mixed,
        judged=None if judged is None else judged.split,
        num_judged=0 if judged is None else len(judged.label),
        against=against,
        figures={} if figures is None else figures[-1],
        fusion=of_networks,
        cvs=() if folds is None or figures is None else _cvs(folds, facts, fusion, figures),
        num_left_out=0 if folds is None else folds.num_left_out,
    )
    return write_ensemble(result, network, base, splits, output)


def _rule(strategy: str) -> Rule:
    if strategy not in RULES:
        raise ConfigError(f"--strategy {strategy}: it is {', '.join(RULES)}.{did_you_mean(strategy, RULES)}")
    return strategy


def _require_dropout(members: Sequence[Member]) -> None:
    """Refuse members whose passes would all say the same."""
    for member in members:
        net = member.network.predictor.net
        if net is None or not dropouts_of(net):
            raise ConfigError(
                f"--strategy uncertainty_weighted: {member.name} has no dropout, so its variance would be zero "
                "everywhere. Train it with --dropout-rate 0.2, or use stacked."
            )


# ---- which samples judge -------------------------------------------------------------------------


def _splits(base: Manifest, members: Sequence[Member]) -> JointSplits:
    manifests = [member.manifest for member in members]
    known = [manifest for manifest in manifests if manifest is not None]
    return joint_splits(base, known) if len(known) == len(manifests) else unknown_splits(base)


def _nothing_to_learn(members: Sequence[Member]) -> str:
    alone = next((member.name for member in members if member.manifest is None), None)
    if alone is not None:
        why = f"{alone} is a checkpoint alone, and which samples it was trained on stands in its run. Give the run"
    else:
        why = (
            "it is fitted on samples that validated every member and trained none, and there are none. Train the "
            "members with one --split-seed, or on one data set with a split column"
        )
    if any(member.cv is not None for member in members):
        why += ", or give cross-validations alone, two or more, which teach by what they predicted out of fold"
    return f"{why}; or use mean, median or vote, which learn nothing."


def _folds(rule: Rule | None, members: Sequence[Member]) -> CommonFolds | None:
    """What cross-validations teach; None where nobody asks for it. Without a named rule it is no error if they do not
    fit.
    """
    if rule is not None and rule not in LEARNED:
        return None
    try:
        found = common_folds(members)
    except (ConfigError, DataError) as error:
        if rule is not None:
            raise
        warn(f"mean, as nothing is learned of these cross-validations: {error}")
        return None
    return found if rule is not None or _out_of_fold(found).num_units >= LEAST else None


def _out_of_fold(folds: CommonFolds) -> _Judged:
    return _Judged(FOLDS, folds.logits, folds.label, folds.groups)


def _data(
    run: OpenedRun, splits: JointSplits, dataset: str | None, data_dir: str | None
) -> tuple[KnownData, dict[str, Ids]]:
    """The data of a run as they are now, as its journal decides, and the rows of each split of the ensemble."""
    data, then = run.find_data(dataset=dataset, data_dir=data_dir)
    if data.is_stranger:
        raise ConfigError(
            f"--dataset {dataset}: none of its samples is one of {run.run.path}, by which the ensemble is judged."
        )
    is_known = data.sample_id >= 0
    of_row = np.full(len(data.sample_id), "", dtype=object)
    of_row[is_known] = splits.splits[data.sample_id[is_known]]
    labelled = data.ids("all")
    decided, labelled, _ = with_decisions(data, then, labelled, holds=True, is_told=False)
    return decided, {split: labelled[of_row[labelled] == split] for split in ("val", "test")}


def _judge(network: Network, members: Sequence[Member], data: KnownData, rows: dict[str, Ids]) -> _Judged | None:
    """What the members say of the samples that validated all of them; without any, of those that are new to all.

    Raises:
        RunError: for a member whose answers are no numbers.
    """
    split = next((split for split in ("val", "test") if len(rows[split])), None)
    if split is None:
        return None
    ids, logits = network.parts(network.data_of(data.source, rows[split]))
    for number, member in enumerate(members):
        num_bad = int((~np.isfinite(logits[..., number, :, :])).any(-1).reshape(-1, len(ids)).any(0).sum())
        if num_bad:
            raise RunError(
                f"{member.name} gives no numbers for {num_bad:,} of {number_of(len(ids), 'sample')} (nan or infinite), "
                "and would spoil the answers of all. Leave it out, or give an earlier checkpoint of it."
            )
    groups = data.source.manifest.groups
    own = (
        None
        if groups is None
        else np.array(
            [f"row {i}" if group is None else f"group {group}" for i, group in zip(ids, groups[ids], strict=True)],
            object,
        )
    )
    return _Judged(split, logits.astype(np.float64), data.source.manifest.labels[ids], own)


# ---- how good is it -----------------------------------------------------------------------------


def _against(rule: Rule, judged: _Judged) -> tuple[dict[str, Against], list[dict[str, float]]]:
    """The ensemble beside its best member, and the figures of each member, the last those of the ensemble.

    A rule that learns temperatures is held against members that have a temperature of their own, too: what a
    temperature alone brings is no merit of fusing.
    """
    learns = rule in LEARNED and judged.teaches
    fused = _fused(Fusion(rule), judged.logits)
    if learns:
        fused = cross_fitted(rule, judged.logits, judged.label, _fused, judged.groups)
    members = member_log_probabilities(judged.logits)
    rivals = members
    if learns and rule != "weighted":
        calibrated = [
            cross_fitted("stacked", members[number, None], judged.label, _fused, judged.groups)
            for number in range(len(members))
        ]
        rivals = np.concatenate([members, np.stack(calibrated)])
    against = against_best(fused, rivals, judged.label, judged.groups) if judged.num_units >= LEAST else {}
    figures = [_figures(log_p, judged.label) for log_p in (*members, fused)]
    own = {name: replace(found, best_member=found.best_member % len(members)) for name, found in against.items()}
    return own, figures


def _figures(log_p: Floats, label: Ids) -> dict[str, float]:
    probs = np.exp(log_p)
    return {"accuracy": float((probs.argmax(1) == label).mean()), "nll": float(log_losses(probs, label).mean())}


def _fused(fusion: Fusion, logits: Floats) -> Floats:
    return fuse_by(fusion, torch.from_numpy(np.ascontiguousarray(logits))).numpy()


def _facts(
    number: int, member: Member, fusion: Fusion, splits: JointSplits | None, figures: list[dict[str, float]] | None
) -> MemberFacts:
    settings = member.network.predictor.settings
    return MemberFacts(
        name=member.name,
        checkpoint=str(member.network.checkpoint),
        arch=settings.name,
        image_size=settings.image_size,
        num_networks=member.num_networks,
        weight=None if fusion.weights is None else fusion.weights[number],
        temperature=None if fusion.temperatures is None else fusion.temperatures[number],
        num_spoilt=splits.spoilt[number] if splits is not None and splits.spoilt else 0,
        figures={} if figures is None else figures[number],
    )


def _cvs(
    folds: CommonFolds, facts: Sequence[MemberFacts], fusion: Fusion, figures: list[dict[str, float]]
) -> list[MemberFacts]:
    """The cross-validations, each as the one member that the rule took it for."""
    return [
        replace(
            facts[places[0]],
            name=str(folder),
            checkpoint=str(folder),
            num_networks=sum(facts[place].num_networks for place in places),
            weight=None if fusion.weights is None else fusion.weights[number],
            num_spoilt=0,
            figures=figures[number],
        )
        for number, (folder, places) in enumerate(zip(folds.folders, folds.places, strict=True))
    ]


def _compare_with_alone(members: Sequence[Member], network: Network, data: KnownData) -> None:
    """Tell which member says something else in the ensemble than alone: images of another stored size are not quite the
    same pixels.
    """
    ids = np.flatnonzero(data.sample_id >= 0)[:_NUM_COMPARED]
    found, together = network.without_dropout(network.data_of(data.source, ids))
    for member, logits in zip(members, together, strict=True):
        alone_ids, alone = member.network.probabilities(member.network.data_of(data.source, ids))
        if not np.array_equal(found, alone_ids):
            continue
        own = alone if member.order is None else alone[:, list(member.order)]
        off = float(np.abs(softmax(logits, axis=1) - own).max(initial=0.0))
        if off > _MOST_OFF:
            warn(
                f"{member.name} is shown images of another size than alone (read once for all members, at the largest "
                f"size): of {number_of(len(ids), 'sample')} its probabilities differ by up to {off:.3f}"
            )
