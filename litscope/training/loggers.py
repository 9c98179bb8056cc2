"""Where metrics go besides the run's own files: CSV, TensorBoard, Weights & Biases, MLflow."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lightning.pytorch as L
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.profilers import (
    AdvancedProfiler,
    PassThroughProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)

from litscope.attempts import next_attempt
from litscope.config.logging import LoggingConfig
from litscope.config.recipe import Recipe
from litscope.console import say, shell_word
from litscope.errors import ConfigError, MissingExtra
from litscope.rundir import RunDir
from litscope.training.quiet import quiet_lightning


def make_loggers(recipe: Recipe, run: RunDir, attempt: int) -> list[Logger]:
    """Lightning's loggers for `--logger` (several, each once) and `--use-wandb`.

    Args:
        attempt: the CSV logger begins a new file in each.

    Raises:
        MissingExtra: if a logger's package is not installed.
        ConfigError: if Weights & Biases does not let the run begin.
    """
    config = recipe.logging
    names = dict.fromkeys([*config.logger, *(["wandb"] if config.use_wandb else [])])
    folder = log_folder(config, run)
    makers: dict[str, Callable[[], Logger]] = {
        "csv": lambda: CSVLogger(folder, name="csv", version=f"attempt-{attempt}"),
        "tensorboard": lambda: _tensorboard(folder),
        "wandb": lambda: _wandb(config, run, folder),
        "mlflow": lambda: _mlflow(config, run, folder),
    }
    return [makers[name]() for name in names if name != "none"]


@contextmanager
def open_loggers(recipe: Recipe, run: RunDir) -> Iterator[list[Logger]]:
    """The loggers of the attempt that begins next, closed at the end of the block at the latest.

    Raises:
        UserError: as `make_loggers`; nothing of the run is changed then.
    """
    with quiet_lightning():
        loggers = make_loggers(recipe, run, next_attempt(run))
    try:
        yield loggers
    finally:
        close_loggers(loggers)


def check_loggers(recipe: Recipe) -> None:
    """Whether each logger's package is installed, before anything else is done.

    Raises:
        MissingExtra: naming the package and the command that installs it.
    """
    names = {*recipe.logging.logger, *(["wandb"] if recipe.logging.use_wandb else [])}
    for name in ("tensorboard", "wandb", "mlflow"):
        if name in names and importlib.util.find_spec(name) is None:
            raise MissingExtra(name, name, f"--logger {name}")


def log_folder(config: LoggingConfig, run: RunDir) -> Path:
    """Where loggers and profilers of this run write."""
    return Path(config.log_dir) if config.log_dir else run.logs


class NoProfiler(PassThroughProfiler):
    """Measures nothing, always with the same empty block: Lightning's own makes a new one thirty times a step."""

    _block = nullcontext()

    def profile(self, action_name: str) -> Any:  # noqa: ARG002
        """A block that does nothing."""
        return self._block


def make_profiler(recipe: Recipe, run: RunDir) -> Profiler:
    """Lightning's profiler for `--profiler`; its report goes to the log folder."""
    folder = log_folder(recipe.logging, run)
    match recipe.logging.profiler:
        case "simple":
            return SimpleProfiler(dirpath=folder, filename="profile")
        case "advanced":
            return AdvancedProfiler(dirpath=folder, filename="profile")
        case "pytorch":
            return PyTorchProfiler(dirpath=folder, filename="profile")
    return NoProfiler()


def watch(loggers: list[Logger], module: L.LightningModule, recipe: Recipe) -> None:
    """Have Weights & Biases record gradient histograms, where `--wandb-watch` asks for it."""
    from lightning.pytorch.loggers import WandbLogger

    for logger in loggers:
        if recipe.logging.wandb_watch and isinstance(logger, WandbLogger):
            logger.watch(module, log="gradients", log_freq=recipe.logging.log_every_n_steps)


def close_loggers(loggers: list[Logger]) -> None:
    """Empty the list, and end the Weights & Biases run: left open, it would take in what the next run of this process
    logs.

    Of an offline run it says how to upload it.
    """
    from lightning.pytorch.loggers import WandbLogger

    while loggers:
        logger = loggers.pop()
        if isinstance(logger, WandbLogger):
            experiment = logger.experiment
            experiment.finish()
            if experiment.offline is True:  # other ranks hold a stand-in, whose every attribute is a function
                folder = shell_word(Path(experiment.dir).parent)
                say(f"the Weights & Biases run is offline; to upload it: wandb sync {folder}")


def _tensorboard(folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="", default_hp_metric=False)


def _wandb(config: LoggingConfig, run: RunDir, folder: Path) -> Logger:
    """Its run begins here: a refusal (of the key, of the network) is a sentence, before the training."""
    import wandb
    from lightning.pytorch.loggers import WandbLogger

    folder.mkdir(parents=True, exist_ok=True)
    mode = config.wandb_mode
    if mode == "online" and not _can_log_in():
        mode = "offline"
        say("Weights & Biases has no API key here, and nobody to ask for one: the run is recorded offline")
    logger = WandbLogger(
        project=config.wandb_project,
        name=config.wandb_name or run.path.name,
        save_dir=folder,
        log_model=config.wandb_log_model,
        offline=mode == "offline",
        entity=config.wandb_entity,
        tags=config.wandb_tags or None,
        notes=config.wandb_notes,
        mode=mode,
    )
    try:
        _ = logger.experiment
    except wandb.Error as error:
        raise ConfigError(
            f"Weights & Biases: {' '.join(str(error).split())} Its files are kept here with --wandb-mode offline, "
            "to be uploaded later; --no-use-wandb does without."
        ) from error
    return logger


def _can_log_in() -> bool:
    """Whether wandb has a key, or a person to ask for one: else it would end the run with an error.

    It finds keys in WANDB_API_KEY and, by host, in the file that `wandb login` writes, ~/.netrc.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE") or sys.stdin.isatty():
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    file = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    try:
        return netrc(str(file)).authenticators(host) is not None
    except (OSError, NetrcParseError):
        return False


def _mlflow(config: LoggingConfig, run: RunDir, folder: Path) -> Logger:
    from lightning.pytorch.loggers import MLFlowLogger

    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # MLflow refuses its plain folders since 3.17; a database file is what it asks for.
    given = os.environ.get("MLFLOW_TRACKING_URI")
    return MLFlowLogger(
        experiment_name="litscope",
        run_name=config.name or run.path.name,
        tracking_uri=given or f"sqlite:///{folder / 'mlflow.db'}",
        artifact_location=None if given else (folder / "mlflow").as_uri(),
    )
