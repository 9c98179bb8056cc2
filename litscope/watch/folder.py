"""The folder of a watched run: where it is, and what it says about the script that made it."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.utils.data import Subset

from litscope.errors import RunError
from litscope.live import environment
from litscope.live.records import epoch_rows, read_summary
from litscope.rundir import RunDir, read_lines, write_json, write_text
from litscope.runs import claim_folder, is_watched
from litscope.watch.samples.ids import WithIds

HEAD = """\
# A run that litscope.watch recorded. Its model, data and training are those of the script below, so commands that
# would build them (fit --resume, evaluate, predict, replay, whatif) refuse it; all that read or steer a run work.
"""


def take_folder(asked: str | Path | None, parent: Path, step: int) -> tuple[RunDir, bool]:
    """The folder of a run that begins or goes on, and whether it goes on.

    Args:
        asked: where it is to be; None: the first of watch-1, watch-2, ... that is free in `parent`.
        step: optimizer steps that lie behind the weights.

    Raises:
        RunError: if the folder holds a run already, and this is no continuation of it.
    """
    run = RunDir(claim_folder("watch", parent, numbers_first=True) if asked is None else asked)
    if not run.is_run():
        return RunDir.create(run.path), False
    if step == 0 and has_record(run):
        raise RunError(
            f"{run.path} already holds a run. Give another run_dir, or none; to go on with it, start from one of "
            f'its checkpoints: trainer.fit(..., ckpt_path="last.ckpt"); to begin it again, remove {run.path}.'
        )
    check_watched(run)
    return run, True


def check_watched(run: RunDir) -> None:
    """Refuse to continue a run of `litscope fit` with somebody else's loop.

    Raises:
        RunError: if it is such a run.
    """
    if not is_watched(run):
        raise RunError(f"{run.path} is a run of `litscope fit`; a watched loop needs a folder of its own.")


def has_record(run: RunDir) -> bool:
    """Whether anything of a watched run is on record: a row, or an epoch.

    Where nothing is, a script that was killed at its start may begin again in the same folder.
    """
    parts = (path for folder in (run.signals, run.custom) for path in folder.glob("*.parquet"))
    return any(parts) or bool(read_lines(run.epoch_metrics))


def ended_unclosed(run: RunDir, step: int) -> bool:
    """Whether all epochs of a watched run were over by this step, and no summary says that it finished."""
    is_over = is_watched(run) and all(row["step"] <= step for row in epoch_rows(run))
    return is_over and (read_summary(run) or {}).get("status") != "finished"


def in_short(network: object, dataset: object) -> dict[str, str]:
    """The classes of a network and a data set, as `litscope runs` shows them; of one that is None nothing."""
    while isinstance(dataset, WithIds | Subset):
        dataset = dataset.dataset
    given = {"network": network, "data": dataset}
    return {name: type(value).__name__ for name, value in given.items() if value is not None}


def describe(run: RunDir, facts: Mapping[str, Any]) -> None:
    """Write recipe.yaml, with what the script said about itself, and environment.json."""
    about = {"script": str(Path(sys.argv[0]).absolute()) if sys.argv and sys.argv[0] else None, **facts}
    text = yaml.safe_dump({"watch": _plain(about)}, sort_keys=False, allow_unicode=True)
    write_text(run.recipe, HEAD + text)
    write_json(run.environment, environment.describe(torch.initial_seed()))


def _plain(value: Any) -> Any:
    """What a script said about itself, in values that YAML and JSON can hold."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return json.loads(json.dumps(value, default=str))
