"""`litscope calibrate`: learn on the validation split how a run's logits are read, and keep it with its weights."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from litscope.claims import held
from litscope.config.calibration import Asked, Sets
from litscope.console import number_of, shell_word
from litscope.data.reading.bands import Axis
from litscope.errors import ConfigError, RunError
from litscope.evaluation.evaluate import kept_aside
from litscope.evaluation.folds import answers_of_folds
from litscope.evaluation.judged import Judged
from litscope.evaluation.network import run_of_checkpoint
from litscope.evaluation.opened_run import OpenedRun, open_run
from litscope.evaluation.quality import figures
from litscope.ledger.journal.actions import decisions
from litscope.models.readout import FOLDS, Readout
from litscope.rundir import RunDir
from litscope.training.kept_readout import in_words, keep, outdated
from litscope.training.readouts import VERIFIED, Answers, learn, scaling_of, unreached_line

Method = Literal["temperature", "vector", "none"]


@dataclass(frozen=True)
class Calibrated:
    """What was learned, and is kept now.

    Attributes:
        run, checkpoint: where.
        readout: None where it was taken out, or nothing was learned that helps.
        notes: lines for people.
        validation: accuracy, NLL and ECE on the samples that it was learned on: `before`, and `after`, which is
            flattered by having been fitted there; `others`: the NLL on samples that it was not fitted on, before and
            after, or None. None where the readout was taken out.
    """

    run: Path
    checkpoint: Path
    readout: Readout | None
    notes: list[str]
    validation: dict[str, Any] | None
    classes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The result in words."""
        if self.readout is None:
            what = "logits are read as they are again" if self.validation is None else "nothing is kept"
            return [*self.notes, f"{self.checkpoint}: {what}"]
        on = self.readout.fitted_on
        words = in_words(self.readout, self.classes)
        lines = [*self.notes, f"{self.checkpoint}: {words}; learned on {number_of(on.num_samples, on.what)}"]
        if self.validation is not None and (others := self.validation["others"]) is not None:
            lines.append(f"NLL on samples that it was not fitted on: {others['before']:.4f} -> {others['after']:.4f}")
        return [*lines, f"next: litscope evaluate {shell_word(self.run)}    (what it is worth on the test split)"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for --json."""
        return {
            "run": str(self.run),
            "checkpoint": str(self.checkpoint),
            "readout": None if self.readout is None else self.readout.to_dict(),
            "notes": self.notes,
            "validation": self.validation,
        }


def calibrate(
    run_dir: str | os.PathLike[str],
    method: Method = "temperature",
    *,
    threshold: str | None = None,
    coverage: float | None = None,
    conformal: Sets = "lac",
    by_class: bool = False,
    remove: bool = False,
    checkpoint: str = "best",
    dataset: str | None = None,
    data_dir: str | None = None,
    image_root: str | os.PathLike[str] | None = None,
    channels: Axis | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    accelerator: str | None = None,
    precision: str | None = None,
    source_labels: bool = False,
    folds: str | os.PathLike[str] | None = None,
) -> Calibrated:
    """Learn on a run's validation split how its logits are read, and keep that in a checkpoint, in place of any other.

    Args:
        run_dir: the run's folder, or a checkpoint in it.
        method: of the scaling: temperature, vector, or none. One that does not help on samples that it was not fitted
            on is left out, which `notes` says.
        threshold, coverage, conformal, by_class: as of `evaluate`.
        remove: take out what is kept, and learn nothing.
        checkpoint: "best", "last", or the path of a checkpoint file of the run.
        dataset, data_dir, image_root, channels, batch_size, num_workers, accelerator, precision, source_labels: as of
            `evaluate`.
        folds: the folder of a `litscope cv`: learn from what its networks say of the samples that they have not seen,
            in place of the run's own validation split, see `folds.answers_of_folds`.

    Raises:
        ConfigError: for a wrong value, an aim that no threshold reaches, or a run without labelled validation samples;
            nothing is kept then.
        RunError: no such run or checkpoint, one that is damaged or cannot be written, or a run that trains now.
        DataError: data not found, or other classes than the run's.
    """
    if method not in ("temperature", "vector", "none"):
        raise ConfigError(f"--method {method}: it is temperature, vector or none.")
    asked = Asked(None if method == "none" else method, coverage, conformal, by_class, threshold)
    if not asked and not remove:
        raise ConfigError("--method none leaves nothing to learn. Give --threshold AIM or --coverage 0.9 with it.")
    if Path(run_dir).is_file():
        run_dir, checkpoint = run_of_checkpoint(run_dir), os.fspath(run_dir)
    run = RunDir.open(run_dir)
    try:
        with held(run, "Its weights still change: calibrate it when it has ended.") as claim:
            opened = open_run(run.path, checkpoint, accelerator=accelerator, precision=precision, kind=Judged)
            asked.check_classes(len(opened.classes))
            _check_place(opened)
            former = opened.predictor.readout
            if remove:
                keep(opened.checkpoint, None, claim.check)
                notes = [] if former is None else outdated(opened.run)
                return Calibrated(opened.run.path, opened.checkpoint, None, notes, None, opened.classes)
            data, then = opened.find_data(dataset=dataset, data_dir=data_dir, image_root=image_root, channels=channels)
            if folds is None:
                answers, split = kept_aside(opened, data, then, source_labels, batch_size, num_workers), "val"
            else:
                answers, split = answers_of_folds(folds, opened, data, then, source_labels), FOLDS
            verified = decisions(opened.run).tags.get(VERIFIED, set())
            learned = learn(answers, asked, verified=verified, split=split, classes=opened.classes)
            if learned.unreached is not None:
                least = "ask for less" if learned.only is None else "a threshold needs both"
                raise ConfigError(f"{unreached_line(learned, opened.classes)}. Nothing is kept; {least}.")
            keep(opened.checkpoint, learned.readout, claim.check)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        word = shell_word(run.path)
        raise RunError(
            f"{error.filename} cannot be written ({error.strerror}), so nothing is kept. Calibrate a copy of the run, "
            f"or see what it would be worth: litscope evaluate {word} --calibrate temperature."
        ) from error
    readout = None if learned.readout.is_plain else learned.readout
    notes = [*learned.notes, *learned.cautions, *_in_place_of(former, readout, opened)]
    others = None if learned.after is None else {"before": learned.before, "after": learned.after}
    validation = {
        "before": _shown(answers, None),
        "after": _shown(answers, learned.readout),
        "others": others if learned.readout.method != "none" else None,
    }
    return Calibrated(opened.run.path, opened.checkpoint, readout, notes, validation, opened.classes)


def _in_place_of(former: Readout | None, now: Readout | None, opened: OpenedRun) -> list[str]:
    """What is lost by another readout than the one that was kept, and what is no longer true."""
    if former == now:
        return []
    lost = [] if former is None else [f"in place of what was kept: {in_words(former, opened.classes)}"]
    return [*lost, *outdated(opened.run)]


def _check_place(opened: OpenedRun) -> None:
    """Refuse a checkpoint of another run, which is not this one's to change.

    Raises:
        ConfigError: saying so.
    """
    folder = opened.recipe.training.checkpoint_dir
    places = {opened.run.checkpoints.resolve(), *([Path(folder).resolve()] if folder else [])}
    if opened.checkpoint.resolve().parent not in places:
        raise ConfigError(
            f"--checkpoint {opened.checkpoint}: it is none of {opened.run.path}'s own, and it is changed by this. Give "
            "the run that it belongs to."
        )


def _shown(answers: Answers, readout: Readout | None) -> dict[str, float]:
    probs = scaling_of(readout, answers.logits.shape[1]).probabilities(answers.logits)
    found = figures(probs, answers, with_intervals=False)
    return {name: found[name].value for name in ("accuracy", "nll", "ece")}
