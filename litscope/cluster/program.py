"""What every task of a job runs: a training of ours, or somebody's own script.

A training gets the folder, the devices and the machines of its job, so that the two cannot disagree. What it would
refuse of them hours later, on another machine, is told now.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from litscope.addresses import BETWEEN, scrubbed
from litscope.config.recipe import Recipe
from litscope.config.resume import asked_for, run_settings
from litscope.console import shell_word
from litscope.errors import ConfigError
from litscope.rundir import RunDir, read_lines
from litscope.runs import RUNS, STUDY, TRIALS, claim_folder, free_folder


class Shape(NamedTuple):
    """How many processes a job has, one for each device."""

    nodes: int
    devices: int

    @property
    def tasks(self) -> int:
        """Processes in all."""
        return self.nodes * self.devices


@dataclass(frozen=True)
class Program:
    """What every task of a job runs.

    Attributes:
        words: the command line as it was given; of ours the words after `fit`.
        added: flags that a training of ours gets from its job. They stand before its words, for a `--` may be there.
        command: of litscope's, `fit` or `tune`; None for somebody's own.
        run: the folder of the job's files; of ours, that of the run.
        is_claimed: whether the folder was made for it, and is empty.
        uses_gpus: whether it may use GPUs.
        goes_on: the words with which it goes on later.
        signal: by which it wants to be told that its time will be over; None: by none.
        count: tasks of a job array; None for a single job.
        shows: the words that show what it found, of an array.
    """

    words: tuple[str, ...]
    added: tuple[str, ...]
    command: str | None
    run: RunDir
    is_claimed: bool
    uses_gpus: bool
    goes_on: tuple[str, ...]
    signal: str | None = None
    count: int | None = None
    shows: tuple[str, ...] = ()


def fit_shape(
    recipe: Recipe, nodes: int | None, devices: int | None, flags: tuple[str, str] = ("--nodes", "--devices-per-node")
) -> Shape:
    """How many processes a `litscope fit` in a job has.

    Args:
        recipe: what it trains.
        nodes, devices: machines, and devices of each, as the launcher was given them; None: as the recipe says.
        flags: what the launcher calls the two.

    Raises:
        ConfigError: where the two disagree.
    """
    hardware, before = recipe.hardware, _hardware_before(recipe)
    asked, num_nodes = hardware.devices, str(hardware.num_nodes or "auto")
    if not re.fullmatch(r"auto|[1-9]\d*", asked):
        raise ConfigError(f"--devices {asked}: the launcher chooses which; give their number.")
    # What a run that goes on had before is no wish of now.
    num_devices = None if asked == "auto" or (devices and before.get("devices") == asked) else int(asked)
    of_nodes = (
        None if num_nodes in ("1", "auto") or (nodes and before.get("num_nodes") == num_nodes) else int(num_nodes)
    )
    return Shape(
        _agreed((flags[0], nodes), ("--num-nodes", of_nodes)),
        _agreed((flags[1], devices), ("--devices", num_devices)),
    )


def own_shape(
    nodes: int | None, devices: int | None, flags: tuple[str, str] = ("--nodes", "--devices-per-node")
) -> Shape:
    """How many processes somebody's own command has; arguments as `fit_shape`."""
    return Shape(_agreed((flags[0], nodes)), _agreed((flags[1], devices)))


def fit_program(recipe: Recipe, words: Sequence[str], shape: Shape, *, has_gpus: bool, is_dry: bool) -> Program:
    """A `litscope fit` for the tasks of a job.

    Args:
        recipe: what `words` say.
        words: those after `fit`.
        shape: of the job.
        has_gpus: whether the job asks for GPUs, unless the training does without.
        is_dry: only find the name of the folder, and make none.

    Raises:
        ConfigError: for a training on a GPU in a job without.
        RunError: for a folder that is taken, or a run that is not there.
    """
    _refuse_secrets(words)
    accelerator = recipe.hardware.accelerator
    uses_gpus = has_gpus and accelerator != "cpu"
    if accelerator not in ("auto", "cpu") and not has_gpus:
        raise ConfigError(f"--accelerator {accelerator}: the job asks for no GPU. Leave out --gpu-request none.")
    added = of_shape(recipe, shape)
    added += ["--accelerator", "gpu" if uses_gpus else "cpu"] if accelerator == "auto" else []
    folder = _fit_folder(recipe)
    path = folder or _new_folder(_stem(recipe), is_dry)
    is_said = recipe.logging.run_dir is not None or (folder is not None and recipe.logging.name is None)
    added += [] if is_said else ["--run-dir", str(path)]
    goes_on = ("fit", "--resume", str(path))
    return Program(
        tuple(words), tuple(added), "fit", RunDir(path), folder is None, uses_gpus, goes_on, recipe.hardware.signal
    )


def _refuse_secrets(words: Sequence[str]) -> None:
    """The script of a job is a file, and its command line is what every user of the cluster may list."""
    for word in words:
        if scrubbed(word) != word:
            raise ConfigError(
                f"{scrubbed(word)}: a part of the address may be a secret, and the job's script would hold it. Give an "
                "s3:// or gs:// address, and the job its credentials in the environment."
            )


def of_shape(recipe: Recipe, shape: Shape) -> list[str]:
    """The flags that a training lacks to have so many processes."""
    hardware = recipe.hardware
    flags = [] if hardware.devices == str(shape.devices) else ["--devices", str(shape.devices)]
    is_said = hardware.num_nodes == shape.nodes or (shape.nodes == 1 and hardware.num_nodes is None)
    return flags + ([] if is_said else ["--num-nodes", str(shape.nodes)])


def tune_program(
    recipe: Recipe, words: Sequence[str], num_trials: int, shape: Shape, *, has_gpus: bool, is_dry: bool
) -> Program:
    """A `litscope tune` as a job array: each task trains one trial beside the others.

    Args:
        recipe: what `words` say.
        words: those after `tune`, without --launcher.
        num_trials: trials in all; those that are over in an earlier array count.
        shape: of each task.
        has_gpus, is_dry: as `fit_program`.

    Raises:
        ConfigError: for a trial on several devices; for a folder of something else; if all trials are over.
    """
    if shape.tasks > 1:
        raise ConfigError("tune: each trial of a job array trains on one device, and many run side by side.")
    uses_gpus = has_gpus and recipe.hardware.accelerator != "cpu"
    named = recipe.logging.run_dir
    folder = Path(named) if named is not None else _new_folder("tune", is_dry)
    missing = num_trials - _num_over(folder)
    if missing < 1:
        raise ConfigError(f"All {num_trials} trials of {folder} are over. To add some: more --trials.")
    place = [] if named is not None else ["--run-dir", str(folder)]
    added = ["--accelerator", "gpu" if uses_gpus else "cpu"] if recipe.hardware.accelerator == "auto" else []
    shows = ("litscope", "tune", *place, *words)
    return Program(
        *(tuple(words), ("--join", *added, *place), "tune", RunDir(folder), named is None, uses_gpus),
        *(("tune", *place, *words), None, missing, shows),
    )


def _num_over(folder: Path) -> int:
    """Trials of a search that are over.

    Raises:
        ConfigError: if the folder holds something else, or a search of one process.
    """
    files = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    run = RunDir(folder)
    if {TRIALS, STUDY} & files and STUDY not in files:
        raise ConfigError(f"--run-dir {folder}: the search there was begun by one process; go on without a launcher.")
    if STUDY not in files and files - {run.job_script.name, run.jobs.name, run.job_logs.name}:
        raise ConfigError(f"--run-dir {folder}: the folder is not empty; a search needs a folder of its own.")
    return len(read_lines(folder / TRIALS))


def own_program(words: Sequence[str], run_dir: str | None, *, has_gpus: bool, is_dry: bool) -> Program:
    """Somebody's own command for the tasks of a job.

    Args:
        words: the command.
        run_dir: the folder for the job's files; default: runs/<script>-N.
        has_gpus, is_dry: as `fit_program`.
    """
    script = next((word for word in words if word.endswith(".py")), words[0])
    folder = Path(run_dir) if run_dir is not None else _new_folder(Path(script).stem or "job", is_dry)
    return Program(tuple(words), (), None, RunDir(folder), run_dir is None, has_gpus, tuple(words))


def _hardware_before(recipe: Recipe) -> dict[str, str]:
    """The hardware settings of the run that a recipe goes on with, by name; empty without one."""
    if recipe.training.resume is None:
        return {}
    folder = asked_for(recipe.training.resume, recipe.logging.run_dir, recipe.logging.name)[1]
    sections = {} if folder is None else run_settings(folder).sections
    return {key.partition(".")[2]: str(one.value) for key, one in sections.items() if key.startswith("hardware.")}


def _fit_folder(recipe: Recipe) -> Path | None:
    """The folder that a training names for its run, or that of the run which goes on; None for a new name."""
    logging, resume = recipe.logging, recipe.training.resume
    named = Path(logging.run_dir) if logging.run_dir else RUNS / logging.name if logging.name else None
    if resume is None:
        if named is not None:
            RunDir(named).check_free()
        return named
    folder = asked_for(resume, logging.run_dir, logging.name)[1]
    if resume in ("last", "best") and folder is not None:
        raise ConfigError(
            f"--resume {resume}: when the job starts, another run may be the newest. "
            f"Name it: --resume {shell_word(folder)}"
        )
    return named or folder


def _stem(recipe: Recipe) -> str:
    """How the folder of a new run begins: the data set, and the network if it is given."""
    data = (recipe.data.origin or "run").partition(BETWEEN)[0].rstrip("/")
    name = re.sub(r"[^\w.-]+", "-", Path(data).stem).strip("-")
    return "-".join([name or "shards", recipe.model.name or "fit"])


def _new_folder(stem: str, is_dry: bool) -> Path:
    return free_folder(stem, numbers_first=True) if is_dry else claim_folder(stem, numbers_first=True)


def _agreed(of_launcher: tuple[str, int | None], of_training: tuple[str, int | None] = ("", None)) -> int:
    """A number that the launcher and the training may both give; else 1.

    Raises:
        ConfigError: if they give two.
    """
    (flag, number), (other_flag, other) = of_launcher, of_training
    if number is not None and number < 1:
        raise ConfigError(f"{flag} {number}: it is 1 or more.")
    if number is not None and other is not None and number != other:
        raise ConfigError(f"{flag} {number}, and {other_flag} {other} after `fit`: give one of the two.")
    return number or other or 1
