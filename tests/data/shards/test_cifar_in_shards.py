"""Photographs of CIFAR-10 through `prepare --keep-bytes` and back: the same pixels, labels and splits."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from litscope.cli import main
from litscope.data.sources.source import open_source


@pytest.mark.slow
def test_the_same_pixels_come_back(shared_data: Path, tmp_path: Path) -> None:
    folder, shards = tmp_path / "cifar10", tmp_path / "shards"
    with tarfile.open(shared_data / "cifar10_jpeg.tar.gz", "r|gz") as tar:
        members = (member for member in tar if member.isfile() and int(Path(member.name).stem) < 12)
        for number, member in enumerate(members):
            tar.extract(member, tmp_path, filter="data")
            if number == 150:
                break
    assert main(["prepare", str(folder), "-o", str(shards), "--keep-bytes", "--shard-size", "40"]) == 0
    before, after = open_source(folder), open_source(shards)
    place = {key: at for at, key in enumerate(after.manifest.keys)}
    assert sorted(place) == sorted(before.manifest.keys)
    for sample_id, key in enumerate(before.manifest.keys):
        at = place[key]
        assert np.array_equal(before.reader.read(sample_id), after.reader.read(at))
        label, again = before.manifest.labels[sample_id], after.manifest.labels[at]
        assert before.manifest.classes[label] == after.manifest.classes[again]
        assert before.manifest.split(sample_id) == after.manifest.split(at)
