"""What replays, what-ifs and validations share: further trainings with a run's recipe, in folders of their own.

Such a training writes nothing outside its folder: no logger, no checkpoint folder, no tracking service.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from litscope.config.flags import build
from litscope.config.recipe import Recipe
from litscope.console import say
from litscope.curation.recipe_source import make_source
from litscope.data.content import with_content
from litscope.data.manifest import Manifest
from litscope.errors import Interrupted, RunError
from litscope.ledger.journal.actions import Action, entries
from litscope.live.records import epoch_rows
from litscope.live.stop_requests import catch_stop_requests
from litscope.rundir import RunDir
from litscope.training.fit import run_recipe
from litscope.training.job import OnEpoch
from litscope.training.run_folder import check_data

SAY_EVERY_S = 10.0
"""Least time between two lines about an otherwise silent training, in seconds."""


def recipe_of(run: RunDir) -> Recipe:
    """The recipe of a run for a further training.

    It does not name the run's actions: these go into the new run's journal.

    Raises:
        ConfigError: if the recipe can't be read, or names files that are not there any more.
    """
    recipe = build({}, [run.recipe])
    recipe.data.actions = recipe.training.checkpoint_dir = recipe.training.resume = None
    recipe.logging = replace(
        recipe.logging,
        logger=["none"],
        log_dir=None,
        use_wandb=False,
        wandb_watch=False,
        wandb_log_model=False,
        profiler=None,
    )
    return recipe


def require_data(run: RunDir, recipe: Recipe) -> None:
    """Refuse a further training on data that are not the run's any more.

    Raises:
        RunError: saying what has changed.
        UserError: if the data are not there.
    """
    source, then = make_source(recipe), Manifest.read(run.manifest)
    check_data(run, with_content(source, then, recipe.logging.progress), "Put them back as they were.")


class EpochLines:
    """Reports the progress of an otherwise silent training: at most a line every ten seconds, when an epoch is over.

    Args:
        title: what the training is called: "trial 3/12".
        metric: the metric to report.
        num_epochs: how many epochs it will take; None if that is not known.
    """

    def __init__(self, title: str, metric: str, num_epochs: int | None) -> None:
        self._title, self._metric = title, metric
        self._of = "" if num_epochs is None else f"/{num_epochs}"
        self._stream = sys.stderr  # the training's own messages go elsewhere
        self._said = time.monotonic()

    def __call__(self, row: Mapping[str, Any]) -> bool:
        """An epoch is over; it goes on."""
        now = time.monotonic()
        if now - self._said >= SAY_EVERY_S:
            self._said = now
            value = row.get(self._metric)
            told = "" if value is None else f": {self._metric} {value:.4f}"
            with contextlib.redirect_stderr(self._stream):
                say(f"{self._title}, epoch {row['epoch'] + 1}{self._of}{told}")
        return False


def train_aside(
    recipe: Recipe,
    folder: Path,
    actions: Sequence[Action] = (),
    keeps_last: bool = False,
    keeps_best: bool = False,
    on_epoch: OnEpoch | None = None,
) -> RunDir:
    """Train silently, in a new folder.

    Args:
        recipe: from `recipe_of`; its run folder, best checkpoints, test set and progress are switched off here.
        folder: the new run's folder.
        actions: the actions with which its journal begins.
        keeps_last, keeps_best: keep its last checkpoint, that of its best epoch.
        on_epoch: called after each epoch; may end the training.

    Raises:
        RunError: if the training refused one of them.
        UserError, Interrupted: as `run_recipe`.
    """
    recipe.logging.run_dir, recipe.logging.progress = str(folder), False
    recipe.training.save_last, recipe.training.save_top_k = keeps_last, int(keeps_best)
    recipe.training.limit_test_batches = 0
    with contextlib.redirect_stderr(io.StringIO()):
        run = run_recipe(recipe, actions=actions, on_epoch=on_epoch).run
    for entry in entries(run):
        if entry.status == "refused":
            assert entry.answer is not None
            raise RunError(f"The training refused to {entry.action['what']}: {entry.answer.get('reason')}")
    return run


@contextlib.contextmanager
def numbered_folder(parent: Path, keep: bool) -> Iterator[Path]:
    """A new folder 001, 002, ... in `parent`, removed at the end unless `keep`.

    A stop request inside ends what runs, and the folder goes in any case.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM.
    """
    folder = _next_folder(parent)
    try:
        with catch_stop_requests():
            yield folder
    except BaseException as error:
        shutil.rmtree(folder)
        _remove_if_empty(parent)
        if isinstance(error, Interrupted | KeyboardInterrupt):
            raise Interrupted("Interrupted: the trainings so far are removed, and nothing is reported.") from None
        raise
    if not keep:
        shutil.rmtree(folder)


def _next_folder(parent: Path) -> Path:
    """Made here: the number behind the greatest that a folder or a report has."""
    parent.mkdir(exist_ok=True)
    while True:
        taken = [int(path.stem) for path in parent.iterdir() if path.stem.isdigit()]
        folder = parent / f"{max(taken, default=0) + 1:03d}"
        with contextlib.suppress(FileExistsError):  # another process was faster
            folder.mkdir()
            return folder


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()


def epoch_s(run: RunDir) -> float | None:
    """Mean seconds of a run's epochs; None if none is over."""
    times = [row["epoch_s"] for row in epoch_rows(run)]
    return sum(times) / len(times) if times else None


def duration(seconds: float | None) -> str:
    """The time in words: `about 4 min`, or that it is not known yet."""
    if seconds is None:
        return "for an unknown time: the run has not completed an epoch"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 1.5 * size:
            return f"about {seconds / size:.0f} {unit}"
    return f"about {max(1, round(seconds))} s"
