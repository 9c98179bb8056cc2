"""Images that cannot be read, in a loader that decodes them. What all loaders have in common: `test_loader`."""

from itertools import chain

import numpy as np
import pytest
from array_files import ArrayFiles

from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder
from litscope.data.stream_loader import StreamLoader
from litscope.errors import DataError

NUM, SIDE = 45, 8


@pytest.fixture
def reader(tmp_path):
    for sample_id in range(NUM):
        np.save(tmp_path / f"{sample_id}.npy", np.full((SIDE, SIDE, 3), sample_id, np.uint8))
    return ArrayFiles(tmp_path)


@pytest.fixture
def labels():
    return np.arange(NUM) % 4


def order(**kwargs):
    return EpochOrder(np.arange(NUM), **{"batch_size": 8, "seed": 3, **kwargs})


def flat(lists):
    return list(chain.from_iterable(lists))


def ids(batches):
    return [batch["sample_id"].tolist() for batch in batches]


@pytest.mark.parametrize("num_workers", [0, 2])
class TestBrokenFiles:
    def test_are_left_out_and_reported_once(self, reader, labels, capsys, num_workers):
        (reader.folder / "7.npy").unlink()
        loader = StreamLoader(order(), reader, SIDE, Overlay(labels), num_workers=num_workers)
        for _ in range(2):
            assert sorted(flat(ids(loader))) == [i for i in range(NUM) if i != 7]
        assert list(loader.broken) == [7]
        assert capsys.readouterr().err.count("7.npy") == 1
        loader.close()

    def test_stop_a_strict_run(self, reader, labels, num_workers):
        (reader.folder / "7.npy").unlink()
        loader = StreamLoader(order(), reader, SIDE, Overlay(labels), num_workers=num_workers, strict=True)
        with pytest.raises(DataError, match=r"7\.npy"):
            list(loader)
        loader.close()

    def test_a_batch_of_nothing_but_broken_images_stops(self, reader, labels, num_workers):
        for sample_id in range(8):
            (reader.folder / f"{sample_id}.npy").unlink()
        loader = StreamLoader(order(shuffle=False), reader, SIDE, Overlay(labels), num_workers=num_workers)
        with pytest.raises(DataError, match="No image of a batch"):
            list(loader)
        loader.close()
