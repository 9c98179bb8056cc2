"""Several cross-validations of the same data: what a rule of fusing learns from, where every sample trained some fold.

K cross-validations are K members here. A sample counts where each of them predicted it out of fold, in the same fold:
so none of the K networks that answer has seen it, one of its group, or another sample of the same content. What is
learned is then spread over all of their networks (`CommonFolds.spread`), for those predict new samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from litscope.console import number_of
from litscope.data.content import match
from litscope.data.manifest import Manifest
from litscope.errors import ConfigError, DataError, RunError
from litscope.evaluation.out_of_fold import OutOfFold, read_out_of_fold
from litscope.experiments.ensemble_members import Member
from litscope.fusions import LEARNED, NEEDS_DROPOUT, Fusion, Rule
from litscope.ledger.journal.actions import decisions

LEAST_CVS = 2

_EXACT = tuple(rule for rule in LEARNED if rule not in NEEDS_DROPOUT)
_ALIKE = (
    "Cross-validate the same data for all, with the same --folds, --test-split, --group-column and --split-seed; or "
    "use mean, median or vote, which learn nothing."
)

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class CommonFolds:
    """What K cross-validations say of N samples that they have in common.

    Attributes:
        folders: (K,) where they are.
        places: (K,) the positions of the networks of each among the members of the ensemble.
        logits: (K, N, C) log-probabilities, out of fold, the classes in the order of the ensemble.
        label: (N,) as the first one's journal decides, by which the ensemble is judged later, too.
        groups: (N,) what belongs together; None where nothing is known of it.
        num_left_out: samples that some predicted, and that do not count.
    """

    folders: Sequence[Path]
    places: Sequence[Sequence[int]]
    logits: NDArray[np.float64]
    label: Ids
    groups: NDArray[np.object_] | None
    num_left_out: int

    def spread(self, fusion: Fusion) -> Fusion:
        """The rule over all networks: each has an equal share of its cross-validation's weight, and its temperature.

        Args:
            fusion: of the K cross-validations.
        """
        weights, temperatures = fusion.weights, fusion.temperatures
        of_network = {place: (cv, len(places)) for cv, places in enumerate(self.places) for place in places}
        spots = [of_network[place] for place in sorted(of_network)]
        return replace(
            fusion,
            weights=None if weights is None else [weights[cv] / count for cv, count in spots],
            temperatures=None if temperatures is None else [temperatures[cv] for cv, _ in spots],
        )


def is_of_folds(members: Sequence[Member]) -> bool:
    """Whether the members are those of cross-validations alone, of at least two."""
    return all(member.cv is not None for member in members) and len({member.cv for member in members}) >= LEAST_CVS


def check_rule_of_folds(rule: Rule | None) -> None:
    """Refuse a rule that out-of-fold predictions do not teach.

    Raises:
        ConfigError: naming the rules that they do.
    """
    if rule in NEEDS_DROPOUT:
        raise ConfigError(
            f"--strategy {rule}: it looks at passes with dropout, and cross-validations keep one answer for each "
            f"sample. Of cross-validations {' and '.join(_EXACT)} are learned."
        )


def common_folds(members: Sequence[Member]) -> CommonFolds:
    """What the cross-validations that members come from say of the samples that all of them predicted.

    Args:
        members: those of `is_of_folds`.

    Raises:
        DataError: if they have no sample in common, divide them into other folds, or give them other labels.
        ConfigError: if the journal of one run decides what that of the first does not.
        RunError: for predictions that are missing, damaged or no numbers.
    """
    places: dict[Path, list[int]] = {}
    for number, member in enumerate(members):
        assert member.cv is not None
        places.setdefault(member.cv, []).append(number)
    folders, firsts = list(places), [members[own[0]] for own in places.values()]
    base, classes = _manifest(firsts[0]), members[0].network.facts.classes
    gone, labels = _decided(members, base)
    parts = [_on_base(folder, first, base, classes) for folder, first in zip(folders, firsts, strict=True)]
    is_in = np.stack([part.fold >= 0 for part in parts])
    is_common = is_in.all(0)
    if not is_common.any():
        raise DataError(f"{_named(folders)} predict no sample in common. {_ALIKE}")
    for (one, part), (other, beside) in pairwise(zip(folders, parts, strict=True)):
        if num_other := int((part.label != beside.label)[is_common].sum()):
            raise DataError(f"{one} and {other} have other labels for {number_of(num_other, 'sample')}. {_ALIKE}")
        if num_other := int((part.fold != beside.fold)[is_common].sum()):
            raise DataError(
                f"{one} and {other} have {number_of(num_other, 'sample')} in other folds, or divided other data. "
                f"{_ALIKE}"
            )
    counts = is_common & ~gone & ~_has_twin(base, parts[0].fold)
    ids = np.flatnonzero(counts)
    if not len(ids):
        raise DataError(f"{_named(folders)}: no sample is left that each has predicted out of fold. {_ALIKE}")
    label = np.where(labels >= 0, labels, parts[0].label)[ids]
    groups = next((part.groups for part in parts if part.groups is not None), None)
    if groups is not None:
        named = zip(ids, groups[ids], strict=True)
        groups = np.array([f"row {i}" if group is None else f"group {group}" for i, group in named], dtype=object)
    logits = np.stack([part.log_probs[ids] for part in parts]).astype(np.float64)
    num_left_out = int(is_in.any(0).sum()) - len(ids)
    return CommonFolds(folders, list(places.values()), logits, label, groups, num_left_out)


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders[:-1])) + f" and {folders[-1]}"


def _manifest(member: Member) -> Manifest:
    assert member.manifest is not None
    return member.manifest


def _on_base(folder: Path, first: Member, base: Manifest, classes: Sequence[str]) -> OutOfFold:
    """The predictions of a cross-validation, a row for each sample of the base; fold -1: it predicts none there."""
    found, manifest = read_out_of_fold(folder), _manifest(first)
    is_own = found.sample_id < len(manifest)
    ids, rows = found.sample_id[is_own], np.flatnonzero(is_own)
    if set(found.classes) != set(classes) or (manifest.keys[ids] != found.keys[rows]).any():
        raise RunError(f"{folder}: its out-of-fold predictions are not those of its runs. Run `litscope cv` again.")
    if num_bad := int((~np.isfinite(found.probs)).any(1).sum()):
        raise RunError(
            f"{folder} gives no numbers for {number_of(num_bad, 'sample')} (nan or infinite), and would spoil the "
            "answers of all. Leave it out, or cross-validate with a lower --lr."
        )
    at = match(manifest, base).sample_id[ids]
    rows, at = rows[at >= 0], at[at >= 0]
    count, position = len(base), {name: index for index, name in enumerate(classes)}
    fold, label = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    probs = np.ones((count, len(classes)), np.float32)
    fold[at] = found.fold[rows]
    label[at] = np.array([position[name] for name in found.classes])[found.label[rows]]
    probs[at] = found.probs[rows][:, [found.classes.index(name) for name in classes]]
    groups = None
    if found.groups is not None:
        groups = np.full(count, None, dtype=object)
        groups[at] = found.groups[rows]
    return OutOfFold(np.arange(count), base.keys, fold, label, probs, tuple(classes), groups)


def _has_twin(base: Manifest, fold: Ids) -> NDArray[np.bool_]:
    """(N,) whether a sample of the same content is in another fold, so that its network has seen it."""
    folds_of: dict[bytes, set[int]] = {}
    digests = base.table["digest"].to_pylist() if base.has_content else [None] * len(base)
    for digest, number in zip(digests, fold.tolist(), strict=True):
        if digest is not None and number >= 0:
            folds_of.setdefault(digest, set()).add(number)
    return np.array([digest is not None and len(folds_of.get(digest, ())) > 1 for digest in digests], bool)


def _decided(members: Sequence[Member], base: Manifest) -> tuple[NDArray[np.bool_], Ids]:
    """(N,) which samples the journal of the first run discards, and (N,) the label that it gives; -1: none.

    Raises:
        ConfigError: if another run's journal decides something else.
    """
    first, (gone, labels) = members[0], _decided_by(members[0], base)
    for member in members[1:]:
        theirs = _decided_by(member, base)
        is_other = (theirs[0] & ~gone) | ((theirs[1] >= 0) & (theirs[1] != labels))
        if num_other := int(is_other.sum()):
            raise ConfigError(
                f"{member.name} decides {number_of(num_other, 'sample')} otherwise than {first.name}, whose decisions "
                "count. Write the data as they were decided (litscope export RUN --to parquet), and cross-validate "
                "those for all; or use mean, median or vote, which learn nothing."
            )
    return gone, labels


def _decided_by(member: Member, base: Manifest) -> tuple[NDArray[np.bool_], Ids]:
    """The same of one run, in the rows and classes of the base."""
    gone, labels = np.zeros(len(base), bool), np.full(len(base), -1, np.int64)
    assert member.run is not None
    decided = decisions(member.run.run)
    if decided.discarded or decided.labels:
        at = match(_manifest(member), base).sample_id
        position = {name: index for index, name in enumerate(base.classes)}
        gone[[at[i] for i in decided.discarded if at[i] >= 0]] = True
        for i, name in decided.labels.items():
            if at[i] >= 0 and name in position:
                labels[at[i]] = position[name]
    return gone, labels
