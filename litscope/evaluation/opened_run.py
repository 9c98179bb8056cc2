"""OpenedRun: a finished (or interrupted) run with the weights of one checkpoint, and its data where they are now."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from litscope.config.flags import recipe_of_run
from litscope.config.recipe import Recipe
from litscope.config.resume import checkpoint_of, find_checkpoint
from litscope.console import shell_word
from litscope.curation.run_data import HAVE_MOVED, RunData, run_data
from litscope.data.manifest import Manifest
from litscope.data.reading.bands import Axis
from litscope.data.sample_facts import SampleFacts
from litscope.data.storage.store import use_endpoint
from litscope.errors import ConfigError, DataError, RunError
from litscope.evaluation.known_data import KnownData, known_data
from litscope.evaluation.network import BATCH_SIZE, Network, open_checkpoint, plan_for, run_of_checkpoint
from litscope.evaluation.trained import load_network
from litscope.models.forward import Forward
from litscope.models.predictor import Predictor
from litscope.rundir import RunDir


@dataclass(kw_only=True)
class OpenedRun(Network):
    """A run, its recipe, and its network with the weights of one checkpoint."""

    run: RunDir
    recipe: Recipe

    def find_data(
        self,
        dataset: str | None = None,
        data_dir: str | None = None,
        image_root: str | os.PathLike[str] | None = None,
        channels: Axis | None = None,
    ) -> tuple[KnownData, RunData]:
        """The run's data, wherever they are now, each sample in the split that it had in the run.

        Raises:
            DataError: if they are not there, or have other classes.
        """
        try:
            found = run_data(
                self.run,
                dataset,
                data_dir,
                self.recipe.data.download,
                self.recipe.logging.progress,
                image_root,
                channels,
            )
        except DataError as error:
            if dataset is not None:
                raise
            raise DataError(f"{error} {HAVE_MOVED}") from error
        return known_data(found, is_named=dataset is not None or data_dir is not None), found


def open_run(
    run_dir: str | os.PathLike[str],
    checkpoint: str = "best",
    *,
    accelerator: str | None = None,
    precision: str | None = None,
    kind: type[Forward] = Predictor,
) -> OpenedRun:
    """Open a run with the weights of one checkpoint, on any machine, whatever the run was trained on.

    Args:
        run_dir: the run's folder, or one of its checkpoint files, which then counts instead of `checkpoint`.
        accelerator: default: the best device here.
        precision: default: as in training.
        kind: `Predictor`, or `Classifier` for a Trainer.

    Raises:
        RunError: no such run or checkpoint, or one that does not fit its recipe.
    """
    if Path(run_dir).is_file():
        run_dir, checkpoint = run_of_checkpoint(run_dir), os.fspath(run_dir)
    run = RunDir.open(run_dir)
    recipe = recipe_of_run(run.path)
    use_endpoint(recipe.data.endpoint_url)  # new data lie where the run's did
    path = checkpoint_of(run, checkpoint)
    return OpenedRun(
        run=run,
        recipe=recipe,
        checkpoint=path,
        predictor=load_network(path, kind),
        plan=plan_for(recipe.hardware, accelerator, precision),
        facts=SampleFacts.of(Manifest.read(run.manifest)),
        batch_size=recipe.data.batch_size or BATCH_SIZE,
        num_workers=recipe.data.num_workers,
        cache_dir=Path(recipe.data.cache_dir) if recipe.data.cache_dir else None,
    )


def open_network(
    where: str | os.PathLike[str],
    checkpoint: str = "best",
    *,
    accelerator: str | None = None,
    precision: str | None = None,
) -> Network:
    """A network to predict new samples with: that of a run, or of a checkpoint file, wherever it lies.

    Args:
        where: the run's folder, or a checkpoint file. One of an earlier version, which does not say how samples are
            read, must lie in its run.
        checkpoint, accelerator, precision: as `open_run`.

    Raises:
        RunError: as `open_run`.
    """
    path = Path(where)
    if path.is_file() and checkpoint not in ("best", os.fspath(where)):
        raise ConfigError(f"--checkpoint {checkpoint}: {path} is a checkpoint already. Give one of the two.")
    if path.is_file():
        found = open_checkpoint(path, accelerator=accelerator, precision=precision)
        if found is not None:
            return found
        if find_checkpoint(os.fspath(path))[1] is None:
            raise RunError(
                f"{path} does not say which classes its network knows and how samples are read: an earlier version, or "
                "a training on other data, wrote it. Give the run's folder instead, with --checkpoint "
                f"{shell_word(path)}."
            )
    return open_run(where, checkpoint, accelerator=accelerator, precision=precision)
