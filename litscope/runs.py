"""The runs below `runs/`: which there are, which is the newest, which is training now, and the folder of a new one."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from litscope.console import CONTROL, shell_word
from litscope.errors import RunError
from litscope.rundir import RunDir, read_lines

RUNS = Path("runs")
"""Where runs lie when --run-dir does not say otherwise."""


TRIALS = "trials.jsonl"
"""In the folder of a search: a line for each trial that is over."""

SEARCH = "tune.json"
"""What a search found, once it is over."""

STUDY = "study.log"
"""In that of a search which several processes share: what they tell each other."""

OUT_OF_FOLD = "out-of-fold.parquet"
"""In the folder of a cross-validation: what its networks say of samples that they have not seen."""

FOLDS = "cv.json"
"""There, too: the metrics of each fold and of all predictions."""

WAIT_S = 5.0
"""How long a request waits for an answer, if nobody says otherwise: a trainer looks every second or so."""


def claim_folder(stem: str, parent: Path = RUNS, *, numbers_first: bool = False) -> Path:
    """Make the first folder of `stem`, `stem-2`, `stem-3`, ... that is not there. No two callers get the same one.

    Args:
        stem: its name without a number; slashes and control characters become underscores.
        parent: where it lies; made if missing.
        numbers_first: begin with `stem-1`.

    Raises:
        RunError: if it cannot be made.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        return next(path for path in _names(stem, parent, numbers_first) if _is_made(path))
    except OSError as error:
        raise RunError(
            f"No folder can be made in {parent}: {error}. Say where: --run-dir, in a script run_dir."
        ) from error


def free_folder(stem: str, parent: Path = RUNS, *, numbers_first: bool = False) -> Path:
    """The folder that `claim_folder` would make now."""
    return next(path for path in _names(stem, parent, numbers_first) if not path.exists())


def _names(stem: str, parent: Path, numbers_first: bool) -> Iterator[Path]:
    stem = re.sub(f"[/{CONTROL}]", "_", stem)
    yield parent / (f"{stem}-1" if numbers_first else stem)
    yield from (parent / f"{stem}-{n}" for n in itertools.count(2))


def _is_made(folder: Path) -> bool:
    """Whether this call made the folder: mkdir decides between processes, also on a network disk."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def find_actions(where: str) -> RunDir | Path:
    """What `--actions` names: a run, by its folder, its name below runs/ or its journal; or a file of actions.

    Raises:
        RunError: if it is neither.
    """
    path = Path(where)
    for folder in (path, RUNS / where, path.parent):
        run = RunDir(folder)
        if run.is_run() and (folder != path.parent or path.name == run.actions.name):
            return run
    if not path.is_file():
        raise RunError(
            f"--actions {where}: neither a run nor a file of actions. Give the folder of a run, or what "
            "`litscope export RUN --to actions` wrote."
        )
    return path


@contextmanager
def claimed_folder(stem: str) -> Iterator[Path]:
    """`claim_folder` for what may be refused before it writes: the folder goes with the block if it is empty then."""
    folder = claim_folder(stem)
    try:
        yield folder
    finally:
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def find_folds(word: str) -> Path | None:
    """The folder of a cross-validation that a person names, by its path or its name below runs/; None: it is none."""
    path = Path(word).expanduser()
    return next((folder for folder in (path, RUNS / word) if (folder / OUT_OF_FOLD).is_file()), None)


def list_runs(parent: Path = RUNS) -> list[RunDir]:
    """Runs below a folder, the newest (last started or resumed) first."""
    found = [RunDir(recipe.parent) for recipe in parent.glob("*/recipe.yaml")]
    return sorted(found, key=_started, reverse=True)


def _started(run: RunDir) -> float:
    return (run.attempts if run.attempts.exists() else run.recipe).stat().st_mtime


def newest_run() -> RunDir:
    """The run below runs/ that was last started or resumed.

    Raises:
        RunError: if there is none.
    """
    for run in list_runs():
        return run
    raise RunError(f"There are no runs below {RUNS}/. Give the folder of one.")


def is_watched(run: RunDir) -> bool:
    """Whether litscope.watch recorded this run: only its own script can build its model and data."""
    if not run.is_run():
        return False
    return any(line.startswith("watch:") for line in run.recipe.read_text(encoding="utf-8").splitlines())


def is_joined(run: RunDir) -> bool:
    """Whether `litscope ensemble` made this run of others: nothing was trained in it."""
    return run.ensemble.is_file()


def joined_from(run: RunDir) -> list[str]:
    """The networks that an ensemble was joined from, as they were named."""
    members = json.loads(run.ensemble.read_text(encoding="utf-8"))["members"]
    return [member["name"] for member in members]


def is_finished(run: RunDir) -> bool:
    """Whether a run has ended by itself, in order."""
    return run.summary.exists() and json.loads(run.summary.read_text()).get("status") == "finished"


def what_goes_on(run: RunDir) -> str:
    """The command that goes on with a run, in words."""
    return "its own script, from a checkpoint," if is_watched(run) else f"litscope fit --resume {shell_word(run.path)}"


def is_training(run: RunDir) -> bool | None:
    """Whether a process trains this run now: None if it was started on another machine, which cannot be asked.

    A run that ended in order has a summary; a killed one has a process number that is no longer in use.
    """
    attempts = read_lines(run.attempts)
    if run.summary.exists() or not attempts:
        return False
    last = attempts[-1]
    if last.get("host") != socket.gethostname():
        return None
    try:
        os.kill(last["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the process of another user
        return True
    return True


def require_trainer(run: RunDir, what: str, instead: str | None = None) -> None:
    """Refuse a request that only makes sense now if nothing is training: it would surprise the run when it is resumed.

    Args:
        run: an open run.
        what: what is asked for, in a verb.
        instead: what can be done instead; None: how the run goes on.

    Raises:
        RunError: saying so.
    """
    if is_training(run) is False:
        instead = instead or f"It has ended, or was killed; {what_goes_on(run)} goes on with it."
        raise RunError(f"{run.path} is not training, so there is nothing to {what}. {instead}")
