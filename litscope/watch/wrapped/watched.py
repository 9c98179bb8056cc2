"""Watched: what this process watches, part by part. Made by the first part, ended by `keep_serving` or the process."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from litscope.console import warn
from litscope.errors import ConfigError, did_you_mean
from litscope.lightning_internals import calling_trainer, trainer_of
from litscope.live.records import Status
from litscope.rundir import RunDir
from litscope.watch import active
from litscope.watch.hyperparameters import Hyperparameters
from litscope.watch.metrics import LoggedMetric
from litscope.watch.samples.nesting import Ids
from litscope.watch.session import Session
from litscope.watch.wrapped import outside
from litscope.watch.wrapped.contexts import BatchNow
from litscope.watch.wrapped.curves import LOG_EVERY_N_STEPS, Curves
from litscope.watch.wrapped.loaders import WatchedLoader
from litscope.watch.wrapped.memory import Memory
from litscope.watch.wrapped.registry import of_batches

ROOT_LOG_DIR = "WEIGHTSLAB_ROOT_LOG_DIR"
"""Environment variable: the folder in which the run is made, where the script does not say."""


class Watched:
    """The parts under watch, and the one run that they make.

    Attributes:
        session: what records.
        run: the run's folder, once there is one.
        model: the module.
        optimizers: the first one's steps are the run's.
        hyperparameters: the script's own dict, or one that follows a file.
        root_log_dir: folder in which the run is made, as a part was told.
        loaders: by name.
        metrics: by name.
        losses: names of the watched losses, in their order.
        categories: the values of tags that have several.
        curves: numbers of steps.
        memory: values of samples, for signals that look back.
        names: under which values of batches were recorded, since signals need some.
        now: what is known of the batch that the loop shows, for signals that need others.
    """

    def __init__(self) -> None:
        self.session = Session()
        self.session.counts_passes = True
        self.session.before_epoch_ends = self._epoch_ends
        self.run: RunDir | None = None
        self.model: nn.Module | None = None
        self.optimizers: list[Optimizer] = []
        self.hyperparameters: dict[str, Any] = {}
        self.root_log_dir: str | None = None
        self.loaders: dict[str, WatchedLoader] = {}
        self.metrics: dict[str, LoggedMetric] = {}
        self.losses: list[str] = []
        self.categories: dict[str, list[str]] = {}
        self.curves = Curves(self.session)
        self.memory = Memory(self.session)
        self.names: set[str] = set()
        self.now = BatchNow()
        self._is_over = self._has_checked = False
        active.push(self.session)
        atexit.register(self._process_ends)

    # ---- the run -----------------------------------------------------------------------------------

    def open(self) -> bool:
        """Open the run, before what it records first; False in Lightning's sanity check, and once the run is over."""
        if self._is_over:
            return False
        trainer = trainer_of(self.model)
        if trainer is None and not self.session.is_open:  # the watched model may be a part of the module
            trainer = calling_trainer()
        if trainer is not None and trainer.sanity_checking:
            self._has_checked = True
            return False
        if self._has_checked:  # what metrics heard in it is of no epoch
            self._has_checked = False
            for logged in self.metrics.values():
                logged.begin_anew()
        if not self.session.is_open:
            self.find_folder()
            self.session.open()
            self.run = self.session.run
            if self.model is not None or self.optimizers:
                self.session.can_save(self._save)
        return True

    def find_folder(self) -> None:
        """Tell the session where the run is to be made, and what the script says about itself."""
        given = self.hyperparameters
        self.session.facts["hyperparameters"] = dict(given)
        parent = given.get("root_log_dir") or self.root_log_dir or os.environ.get(ROOT_LOG_DIR)
        if given.get("run_dir"):
            self.session.asked_folder = Path(given["run_dir"])
        elif parent:
            self.session.parent = Path(parent)

    def close(self, status: Status = "finished", message: str = "") -> None:
        """End the run in order."""
        atexit.unregister(self._process_ends)
        active.pop(self.session)
        self._is_over = True
        if self.session.is_open:
            self.curves.flush()
            self._tell_of_signals()
        self.session.close(status, message)
        self.model, self.optimizers = None, []

    def _tell_of_signals(self) -> None:
        """Say which signals were never computed, because what they need was never recorded."""
        for one in of_batches():
            for name in sorted(set(one.needs) - self.names):
                hint = did_you_mean(name, self.names)
                warn(f"signal {one.name!r} was never computed: nothing was recorded under the name {name!r}.{hint}")

    def _process_ends(self) -> None:
        """The same for a script that does not call `keep_serving`, perhaps because an exception ended it."""
        error = getattr(sys, "last_value", None)
        if isinstance(error, KeyboardInterrupt):
            self.close("interrupted", "KeyboardInterrupt")
        elif error is not None:
            self.close("failed", f"{type(error).__name__}: {error}")
        else:
            self.close()

    def _save(self, path: Path) -> None:
        parts: dict[str, Any] = {} if self.model is None else {"model": self.model.state_dict()}
        parts |= {f"optimizer{i or ''}": one.state_dict() for i, one in enumerate(self.optimizers)}
        torch.save(parts, path)

    # ---- where the loop stands ---------------------------------------------------------------------

    def stepped(self, *_: Any) -> None:
        """Called after a step of the first optimizer."""
        if self.open():
            self._step_ends(self.session.place.step + 1)

    def stands_at(self, step: Any) -> None:
        """The script says at which step it is; an optimizer under watch knows better."""
        if step is not None and not self.optimizers and int(step) > self.session.place.step:
            self._step_ends(int(step))

    def _step_ends(self, step: int) -> None:
        self.session.moves_on()
        self.session.step_ends(step)
        if step % LOG_EVERY_N_STEPS == 0:
            self.curves.flush()
        if isinstance(self.hyperparameters, Hyperparameters):
            self.hyperparameters.refresh()

    def _epoch_ends(self) -> None:
        """The metrics' values for the epoch."""
        for name, logged in self.metrics.items():
            values = {f"{split}/{name}": value for split, value in logged.take().items()}
            self.session.log(values)
            self.curves.tell(values)
        self.curves.flush()

    # ---- samples -----------------------------------------------------------------------------------

    def ids_of(self, origin: str) -> Ids:
        """The ids of the samples that a loader has.

        Raises:
            ConfigError: if there is no loader of this name.
        """
        if origin not in self.loaders:
            known = f" Watched are {', '.join(self.loaders)}." if self.loaders else " No loader is watched yet."
            raise ConfigError(f"origin={origin!r} is no loader's name.{did_you_mean(origin, self.loaders) or known}")
        return self.loaders[origin].wrapped_dataset.ids()

    def origin(self) -> str:
        """The name of the loader whose samples the loop shows, or else the split."""
        split, roster = self.session.place.split, self.session.roster
        names = (n for n, loader in self.loaders.items() if roster.split_of(loader.wrapped_dataset) == split)
        return next(names, split)


_watched: Watched | None = None
_ended: Watched | None = None


def current() -> Watched:
    """What this process watches; made if there is nothing yet."""
    global _watched
    if _watched is None:
        _watched = Watched()
    return _watched


def latest() -> Watched | None:
    """What this process watches, or else watched last; None before the first part."""
    return _ended if _watched is None else _watched


def end() -> None:
    """End the run in order, and begin anew with the next part."""
    global _watched, _ended
    if _watched is None:
        return
    _ended, _watched = _watched, None
    outside.forget()
    _ended.close()


def forget() -> None:
    """Know nothing of a run that has ended."""
    global _ended
    _ended = None


def newest_run() -> RunDir | None:
    """The run that goes on, or the last that ended in this process; None before it begins."""
    watched = latest()
    return None if watched is None else watched.run


def written_run() -> RunDir:
    """The same, with all of this process's rows on the disk.

    Raises:
        ConfigError: if nothing has been recorded yet.
    """
    watched = latest()
    if watched is None or watched.run is None:
        raise ConfigError("Nothing has been recorded yet: a run begins with the first batch that a watched loss sees.")
    if watched.session.is_open:
        watched.curves.flush()
        watched.session.flush()
    return watched.run
