"""The order of an epoch and its partition over ranks."""

import numpy as np
import pytest

from litscope.data.sampler import EpochOrder, first_steps, fold, hash_ids, num_steps

IDS = np.arange(100, 203)  # 103 ids: divisible by no batch size below


def every_rank(ids, batch_size, world, **kwargs):
    return [EpochOrder(ids, batch_size, seed=1, rank=rank, world=world, **kwargs) for rank in range(world)]


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("batch_size", [1, 2, 7, 16, 51, 64])
@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_all_ids_once_in_equally_many_steps(world, batch_size, shuffle):
    orders = every_rank(IDS, batch_size, world, shuffle=shuffle)
    batches = [order.batches(epoch=3) for order in orders]
    assert sorted(np.concatenate([ids for rank in batches for ids in rank])) == list(IDS)
    assert {len(rank) for rank in batches} == {len(order) for order in orders} == {len(orders[0])}
    sizes = [len(ids) for rank in batches for ids in rank]
    assert min(sizes) >= min(2, batch_size), "a batch of one sample cannot train batch norm"
    assert max(sizes) <= batch_size + 2


@pytest.mark.parametrize(
    ("num", "sizes"),
    [(128, [64, 64]), (129, [64, 65]), (130, [64, 64, 2]), (1, [1]), (65, [65]), (3, [3])],
)
def test_a_remainder_of_one_joins_the_batch_before(num, sizes):
    order = EpochOrder(np.arange(num), 64)
    assert [len(ids) for ids in order.batches(0)] == sizes
    assert len(order) == len(sizes)


def test_a_remainder_too_small_for_the_ranks_joins_the_step_before():
    sizes = [[len(ids) for ids in order.batches(0)] for order in every_rank(np.arange(19), 4, 2)]
    assert sizes == [[4, 6], [4, 5]]  # 8 + 8 + 3: each rank could have 2 and 1


@pytest.mark.parametrize("num", [1, 7, 8, 9, 10, 16, 19])
def test_the_number_of_steps_is_known_without_an_order(num):
    assert num_steps(num, 4, 2) == len(EpochOrder(np.arange(num), 4, world=2))


def test_with_fewer_ids_than_ranks_the_others_have_a_batch_that_is_padding():
    orders = every_rank(np.array([7, 5]), 8, 3, shuffle=False)
    assert [(order.is_padding, [ids.tolist() for ids in order.batches(0)]) for order in orders] == [
        (False, [[7]]),
        (False, [[5]]),
        (True, [[7]]),
    ]
    assert [len(order) for order in every_rank(np.arange(0), 8, 3)] == [0, 0, 0]


def test_order_depends_on_seed_and_epoch_and_on_nothing_else():
    order = EpochOrder(IDS, 8, seed=5)
    same = EpochOrder(IDS[::-1], 64, seed=5)
    assert np.array_equal(order.epoch_ids(2), same.epoch_ids(2))
    assert not np.array_equal(order.epoch_ids(2), order.epoch_ids(3))
    assert not np.array_equal(order.epoch_ids(2), EpochOrder(IDS, 8, seed=6).epoch_ids(2))
    assert not np.array_equal(order.epoch_ids(2), IDS)


def test_order_never_changes_between_versions():
    assert EpochOrder(np.arange(10), 4, seed=42).epoch_ids(0).tolist() == ORDER_OF_TEN


ORDER_OF_TEN = [2, 9, 1, 6, 8, 0, 3, 5, 7, 4]


def test_leaving_an_id_out_keeps_the_order_of_the_others():
    whole = EpochOrder(IDS, 8, seed=5).epoch_ids(1)
    fewer = EpochOrder(IDS[IDS != 150], 8, seed=5).epoch_ids(1)
    assert np.array_equal(whole[whole != 150], fewer)


def test_the_steps_of_all_ranks_together_do_not_depend_on_their_number():
    one = [set(ids.tolist()) for ids in EpochOrder(IDS, 12, seed=1).batches(0)]
    three = [order.batches(0) for order in every_rank(IDS, 4, 3)]
    assert [set(np.concatenate(step).tolist()) for step in zip(*three, strict=True)] == one


def test_first_skips_whole_batches():
    order = EpochOrder(IDS, 10, seed=1)
    rest = order.batches(4, first=3)
    assert [ids.tolist() for ids in rest] == [ids.tolist() for ids in order.batches(4)[3:]]


def test_hashes_are_distinct_and_look_uniform():
    hashes = hash_ids(np.arange(100_000), fold(1, 2))
    assert len(np.unique(hashes)) == 100_000
    assert abs((hashes / 2.0**64).mean() - 0.5) < 0.005
    assert fold(1, 2) != fold(2, 1) != fold(1, 2, 0)


@pytest.mark.parametrize(("kwargs", "message"), [({"batch_size": 0}, "batch_size"), ({"rank": 2, "world": 2}, "rank")])
def test_impossible_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        EpochOrder(IDS, **{"batch_size": 4, **kwargs})


@pytest.mark.parametrize("num", [0, 1, 7, 19, 20, 33])
@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("limit", [None, 0, 1, 2, 4, 9, 0.3, 0.5, 1.0])
def test_what_a_limited_pass_sees_is_what_lightning_lets_through(num, world, limit):
    orders = [EpochOrder(np.arange(num), 4, shuffle=False, rank=rank, world=world) for rank in range(world)]
    count = len(orders[0])
    if limit is not None:  # as Lightning's _parse_num_batches
        count = int(count * limit) if isinstance(limit, float) else min(count, limit)
    seen = {int(i) for order in orders for ids in order.batches(0)[:count] for i in ids}
    assert first_steps(np.arange(num), limit, 4, world).tolist() == sorted(seen)
