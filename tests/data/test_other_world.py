"""An epoch that goes on with another number of ranks, in steps of the same size: every id still comes once, or it is
refused."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from litscope.data.gather_loader import GatherLoader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder, Ids
from litscope.errors import ConfigError

STEP = 8


def loaders(num: int, world: int) -> list[GatherLoader]:
    rows, labels = np.zeros((num, 1), np.float32), np.zeros(num, np.int64)
    orders = [EpochOrder(np.arange(num), STEP // world, 5, rank=rank, world=world) for rank in range(world)]
    return [GatherLoader(order, rows, Overlay(labels)) for order in orders]


def drawn(ranks: list[GatherLoader], num_batches: int | None = None) -> Ids:
    """The ids of all ranks: of so many batches, or of all that are left of the epoch."""
    passes: list[Iterator] = [iter(one) for one in ranks]
    if num_batches is None:
        return np.array([i for one in passes for batch in one for i in batch["sample_id"].tolist()], np.int64)
    return np.array(
        [i for _ in range(num_batches) for one in passes for i in next(one)["sample_id"].tolist()], np.int64
    )


@pytest.mark.parametrize("num", [101, 99, 104])
@pytest.mark.parametrize(("before", "after"), [(1, 2), (1, 4), (2, 1), (2, 4), (4, 1), (4, 2)])
def test_every_id_comes_once(num: int, before: int, after: int) -> None:
    refused = []
    for done in range(1, len(loaders(num, before)[0])):
        first, then = loaders(num, before), loaders(num, after)
        seen, left = drawn(first, done), ""
        for one in then:
            try:
                one.load_state_dict(first[0].state_dict())
            except ConfigError as refusal:
                left = str(refusal)
        if left:
            refused.append((done, f"of which {num - len(seen)} samples are left: too few for {after} devices" in left))
        else:
            assert sorted(np.concatenate([seen, drawn(then)])) == list(range(num)), done
    # The last step of 5 or 3 samples joins the one before on four ranks, and that of 3 on two.
    is_short = (num % STEP, before, after) in {(5, 1, 4), (5, 2, 4), (3, 1, 4), (3, 1, 2)}
    assert refused == ([(num // STEP, True)] if is_short else [])
