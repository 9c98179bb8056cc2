"""What a network says of each sample of its run, kept with the run's scores (`ledger.uncertainties`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from litscope.ledger.uncertainties import Recording, write_uncertainties
from litscope.models.readout import Readout
from litscope.rundir import RunDir
from litscope.training.kept_readout import in_words
from litscope.training.readouts import Answers, decided, scaling_of, sets_of
from litscope.uncertainty.entropies import predictive_entropy


def keep_record(
    run: RunDir,
    checkpoint: Path,
    answers: Answers,
    readout: Readout | None,
    classes: tuple[str, ...],
    num_passes: int = 0,
) -> None:
    """Keep what was said of samples, in place of what was known of them.

    Args:
        checkpoint: the file whose network was asked.
        answers: by the ids of the run; with a label below 0 where there is none.
        readout: how their logits are read.
        classes: names of the C classes.
        num_passes: with dropout on, of which `answers` are the mean.

    Raises:
        RunError: if what was known is damaged.
    """
    probs = scaling_of(readout, len(classes)).probabilities(answers.logits)
    pred, rows = decided(probs, readout), np.arange(len(probs))
    columns = {
        "predictive_entropy": predictive_entropy(probs),
        "measured_p_pred": probs[rows, pred],
        "measured_p_label": np.where(answers.label >= 0, probs[rows, answers.label], np.nan),
    }
    for name in ("expected_entropy", "mutual_information"):
        if (values := getattr(answers, name)) is not None:
            columns[name] = values
    sets = sets_of(answers, readout, probs)
    if sets is not None:
        columns["set_size"] = sets.sum(1)
    how = "logits as they are" if readout is None else in_words(readout, classes)
    how += f", {num_passes} passes with dropout" if num_passes else ""
    recording = Recording.of(run, checkpoint, how)
    write_uncertainties(run, answers.sample_id, columns, label=answers.label, pred=pred, sets=sets, recording=recording)
