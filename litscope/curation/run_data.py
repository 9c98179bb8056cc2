"""Opens a run's data again, where its recipe says or where they are now, and finds its samples there. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from litscope.config.data import DataConfig
from litscope.config.flags import build
from litscope.config.resume import run_settings
from litscope.console import say
from litscope.data.content import UNCHECKED, Match, match, with_content
from litscope.data.manifest import Ids, Manifest
from litscope.data.reading.bands import Axis
from litscope.data.sources.again import open_again
from litscope.data.sources.columns import NONE, Asked, group_of_run
from litscope.data.sources.listing import Listing
from litscope.data.sources.names import TABLE_SUFFIXES
from litscope.data.sources.source import Source, read_rows
from litscope.data.sources.table_files import open_table
from litscope.data.storage.store import use_endpoint
from litscope.errors import ConfigError, DataError
from litscope.rundir import RunDir

HAVE_MOVED = "If the data have moved, say where they are: --dataset PATH."
"""The next step after data that cannot be opened where they were, for commands that take --dataset."""
_SHOWN = 3  # keys of samples that a refusal names


@dataclass
class RunData:
    """The data of a run, as they are now.

    Attributes:
        run: the run.
        manifest: its samples.
        source: the data; row i is the sample `match.sample_id[i]`.
        match: which row is which sample.
    """

    run: RunDir
    manifest: Manifest
    source: Source
    match: Match

    def rows(self, ids: Ids, purpose: str) -> Ids:
        """(n,) the rows of samples (n,) of the run.

        Args:
            purpose: what they are for, for the message.

        Raises:
            DataError: if one is not there, or has another content than in the run.
        """
        rows = self.match.rows[ids]
        missing = ids[rows < 0]
        if not len(missing):
            return rows
        changed = missing[np.isin(missing, self.match.changed_ids)]
        gone = np.setdiff1d(missing, changed)
        name, told = self.source.name, []
        if len(changed):
            listed = ", ".join(map(str, self.manifest.keys[changed[:_SHOWN]])) + (
                ", ..." if len(changed) > _SHOWN else ""
            )
            told.append(
                f"{len(changed):,} of {len(ids):,} samples have another content than in {self.run.path} ({listed})"
            )
        if len(gone):
            told.append(
                f"{name} has no sample {self.manifest.keys[gone[0]]} any more ({len(gone):,} of {len(ids):,} gone)"
            )
        raise DataError(
            f"{' and '.join(told)}; {purpose} needs them as they were. Put them back, discard them, or say where "
            "the data of the run are: --dataset PATH."
        )


def run_data(
    run: RunDir,
    dataset: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    progress: bool = False,
    image_root: str | os.PathLike[str] | None = None,
    channels: Axis | None = None,
    keys: pa.ChunkedArray | None = None,
) -> RunData:
    """Open a run's data, and find its samples in them.

    Args:
        run: an open run.
        dataset: where they are now; None: where they were.
        data_dir: where named data sets are now; None: where they were.
        download: fetch a named data set that is not there.
        progress: draw a bar while files are read.
        image_root: the folder that relative paths in a list start from; None: as in training, or with `dataset` the
            list's own.
        channels: the axis of .npz and .npy files that is the channels; None: as in training, or with `dataset` as the
            shape of an .npz file says.
        keys: (N,) of the manifest, where they are in memory.

    Raises:
        UserError: if they are not there, or cannot be read as the run reads.
    """
    manifest = Manifest.read(run.manifest, keys)
    data = _settings(run, manifest)
    use_endpoint(data.endpoint_url)
    source = open_again(
        _name(run, dataset or data.origin),
        like=manifest,
        data_dir=data_dir or data.data_dir,
        asked=_asked(data, dataset, image_root, channels),
        download=download,
        cache_dir=None if data.cache_dir is None else Path(data.cache_dir),
    )
    found = RunData(run, manifest, source, match(with_content(source, manifest, progress), manifest))
    if not found.match.is_checked:
        say(f"{run.path}: {UNCHECKED}")
    return found


def run_rows(run: RunDir, dataset: str | None = None, data_dir: str | None = None) -> Listing:
    """The rows as the source has them: a table's columns before they become features. Arguments as `run_data`."""
    data = _settings(run, Manifest.read(run.manifest) if run.manifest.exists() else None)
    name, place = _name(run, dataset or data.origin), Path(data_dir or data.data_dir).expanduser()
    return read_rows(name, place, _asked(data, dataset), download=False, is_trained_on=False)


def _asked(
    data: DataConfig,
    dataset: str | None,
    image_root: str | os.PathLike[str] | None = None,
    channels: Axis | None = None,
) -> Asked:
    """What the run's recipe says about its own file; of another one, as far as it applies there."""
    axis = channels or data.channels
    of_file = (data.target, data.group_column, data.image_column, image_root or data.image_root, axis)
    asked = Asked(*of_file, tuple(data.soft_label_column), data.soft_label_max)
    if dataset is None:
        return asked
    path = Path(dataset).expanduser()
    if path.suffix.lower() not in TABLE_SUFFIXES or not path.is_file():
        return Asked(image_root=image_root, channels=axis if path.suffix.lower() == ".npz" else channels)
    there = [*open_table(path).names, NONE]
    return replace(
        asked,
        group_column=data.group_column if data.group_column in there else None,
        image_column=data.image_column if data.image_column in there else None,
        image_root=image_root,
        channels=channels,
        soft_labels=asked.soft_labels if set(asked.soft_labels) <= set(there) else (),
    )


def _name(run: RunDir, name: str | None) -> str:
    if name is None:
        raise ConfigError(f"{run.recipe} names no data set. Say where the data are: --dataset.")
    return name


def _settings(run: RunDir, manifest: Manifest | None) -> DataConfig:
    sections = run_settings(run.path).sections
    folds = (
        "data.num_folds",
        "data.fold",
        "data.fold_tests",
    )  # they say which samples train, and may ask for as many members
    data = build({key: value for key, value in sections.items() if key.startswith("data.") and key not in folds}).data
    if data.group_column is None and manifest is not None:
        data.group_column = group_of_run(manifest, data.origin, None)
    return data
