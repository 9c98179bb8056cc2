"""Small shards of noise, as `litscope prepare` writes them, and what an epoch of a run on them was."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from small_runs import rows

from litscope.data.manifest import Manifest, build_manifest
from litscope.data.reading.readers import ArrayReader
from litscope.data.shards.write import Plan, write_shards
from litscope.rundir import RunDir


def write_noise(folder: Path, num_train: int, num_val: int, most_samples: int) -> Path:
    """Gray images of 8 x 8 pixels of two classes, so many in a shard, and the rest in the last of each split."""
    num = num_train + num_val
    pixels = np.random.default_rng(0).integers(0, 256, (num, 8, 8, 1), np.uint8)
    splits = np.where(np.arange(num) < num_train, "train", "val").astype(object)
    encoding = {"kind": "image", "channels": 1, "dtype": "uint8"}
    keys = [f"k{number}" for number in range(num)]
    manifest = build_manifest(keys, np.arange(num) % 2, ("a", "b"), splits=splits, encoding=encoding)
    plan = Plan(manifest, ArrayReader(pixels), manifest.sample_ids, most_samples=most_samples)
    write_shards(plan, folder, num_threads=1)
    return folder


def visits(run: Path) -> dict[int, Counter[int]]:
    """epoch -> how often each training sample came, by the ledger."""
    found = rows(run, split="train", phase="train")
    counts: dict[int, Counter[int]] = {}
    for epoch, id_ in zip(found["epoch"].to_pylist(), found["sample_id"].to_pylist(), strict=True):
        counts.setdefault(epoch, Counter())[id_] += 1
    return counts


def each_once(run: Path) -> Counter[int]:
    """An epoch as it is promised: every training sample of the run's manifest once."""
    return Counter(Manifest.read(RunDir(run).manifest).ids("train").tolist())
