"""Suspected label errors of a data set on which nobody has trained: features, a linear head on them, a ranking."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from litscope.config.recipe import Recipe
from litscope.curation.sheet import SHEET_LIMIT
from litscope.data.manifest import UNLABELLED
from litscope.data.sources.source import Source
from litscope.errors import ConfigError, DataError
from litscope.evaluation.featured import features_of_source
from litscope.features.label_errors import EPOCHS, LAST_EPOCHS, find_label_errors
from litscope.pictures.contact_sheet import contact_sheet
from litscope.training.threads import torch_threads

SUSPICION_IS = (
    "suspicion is a rank among the labelled images, 1 for the most suspicious: it says which to look at first, and is "
    "no probability that a label is wrong."
)
P_LABEL_IS = (
    "p(label) is the probability that a linear head on the network's features gives the label, mean over the last "
    f"{LAST_EPOCHS} of {EPOCHS} epochs."
)
TRUST_IS = (
    "How many of the wrong labels stand above is not known: to measure it, and to decide about labels, train a run "
    "with --canaries 0.02."
)


@dataclass(frozen=True)
class SourceSuspects:
    """The ranking of all labelled images of a data set.

    Attributes:
        source: the data set.
        by: the network whose features tell, in words.
        table: one row per image, most suspicious first: rank (from 1), sample_id, key, split (null in none), label,
            label_name, believed_label, believed_name, suspicion, p_label, aum.
        num_ranked: images in the whole ranking.
    """

    source: Source
    by: str
    table: pa.Table
    num_ranked: int

    def sentences(self) -> list[str]:
        """What the numbers mean, for people."""
        return [f"{SUSPICION_IS} {P_LABEL_IS}", TRUST_IS]

    def facts(self) -> dict[str, Any]:
        """The same for programs."""
        return {"meaning": {"suspicion": SUSPICION_IS, "p_label": P_LABEL_IS}, "network": self.by}

    def draw(self, path: Path) -> int:
        """Write a contact sheet of the first of the table that can be read; how many there are on it."""
        return draw_suspects(self.source, self.table, self.num_ranked, path)


def draw_suspects(source: Source, table: pa.Table, num_ranked: int, path: Path) -> int:
    """Write a contact sheet of the first suspects that can be read; how many there are on it.

    Args:
        source: images.
        table: most suspicious first: sample_id, key, label_name, believed_name, suspicion, p_label.
        num_ranked: in the whole ranking.

    Raises:
        ConfigError: for a table.
    """
    if source.kind != "image":
        raise ConfigError(f"--sheet {path}: {source.name} has no images to draw. Leave it out.")
    shown = list(_images(source, table))
    if shown:
        title = f"{source.name}: suspected label errors, {len(shown):,} of {num_ranked:,}"
        captions = [_caption(row) for _, row in shown]
        contact_sheet([image for image, _ in shown], captions, path, title=f"{title}, most suspicious first")
    return len(shown)


def _images(source: Source, table: pa.Table) -> Iterator[tuple[NDArray[Any], dict[str, Any]]]:
    for row in table.slice(0, SHEET_LIMIT).to_pylist():
        try:
            yield source.reader.read(row["sample_id"]), row
        except DataError:  # it went since it was ranked
            continue


def _caption(row: dict[str, Any]) -> str:
    facts = f"suspicion rank {row['suspicion']:.4f}\np(label) {row['p_label']:.3f}"
    return f"{row['label_name']} → {row['believed_name']}?\n{facts}\n{row['key']}"


def suspects_of_source(recipe: Recipe, n: int | None = None, split: str | None = None) -> SourceSuspects:
    """Rank the labels of a data set.

    Args:
        recipe: as `features_of_source`.
        n: how many of the ranking; None: all.
        split: only images of this split of the ranking of all; None: all.

    Raises:
        UserError: as `features_of_source`, or if there is no labelled image in the split.
    """
    found = features_of_source(copy.deepcopy(recipe), split=split)
    manifest = found.manifest
    ids = found.ids[manifest.labels[found.ids] != UNLABELLED]
    with torch_threads(recipe.hardware.num_threads or 1):  # a head gains nothing from a second one
        judged = find_label_errors(found.rows, ids, manifest.labels[ids], manifest.num_classes)
    order = np.lexsort((ids, -judged.suspicion))
    splits = manifest.splits[ids]
    if split is not None:
        order = order[splits[order] == split]
    num_ranked = len(order)
    order = order[:n]
    names = np.array(manifest.classes, dtype=object)
    label, believed = manifest.labels[ids][order], judged.believed_label[order]
    table = pa.table(
        {
            "rank": pa.array(np.arange(1, len(order) + 1)),
            "sample_id": pa.array(ids[order]),
            "key": pa.array(manifest.keys[ids[order]], pa.string()),
            "split": pa.array([name or None for name in splits[order]], pa.string()),
            "label": pa.array(label),
            "label_name": pa.array(names[label], pa.string()),
            "believed_label": pa.array(believed),
            "believed_name": pa.array(names[believed], pa.string()),
            "suspicion": pa.array(judged.suspicion[order], pa.float32()),
            "p_label": pa.array(judged.p_label[order]),
            "aum": pa.array(judged.aum[order]),
        }
    )
    return SourceSuspects(found.source, found.by, table, num_ranked)
