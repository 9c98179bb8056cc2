"""`litscope export`: the curated data set of a run, for other programs and for the next run. No torch.

Curated means without discarded samples, and with the labels, weights and tags that people gave.
Canaries, which were planted to measure the ranking, are exported with their true label.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from litscope.console import number_of
from litscope.curation.carry import net_actions
from litscope.curation.export_files import write_fiftyone, write_folder
from litscope.curation.run_data import HAVE_MOVED, RunData, run_data, run_rows
from litscope.data.manifest import Ids
from litscope.data.reading.readers import FileReader
from litscope.data.sources.listing import label_text
from litscope.data.sources.numbers import read_numbers
from litscope.errors import ConfigError, DataError, did_you_mean
from litscope.ledger.encode import json_lines
from litscope.ledger.queries import classes
from litscope.ledger.scoring.trust import verdicts
from litscope.ledger.views import connect, source_columns
from litscope.rundir import RunDir, whole_file, write_text
from litscope.runs import is_watched
from litscope.spreadsheets import write_csv

_COLUMNS = """
    sample_id, key, current_name AS label, split, label_name AS original_label, weight, tags,
    CASE WHEN NOT is_canary THEN suspicion END AS suspicion
"""

_NOT_EXTRA = (
    *("sample_id", "key", "label", "split", "group", "label_name", "original_label", "weight", "tags", "suspicion"),
    "filepath",
)


@dataclass
class Exported:
    """What was written.

    Attributes:
        path: the file or folder.
        num_samples: samples in it; for `actions`, lines.
        notes: lines to tell the person.
    """

    path: Path
    num_samples: int
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The result in plain values, for --json."""
        return {"path": str(self.path), "num_samples": self.num_samples, "notes": self.notes}

    def lines(self) -> list[str]:
        """The result in lines for a terminal."""
        return [*self.notes, f"{self.num_samples:,} exported: {self.path}"]


@dataclass
class Wanted:
    """What is exported, and how.

    Attributes:
        run: an open run.
        output: the file or folder to write.
        dataset, data_dir: where the data are now; None: where they were.
        is_copied: copy files instead of linking them.
        overwrite: replace an earlier export there.
    """

    run: RunDir
    output: Path
    dataset: str | None = None
    data_dir: str | None = None
    is_copied: bool = False
    overwrite: bool = False

    def data(self) -> RunData:
        """The run's data, as they are now."""
        if is_watched(self.run):
            raise ConfigError(
                f"{self.run.path}: only its own script can read the data of a watched run. --to csv, parquet, json, "
                "cleanlab and actions need no more than its keys."
            )
        try:
            return run_data(self.run, self.dataset, self.data_dir)
        except DataError as error:
            if self.dataset is not None:
                raise
            raise DataError(f"{error} {HAVE_MOVED}") from error


def export(wanted: Wanted, to: str) -> Exported:
    """Write the curated data set.

    Args:
        wanted: which run, and where to write it.
        to: a name in `FORMATS`.

    Raises:
        ConfigError: if the format is unknown, or the output exists.
        DataError: if the format needs the data and they are not there.
    """
    if to not in FORMATS:
        raise ConfigError(f"--to {to}: choose {', '.join(FORMATS)}.{did_you_mean(to, FORMATS)}")
    if wanted.output.exists() and not wanted.overwrite:
        raise ConfigError(f"{wanted.output} exists. Give another --output, or --overwrite to replace it.")
    if wanted.output.exists() and wanted.output.is_dir() != (to in FOLDERS):
        kinds = ("a folder", "a file") if wanted.output.is_dir() else ("a file", "a folder")
        raise ConfigError(f"{wanted.output} is {kinds[0]}; {to} writes {kinds[1]}. Give another --output.")
    found = FORMATS[to](wanted)
    if to not in ("actions", "cleanlab"):
        found.notes += what_was_decided(wanted.run)
    return found


def what_was_decided(run: RunDir) -> list[str]:
    """How the export differs from the source, and what of it training will not see."""
    with connect(run, ["samples"]) as connection:
        counted = connection.execute(
            "SELECT count(*) FILTER (is_discarded), "
            "count(*) FILTER (NOT is_discarded AND current_name IS DISTINCT FROM label_name), "
            "count(*) FILTER (NOT is_discarded AND weight <> 1) FROM samples"
        ).fetchone()
    gone, changed, weighted = counted or (0, 0, 0)
    told = [f"without {number_of(gone, 'discarded sample')}"] if gone else []
    told += [f"with a label that people gave: {number_of(changed, 'sample')}"] if changed else []
    notes = ["; ".join(told)] if told else []
    if weighted:
        notes.append(
            f"{number_of(weighted, 'sample')} with a weight other than 1: `litscope fit` takes weights from "
            "`--to actions` only (fit --actions FILE), not from this export"
        )
    return notes


def curated(run: RunDir) -> pa.Table:
    """The samples that are not discarded, by id: sample_id, key, label (null: none), split, original_label,
    weight, tags, suspicion, `group` where it is known, and the source's other columns.
    """  # fmt: skip
    names = source_columns(run)
    more = ["group"] if "group" in names else []
    with connect(run, ["samples"]) as connection:
        known = [row[0] for row in connection.execute("DESCRIBE samples").fetchall()]
        extra = [name for name in names if name in known[: len(names)] and name not in _NOT_EXTRA]
        columns = ", ".join([_COLUMNS, *('"{}"'.format(name.replace('"', '""')) for name in (*more, *extra))])
        query = f"SELECT {columns} FROM samples WHERE NOT is_discarded ORDER BY sample_id"
        return connection.sql(query).to_arrow_table()


def _list(wanted: Wanted) -> tuple[pa.Table, list[str]]:
    """The rows that csv and parquet write: a list of images, or a table with its features."""
    samples, marked = _with_label_texts(curated(wanted.run))
    tags = pa.array([";".join(tags) for tags in samples["tags"].to_pylist()], pa.string())
    samples = samples.set_column(samples.column_names.index("tags"), "tags", tags)
    if is_watched(wanted.run):
        note = "Only the run's own script can read its data, so this list has their keys and no filepath."
        return samples.drop_columns(["sample_id"]), [note, *marked]
    data = wanted.data()
    rows = _rows(data, samples)
    if data.source.kind == "table":
        table, notes = _feature_rows(wanted, samples, rows)
        return table, notes + marked
    samples = samples.drop_columns(["sample_id"])
    if not isinstance(data.source.reader, FileReader):
        note = (
            "The images are not files of their own, so this list has no filepath and cannot be trained on; "
            "`--to folder` writes them as files, and `--to actions` carries over what was decided."
        )
        return samples, [note, *marked]
    return samples.add_column(0, "filepath", _paths(data.source.reader, rows)), marked


def _with_label_texts(samples: pa.Table) -> tuple[pa.Table, list[str]]:
    """The samples with labels as a list or table has them, and a line about names that would mean "no label" there."""
    labels = samples["label"].combine_chunks().dictionary_encode()
    names = labels.dictionary.to_pylist()
    texts = [label_text(name) for name in names]
    marked = [name for name, text in zip(names, texts, strict=True) if name != text]
    if not marked:
        return samples, []
    column = pa.DictionaryArray.from_arrays(labels.indices, pa.array(texts, pa.string())).dictionary_decode()
    note = (
        f"In a table {', '.join(map(repr, marked))} may mean that a row has no label; so the class is written with an "
        "apostrophe before it, and `litscope fit` reads it as it was."
    )
    return samples.set_column(samples.column_names.index("label"), "label", column), [note]


def _rows(data: RunData, samples: pa.Table) -> Ids:
    """(n,) the rows of exported samples in the run's data."""
    return data.rows(np.asarray(samples["sample_id"].to_numpy(), np.int64), "the export")


def _feature_rows(wanted: Wanted, samples: pa.Table, at: Ids) -> tuple[pa.Table, list[str]]:
    """A table's own columns, with label, split and group; `fit` would take any other column for a feature."""
    rows = run_rows(wanted.run, wanted.dataset, wanted.data_dir)
    assert rows.features is not None
    columns = wanted.data().manifest.encoding["columns"]
    table = _plain_numbers(rows.features.take(pa.array(at)), columns)
    for name in ("label", "split"):
        table = table.append_column(name, samples[name])
    notes = [
        "A table keeps its own columns, label and split; weights, tags and scores are left out (`--to json` has them)."
    ]
    if "group" in samples.column_names:
        name = "group" if "group" not in table.column_names else "group_of_rows"
        table = table.append_column(name, samples["group"])
        notes.append(f"To keep the groups together when you train on it: --group-column {name}.")
    return table, notes


def _plain_numbers(table: pa.Table, columns: list[dict[str, Any]]) -> pa.Table:
    """The table with numbers in place of texts such as 1.234,5, which another file may mean otherwise."""
    for column in columns:
        if "decimal" in column:
            name = column["name"]
            marks = {key: column[key] for key in ("decimal", "thousands")}
            values = pa.array(read_numbers(table[name], marks), from_pandas=True)
            table = table.set_column(table.column_names.index(name), name, values)
    return table


def _csv(wanted: Wanted) -> Exported:
    table, notes = _list(wanted)
    with whole_file(wanted.output) as file:
        write_csv(table, file)
    return Exported(wanted.output, table.num_rows, notes)


def _parquet(wanted: Wanted) -> Exported:
    table, notes = _list(wanted)
    with whole_file(wanted.output) as file:
        pq.write_table(table, file, compression="zstd")
    return Exported(wanted.output, table.num_rows, notes)


def _json(wanted: Wanted) -> Exported:
    table = curated(wanted.run)
    if not is_watched(wanted.run):
        data = wanted.data()
        rows = _rows(data, table)
        if isinstance(data.source.reader, FileReader):
            table = table.add_column(0, "filepath", _paths(data.source.reader, rows))
    with whole_file(wanted.output) as file:
        file.writelines(text.encode() for text in json_lines(table))
    return Exported(wanted.output, table.num_rows)


def _paths(reader: FileReader, rows: Ids) -> pa.Array:
    return pa.array([str(reader.path(row)) for row in rows.tolist()], pa.string())


def _cleanlab(wanted: Wanted) -> Exported:
    """The label issues as cleanlab's Datalab lists them: one row per scored sample, including discarded ones."""
    with connect(wanted.run, ["samples"]) as connection:
        rows = connection.sql(
            "SELECT sample_id, key, split, label_name AS given_label, believed_name AS predicted_label, suspicion "
            "FROM samples WHERE suspicion IS NOT NULL AND NOT is_canary ORDER BY sample_id"
        ).to_arrow_table()
    wrong = verdicts(wanted.run)
    issues = [wrong.get(sample_id, False) for sample_id in rows["sample_id"].to_pylist()]
    scores = [1.0 - value for value in rows["suspicion"].to_pylist()]
    table = rows.drop_columns(["suspicion"])
    table = table.add_column(0, "label_score", pa.array(scores, pa.float64()))
    table = table.add_column(0, "is_label_issue", pa.array(issues, pa.bool_()))
    with whole_file(wanted.output) as file:
        write_csv(table, file)
    note = "pred_probs cannot be given: the ledger keeps the probability of the label and of the prediction only."
    return Exported(wanted.output, table.num_rows, [note])


def _actions(wanted: Wanted) -> Exported:
    """What the journal adds up to, in as few requests as possible, for `litscope fit --actions FILE`."""
    lines = net_actions(wanted.run)
    write_text(wanted.output, "".join(json.dumps(action, ensure_ascii=False) + "\n" for action in lines))
    return Exported(wanted.output, len(lines))


def _folder(wanted: Wanted) -> Exported:
    names = classes(wanted.run)
    data, samples = wanted.data(), curated(wanted.run)
    num, notes = write_folder(samples, names, data.source, _rows(data, samples), wanted.output, wanted.is_copied)
    return Exported(wanted.output, num, notes)


def _fiftyone(wanted: Wanted) -> Exported:
    names = classes(wanted.run)
    data, samples = wanted.data(), curated(wanted.run)
    num, notes = write_fiftyone(samples, names, data.source, _rows(data, samples), wanted.output, wanted.is_copied)
    return Exported(wanted.output, num, notes)


FORMATS: dict[str, Callable[[Wanted], Exported]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
    "cleanlab": _cleanlab,
    "fiftyone": _fiftyone,
    "folder": _folder,
    "actions": _actions,
}
"""Format that `--to` may name -> the function that writes it."""

FOLDERS = ("fiftyone", "folder")
"""Formats that write a folder."""
