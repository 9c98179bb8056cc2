"""What searches and cross-validations leave in their folders, as small as can be. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from litscope.rundir import append_line, write_json, write_text

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(1)> \x1b[31m &amp;'
"""A name that would like to be markup."""

SPACE = [{"name": "lr", "choices": [], "is_log": True}, {"name": "augment", "choices": ["no", EVIL], "is_log": False}]


def searched(folder: Path, is_over: bool = True) -> Path:
    """What a search leaves, as `litscope tune` does."""
    values = [0.5, 0.4, 0.3, 0.45, 0.35, 0.31, 0.6, None, 9000.0]
    trials: list[dict[str, Any]] = [
        {
            "number": i + 1,
            "settings": {"lr": 10.0 ** -(1 + i % 4), "augment": ["no", EVIL][i % 2]},
            "value": value,
            "run": f"trial-{i + 1}",
            "wall_s": 1.5,
            "stopped_after": 2 if i == 3 else None,
            "reason": "the loss was NaN" if value is None else None,
        }
        for i, value in enumerate(values)
    ]
    folder.mkdir()
    for trial in trials:
        append_line(folder / "trials.jsonl", trial)
    if is_over:
        write_text(folder / "best.yaml", "# comment\ntraining:\n  lr: 0.001\n")
        found = {"dataset": "iris", "metric": "val/loss", "mode": "min", "trials": trials, "space": SPACE}
        write_json(folder / "tune.json", found | {"importance": {"lr": 0.7, "augment": 0.3}})
    return folder


def cross_validated(folder: Path) -> Path:
    """What a cross-validation leaves, as `litscope cv` does."""
    folds = [{"num_samples": 2, "accuracy": value, "loss": 0.5, "auroc": None} for value in (1.0, 0.5)]
    pooled = {"num_samples": 4, "accuracy": 0.75, "loss": 0.5, "auroc": 0.9}
    facts = {"dataset": EVIL, "folds": folds, "pooled": pooled, "mean": {"accuracy": 0.75}, "sd": {"accuracy": 0.35}}
    facts["absent"] = [[], ["wasp"]]
    facts["quality"] = {"figures": {"accuracy": {"value": 0.75, "low": 0.5, "high": 1.0}}}
    facts["calibration"] = {"temperature": 1.2, "before": {"nll": 0.5, "ece": 0.1}, "after": {"nll": 0.4, "ece": 0.1}}
    folder.mkdir()
    write_json(folder / "cv.json", facts)
    rows = pa.table({
        "sample_id": [0, 1, 2, 3],
        "key": ["a", "b", EVIL, "d"],
        "fold": [0, 0, 1, 1],
        "label": ["ant", "wasp", "ant", "ant"],
        "prediction": ["ant", "wasp", "wasp", "ant"],
        "p_max": pa.array([0.9, 0.8, 0.7, 0.6], pa.float32()),
        "loss": pa.array([0.1, 0.2, 1.9, 0.5], pa.float32()),
    })  # fmt: skip
    pq.write_table(
        rows.replace_schema_metadata({"litscope.classes": '["ant", "wasp"]'}), folder / "out-of-fold.parquet"
    )
    return folder
