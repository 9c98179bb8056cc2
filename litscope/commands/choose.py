"""What the commands that act on samples share: which run, which samples, and how they are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from litscope.commands.line import Parser
from litscope.console import say, warn
from litscope.errors import ConfigError, did_you_mean
from litscope.rundir import RunDir

if TYPE_CHECKING:
    from litscope.data.manifest import Ids, Manifest

NUM_SHOWN = 20
"""How many samples --dry-run lists for people."""

NUM_COMPARED = 20_000
"""How many keys a wrong one is compared with: a million would take seconds."""


def find_run(name: str | None) -> RunDir:
    """The run with that folder or name; without one the newest, and a line says so.

    Raises:
        RunError: if there is none.
    """
    from litscope.runs import newest_run

    if name is not None:
        return RunDir.open(name)
    run = newest_run()
    say(f"run: {run.path} (the newest)")
    return run


def names_a_run(word: str) -> bool:
    """Whether this is a run's folder, or its name below runs/."""
    from litscope.runs import RUNS

    return RunDir(word).is_run() or RunDir(RUNS / word).is_run()


def require_tag(run: RunDir, name: str) -> None:
    """Refuse a tag that no sample of the run has.

    Raises:
        ConfigError: with the tags that there are.
    """
    from litscope.ledger.journal.actions import decisions

    tags = decisions(run).tags
    if name not in tags:
        known = f" Tags: {', '.join(sorted(tags))}." if tags else " It has no tags yet: litscope tag NAME --where ..."
        raise ConfigError(f"{run.path} has no samples tagged {name!r}.{did_you_mean(name, tags) or known}")


def add_samples(parser: Parser) -> None:
    """The options that choose samples."""
    parser.add_argument("--where", metavar="SQL", help='a condition on the view samples: "suspicion > 0.9"')
    parser.add_argument("--key", nargs="+", action="extend", default=[], metavar="KEY", help="samples by their key")
    parser.add_argument("--id", nargs="+", action="extend", type=int, default=[], metavar="N", help="by sample_id")
    parser.add_argument("--dry-run", action="store_true", help="say how many samples and which; write nothing")


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
        chosen = {"sample_id": self.ids.tolist(), "key": self.manifest.keys[self.ids].tolist()}
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
    return f"{number:,} sample{'' if number == 1 else 's'}"


def choose(run: RunDir, where: str | None, keys: list[str], ids: list[int]) -> Chosen:
    """The samples that --where, --key or --id names.

    Raises:
        ConfigError: if none of them is given, if one names a sample that the run does not have, or if no
            sample meets the condition.
        DataError: if the run has no manifest.
    """
    import numpy as np

    from litscope.data.manifest import Manifest

    if where is None and not keys and not ids:
        raise ConfigError('Say which samples: --where "SQL condition", --key KEY..., or --id N...')
    manifest = Manifest.read(run.manifest)
    found = [_ids_of(manifest, keys), _checked(manifest, ids)]
    if where is not None:
        from litscope.ledger.views import select_ids

        found.append(select_ids(run, where))
        if not len(found[-1]):
            raise ConfigError(f"No sample of {run.path} has {where}. Nothing was written.")
    return Chosen(run, manifest, np.unique(np.concatenate(found)).astype(np.int64), where)


def _ids_of(manifest: Manifest, keys: list[str]) -> Ids:
    """(n,) the samples of exactly these keys."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    at = pc.index_in(pa.array(keys, pa.string()), value_set=manifest.table["key"])
    for key, place in zip(keys, at.to_pylist(), strict=True):
        if place is None:
            raise ConfigError(f"There is no sample {key!r} in this run.{_near(manifest, key)}")
    return np.asarray(at.to_pylist(), np.int64)


def _near(manifest: Manifest, key: str) -> str:
    """Similar keys; if there are very many, only those that contain the same file name are compared."""
    import pyarrow.compute as pc

    known = manifest.table["key"]
    if len(known) > NUM_COMPARED:
        known = known.filter(pc.match_substring(known, PurePath(key).name)).slice(0, NUM_COMPARED)
    return did_you_mean(key, known.to_pylist())


def _checked(manifest: Manifest, ids: list[int]) -> Ids:
    import numpy as np

    for sample_id in ids:
        if not 0 <= sample_id < len(manifest):
            raise ConfigError(f"--id {sample_id}: this run has samples 0 to {len(manifest) - 1}.")
    return np.asarray(ids, np.int64)


def warn_of_evaluation(chosen: Chosen) -> None:
    """Warn that after an edit of validation or test samples the metrics describe another set."""
    counts = chosen.counts()
    edited = [f"{count_of(counts[name])} of {name}" for name in ("val", "test") if name in counts]
    if edited:
        warn(
            f"{' and '.join(edited)}: metrics before and after this edit cannot be compared. "
            "They are kept apart from there on."
        )
