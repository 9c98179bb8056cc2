"""Opens a run's data again, where its recipe says or where they are now. No torch."""

from __future__ import annotations

from pathlib import Path

from litscope.config.data import DataConfig
from litscope.config.flags import build
from litscope.config.resume import run_settings
from litscope.data.sources.rows import Rows
from litscope.data.sources.source import Source, open_source, read_rows
from litscope.errors import ConfigError
from litscope.rundir import RunDir


def run_source(run: RunDir, dataset: str | None = None, data_dir: str | None = None) -> Source:
    """Open a run's data.

    Args:
        run: an open run.
        dataset: where they are now; None: where they were.
        data_dir: where named data sets are now; None: where they were.

    Raises:
        UserError: if they are not there.
    """
    data = _settings(run)
    name = _name(run, dataset or data.dataset)
    return open_source(name, data_dir=data_dir or data.data_dir, target=data.target, download=False)


def run_rows(run: RunDir, dataset: str | None = None, data_dir: str | None = None) -> Rows:
    """The rows as the source has them: a table's columns before they become features. Arguments as `run_source`."""
    data = _settings(run)
    name = _name(run, dataset or data.dataset)
    return read_rows(name, Path(data_dir or data.data_dir).expanduser(), data.target, data.group_column, download=False)


def _name(run: RunDir, name: str | None) -> str:
    if name is None:
        raise ConfigError(f"{run.recipe} names no data set. Say where the data are: --dataset.")
    return name


def _settings(run: RunDir) -> DataConfig:
    wanted = {key: value for key, value in run_settings(run.path).sections.items() if key.startswith("data.")}
    return build(wanted).data
