"""Images -> shards: tar files that the webdataset library reads too, and the index of them.

    train-0000.tar      000000.jpg    the image
                        000000.cls    its class, a number; absent where there is no label
                        000000.json   key, label, split, and what else the source says of it
    ...
    index.parquet       where each sample lies

Samples of one split lie in shards of their own. Those of training are shuffled once, so that a reader that takes them
in the order of the file sees all classes. The bytes are a function of the samples and of how they are stored: a second
write gives the same files. While shards are being written, what is done lies in `.writing/`: a write that was
interrupted goes on after the last whole shard. The index comes last, and makes them a data set.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from litscope.console import track
from litscope.data.manifest import SPLITS, UNLABELLED, Ids, Manifest
from litscope.data.reading.digests import DIGEST_TYPE, bytes_digest, new_digest
from litscope.data.reading.readers import Reader
from litscope.data.shards.encode import Form, encode
from litscope.data.shards.index import FILE, PLACES, Index, Shard
from litscope.data.shards.tars import END, member
from litscope.errors import ConfigError, DataError
from litscope.rundir import whole_file, write_json

WRITING = ".writing"
"""Folder of what a write has done so far."""

UNLABELLED_SHARDS = "unlabelled"
"""How shards of samples are called that are in no split."""

_PLAN = "plan.json"
_KEPT = b"litscope-shard"
_AHEAD = 64  # samples for each thread that are encoded before they are written
_SHUFFLE_SEED = 42
_OVERHEAD = 8 * tarfile.BLOCKSIZE  # of a sample: headers, ends of blocks, .cls and most .json members
_ROWS = pa.schema(
    {"sample_id": pa.int64(), "offset": pa.int64(), "size": pa.int64(), "suffix": pa.string(), "digest": DIGEST_TYPE}
)
_OF_IMAGES = ("kind", "channels", "dtype")


@dataclass(frozen=True)
class Plan:
    """What is to be written.

    Attributes:
        manifest: of the samples.
        reader: of their pixels.
        ids: (n,) of those that are stored.
        form: how images are stored.
        most_samples: of a shard.
        most_bytes: of a shard, None for as many as there are; a sample that is larger has a shard of its own.
    """

    manifest: Manifest
    reader: Reader
    ids: Ids
    form: Form = field(default_factory=Form)
    most_samples: int = 1000
    most_bytes: int | None = None

    def fingerprint(self) -> str:
        """A hash of all that the bytes depend on."""
        keys = self.manifest.table.select([n for n in self.manifest.table.column_names if n in ("key", "split")])
        texts = [json.dumps(keys.take(pa.array(self.ids)).to_pydict(), ensure_ascii=False)]
        facts = [1, self.form.side, self.form.quality if self.form.side else None, self.most_samples, self.most_bytes]
        texts += [self.reader.fingerprint(), json.dumps([*facts, list(self.manifest.classes)], ensure_ascii=False)]
        return bytes_digest("\n".join(texts).encode() + self.manifest.labels[self.ids].tobytes()).hex()


@dataclass
class Written:
    """What lies in the folder now.

    Attributes:
        index: of all shards.
        is_new: False if an earlier write had done it all.
        broken: key -> why the image is not among them.
    """

    index: Index
    is_new: bool
    broken: dict[str, str] = field(default_factory=dict)


def write_shards(
    plan: Plan, folder: Path, *, num_threads: int, overwrite: bool = False, progress: bool = True
) -> Written:
    """Write the shards and their index.

    Args:
        folder: may hold an interrupted write of the same; is made if it is not there.
        num_threads: that encode images.
        overwrite: replace shards of something else.
        progress: draw a bar on a terminal.

    Raises:
        ConfigError: if the folder holds something else.
        DataError: if no image can be read.
    """
    made_from = plan.fingerprint()
    if (found := _earlier(folder, made_from, overwrite)) is not None:
        return Written(found, is_new=False)
    done: list[_Done] = []
    with ThreadPoolExecutor(num_threads, "litscope-encode") as pool:
        for split, order in _orders(plan).items():
            done += _write_split(plan, folder, split, order, pool, num_threads * _AHEAD, progress)
    if not any(one.rows.num_rows for one in done):
        raise DataError(f"None of the {len(plan.ids):,} images can be read.")
    index = Index(
        _table(plan.manifest, done),
        plan.manifest.classes,
        tuple(one.shard for one in done),
        {name: plan.manifest.encoding[name] for name in _OF_IMAGES},
        made_from,
    )
    index.write(folder)
    shutil.rmtree(folder / WRITING)
    return Written(index, is_new=True, broken={key: why for one in done for key, why in one.broken.items()})


def _orders(plan: Plan) -> dict[str, Ids]:
    """Name of the shards of a split -> its samples, in the order in which they are written."""
    splits, found = plan.manifest.splits[plan.ids], {}
    for split in (*SPLITS, ""):
        ids = plan.ids[splits == split]
        if split == "train":
            ids = np.random.default_rng(_SHUFFLE_SEED).permutation(ids)
        if len(ids):
            found[split or UNLABELLED_SHARDS] = ids
    return found


def _earlier(folder: Path, made_from: str, overwrite: bool) -> Index | None:
    """The index, if the folder holds all of it already; else the folder is made ready."""
    writing, file = folder / WRITING, folder / FILE
    had_shards = file.exists()
    if had_shards:
        index = Index.read(file)
        if index.made_from == made_from:
            return index
        if not overwrite:
            raise ConfigError(
                f"{folder} holds shards of other data, or stored in another way. Give another --output-dir, or "
                "--overwrite to replace them."
            )
        file.unlink()  # first: without it the shards are no data set
        for shard in index.shards:
            (folder / shard.name).unlink(missing_ok=True)
    plan = writing / _PLAN
    if not plan.exists() or json.loads(plan.read_text())["made_from"] != made_from:
        if writing.exists():
            _remove_unfinished(writing, overwrite)
        elif not had_shards and folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty. Give another --output-dir.")
        writing.mkdir(parents=True)
        write_json(plan, {"made_from": made_from})
    return None


def _remove_unfinished(writing: Path, overwrite: bool) -> None:
    if not overwrite:
        raise ConfigError(
            f"{writing.parent} holds a part of other shards, of a write that was interrupted. Give the same command "
            "again to finish them, another --output-dir, or --overwrite to replace them."
        )
    for rows in writing.glob("*.parquet"):
        (writing.parent / f"{rows.stem}.tar").unlink(missing_ok=True)
    shutil.rmtree(writing)


# ---- one split ---------------------------------------------------------------------------------


@dataclass
class _Done:
    """A shard that is written.

    Attributes:
        shard: the file.
        rows: sample_id, offset, size, suffix and digest of its samples.
        broken: key -> why the image is not there.
        end: how many samples of the split's order are done with it.
    """

    shard: Shard
    rows: pa.Table
    broken: dict[str, str]
    end: int

    def keep(self, file: Path) -> None:
        facts = {"shard": asdict(self.shard), "broken": self.broken, "end": self.end}
        with whole_file(file) as out:
            pq.write_table(self.rows.replace_schema_metadata({_KEPT: json.dumps(facts)}), out)

    @classmethod
    def kept(cls, file: Path) -> _Done:
        table = pq.read_table(file, partitioning=None)
        facts = json.loads(table.schema.metadata[_KEPT])
        return cls(Shard(**facts["shard"]), table.replace_schema_metadata(None), facts["broken"], facts["end"])


def _write_split(
    plan: Plan, folder: Path, split: str, order: Ids, pool: ThreadPoolExecutor, ahead: int, progress: bool
) -> list[_Done]:
    """Write what is missing of the shards of a split."""
    done: list[_Done] = []
    while (file := folder / WRITING / f"{_name(split, len(done))}.parquet").exists():
        done.append(_Done.kept(file))
    start, number = (done[-1].end if done else 0), sum(one.rows.num_rows for one in done)
    samples = _encoded(plan, order, start, pool, ahead)
    samples = track(samples, f"{split} shards", len(order) - start, progress)
    sample = next(samples, None)
    while sample is not None:
        name = _name(split, len(done))
        with whole_file(folder / f"{name}.tar") as out:
            tar = _Tar(plan, out, number)
            while sample is not None and tar.has_room(sample):
                tar.add(sample)
                sample = next(samples, None)
            tar.close()
        done.append(tar.done(f"{name}.tar"))
        done[-1].keep(folder / WRITING / f"{name}.parquet")
        number += done[-1].rows.num_rows
    return done


def _name(split: str, number: int) -> str:
    return f"{split}-{number:04d}"


@dataclass
class _Encoded:
    """A sample as it is stored.

    Attributes:
        sample_id: of the manifest.
        end: how many samples of the split's order are done with it.
        suffix, content: what is stored.
        why: it cannot be read; "" if it can.
    """

    sample_id: int
    end: int
    suffix: str = ""
    content: bytes = b""
    why: str = ""


def _encoded(plan: Plan, order: Ids, start: int, pool: ThreadPoolExecutor, ahead: int) -> Iterator[_Encoded]:
    """The samples of an order from a position on, encoded by the threads of a pool before they are asked for."""

    def work(at: int) -> _Encoded:
        sample_id = int(order[at])
        try:
            return _Encoded(sample_id, at + 1, *encode(plan.reader, sample_id, plan.form))
        except DataError as error:
            return _Encoded(sample_id, at + 1, why=str(error))

    under_way: deque[Future[_Encoded]] = deque()
    for at in range(start, len(order)):
        under_way.append(pool.submit(work, at))
        if len(under_way) > ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


class _Tar:
    """A shard that is being written.

    Args:
        plan: of the whole.
        file: that the shard is written to.
        first: number of its first sample in the split.
    """

    def __init__(self, plan: Plan, file: BinaryIO, first: int) -> None:
        self._plan, self._file, self._first = plan, file, first
        self._num_bytes, self._end = 0, 0
        self._digest = new_digest()
        self._rows: list[tuple[int, int, int, str, bytes]] = []
        self._broken: dict[str, str] = {}

    def has_room(self, sample: _Encoded) -> bool:
        """Whether the sample may come in as well."""
        if sample.why or not self._rows:
            return True
        most_bytes = self._plan.most_bytes
        is_small = most_bytes is None or self._num_bytes + len(sample.content) + _OVERHEAD <= most_bytes
        return is_small and len(self._rows) < self._plan.most_samples

    def add(self, sample: _Encoded) -> None:
        """Write a sample's members; or remember why it has none."""
        self._end = sample.end
        if sample.why:
            self._broken[self._plan.manifest.key(sample.sample_id)] = sample.why
            return
        name = f"{self._first + len(self._rows):06d}"
        part, at = member(f"{name}{sample.suffix}", sample.content)
        place = (self._num_bytes + at, len(sample.content), sample.suffix, bytes_digest(sample.content))
        self._rows.append((sample.sample_id, *place))
        self._write(part)
        label = int(self._plan.manifest.labels[sample.sample_id])
        if label != UNLABELLED:
            self._write(member(f"{name}.cls", str(label).encode())[0])
        self._write(member(f"{name}.json", _facts(self._plan.manifest, sample.sample_id))[0])

    def close(self) -> None:
        """Write the end of the archive."""
        self._write(END)

    def done(self, name: str) -> _Done:
        """What the shard holds, under the name of its file."""
        columns = list(zip(*self._rows, strict=True)) or [()] * len(_ROWS.names)
        rows = pa.table([pa.array(column, kind) for column, kind in zip(columns, _ROWS.types, strict=True)], _ROWS)
        return _Done(Shard(name, self._num_bytes, self._digest.hexdigest()), rows, self._broken, self._end)

    def _write(self, part: bytes) -> None:
        self._file.write(part)
        self._digest.update(part)
        self._num_bytes += len(part)


def _facts(manifest: Manifest, sample_id: int) -> bytes:
    """The .json member of a sample: what the source says of it, without what is not there."""
    row = manifest.table.select(_told(manifest)).slice(sample_id, 1).to_pylist()[0]
    label = row["label"]
    row["label"] = None if label == UNLABELLED else manifest.classes[label]
    found = {name: value for name, value in row.items() if value not in (None, "")}
    return json.dumps(found, ensure_ascii=False, default=str).encode()


def _table(manifest: Manifest, done: list[_Done]) -> pa.Table:
    """The rows of the index: what the manifest says of each stored sample, and where it lies."""
    rows = pa.concat_tables(one.rows for one in done)
    counts = [one.rows.num_rows for one in done]
    told = manifest.table.select(_told(manifest)).take(rows["sample_id"])
    columns = {f"source_{name}" if name in PLACES else name: told[name] for name in told.column_names}
    columns["shard"] = pa.array(np.repeat(np.arange(len(done), dtype=np.int32), counts))
    return pa.table(columns | {name: rows[name] for name in _ROWS.names[1:]})


def _told(manifest: Manifest) -> list[str]:
    """The columns that are about a sample itself."""
    groups = [] if manifest.groups is None else ["group"]
    return ["key", "label", "split", *groups, *manifest.extra_columns]
