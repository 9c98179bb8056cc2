"""What lies in memory, as batches. What all loaders have in common: `test_loader`."""

import numpy as np

from litscope.data.gather_loader import GatherLoader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder


def test_tables_are_handed_over_as_features():
    table = np.arange(45 * 5, dtype=np.float32).reshape(45, 5)
    for batch in GatherLoader(EpochOrder(np.arange(45), 8), table, Overlay(np.zeros(45, np.int64))):
        assert np.array_equal(batch["features"].numpy(), table[batch["sample_id"]])
        assert set(batch) == {"features", "label", "sample_id"}
