"""Shards that are larger than the window: what an epoch trains on, through a data module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from litscope.data.datamodule import ClassificationData
from litscope.data.manifest import build_manifest
from litscope.data.reading.readers import ArrayReader
from litscope.data.shards.write import Plan, write_shards
from litscope.errors import ConfigError

NUM, PER_SHARD = 60, 4


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 shards of images of noise, 4 in each."""
    pixels = np.random.default_rng(0).integers(0, 256, (NUM, 16, 16, 3), np.uint8)
    encoding = {"kind": "image", "channels": 3, "dtype": "uint8"}
    keys, splits = [f"{number}" for number in range(NUM)], ["train"] * NUM
    manifest = build_manifest(keys, np.arange(NUM) % 2, ("a", "b"), splits=splits, encoding=encoding)
    folder = tmp_path_factory.mktemp("data") / "shards"
    plan = Plan(manifest, ArrayReader(pixels), manifest.sample_ids, most_samples=PER_SHARD)
    write_shards(plan, folder, num_threads=1)
    return folder


def opened(shards: Path, **given: object) -> ClassificationData:
    words = {"shuffle_window": "40K", "val_split": 0.0, "batch_size": 6, "cache": False, "num_workers": 2, **given}
    return ClassificationData(shards, **words).open()  # type: ignore[arg-type]


def ids(batches: object) -> list[int]:
    return [i for batch in batches for i in batch["sample_id"].tolist()]  # type: ignore[attr-defined]


@pytest.mark.flag("shuffle_window")
def test_an_epoch_keeps_to_a_window_of_shards(shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, whole = opened(shards), opened(shards, shuffle_window=None)
    pieces = data._opened.pieces
    assert pieces is not None
    assert 2 < pieces.window < 6
    assert pieces.name in data.report.notes[-1]
    assert not any("window" in line for line in whole.report.notes)
    found, as_folder = ids(data.train_dataloader()), ids(whole.train_dataloader())
    assert sorted(found) == sorted(as_folder) == list(range(NUM))

    def lives(order: list[int]) -> float:
        shard = np.array(order) // PER_SHARD
        return float(np.mean([np.ptp(np.flatnonzero(shard == number)) for number in range(NUM // PER_SHARD)]))

    assert lives(found) < pieces.window * PER_SHARD < lives(as_folder)
    data.teardown(), whole.teardown()


def test_a_resume_in_the_middle_is_exact_and_what_is_discarded_goes(shards: Path) -> None:
    data = opened(shards)
    expected = ids(data.train_dataloader())
    first = opened(shards)
    batches = iter(first.train_dataloader())
    seen = ids([next(batches) for _ in range(4)])
    state = first.state_dict()
    then = opened(shards)
    then.load_state_dict(state)
    assert seen + ids(then.train_dataloader()) == expected
    gone = {expected[30], expected[50]}
    first.overlay.set(discarded=list(gone), labels={}, weights={})
    assert first.redraw()
    assert seen + ids(batches) == [i for i in expected if i not in gone]
    for one in (data, first, then):
        one.teardown()


def test_another_window_in_the_middle_of_an_epoch_is_refused(shards: Path) -> None:
    data, other = opened(shards), opened(shards, shuffle_window="80K")
    next(iter(data.train_dataloader()))
    other.load_state_dict(data.state_dict())
    with pytest.raises(ConfigError, match=r"shuffled in: \d of 15 pieces then, \d+ of 15 pieces now"):
        other.train_dataloader()
    data.teardown(), other.teardown()


@pytest.mark.flag("shuffle_window")
def test_what_is_not_in_shards_has_no_window() -> None:
    with pytest.raises(ConfigError, match="--shuffle-window 1G is for shards; digits is none"):
        ClassificationData("digits", shuffle_window="1G").open()
