"""One contract for every loader: sized, exact ids, deterministic, resumable in mid-epoch, unpadded ranks."""

import io
from itertools import chain

import numpy as np
import pytest
import torch
from array_files import ArrayFiles

from litscope.data.gather_loader import GatherLoader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder
from litscope.data.stream_loader import StreamLoader
from litscope.errors import ConfigError

NUM, SIDE = 45, 8


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (NUM, SIDE, SIDE, 3), dtype=np.uint8)


@pytest.fixture
def labels():
    return np.arange(NUM) % 4


@pytest.fixture
def reader(tmp_path, pixels):
    for sample_id, image in enumerate(pixels):
        np.save(tmp_path / f"{sample_id}.npy", image)
    return ArrayFiles(tmp_path)


@pytest.fixture(params=["gather", "stream", "stream with two workers"])
def make_loader(request, pixels, labels, reader):
    """A function EpochOrder -> Loader, for each kind of loader."""
    made = []

    def make(order, **kwargs):
        if request.param == "gather":
            made.append(GatherLoader(order, pixels, Overlay(labels), **kwargs))
        else:
            num_workers = 2 if request.param.endswith("workers") else 0
            made.append(StreamLoader(order, reader, SIDE, Overlay(labels), num_workers=num_workers, **kwargs))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def order(**kwargs):
    return EpochOrder(np.arange(NUM), **{"batch_size": 8, "seed": 3, **kwargs})


def ids(batches):
    return [batch["sample_id"].tolist() for batch in batches]


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return file


def flat(lists):
    return list(chain.from_iterable(lists))


class TestContract:
    def test_a_rank_without_samples_has_a_batch_of_padding(self, make_loader):
        loader = make_loader(EpochOrder(np.array([7, 5]), 8, shuffle=False, rank=2, world=3))
        (batch,) = loader
        assert (batch["sample_id"].tolist(), batch["label"].tolist(), len(batch["image"])) == ([-1], [-1], 1)

    def test_batches_hold_what_their_ids_say(self, make_loader, pixels, labels):
        loader = make_loader(order())
        batches = list(loader)
        assert len(batches) == len(loader) == 6
        assert sorted(flat(ids(batches))) == list(range(NUM))
        for batch in batches:
            assert batch["sample_id"].dtype == batch["label"].dtype == torch.int64
            assert batch["image"].dtype == torch.uint8
            assert np.array_equal(batch["image"].permute(0, 2, 3, 1).numpy(), pixels[batch["sample_id"]])
            assert np.array_equal(batch["label"].numpy(), labels[batch["sample_id"]])

    def test_epochs_differ_and_repeat_under_the_same_seed(self, make_loader):
        loader, again = make_loader(order()), make_loader(order())
        first, second = ids(loader), ids(loader)
        assert first != second
        assert [ids(again), ids(again)] == [first, second]
        assert ids(make_loader(order(), epoch=1)) == second

    @pytest.mark.parametrize("stop", range(1, 6))
    def test_resume_in_mid_epoch_is_exact(self, make_loader, stop):
        whole = make_loader(order())
        expected = ids(whole) + ids(whole)
        stopped = make_loader(order())
        batches = iter(stopped)
        seen = ids(next(batches) for _ in range(stop))
        state = stopped.state_dict()
        assert (state["epoch"], state["batches_done"]) == (0, stop)
        resumed = make_loader(order())
        resumed.load_state_dict(state)
        assert len(resumed) == 6, "the length is that of a whole epoch"
        assert seen + ids(resumed) + ids(resumed) == expected

    def test_a_state_saved_on_the_last_batch_is_the_next_epoch(self, make_loader):
        loader = make_loader(order())
        batches = iter(loader)
        for _ in range(6):
            next(batches)  # Lightning never asks for a seventh
        state = loader.state_dict()
        assert (state["epoch"], state["batches_done"]) == (1, 0)
        resumed = make_loader(order())
        resumed.load_state_dict(state)
        assert ids(resumed) == ids(make_loader(order(), epoch=1))

    def test_iterators_that_are_thrown_away_do_not_move_the_position(self, make_loader):
        loader = make_loader(order())
        loader.load_state_dict({**loader.state_dict(), "epoch": 2, "batches_done": 4})
        iter(loader), iter(loader)
        assert ids(loader) == ids(make_loader(order(), epoch=2))[4:]

    def test_an_epoch_left_part_way_is_not_taken_up_again(self, make_loader):
        loader = make_loader(order())
        next(iter(loader))
        assert ids(loader) == ids(make_loader(order(), epoch=1))

    def test_last_names_the_batch_in_hand(self, make_loader):
        loader = make_loader(order(), epoch=5)
        assert [loader.last for _ in loader] == [(5, number) for number in range(6)]

    def test_with_a_limit_the_epoch_ends_there(self, make_loader):
        loader = make_loader(order(), limit=2)
        batches = iter(loader)
        next(batches), next(batches)
        assert (loader.epoch, loader.batches_done) == (1, 0)
        assert len(loader) == 6

    @pytest.mark.parametrize("world", [1, 2, 3])
    def test_ranks_share_the_ids_without_padding(self, make_loader, world):
        for shuffle in (True, False):
            loaders = [make_loader(order(shuffle=shuffle, rank=rank, world=world)) for rank in range(world)]
            parts = [ids(loader) for loader in loaders]
            assert sorted(flat(flat(parts))) == list(range(NUM))
            assert {len(part) for part in parts} == {len(loaders[0])}

    def test_a_position_inside_other_batches_is_refused(self, make_loader):
        loader = make_loader(order())
        state = {**loader.state_dict(), "batches_done": 2}
        for change in ({"batch_size": 9}, {"seed": 4}, {"world": 2}):
            with pytest.raises(ConfigError, match="inside epoch 1, after 2 batches"):
                make_loader(order(**change)).load_state_dict(state)
        make_loader(order(batch_size=4, world=2)).load_state_dict(state)  # the steps are the same
        make_loader(order(batch_size=9)).load_state_dict({**state, "batches_done": 0})

    def test_samples_taken_out_are_not_drawn_from_the_next_batch_on(self, make_loader):
        loader, plain = make_loader(order()), ids(make_loader(order()))
        batches = iter(loader)
        seen = [next(batches)["sample_id"].tolist() for _ in range(2)]
        gone = [plain[0][0], plain[2][0], plain[5][1]]  # one was drawn already
        assert loader.redraw(np.setdiff1d(np.arange(NUM), gone))
        seen += ids(batches)
        assert seen[:2] == plain[:2]
        assert len(seen) == 6, "the number of steps stays"
        assert {len(batch) for batch in seen[2:]} <= {6, 7}, "what is left is spread evenly"
        assert sorted(flat(seen)) == sorted(set(range(NUM)) - set(gone[1:]))
        assert flat(seen[2:]) == [i for i in flat(plain[2:]) if i not in gone], "the order of the others stays"
        assert sorted(flat(ids(loader))) == list(range(NUM)), "the next epoch takes its ids from the order"

    def test_samples_put_back_are_drawn_once_if_their_turn_is_to_come(self, make_loader):
        without = EpochOrder(np.setdiff1d(np.arange(NUM), [3, 4]), 8, seed=3)
        loader = make_loader(without)
        batches = iter(loader)
        seen = [next(batches)["sample_id"].tolist()]
        first = seen[0][0]
        assert loader.redraw(np.setdiff1d(np.arange(NUM), [3, 4, first]))
        seen.append(next(batches)["sample_id"].tolist())
        assert loader.redraw(np.arange(NUM))  # 3 and 4 are new to this epoch; `first` was drawn in it
        seen += ids(batches)
        assert sorted(flat(seen)) == list(range(NUM))

    @pytest.mark.thorough
    @pytest.mark.parametrize("world", [1, 2])
    @pytest.mark.parametrize("stop", [2, 3, 4, 5])
    @pytest.mark.parametrize("limit", [None, 5])
    def test_resume_in_a_redrawn_epoch_is_exact(self, make_loader, stop, world, limit):
        num = 6 if limit is None else limit
        for rank in range(world):
            mine = order(batch_size=8 // world, rank=rank, world=world)

            def redrawn(mine=mine):
                loader = make_loader(mine, limit=limit)
                batches = iter(loader)
                seen = [next(batches)["sample_id"].tolist() for _ in range(2)]
                assert loader.redraw(np.arange(3, NUM))
                return loader, seen, batches

            _, expected, batches = redrawn()
            expected += [next(batches)["sample_id"].tolist() for _ in range(num - 2)]
            loader, seen, batches = redrawn()
            seen += [next(batches)["sample_id"].tolist() for _ in range(min(stop, num) - 2)]
            fewer = EpochOrder(np.arange(3, NUM), mine.batch_size, 3, True, rank, world)
            resumed = make_loader(fewer, limit=limit)
            resumed.load_state_dict(torch.load(saved(loader.state_dict()), weights_only=True))
            if stop < num:
                assert len(resumed) == 6
                batches = iter(resumed)
                seen += [next(batches)["sample_id"].tolist() for _ in range(num - stop)]
            assert seen == expected

    def test_an_epoch_is_not_redrawn_with_too_few_samples(self, make_loader):
        loader = make_loader(order())
        batches = iter(loader)
        next(batches)
        assert not loader.redraw(np.arange(9))  # five steps are left; two samples each would be ten
        assert len(flat(ids(batches))) == NUM - 8

    def test_labels_and_weights_of_the_overlay_reach_the_next_batch(self, make_loader, labels):
        loader = make_loader(order(shuffle=False))
        batches = iter(loader)
        assert "weight" not in next(batches)
        loader._overlay.set(discarded=[], labels={8: 3, 20: 0}, weights={9: 0.5})
        batch = next(batches)
        assert batch["label"].tolist() == [3, *labels[9:16]]
        assert batch["weight"].tolist() == [1.0, 0.5, *[1.0] * 6]
        loader._overlay.set(discarded=[], labels={}, weights={9: 1.0})
        batch = next(batches)
        assert batch["label"].tolist() == labels[16:24].tolist()
        assert "weight" not in batch

    def test_the_global_generator_is_left_alone(self, make_loader):
        torch.manual_seed(0)
        before = torch.get_rng_state()
        list(make_loader(order()))
        assert torch.equal(torch.get_rng_state(), before)
