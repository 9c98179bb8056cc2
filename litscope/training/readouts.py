"""What is learned on samples that a network was not trained on of how its logits are read: a scaling of the logits, a
threshold, a limit of conformal sets. By numbers alone; `models.readout` is what comes out.

A scaling that is fitted on few samples may make probabilities worse than none, and it always looks better on the
samples that it was fitted on. So each fifth of the samples is judged by a scaling that was fitted on the others, and
one that is to be kept must lower their NLL by more than the standard error of that difference. Where all samples are
right, the surest would always be the best, so nothing can be learned. A vector is more sure of the samples that it was
fitted on than of others, so the limit of sets is set on what those that were fitted on the others say.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from litscope.config.calibration import Asked, Calibrate, aim_of
from litscope.console import listed, number_of
from litscope.data.manifest import Manifest
from litscope.data.sampler import fold, hash_ids
from litscope.models.readout import FittedOn, Readout, Scaled, SetLimit
from litscope.uncertainty import conformal
from litscope.uncertainty.operating import operating_points
from litscope.uncertainty.proper import log_losses
from litscope.uncertainty.temperature import Scaling, fit_temperature, fit_vector

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

VERIFIED = "verified"
"""The tag of samples whose label somebody has verified."""

LEAST_VERIFIED = 200
"""With fewer of them all labels count: a temperature of fewer is worse than one of some wrong labels."""

NUM_FOLDS = 5

_LOT, _FOLD = 0x6C6F74, 0x666F6C64


@dataclass(frozen=True)
class Answers:
    """What a network says of N samples.

    Attributes:
        sample_id: (N,) in the run, or in the source that they came from.
        logits: (N, C) as they are, not scaled; log-probabilities will do.
        label: (N,); negative where there is none.
        groups: (N,) what belongs together; None where nothing is known of it.
        expected_entropy, mutual_information: (N,) of what the parts of the network say, each read as all of them
            together are, in nats; None where it is one.
        draws: (N,) in [0, 1), a number drawn for each sample; None: by its id.
    """

    sample_id: Ids
    logits: Floats
    label: Ids
    groups: npt.NDArray[np.object_] | None = None
    expected_entropy: Floats | None = None
    mutual_information: Floats | None = None
    draws: Floats | None = None

    @property
    def lot(self) -> Floats:
        """(N,) in [0, 1), a number drawn for each sample, the same each time."""
        return drawn_by(self.sample_id) if self.draws is None else self.draws

    def of(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Answers:
        """The same of some of the samples, by their positions or a mask."""
        taken: dict[str, Any] = {name: None if value is None else value[rows] for name, value in vars(self).items()}
        return Answers(**taken)


def drawn_by(ids: Ids) -> Floats:
    """(N,) in [0, 1), a number drawn for each id."""
    return np.asarray((hash_ids(ids, fold(_LOT)) >> np.uint64(11)) * 2.0**-53)


def drawn_by_key(keys: Sequence[str]) -> Floats:
    """The same for samples of no run, by their keys."""
    digests = (hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=8).digest() for key in keys)
    return drawn_by(np.frombuffer(b"".join(digests), np.int64))


def groups_of(manifest: Manifest, ids: Ids) -> npt.NDArray[np.object_] | None:
    """(n,) what each sample belongs to, itself where that is not known; None where the manifest knows of no groups."""
    if manifest.groups is None:
        return None
    named = zip(ids, manifest.groups[ids], strict=True)
    return np.array([f"row {i}" if group is None else f"group {group}" for i, group in named], dtype=object)


@dataclass(frozen=True)
class Learned:
    """What came of it.

    Attributes:
        readout: to be kept, or measured with.
        notes: lines for people about what is kept.
        cautions: lines about what was asked for and cannot be known from so few samples.
        unreached: the aim of a threshold that no threshold reaches.
        only: the class that all samples are of; None where there are several.
        before, after, error: the NLL without the scaling that was asked for and with it, on samples that it was not
            fitted on, and the standard error of their difference; None where there are too few samples to tell.
    """

    readout: Readout
    notes: list[str] = field(default_factory=list)
    cautions: list[str] = field(default_factory=list)
    unreached: str | None = None
    only: int | None = None
    before: float | None = None
    after: float | None = None
    error: float | None = None


def unreached_line(learned: Learned, names: Sequence[str]) -> str:
    """That no threshold reaches the aim, with the reason where there is a plain one."""
    on = learned.readout.fitted_on
    only = "" if learned.only is None else f", all of which are {names[learned.only]!r}"
    return f"--threshold {learned.unreached}: no threshold reaches it on {number_of(on.num_samples, on.what)}{only}"


def learn(
    answers: Answers,
    asked: Asked,
    *,
    base: Readout | None = None,
    verified: Collection[int] = (),
    split: str = "val",
    classes: Sequence[str] = (),
    is_kept: bool = True,
) -> Learned:
    """Learn what is asked for.

    Args:
        answers: at least one, all labelled.
        asked: of a threshold only where there are two classes.
        base: what is known already and counts where nothing else is asked for. A new scaling leaves nothing of it.
        verified: ids of samples whose label somebody has verified.
        split: that the samples are from; `readout.FOLDS` where networks of a cross-validation were asked.
        classes: names of the C classes, for notes; without any, their numbers.
        is_kept: it will be used on other samples later: a scaling that does not help there is left out.
    """
    base = None if asked.calibrate is not None else base
    used, are_verified = _verified(answers, verified)
    fitted_on = FittedOn(split, len(used.label), are_verified, digest_of(used))
    notes = [] if are_verified else [_unverified(answers, verified)]
    count, num_classes = number_of(len(used.label), fitted_on.what), answers.logits.shape[1]
    names = classes or [str(c) for c in range(num_classes)]
    missing = [name for c, name in enumerate(names) if not (used.label == c).any()]
    if missing:
        notes.append(f"none of {count} is of {listed(missing)}: what is learned may not hold for such samples")
    method: Scaled = "none" if base is None else base.method
    scaling, others, gain = scaling_of(base, num_classes), None, None
    cautions: list[str] = []
    if asked.calibrate is not None:
        others = _cross_fitted(asked.calibrate, used)
        gain = None if others is None else _gain(used, others)
        no_help = _no_help(asked.calibrate, used, gain, fitted_on.what, bool(missing)) if is_kept else None
        if no_help is not None:
            notes.append(f"{no_help}: logits are read as they are")
        else:
            method, scaling = asked.calibrate, _fit(asked.calibrate, used)
    elif method == "vector" and base is not None and base.fitted_on.digest == fitted_on.digest:
        others = _cross_fitted(method, used)
    probs = scaling.probabilities(used.logits)
    aim, threshold = (None, None) if base is None else (base.aim, base.threshold)
    if asked.threshold is not None:
        aim, threshold = asked.threshold, _threshold(asked.threshold, probs, used.label)
        cautions = _too_few(asked.threshold, used.label, fitted_on.what)
    sets = None if base is None else base.sets
    if asked.coverage is not None:
        sets = _sets(asked, used, probs if method != "vector" or others is None else others)
        unlimited = [name for name, limit in zip(names, sets.limit, strict=True) if math.isinf(limit)]
        if is_kept and unlimited:
            few = f"the samples of {listed(unlimited)}" if asked.by_class else count
            which = "these classes are" if asked.by_class else "every class is"
            notes.append(f"{few} are too few for a coverage of {asked.coverage:g}: {which} in every set")
    readout = Readout(
        method=method,
        scale=tuple(scaling.scale.tolist()),
        shift=tuple(scaling.shift.tolist()),
        aim=None if threshold is None else aim,
        threshold=threshold,
        sets=sets,
        fitted_on=fitted_on,
    )
    return Learned(readout, notes, cautions, aim if threshold is None else None, _only(used.label), *(gain or ()))


def scaling_of(readout: Readout | None, num_classes: int = 0) -> Scaling:
    """The scaling of a readout, for numbers of numpy; of none, that which changes nothing but the zero of logits."""
    if readout is None:
        return Scaling(np.ones(num_classes), np.zeros(num_classes))
    return Scaling(np.array(readout.scale), np.array(readout.shift))


def limit_of(sets: SetLimit) -> conformal.Conformal:
    """The limit of conformal sets, which makes them of numbers of numpy."""
    return conformal.Conformal(sets.method, sets.coverage, np.array(sets.limit))


def decided(probs: npt.NDArray[np.floating[Any]], readout: Readout | None) -> Ids:
    """(n,) the predicted class of probabilities (n, C): the most probable one, or of two what the threshold says."""
    if readout is None or readout.threshold is None:
        return np.asarray(probs.argmax(1), np.int64)
    return (probs[:, 1] >= readout.threshold).astype(np.int64)


def sets_of(answers: Answers, readout: Readout | None, probs: Floats) -> npt.NDArray[np.bool_] | None:
    """(n, C) whether each class is in the conformal set of each sample; None where none are made.

    Args:
        probs: (n, C) as the readout reads the answers.
    """
    if readout is None or readout.sets is None:
        return None
    return limit_of(readout.sets).sets(probs, answers.lot)


def digest_of(answers: Answers) -> str:
    """Of ids and labels, 16 hexadecimal digits."""
    order = np.argsort(answers.sample_id)
    content = np.stack([answers.sample_id[order], answers.label[order]]).astype("<i8").tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _verified(answers: Answers, verified: Collection[int]) -> tuple[Answers, bool]:
    """The samples that count, and whether they are those whose label somebody has verified."""
    is_verified = np.isin(answers.sample_id, np.fromiter(verified, np.int64))
    are_enough = bool(is_verified.all()) or int(is_verified.sum()) >= LEAST_VERIFIED
    return (answers.of(is_verified), True) if are_enough else (answers, False)


def _unverified(answers: Answers, verified: Collection[int]) -> str:
    count, total = int(np.isin(answers.sample_id, np.fromiter(verified, np.int64)).sum()), len(answers.label)
    known = f"only {count:,} of {total:,} labels are" if count else f"none of {total:,} labels is"
    return f"{known} tagged '{VERIFIED}', so all count: wrong ones make probabilities less sure than they should be"


def _fit(method: Calibrate, answers: Answers) -> Scaling:
    fit = fit_temperature if method == "temperature" else fit_vector
    return fit(answers.logits, answers.label)


def _units(answers: Answers) -> Ids:
    """(N,) what each sample belongs to, numbered from 0 in an order drawn by lot."""
    units = answers.sample_id if answers.groups is None else np.unique(answers.groups, return_inverse=True)[1]
    return np.unique(hash_ids(units.astype(np.int64), fold(_FOLD)), return_inverse=True)[1]


def _cross_fitted(method: Calibrate, answers: Answers) -> Floats | None:
    """(N, C) probabilities by a scaling that was fitted on samples of other folds; None for fewer samples, or groups,
    than folds.
    """
    units = _units(answers)
    if units.max() + 1 < NUM_FOLDS:
        return None
    probs = np.empty_like(answers.logits)
    for number in range(NUM_FOLDS):
        is_out = units % NUM_FOLDS == number
        probs[is_out] = _fit(method, answers.of(~is_out)).probabilities(answers.logits[is_out])
    return probs


def _gain(answers: Answers, probs: Floats) -> tuple[float, float, float]:
    """The NLL of logits as they are, that of probabilities (N, C), and the standard error of the difference."""
    plain = scaling_of(None, answers.logits.shape[1]).probabilities(answers.logits)
    before, after = log_losses(plain, answers.label), log_losses(probs, answers.label)
    by_unit = np.bincount(_units(answers), before - after)
    error = np.sqrt(len(by_unit) / (len(by_unit) - 1) * np.square(by_unit - by_unit.mean()).sum()) / len(before)
    return float(before.mean()), float(after.mean()), float(error)


def _no_help(
    method: Calibrate, answers: Answers, gain: tuple[float, float, float] | None, what: str, is_one_missing: bool
) -> str | None:
    """Why a scaling is better left out; None where it is not."""
    scaling, of = f"a {method}", number_of(len(answers.label), what)
    if method == "vector" and is_one_missing:
        return "a vector has numbers for each class, which a class without samples does not tell"
    if (answers.logits.argmax(1) == answers.label).all():
        return f"all of {of} are right, so they do not tell how sure to be"
    if gain is None:
        return f"{of} are too few to learn {scaling} from"
    before, after, error = gain
    if before - after > error:
        return None
    does = f"may not help on others (NLL {before:.4f} without, {after:.4f} with it, give or take {error:.4f})"
    return f"{scaling} from {of} {does}"


def _too_few(text: str, label: Ids, what: str) -> list[str]:
    """A line about a rate of false positives that so many negatives cannot tell from none at all."""
    found = aim_of(text)
    assert found is not None
    name, rate = found
    negatives = int((label == 0).sum())
    if name != "fpr" or rate is None or negatives * rate >= 1 or not negatives:
        return []
    of = f"{number_of(negatives, 'negative')} among {number_of(len(label), what)}"
    wanted = f"{math.ceil(1 / rate):,} would be needed" if rate else "none can show that"
    return [f"--threshold {text}: {of} are too few for one false positive at this rate, so none was allowed; {wanted}"]


def _only(label: Ids) -> int | None:
    return int(label[0]) if (label == label[0]).all() else None


def _sets(asked: Asked, answers: Answers, probs: Floats) -> SetLimit:
    """The limit of sets, by what is said of samples, (N, C)."""
    assert asked.coverage is not None
    limit = conformal.fit(probs, answers.label, answers.lot, asked.coverage, asked.conformal, asked.by_class).limit
    return SetLimit(asked.conformal, asked.coverage, asked.by_class, tuple(limit.tolist()))


def _threshold(text: str, probs: Floats, label: Ids) -> float | None:
    """The threshold for an aim, halfway to the next lower score, so that no rounding changes what is called positive;
    None where none fulfils it."""
    found = aim_of(text)
    assert found is not None
    score = probs[:, 1]
    chosen = operating_points(score, label == 1).best(*found)
    if chosen is None or math.isinf(chosen):
        return None
    lower = score[score < chosen]
    return float((chosen + (lower.max() if len(lower) else 0.0)) / 2)
