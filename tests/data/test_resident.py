"""Rows in a GPU's memory: the copy, and the loader that gathers from a tensor. The GPU itself is in test_gpu.py."""

import numpy as np
import pytest
import torch

from litscope.data import resident
from litscope.data.gather_loader import GatherLoader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder

CPU = torch.device("cpu")


@pytest.mark.parametrize("part_bytes", [1, 100, 10**6])
def test_rows_are_copied_whole_whatever_the_size_of_a_part(part_bytes, monkeypatch):
    monkeypatch.setattr(resident, "PART_BYTES", part_bytes)
    rows = torch.randint(0, 256, (53, 4, 4, 3), dtype=torch.uint8)
    copied = resident.copy_in_parts(rows, CPU)
    assert torch.equal(copied, rows)
    assert copied.data_ptr() != rows.data_ptr()


def test_nothing_is_copied_where_there_is_no_gpu():
    rows = np.zeros((4, 2))
    assert resident.DeviceRows().of(rows, CPU) is rows


def test_rows_are_copied_once_for_all_loaders(monkeypatch):
    monkeypatch.setattr(resident, "has_room", lambda *_: True)
    rows = np.arange(8.0).reshape(4, 2)
    held = resident.DeviceRows()
    copied = held.of(rows, CPU)
    assert torch.equal(copied, torch.from_numpy(rows))
    assert held.of(rows, CPU) is copied


@pytest.mark.parametrize("shape", [(40, 5, 5, 3), (40, 7)], ids=["images", "table"])
def test_a_tensor_gives_the_batches_of_an_array(shape):
    rows = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    labels = np.arange(40) % 4
    order = EpochOrder(np.arange(40), 16, seed=3)
    of_array = list(GatherLoader(order, rows, Overlay(labels)))
    of_tensor = list(GatherLoader(order, torch.from_numpy(rows), Overlay(labels)))
    assert len(of_tensor) == len(of_array) > 1
    for one, other in zip(of_tensor, of_array, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name])
            assert value.stride() == other[name].stride()
