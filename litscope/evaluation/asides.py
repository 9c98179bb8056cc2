"""What `evaluate` does besides: strangers beside the run's samples, a record of each, words about how it reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from litscope.console import number_of, warn
from litscope.data.sources.new import open_paths
from litscope.errors import DataError
from litscope.evaluation.evaluation_data import warn_of_unreadable
from litscope.evaluation.known_data import KnownData
from litscope.evaluation.network import Network
from litscope.evaluation.ood import ood
from litscope.evaluation.opened_run import OpenedRun
from litscope.models.readout import Readout
from litscope.training.kept_readout import in_words
from litscope.training.readouts import Answers
from litscope.training.recorded import keep_record

Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]


def measure_ood(
    network: Network,
    paths: Paths,
    answers: Answers,
    readout: Readout | None,
    batch_size: int | None,
    num_workers: int | None,
    num_passes: int,
) -> dict[str, Any]:
    """How well samples of no class of the run's are told from `answers`; see `ood.ood`.

    Args:
        paths: of the strangers, as `predict` takes them.
        num_passes: as for `answers`.

    Raises:
        DataError: if they cannot be read as the run's samples were.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    source = open_paths(given, like=network.facts.encoding)
    for note in source.notes:
        warn(note)
    data = network.data_of(source, source.manifest.sample_ids, batch_size=batch_size, num_workers=num_workers)
    strangers = network.answers(data, num_passes)
    if not len(strangers.sample_id):
        raise DataError(f"Not one sample of {source.name} can be read. The first: {data.unreadable[0][1]}")
    warn_of_unreadable(data.unreadable)
    return {"source": source.name, **ood(answers, strangers, readout)}


def keep_own(opened: OpenedRun, data: KnownData, answers: Answers, readout: Readout | None, num_passes: int = 0) -> int:
    """Keep what the network of a run says of the run's samples with its scores; of how many.

    Args:
        data: whose samples they are, which may be others, too.
        readout, num_passes: see `recorded.keep_record`.
    """
    ids = data.sample_id[answers.sample_id]
    own = replace(answers, sample_id=ids, draws=answers.lot).of(ids >= 0)
    keep_record(opened.run, opened.checkpoint, own, readout, opened.classes, num_passes)
    return len(own.sample_id)


def told_of(readout: Readout, split: str | None, names: Sequence[str]) -> str:
    """A line about a readout that is kept with the weights and counts.

    Args:
        split: of the run, that is measured; None for other samples.
    """
    on = readout.fitted_on
    flattered = " They are among what is measured here, which flatters it." if on.is_among(split) else ""
    return (
        f"read as kept with the weights: {in_words(readout, names)}, learned on {number_of(on.num_samples, on.what)} "
        f"(--raw: as they are).{flattered}"
    )
