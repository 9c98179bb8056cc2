"""What `--resume` means: which checkpoint, and which run goes on.

    PATH    a checkpoint file; the run is the one whose folder it lies in, or whose --checkpoint-dir it is in
    RUN     the folder of a run, or its name below runs/: its last checkpoint
    last    the last checkpoint of --run-dir, of --name, or of the newest run that has one
    best    the best checkpoint of the same

A run goes on in its own folder. With a --run-dir or --name that is not a run yet, a new run
starts there from the checkpoint.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from litscope.config.presets import FileSettings, file_settings
from litscope.config.recipe import Recipe
from litscope.config.yamlfile import read
from litscope.errors import RunError, did_you_mean
from litscope.rundir import BEST, LAST, RunDir
from litscope.runs import RUNS, list_runs


def resolve_resume(recipe: Recipe) -> tuple[Path | None, Path | None]:
    """The checkpoint that a recipe resumes from, and the folder of the run that goes on.

    Returns:
        (None, None) without --resume; (checkpoint, None) when a new run starts from the
        checkpoint; else (checkpoint, run folder).

    Raises:
        RunError: if there is no such run or checkpoint; the message lists what exists.
    """
    if recipe.training.resume is None:
        return None, None
    checkpoint, source = find_checkpoint(recipe.training.resume, recipe.logging.run_dir, recipe.logging.name)
    asked = _asked_folder(recipe.logging.run_dir, recipe.logging.name)
    if asked is None or (source is not None and asked.resolve() == source.resolve()):
        return checkpoint, source
    return checkpoint, asked if RunDir(asked).is_run() else None


def find_checkpoint(resume: str, run_dir: str | None = None, name: str | None = None) -> tuple[Path, Path | None]:
    """The checkpoint that `resume` names, and the folder of the run that wrote it (None if unknown).

    Raises:
        RunError: as `resolve_resume`.
    """
    if resume in ("last", "best"):
        asked = _asked_folder(run_dir, name)
        run = RunDir.open(asked) if asked else _newest_run()
        return _checkpoint_of(run, resume), run.path
    path = Path(resume)
    if path.is_file():
        return path, _run_of(path)
    for folder in (path, RUNS / resume):
        if RunDir(folder).is_run():
            return _checkpoint_of(RunDir(folder), "last"), folder
    raise RunError(
        f"--resume {resume}: neither a checkpoint file, nor the folder or name of a run, nor `last` or `best`."
        f"{did_you_mean(resume, [*(run.path.name for run in list_runs()), 'last', 'best'])}{_list_of_runs()}"
    )


def _run_of(checkpoint: Path) -> Path | None:
    """The run that keeps its checkpoints where this file lies."""
    for folder in (checkpoint.parent, checkpoint.parent.parent):
        if RunDir(folder).is_run():
            return folder
    folder = checkpoint.parent.resolve()
    return next((run.path for run in list_runs() if _checkpoint_folder(run).resolve() == folder), None)


def run_settings(run: Path) -> FileSettings:
    """The settings of a run's recipe, without those that name the run itself."""
    settings = file_settings(read(RunDir(run).recipe))
    for key in ("logging.name", "logging.run_dir", "training.resume"):
        settings.sections.pop(key, None)
    return settings


def _asked_folder(run_dir: str | None, name: str | None) -> Path | None:
    if run_dir is not None:
        return Path(run_dir)
    return RUNS / name if name is not None else None


def _newest_run() -> RunDir:
    for run in list_runs():
        if any(_checkpoint_folder(run).glob("*.ckpt")):
            return run
    raise RunError(f"There is no run with a checkpoint below {RUNS}/ to resume.{_list_of_runs()}")


def _checkpoint_of(run: RunDir, which: str) -> Path:
    """The `last` or `best` checkpoint of a run."""
    folder = _checkpoint_folder(run)
    path = folder / LAST if which == "last" else _best(run, folder)
    if path is None or not path.is_file():
        there = sorted(p.name for p in folder.glob("*.ckpt"))
        listed = f"There are: {', '.join(there)}; give one with --resume PATH." if there else "There is none at all."
        raise RunError(f"The run {run.path} has no {which} checkpoint in {folder}. {listed}")
    return path


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
