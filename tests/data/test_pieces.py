"""The order of an epoch that reads storage piece by piece: exact, even, mixed, and the same for every world."""

from __future__ import annotations

import numpy as np
import pytest

from litscope.data.draws import Draws
from litscope.data.pieces import Pieces, pieces_of
from litscope.data.sampler import EpochOrder

NUM, PER_PIECE, WINDOW = 6000, 20, 30
IDS = np.arange(NUM)
EVERY = 5  # each fifth sample validates


def pieces(window: int = WINDOW, ids: np.ndarray = IDS) -> Pieces:
    """20 samples of 50 bytes in each piece of 1,000 bytes, 10 pieces in each shard."""
    shard, offset = IDS // 200, IDS % 200 * 50
    return pieces_of(shard, offset, np.full(NUM, 50), ids, window * 1000, piece_bytes=1000)


def order(window: int = WINDOW, **kwargs: object) -> EpochOrder:
    return EpochOrder(IDS, **{"batch_size": 12, "seed": 3, "nearby": pieces(window), **kwargs})  # type: ignore[arg-type]


def test_a_piece_is_what_begins_in_one_stretch_of_a_shard() -> None:
    found = pieces()
    assert (found.count, found.window, found.samples) == (300, WINDOW, 600)
    assert np.array_equal(found.of, IDS // PER_PIECE)


def test_a_sample_larger_than_a_piece_is_one() -> None:
    found = pieces_of(np.zeros(4, int), np.arange(4) * 5000, np.full(4, 5000), np.arange(4), 10_000, 1000)
    assert (found.of.tolist(), found.window) == ([0, 1, 2, 3], 2)


def test_only_what_is_shuffled_has_pieces() -> None:
    train = IDS[(IDS >= 2000) & (IDS % EVERY > 0)]
    found = pieces(ids=train)
    assert found.count == 200
    assert set(found.of[np.setdiff1d(IDS, train)]) == {-1}


def test_what_fits_into_the_window_is_shuffled_as_a_folder_is() -> None:
    assert pieces(300).is_whole
    assert not pieces(299).is_whole
    assert np.array_equal(order(300).epoch_ids(1), EpochOrder(IDS, 12, 3).epoch_ids(1))


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("window", [2, 3, 30, 299])
def test_every_sample_comes_once_and_no_more_pieces_are_open_than_the_window_holds(window: int, epoch: int) -> None:
    ids = order(window).epoch_ids(epoch)
    assert np.array_equal(np.sort(ids), IDS)
    piece = ids // PER_PIECE
    places = [np.flatnonzero(piece == number) for number in range(300)]
    opened = np.bincount([at[0] for at in places], minlength=NUM + 1)
    closed = np.bincount([at[-1] + 1 for at in places], minlength=NUM + 1)
    assert np.cumsum(opened - closed).max() <= window


def test_pieces_take_other_turns_in_another_epoch_and_under_another_seed() -> None:
    turns = [
        list(dict.fromkeys((order(3, seed=seed).epoch_ids(epoch) // PER_PIECE).tolist()))
        for seed, epoch in ((3, 0), (3, 1), (4, 0))
    ]
    assert all(sorted(one) == list(range(300)) for one in turns)
    assert max(abs(np.corrcoef(turns)[np.triu_indices(3, 1)])) < 0.3


def test_batches_hold_samples_of_as_many_pieces_as_chance_would_have_of_a_window() -> None:
    batches = order(60, batch_size=30).batches(0)
    num_pieces = np.array([len(set(ids // PER_PIECE)) for ids in batches])
    expected = 60 * (1 - (1 - 1 / 60) ** 30)  # of 60 pieces, by 30 draws
    assert abs(num_pieces[10:-10].mean() / expected - 1) < 0.1
    assert abs(num_pieces[[0, 1, -2, -1]].mean() / (30 * (1 - (1 - 1 / 30) ** 30)) - 1) < 0.2  # half of the window


def test_leaving_samples_out_keeps_the_order_of_the_others() -> None:
    whole, rng = order().epoch_ids(2), np.random.default_rng(0)
    kept = np.sort(rng.choice(IDS, NUM - 900, replace=False))
    kept = kept[kept >= 3 * PER_PIECE]  # whole pieces, too
    assert np.array_equal(order().of(kept).epoch_ids(2), whole[np.isin(whole, kept)])
    assert np.array_equal(order().arrange(kept, 2), whole[np.isin(whole, kept)])


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("num", [NUM, NUM - 7])
def test_steps_do_not_depend_on_the_number_of_ranks_and_a_piece_is_read_by_hardly_more_than_one(
    world: int, num: int
) -> None:
    ids = IDS[:num]
    one = [set(batch.tolist()) for batch in EpochOrder(ids, 240, 3, nearby=pieces()).batches(1)]
    ranks = [EpochOrder(ids, 240 // world, 3, True, rank, world, nearby=pieces()).batches(1) for rank in range(world)]
    assert [set(np.concatenate(step).tolist()) for step in zip(*ranks, strict=True)] == one
    assert {len(batch) for rank in ranks for batch in rank[:-1]} == {240 // world}
    readers = sum(len(set((np.concatenate(rank) // PER_PIECE).tolist())) for rank in ranks)
    assert readers < 300 * (1 + 0.3 * (world - 1))


def test_what_is_drawn_with_repetition_keeps_to_the_window() -> None:
    draws = Draws(IDS % 2, np.where(IDS % 3 == 0, 4.0, 1.0))
    plain = EpochOrder(IDS, 12, 3, draws=draws).epoch_ids(1)
    near = order(draws=draws).epoch_ids(1)
    assert np.array_equal(np.sort(near), np.sort(plain))
    live = [int(np.ptp(np.flatnonzero(near // PER_PIECE == number))) for number in range(300)]
    assert max(live) < 2 * WINDOW * PER_PIECE
    assert np.array_equal(near, order(draws=draws).epoch_ids(1))


def test_without_samples_there_is_no_piece() -> None:
    assert pieces(ids=IDS[:0]).is_whole
