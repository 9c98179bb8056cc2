"""What `--resume` means: which checkpoint, and which run goes on.

    PATH    a checkpoint file; the run is the one whose folder it lies in, or whose --checkpoint-dir it is in
    RUN     the folder of a run, or its name below runs/: its last checkpoint
    last    the last checkpoint of --run-dir, of --name, or of the newest run that has one
    best    the best checkpoint of the same

A run goes on in its own folder. With a --run-dir or --name that is not a run yet, a new run
starts there from the checkpoint.

A last checkpoint that is missing or damaged is no end: the run goes on from the one before it, else from the newest
that is there, else from step 0. That is said in a line, and only where damage would cost more than the steps between
two last checkpoints it is left to the person.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from litscope.config.presets import FileSettings, file_settings
from litscope.config.recipe import Recipe
from litscope.config.yamlfile import read_text, text_of
from litscope.console import shell_word
from litscope.errors import RunError, did_you_mean
from litscope.rundir import BEST, LAST, PREVIOUS, RunDir
from litscope.runs import RUNS, is_joined, joined_from, list_runs
from litscope.seals import why_damaged


class GoingOn(NamedTuple):
    """What a recipe goes on with: nothing at all without --resume.

    Attributes:
        checkpoint: from which it trains on; None for step 0.
        folder: of the run that goes on; None for a new run.
        note: a line, where the checkpoint is another than one may expect; else "".
    """

    checkpoint: Path | None = None
    folder: Path | None = None
    note: str = ""


def resolve_resume(recipe: Recipe) -> GoingOn:
    """What a recipe goes on with: a run, from a checkpoint or from step 0; or a new run from a checkpoint.

    Raises:
        RunError: if there is no such run or checkpoint, or no whole one; the message lists what exists.
    """
    if recipe.training.resume is None:
        return GoingOn()
    checkpoint, source = asked_for(recipe.training.resume, recipe.logging.run_dir, recipe.logging.name)
    if source is not None and is_joined(RunDir(source)):
        raise RunError(
            f"--resume {recipe.training.resume}: {source} is an ensemble that was joined from other runs, and nothing "
            f"was trained in it. Go on with one of those: {', '.join(joined_from(RunDir(source)))}."
        )
    asked, note = asked_folder(recipe), ""
    is_same = asked is None or (source is not None and asked.resolve() == source.resolve())
    folder = source if asked is None or is_same else asked if RunDir(asked).is_run() else None
    if checkpoint is None and source is not None:
        checkpoint, note = _to_go_on_from(RunDir(source))
        if checkpoint is None and not is_same:
            raise _missing(RunDir(source), "last")
    return GoingOn(checkpoint, folder, note)


def find_checkpoint(resume: str, run_dir: str | None = None, name: str | None = None) -> tuple[Path, Path | None]:
    """The checkpoint that `resume` names, damaged or not, and the folder of the run that wrote it (None if unknown).

    Raises:
        RunError: if there is no such run or checkpoint; the message lists what exists.
    """
    checkpoint, source = asked_for(resume, run_dir, name)
    if checkpoint is None:
        assert source is not None
        checkpoint = _checkpoint_folder(RunDir(source)) / LAST
        if not checkpoint.is_file():
            raise _missing(RunDir(source), "last")
    return checkpoint, source


def checkpoint_of(run: RunDir, which: str) -> Path:
    """The file that "best", "last" or a path means for a run.

    Raises:
        RunError: if there is none.
    """
    if which in ("best", "last"):
        return find_checkpoint(which, run_dir=str(run.path))[0]
    path = Path(which)
    if not path.is_file():
        raise RunError(f"--checkpoint {which}: not `best`, `last` or a file.{did_you_mean(which, ['best', 'last'])}")
    return path


def asked_for(resume: str, run_dir: str | None = None, name: str | None = None) -> tuple[Path | None, Path | None]:
    """The checkpoint that `resume` names, and the folder of the run that it belongs to.

    Returns:
        (file, run), or (file, None) where nobody knows its run; (None, run) for the last one, which may be missing.

    Raises:
        RunError: if there is no such run or checkpoint; the message lists what exists.
    """
    if resume in ("last", "best"):
        asked = _asked_folder(run_dir, name)
        run = RunDir.open(asked) if asked else _newest_run()
        return (_best_of(run) if resume == "best" else None), run.path
    path = Path(resume)
    if path.is_file():
        return path, _run_of(path)
    folders = [RunDir(path), RunDir(RUNS / resume)]
    for run in folders:
        if run.is_run():
            return None, run.path
    for run in folders:
        if run.signals.is_dir():  # it is made before the recipe is written
            raise RunError(
                f"--resume {resume}: the run in {run.path} was ended before its recipe was written, so nothing was "
                f"trained. Begin it anew: give its own command again, with --run-dir {shell_word(run.path)}."
            )
    raise RunError(
        f"--resume {resume}: neither a checkpoint file, nor the folder or name of a run, nor `last` or `best`."
        f"{did_you_mean(resume, [*(run.path.name for run in list_runs()), 'last', 'best'])}{_list_of_runs()}"
    )


def _run_of(checkpoint: Path) -> Path | None:
    """The run that keeps its checkpoints where this file lies, or whose folder it lies in.

    A recipe two folders up alone says nothing: people keep recipes beside a folder of checkpoints from elsewhere.
    """
    if RunDir(checkpoint.parent).is_run():
        return checkpoint.parent
    above = RunDir(checkpoint.parent.parent)
    if above.is_run() and above.checkpoints == checkpoint.parent:
        return above.path
    folder = checkpoint.parent.resolve()
    return next((run.path for run in list_runs() if _checkpoint_folder(run).resolve() == folder), None)


_OF_THE_RUN_ITSELF = ("logging.name", "logging.run_dir", "training.resume")


def run_settings(run: Path) -> FileSettings:
    """The settings of a run's recipe, without those that name the run itself. Each caller's own to change."""
    path = RunDir(run).recipe
    known = _settings_of(text_of(path), str(path))
    sections = {key: setting.own() for key, setting in known.sections.items() if key not in _OF_THE_RUN_ITSELF}
    return replace(known, sections=sections)


@lru_cache(maxsize=8)
def _settings_of(text: str, name: str) -> FileSettings:
    """What the text of a recipe says. Who opens a run asks three times, and reading takes 50 ms."""
    return file_settings(read_text(text, name))


def asked_folder(recipe: Recipe) -> Path | None:
    """The folder that a recipe names for its run."""
    return _asked_folder(recipe.logging.run_dir, recipe.logging.name)


def _asked_folder(run_dir: str | None, name: str | None) -> Path | None:
    if run_dir:
        return Path(run_dir)
    return RUNS / name if name else None


def _newest_run() -> RunDir:
    for run in list_runs():
        if any(_checkpoint_folder(run).glob("*.ckpt")):
            return run
    raise RunError(f"There is no run with a checkpoint below {RUNS}/ to resume.{_list_of_runs()}")


def _best_of(run: RunDir) -> Path:
    path = _best(run, _checkpoint_folder(run))
    if path is None or not path.is_file():
        raise _missing(run, "best")
    return path


def _missing(run: RunDir, which: str) -> RunError:
    folder = _checkpoint_folder(run)
    there = sorted(p.name for p in folder.glob("*.ckpt"))
    listed = f"There are: {', '.join(there)}; name one by its path." if there else "There is none at all."
    return RunError(f"The run {run.path} has no {which} checkpoint in {folder}. {listed}")


def _to_go_on_from(run: RunDir) -> tuple[Path | None, str]:
    """The checkpoint from which a run goes on where nobody names one, None for step 0; and what is to be said of it.

    Raises:
        RunError: if the last one is damaged, and the one before it too or not there.
    """
    folder = _checkpoint_folder(run)
    damaged: dict[Path, str] = {}
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.is_file():
            continue
        why = _why(path)
        if why is None:
            what = _damages(damaged) if damaged else f"{run.path} has no last checkpoint"
            return path, "" if path.name == LAST else f"{what}: the run goes on from the one before, {path}"
        damaged[path] = why
    others = _others(folder)
    if damaged:
        raise RunError(f"{_damages(damaged)}. {_way_on(run, others, folder)}")
    if others:
        return others[
            0
        ], f"{run.path} has no last checkpoint: the run goes on from the newest that is there, {others[0]}"
    none = "no whole checkpoint" if any(folder.glob("*.ckpt")) else "no checkpoint"
    return None, f"{run.path} has {none}: the run begins again at step 0, as its recipe says"


def _damages(damaged: dict[Path, str]) -> str:
    """What is wrong with the last checkpoint, or with the one before it, or with both."""
    (path, why), *more = damaged.items()
    return f"{path} is damaged ({why}){', and so is ' + str(more[0][0]) if more else ''}"


def _way_on(run: RunDir, others: list[Path], folder: Path) -> str:
    """What to type where all last checkpoints are damaged, a sentence."""
    if others:
        return (
            f"Go on from the newest of the others, --resume {shell_word(others[0])}, or begin again at step 0: remove "
            f"all .ckpt files in {folder}, then --resume {shell_word(run.path)}."
        )
    return f"To begin again at step 0, remove all .ckpt files in {folder}, then --resume {shell_word(run.path)}."


def _others(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder that are no last ones, the newest first; best.ckpt under its other name."""
    found = [p for p in folder.glob("*.ckpt") if p.name not in (LAST, PREVIOUS) and p.is_file() and not _why(p)]
    alias = folder / BEST
    if alias in found and any(p != alias and p.samefile(alias) for p in found):
        found.remove(alias)
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)


def _why(path: Path) -> str | None:
    """Why a checkpoint is damaged; looked at once, since whoever loads it looks again."""
    return why_damaged(path, may_remember=True)


def _checkpoint_folder(run: RunDir) -> Path:
    setting = run_settings(run.path).sections.get("training.checkpoint_dir")
    return Path(setting.value) if setting and setting.value else run.checkpoints


def _best(run: RunDir, folder: Path) -> Path | None:
    """The best checkpoint: as the summary says, else best.ckpt, else by the value of the monitor in the file's name.

    What resumes is told the name that says epoch and value, where it is known: best.ckpt will stand for another file.
    """
    if run.summary.exists():
        best = json.loads(run.summary.read_text()).get("checkpoints", {}).get("best")
        if best and (folder / Path(best).name).is_file():
            return folder / Path(best).name
    alias = folder / BEST
    if alias.is_file():
        return next((p for p in folder.glob("*.ckpt") if p != alias and p.samefile(alias)), alias)
    scored = {p: float(m[1]) for p in folder.glob("*.ckpt") if (m := re.search(r"[a-z](-?\d+\.\d+)$", p.stem))}
    if not scored:
        return None
    mode = run_settings(run.path).sections.get("training.mode")
    choose = min if mode and mode.value == "min" else max
    return choose(scored, key=lambda path: scored[path])


def _list_of_runs() -> str:
    names = [str(run.path) for run in list_runs()[:5]]
    return f" Newest runs: {', '.join(names)}." if names else f" There are no runs below {RUNS}/."
