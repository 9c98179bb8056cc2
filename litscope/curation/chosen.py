"""Chosen: samples of a run that an action is about, named by a condition, by keys or by ids. No torch.

What cannot be right is refused here, before it reaches the trainer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from litscope.console import number_of, say, shell_word, warn
from litscope.data.manifest import Ids, Manifest
from litscope.errors import ConfigError, RunError, did_you_mean
from litscope.ledger.journal.actions import decisions
from litscope.ledger.scoring.scorekeeper import refresh
from litscope.ledger.views import select_ids
from litscope.rundir import RunDir

NUM_COMPARED = 20_000
"""How many keys a wrong one is compared with: a million would take seconds."""


@dataclass(frozen=True)
class Chosen:
    """Samples that an action is about.

    Attributes:
        run: the run.
        manifest: its samples.
        ids: (n,) ascending sample_ids, each once.
        where: the condition that chose them, or None.
    """

    run: RunDir
    manifest: Manifest
    ids: Ids
    where: str | None

    @property
    def arguments(self) -> dict[str, Any]:
        """How a request names its samples."""
        keys = self.manifest.table["key"].take(pa.array(self.ids))  # a few of a million become objects
        chosen = {"sample_id": self.ids.tolist(), "key": keys.to_pylist()}
        return chosen if self.where is None else {**chosen, "where": self.where}

    def counts(self) -> dict[str, int]:
        """Number of samples in each split, in the order train, val, test, none."""
        found = self.manifest.splits[self.ids]
        return {name or "no split": int(n) for name in ("train", "val", "test", "") if (n := (found == name).sum())}

    def by_split(self) -> str:
        """The counts in words: `train 10, val 2`."""
        return ", ".join(f"{name} {count:,}" for name, count in self.counts().items())

    def rows(self, labels: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """The samples, for people and programs; `labels` adds the label that each would get."""
        classes, m = self.manifest.classes, self.manifest
        rows = [
            {"sample_id": i, "key": m.keys[i], "label": classes[y] if (y := m.labels[i]) >= 0 else None}
            | {"split": m.splits[i]}
            for i in self.ids.tolist()
        ]
        return rows if labels is None else [row | {"to": name} for row, name in zip(rows, labels, strict=True)]

    def only(self, keep: Any) -> Chosen:
        """The samples for which the boolean array `keep` (n,) is true."""
        return Chosen(self.run, self.manifest, self.ids[keep], self.where)


def count_of(number: int) -> str:
    """A number of samples in words: `1 sample`, `12 samples`."""
    return number_of(number, "sample")


def choose(run: RunDir, where: str | None, keys: Sequence[str], ids: Sequence[int]) -> Chosen:
    """The samples that a condition, keys and ids name together.

    Raises:
        ConfigError: if none of them is given, if one names a sample that the run does not have, or if no
            sample meets the condition.
        DataError: if the run has no manifest.
    """
    if where is None and not len(keys) and not len(ids):
        raise ConfigError('Say which samples: --where "SQL condition", --key KEY..., or --id N...')
    manifest = Manifest.read(run.manifest)
    found = [_ids_of(run, manifest, keys), _checked(manifest, ids)]
    if where is not None:
        found.append(select_ids(run, where))
        if not len(found[-1]):
            raise ConfigError(f"No sample of {run.path} has {where}. Nothing was written.")
    return Chosen(run, manifest, np.unique(np.concatenate(found)).astype(np.int64), where)


def _ids_of(run: RunDir, manifest: Manifest, keys: Sequence[str]) -> Ids:
    """(n,) the samples of these keys."""
    found = manifest.ids_of(keys)
    for key, row in zip(keys, found, strict=True):
        if row is None:
            raise ConfigError(f"There is no sample {key!r} in this run.{_near(run, manifest, key)}")
    return np.asarray(found, np.int64)


def _near(run: RunDir, manifest: Manifest, key: str) -> str:
    """Similar keys; if there are very many, only those that contain the same file name are compared."""
    known = manifest.table["key"]
    if len(known) > NUM_COMPARED:
        known = known.filter(pc.match_substring(known, PurePath(key).name)).slice(0, NUM_COMPARED)
    how = f' `litscope sql {shell_word(run.path)} "select key from samples"` lists the keys.'
    return did_you_mean(key, known.to_pylist()) or how


def _checked(manifest: Manifest, ids: Sequence[int]) -> Ids:
    for sample_id in ids:
        if not 0 <= sample_id < len(manifest):
            raise ConfigError(f"--id {sample_id}: this run has samples 0 to {len(manifest) - 1}.")
    return np.asarray(ids, np.int64)


# ---- what a verb asks of the samples -------------------------------------------------------------


def require_rest(chosen: Chosen) -> None:
    """Refuse to discard the last training samples.

    Raises:
        ConfigError: saying so.
    """
    train = chosen.manifest.ids("train")
    gone = np.union1d(chosen.ids, np.fromiter(decisions(chosen.run).discarded, np.int64))
    if len(train) and np.isin(train, gone).all():
        raise ConfigError(f"Discarding {count_of(len(chosen.ids))} would leave none to train on. Choose fewer.")


def require_tag(run: RunDir, name: str) -> None:
    """Refuse a tag that no sample of the run has.

    Raises:
        ConfigError: with the tags that there are.
    """
    tags = decisions(run).tags
    if name not in tags:
        known = f" Tags: {', '.join(sorted(tags))}." if tags else " It has no tags yet: litscope tag NAME --where ..."
        raise ConfigError(f"{run.path} has no samples tagged {name!r}.{did_you_mean(name, tags) or known}")


def relabelled(chosen: Chosen, to: str, save: bool = True) -> tuple[Chosen, list[str]]:
    """The samples, and the class that each would get.

    Args:
        chosen: the samples.
        to: a class; `believed`: the one that the model believes each to be (those that it has not seen are left out,
            and counted).
        save: keep scores that are computed for it.

    Raises:
        ConfigError: if the run has no such class.
        RunError: if it has seen none of the samples.
    """
    classes = chosen.manifest.classes
    if to == "believed" and "believed" not in classes:
        return _believed(chosen, save)
    if to not in classes:
        hint = did_you_mean(to, classes) or f" Classes: {', '.join(classes[:20])}, or believed."
        raise ConfigError(f"--to {to}: there is no such class in {chosen.run.path}.{hint}")
    return chosen, [to] * len(chosen.ids)


def _believed(chosen: Chosen, save: bool) -> tuple[Chosen, list[str]]:
    table = refresh(chosen.run, save=save).table
    believed = np.full(len(chosen.manifest), -1, np.int64)
    believed[table["sample_id"].to_numpy()] = table["believed_label"].fill_null(-1).to_numpy()
    labels = believed[chosen.ids]
    known = labels >= 0
    if not known.any():
        raise RunError(f"{chosen.run.path} has not seen these samples yet, so it has no belief about them.")
    if not known.all():
        say(f"{count_of(int((~known).sum()))} left out: the run has not seen them yet.")
    return chosen.only(known), [chosen.manifest.classes[y] for y in labels[known]]


def label_argument(labels: Sequence[str]) -> str | list[str]:
    """How a request names the labels (n,): one name if all get the same."""
    return labels[0] if len(set(labels)) == 1 else list(labels)


def evaluation_warning(chosen: Chosen) -> str | None:
    """What to say where validation or test samples are edited: metrics then describe another set. None: none are."""
    counts = chosen.counts()
    edited = [f"{count_of(counts[name])} of {name}" for name in ("val", "test") if name in counts]
    if not edited:
        return None
    return (
        f"{' and '.join(edited)}: metrics before and after this edit cannot be compared. "
        "They are kept apart from there on."
    )


def warn_of_evaluation(chosen: Chosen) -> None:
    """Warn that after an edit of validation or test samples the metrics describe another set."""
    if (warning := evaluation_warning(chosen)) is not None:
        warn(warning)
