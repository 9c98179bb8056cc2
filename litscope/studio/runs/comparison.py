"""Runs side by side: settings that differ, metrics, and of two runs the samples whose fate differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from litscope.errors import LitscopeError
from litscope.ledger.compare import compare, recipe_fields
from litscope.rundir import RunDir
from litscope.studio.runs.curves import Logged
from litscope.studio.runs.lines import RunLine
from litscope.studio.samples.table import Samples
from litscope.studio.samples.values import Texts

MOST_RUNS = 12
NUM_SHOWN = 50
_PATHS = ("logging.run_dir", "logging.name", "training.resume")


@dataclass(frozen=True)
class Differing:
    """A setting, or a metric, with its value in each run; None where a run has none."""

    name: str
    values: list[Any]


@dataclass(frozen=True)
class Fate:
    """Samples that fared one way in the first run and another in the second: how many, and the most suspicious."""

    num_samples: int
    samples: list[dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: their lines.
        settings: of their recipes, those that differ.
        metrics: the best value of what they monitor, and the last one of all others.
        fates: of exactly two runs with scores; else None.
        num_common: samples that both of two runs saw.
        notes: what could not be compared.
    """

    runs: list[RunLine]
    settings: list[Differing]
    metrics: list[Differing]
    fates: dict[str, Fate] | None
    num_common: int | None
    notes: list[str]


def comparison(
    runs: Sequence[RunDir], lines: Sequence[RunLine], logged: Sequence[Logged], samples: Sequence[Samples | None]
) -> Comparison:
    """Compare runs; what cannot be read of one is told in a note."""
    notes: list[str] = []
    settings = [_settings(run, notes) for run in runs]
    last = [_last(one) | line.best for one, line in zip(logged, lines, strict=True)]
    fates, num_common = None, None
    if len(runs) == 2 and all(one is not None for one in samples):
        try:
            found = compare(runs[0], runs[1], NUM_SHOWN)
            num_common = found["num_common"]
            ids = [_ids_by_key(one, found["fates"]) for one in samples if one is not None]
            fates = {name: _fate(fate, ids) for name, fate in found["fates"].items()}
        except (LitscopeError, OSError, KeyError, ValueError) as error:
            notes.append(f"The samples cannot be compared: {error}")
    return Comparison(list(lines), _differing(settings, True), _differing(last, False), fates, num_common, notes)


def _settings(run: RunDir, notes: list[str]) -> dict[str, Any]:
    try:
        return {name: value for name, value in recipe_fields(run).items() if name not in _PATHS}
    except LitscopeError as error:
        notes.append(str(error))
        return {}


def _last(logged: Logged) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in logged.epochs:
        found |= {name: row[name] for name in row if "/" in name}
    return found


def _differing(facts: Sequence[dict[str, Any]], only: bool) -> list[Differing]:
    names = dict.fromkeys(name for one in facts for name in one)
    rows = [Differing(name, [one.get(name) for one in facts]) for name in names]
    return [row for row in rows if not only or any(value != row.values[0] for value in row.values[1:])]


def _ids_by_key(samples: Samples, fates: dict[str, Any]) -> dict[tuple[str, str], int]:
    """(key, split) -> sample_id of the samples that are shown."""
    wanted = {one["key"] for fate in fates.values() for one in fate["samples"]}
    keys = samples.values("key")
    assert isinstance(keys, Texts)
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    at = np.flatnonzero(pc.is_in(keys.values, value_set=pa.array(sorted(wanted), pa.string())).to_numpy())
    splits = samples.base.split.at(at)
    return {(key, split): int(i) for i, key, split in zip(at, keys.at(at), splits, strict=True)}


def _fate(fate: dict[str, Any], ids: Sequence[dict[tuple[str, str], int]]) -> Fate:
    rows = [
        {
            **one,
            "sample_id_first": ids[0].get((one["key"], one["split"])),
            "sample_id_second": ids[1].get((one["key"], one["split"])),
        }
        for one in fate["samples"]
    ]
    return Fate(fate["num_samples"], rows)
