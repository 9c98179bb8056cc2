"""Suspected label errors by the out-of-fold predictions of a cross-validation, whatever network made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from litscope.config.flags import build
from litscope.curation.recipe_source import make_source
from litscope.evaluation.out_of_fold import RECIPE, read_out_of_fold
from litscope.evaluation.suspects import draw_suspects
from litscope.uncertainty.confident import doubted, margins

SUSPICION_IS = (
    "suspicion is the rank of a sample's margin among all: 1 where the label is furthest behind another class, in the "
    "eyes of a network that has not seen the sample. It says which to look at first, and is no probability that a "
    "label is wrong."
)
P_LABEL_IS = "p(label) is the probability that this network gives the label."
DOUBTED_IS = (
    "count, by confident learning, as ones of another class: it is as probable there as it is, in the mean, for those "
    "that have its label. An ambiguous sample may be among them, and a network that knows a class badly doubts more."
)


@dataclass(frozen=True)
class FoldSuspects:
    """The ranking of all samples that a cross-validation predicted.

    Attributes:
        folder: of the cross-validation.
        table: one row per sample, most suspicious first: rank (from 1), sample_id, key, fold, label, label_name,
            believed_label, believed_name, suspicion, p_label, margin, is_doubted.
        num_ranked: samples in the whole ranking.
        num_doubted: of these, those that confident learning takes for label errors.
        num_folds: networks that were asked.
    """

    folder: Path
    table: pa.Table
    num_ranked: int
    num_doubted: int
    num_folds: int

    @property
    def by(self) -> str:
        """Who was asked, in words."""
        return f"the {self.num_folds} networks of {self.folder}, each about the fold that it has not seen"

    def sentences(self) -> list[str]:
        """What the numbers mean, for people."""
        return [f"{SUSPICION_IS} {P_LABEL_IS}", f"{self.num_doubted:,} of {self.num_ranked:,} {DOUBTED_IS}"]

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        meaning = {"suspicion": SUSPICION_IS, "p_label": P_LABEL_IS, "is_doubted": f"They {DOUBTED_IS}"}
        return {"meaning": meaning, "network": self.by, "num_ranked": self.num_ranked, "num_doubted": self.num_doubted}

    def draw(self, path: Path) -> int:
        """Write a contact sheet of the first of the table that can be read; how many there are on it.

        Raises:
            ConfigError, DataError: if the data are not where the recipe of the cross-validation says, or no images.
        """
        source = make_source(build({}, [self.folder / RECIPE]))
        return draw_suspects(source, self.table, self.num_ranked, path)


def suspects_of_folds(folder: Path, n: int | None = None) -> FoldSuspects:
    """Rank the labels of the samples of a cross-validation by their margins.

    Args:
        folder: of `litscope cv`.
        n: how many of the ranking; None: all.

    Raises:
        RunError, DataError: as `read_out_of_fold`.
    """
    found = read_out_of_fold(folder)
    probs = found.probs.astype(np.float64)
    margin, rival = margins(probs, found.label)
    is_doubted = doubted(probs, found.label)
    order = np.lexsort((found.sample_id, margin))
    count = len(order)
    suspicion = np.linspace(1.0, 0.0, count) if count > 1 else np.ones(1)
    shown = order[:n]
    names = np.array(found.classes, dtype=object)
    label, believed = found.label[shown], np.where(margin < 0.0, rival, found.label)[shown]
    table = pa.table(
        {
            "rank": pa.array(np.arange(1, len(shown) + 1)),
            "sample_id": pa.array(found.sample_id[shown]),
            "key": pa.array(found.keys[shown], pa.string()),
            "fold": pa.array(found.fold[shown]),
            "label": pa.array(label),
            "label_name": pa.array(names[label], pa.string()),
            "believed_label": pa.array(believed),
            "believed_name": pa.array(names[believed], pa.string()),
            "suspicion": pa.array(suspicion[: len(shown)], pa.float32()),
            "p_label": pa.array(found.probs[shown, label]),
            "margin": pa.array(margin[shown], pa.float32()),
            "is_doubted": pa.array(is_doubted[shown]),
        }
    )
    return FoldSuspects(folder, table, count, int(is_doubted.sum()), found.num_folds)
