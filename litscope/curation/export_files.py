"""The formats of `litscope export` that are folders of images: class folders, and FiftyOne's. No torch.

A folder is built under another name and renamed into place. It carries a hidden mark, and only a folder
with that mark is ever replaced.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from litscope.data.manifest import SPLITS, Ids
from litscope.data.reading.readers import FileReader
from litscope.data.shards.reader import ShardReader
from litscope.data.sources.source import Source
from litscope.errors import ConfigError
from litscope.rundir import write_json, write_text

_MARK = ".litscope-export"


def write_folder(
    samples: pa.Table, names: list[str], source: Source, at: Ids, output: Path, is_copied: bool
) -> tuple[int, list[str]]:
    """Write `train|val|test/<class>/<file>`; files without a label go into their split's folder.

    Args:
        samples: as `export.curated` returns them.
        names: those of all classes; one without samples gets an empty folder, so that class indices stay the same.
        source: the run's data.
        at: (n,) the row there of each sample.
        output: the folder, which does not exist or carries the mark of an earlier export.
        is_copied: copy files instead of linking them. Images in memory are written as files either way.

    Returns:
        How many samples were written, and lines for the person.
    """
    for name in names:
        if "/" in name or "\0" in name or name.startswith((".", "__")):
            raise ConfigError(f"The class {name!r} cannot be the name of a folder. Use --to csv or --to json.")
    files = _Files(source, samples, at, is_copied)
    rows = samples.select(["sample_id", "key", "label", "split"]).to_pylist()
    kept = [row for row in rows if row["split"] in SPLITS]
    with _new_folder(output) as folder:
        for split in sorted({row["split"] for row in kept}):
            for name in names:
                (folder / split / name).mkdir(parents=True)
        for row in kept:
            files.put(row, folder / row["split"] / (row["label"] or ""))
    left = len(rows) - len(kept)
    return len(kept), [f"{left:,} samples that are in no split are left out."] if left else []


def write_fiftyone(
    samples: pa.Table, names: list[str], source: Source, at: Ids, output: Path, is_copied: bool
) -> tuple[int, list[str]]:
    """Write a folder that `fiftyone.types.FiftyOneImageClassificationDataset` imports: `labels.json` and `data/`.

    Files stay where they are and are named by their absolute path, unless they are copied. Arguments and
    result are those of `write_folder`.
    """
    files = _Files(source, samples, at, is_copied)
    labels: dict[str, Any] = {}
    rows = samples.to_pylist()
    with _new_folder(output) as folder:
        (folder / "data").mkdir()
        for row in rows:
            path = None if is_copied else files.path(row)
            name = str(path) if path else Path(files.put(row, folder / "data")).stem
            target = None if row["label"] is None else names.index(row["label"])
            facts = {k: row[k] for k in ("sample_id", "key", "split", "original_label", "weight", "tags", "suspicion")}
            labels[name] = {"label": target, "attributes": facts}
        write_json(folder / "labels.json", {"classes": names, "labels": labels})
    return len(rows), []


class _Files:
    """Puts the files of samples into folders, each under a different name."""

    def __init__(self, source: Source, samples: pa.Table, at: Ids, is_copied: bool) -> None:
        if source.kind != "image":
            raise ConfigError("The data are a table, so there are no images to put into folders. Use --to csv.")
        self._source, self._is_copied = source, is_copied
        self._at = dict(zip(samples["sample_id"].to_pylist(), at.tolist(), strict=True))
        self._used: set[Path] = set()

    def path(self, row: dict[str, Any]) -> Path | None:
        """Where the file of a sample lies; None if its image is in memory."""
        reader = self._source.reader
        return reader.path(self._at[row["sample_id"]]) if isinstance(reader, FileReader) else None

    def put(self, row: dict[str, Any], folder: Path) -> str:
        """Link, copy or write the file of a sample into a folder. Returns its name there."""
        path = self.path(row)
        suffix = path.suffix if path else self._suffix(row)
        stem = Path(row["key"]).stem
        target = folder / f"{stem}{suffix}"
        if target.with_suffix("") in self._used:  # two of one name, from two folders
            target = folder / f"{stem}-{row['sample_id']}{suffix}"
        self._used.add(target.with_suffix(""))
        if path is None:
            self._write(row, target)
        elif self._is_copied:
            shutil.copy2(path, target)
        else:
            target.symlink_to(path)
        return target.name

    def _suffix(self, row: dict[str, Any]) -> str:
        reader = self._source.reader
        if isinstance(reader, ShardReader):
            return reader.suffix(self._at[row["sample_id"]])
        return ".png" if reader.dtype == np.uint8 and reader.channels in (1, 3) else ".npy"

    def _write(self, row: dict[str, Any], target: Path) -> None:
        reader, at = self._source.reader, self._at[row["sample_id"]]
        if isinstance(reader, ShardReader):
            target.write_bytes(reader.content(at))
            return
        pixels = reader.read(at)  # (H, W, K)
        if target.suffix == ".npy":
            np.save(target, pixels)
        else:
            Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(target)


@contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """A folder that takes the place of `output` if the block ends without an exception."""
    if output.exists() and not (output / _MARK).exists():
        raise ConfigError(
            f"{output} is no export of litscope, so it is not replaced. Remove it, or give another --output."
        )
    output.absolute().parent.mkdir(parents=True, exist_ok=True)
    aside = output.absolute().with_name(f".{output.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    aside.mkdir()
    try:
        yield aside
        write_text(aside / _MARK, "An export of litscope; --overwrite may replace this folder.\n")
        if output.exists():
            shutil.rmtree(output)
        aside.rename(output)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
