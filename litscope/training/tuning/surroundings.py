"""After a run that trained its head on features: what they tell of its samples, at the price of comparing them.

neighbours.parquet    the images that are most alike, of which two numbers stand beside the scores
near-duplicates       in the summary: pairs, and the metrics without the samples that have one in training
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from litscope.console import say, shell_word, warn
from litscope.data.datamodule import ClassificationData
from litscope.errors import UserError
from litscope.features.duplicates import NearDuplicates, near_duplicates
from litscope.features.file import Features
from litscope.features.neighbours import find_neighbours
from litscope.ledger.neighbours import write_neighbours
from litscope.models.classifier import Classifier
from litscope.models.metrics import PhaseMetrics
from litscope.training.job import Job, Outcome

MOST_IMAGES = 20_000
"""Of more, all pairs would take longer than a run on features does; `litscope neighbours` compares them when asked."""


def look_around(job: Job, outcome: Outcome) -> dict[str, Any] | None:
    """Find the neighbours of a run's samples, and what its near-duplicates are worth.

    Args:
        outcome: whose weights the classifier has.

    Returns:
        For summary.json: `NearDuplicates.to_dict`, and `without`; None for a run without features, for a trial of
        a search, or of too many images.
    """
    data, rows = job.data, job.data.features
    if rows is None or job.on_epoch is not None:  # the trials of a search are compared by their metric alone
        return None
    ids = np.sort(np.concatenate([data.active_ids(split) for split in ("train", "val", "test")]))
    if len(ids) > MOST_IMAGES:
        word = shell_word(job.run.path)
        say(f"near-duplicates: not looked for among {len(ids):,} images; to do so: litscope neighbours {word}")
        return None
    labels = data.overlay.labels.numpy()
    try:
        found = find_neighbours(rows, ids)
        model = job.recipe.model
        by = f"{model.arch} (weights: {model.weights or 'ImageNet'}) at {data.image_size} pixels"
        write_neighbours(job.run, ids, found.nearest, found.distances, found.agreement(labels), by)
        pairs = near_duplicates(found, data.manifest.with_labels(labels), data.source.reader.read)
    except (UserError, OSError) as error:  # the training is not lost with it
        warn(f"near-duplicates were not looked for: {error}")
        return None
    without = _without(job.classifier, data, rows, pairs, outcome)
    return {**pairs.to_dict(), "without": without}


def _without(
    classifier: Classifier, data: ClassificationData, rows: Features, pairs: NearDuplicates, outcome: Outcome
) -> dict[str, Any] | None:
    """The metrics of the evaluated split without the samples that have a near-duplicate in training; None where all
    of them are left, or none."""
    split = outcome.evaluated
    leaked, ids = pairs.leaked(split), data.active_ids(split)
    kept = np.setdiff1d(ids, leaked)
    if not outcome.evaluation or not len(kept) or len(kept) == len(ids):
        return None
    return {
        "split": split,
        "num_left_out": len(ids) - len(kept),
        "num_samples": len(kept),
        "metrics": _measure(classifier, data, rows, kept, split),
    }


def _measure(
    classifier: Classifier, data: ClassificationData, rows: Features, ids: NDArray[np.int64], split: str
) -> dict[str, float]:
    label = data.overlay.labels[torch.from_numpy(ids)]
    with torch.no_grad():
        logits = classifier.eval().own_logits(torch.from_numpy(rows[ids].astype(np.float32)).to(classifier.device))
    log_p = logits.float().log_softmax(1).cpu()
    metrics = PhaseMetrics(split, data.num_classes)
    metrics.add(log_p, label, -log_p.gather(1, label[:, None])[:, 0])
    return metrics.compute(torch.device("cpu"))
