"""Two runs side by side: their metrics, their recipes, and the samples that fared differently. No torch.

Samples are matched by key and split. How a sample fared is what its scores say: whether it was ever
learned, whether the last prediction was right, how suspicious it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import yaml

from litscope.defaults import monitored
from litscope.errors import RunError
from litscope.ledger.database import open_database
from litscope.ledger.views import connect
from litscope.rundir import RunDir

_PATHS = {"logging.run_dir", "logging.name", "training.resume"}
"""Fields that differ between any two runs."""

_FATES: dict[str, str] = {
    "learned_only_in_first": "a.is_learned AND NOT b.is_learned",
    "learned_only_in_second": "b.is_learned AND NOT a.is_learned",
    "right_only_in_first": "a.is_right AND NOT b.is_right",
    "right_only_in_second": "b.is_right AND NOT a.is_right",
}
"""Name -> condition over the joined scores of both runs."""

_SAMPLES = """
    SELECT m.key, s.split, c.label_name, s.suspicion, p.label_name AS last_pred_name,
           NOT s.never_learned AS is_learned, s.last_pred = s.label AS is_right
    FROM scores s JOIN manifest m USING (sample_id)
    LEFT JOIN classes c ON c.label = s.label LEFT JOIN classes p ON p.label = s.last_pred
    WHERE s.label >= 0
"""


def compare(first: RunDir, second: RunDir, n: int = 10) -> dict[str, Any]:
    """What two runs have in common and where they differ.

    Args:
        first, second: open runs.
        n: most samples in each list.

    Returns:
        `runs`; `monitored`: name -> first, second, difference (second - first) of the metrics that they monitor, in the
        best epoch and on the test set with its weights; `metrics`: the same of all metrics, of the last epoch;
        `recipe`: field -> first, second, for those that differ; `num_common`: samples that both saw;
        `fates`: name -> `num_samples` and up to n `samples`, most suspicious first; `suspicion`: the n
        samples whose suspicion changed most.

    Raises:
        RunError: if a run's files are missing.
    """
    return {
        "runs": [str(first.path), str(second.path)],
        "monitored": _monitored(first, second),
        "metrics": _side_by_side(_final(first), _final(second)),
        "recipe": _recipes(first, second),
        **_samples(first, second, n),
    }


def _side_by_side(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {"first": one.get(name), "second": two.get(name), "difference": _difference(one.get(name), two.get(name))}
        for name in dict.fromkeys([*one, *two])
    }


def _final(run: RunDir) -> dict[str, float]:
    """The metrics at the end: those of the summary, or of the last epoch of a run that has none."""
    try:
        found = json.loads(run.summary.read_text())["metrics"]
        tested = {name: value for name, value in found["best"].items() if name.startswith("test/")}
        return {**found["final"], **tested}
    except FileNotFoundError:
        with connect(run, ["metrics"]) as connection:
            rows = connection.sql("SELECT * FROM metrics ORDER BY step DESC LIMIT 1").to_arrow_table().to_pylist()
        return {name: value for row in rows for name, value in row.items() if "/" in name}


def _monitored(first: RunDir, second: RunDir) -> dict[str, dict[str, Any]]:
    """The metrics that either run monitors; of a run that has not ended, nothing is known yet."""
    (best_of_first, its_monitor), (best_of_second, other_monitor) = _best(first), _best(second)
    one: dict[str, float] = {}
    two: dict[str, float] = {}
    for monitor in (its_monitor, other_monitor):
        one |= monitored(best_of_first, monitor)
        two |= monitored(best_of_second, monitor)
    return _side_by_side(one, two)


def _best(run: RunDir) -> tuple[dict[str, Any], str | None]:
    """The metrics of the best epoch and of the test set with its weights, and the metric that chose it."""
    try:
        summary = json.loads(run.summary.read_text())
    except FileNotFoundError:
        return {}, None
    return summary["metrics"]["best"], summary.get("monitor")


def _difference(one: float | None, two: float | None) -> float | None:
    return None if one is None or two is None else two - one


def _recipes(first: RunDir, second: RunDir) -> dict[str, dict[str, Any]]:
    """The fields of the recipes whose values differ, by section and name."""
    one, two = recipe_fields(first), recipe_fields(second)
    return {
        name: {"first": one.get(name), "second": two.get(name)}
        for name in dict.fromkeys([*one, *two])
        if name not in _PATHS and one.get(name) != two.get(name)
    }


def recipe_fields(run: RunDir) -> dict[str, Any]:
    """What a run's recipe says, by section and name.

    Raises:
        RunError: if it cannot be read.
    """
    try:
        recipe = yaml.safe_load(run.recipe.read_text())
    except (OSError, ValueError, LookupError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise RunError(f"{run.recipe} cannot be read: {error}.") from error
    fields: dict[str, Any] = {}
    for section, values in (recipe or {}).items():
        if isinstance(values, dict):
            fields |= {f"{section}.{name}": value for name, value in values.items()}
        else:
            fields[section] = values
    return fields


def _samples(first: RunDir, second: RunDir, n: int) -> dict[str, Any]:
    tables = []
    for run in (first, second):
        with connect(run, ["scores", "manifest", "classes"]) as connection:
            tables.append(connection.sql(_SAMPLES).to_arrow_table())
    with open_database() as connection:
        connection.register("a", tables[0])
        connection.register("b", tables[1])
        joined = "FROM a JOIN b USING (key, split)"
        columns = """key, split, a.label_name AS label_first, b.label_name AS label_second,
                     a.last_pred_name AS pred_first, b.last_pred_name AS pred_second,
                     a.suspicion AS suspicion_first, b.suspicion AS suspicion_second"""

        def ask(where: str, order: str) -> list[dict[str, Any]]:
            query = f"SELECT {columns} {joined} WHERE {where} ORDER BY {order} DESC NULLS LAST, split, key LIMIT {n}"
            rows: list[dict[str, Any]] = connection.sql(query).to_arrow_table().to_pylist()
            return rows

        counts = connection.execute(
            f"SELECT count(*), {', '.join(f'count(*) FILTER ({where})' for where in _FATES.values())} {joined}"
        ).fetchall()[0]
        return {
            "num_common": counts[0],
            "fates": {
                name: {"num_samples": count, "samples": ask(where, "greatest(a.suspicion, b.suspicion)")}
                for (name, where), count in zip(_FATES.items(), counts[1:], strict=True)
            },
            "suspicion": ask("a.suspicion <> b.suspicion", "abs(a.suspicion - b.suspicion)"),
        }
