"""Epochs that draw samples with repetition: how often each comes, over ranks, after a stop, after an action."""

import numpy as np
import pytest
import torch

from litscope.data.batch_transform import BatchTransform
from litscope.data.draws import Draws, times_before
from litscope.data.gather_loader import GatherLoader
from litscope.data.overlay import Overlay
from litscope.data.sampler import EpochOrder
from litscope.data.transforms import Augmentation
from litscope.errors import ConfigError

LABELS = np.repeat([0, 1, 2], [70, 25, 6])
NUM = len(LABELS)  # 101
IDS = np.arange(NUM)
BALANCED = Draws(LABELS)
WEIGHTED = Draws(LABELS, np.where(IDS == 3, 5.0, np.where(IDS % 10 == 0, 0.5, 1.0)))


def order(draws=BALANCED, ids=IDS, **kwargs):
    return EpochOrder(ids, **{"batch_size": 8, "seed": 3, "draws": draws, **kwargs})


def counts(drawn):
    return np.bincount(drawn, minlength=NUM)


@pytest.mark.parametrize("epoch", range(5))
def test_classes_come_equally_often_and_samples_of_one_too(epoch):
    found = counts(order().epoch_ids(epoch))
    assert np.abs(np.bincount(LABELS, found) - NUM / 3).max() <= 1
    for label in range(3):
        of_class = found[label == LABELS]
        assert of_class.max() - of_class.min() <= 1


def test_all_samples_of_a_large_class_come_within_a_few_epochs():
    seen = np.unique(np.concatenate([order().epoch_ids(epoch) for epoch in range(12)]))
    assert len(seen) == NUM


@pytest.mark.parametrize("epoch", range(5))
def test_samples_come_in_proportion_to_their_weights(epoch):
    expected = WEIGHTED.weights * NUM / WEIGHTED.weights.sum()
    assert np.abs(counts(order(WEIGHTED).epoch_ids(epoch)) - expected).max() < 1


def test_with_equal_weights_each_sample_comes_once():
    assert np.array_equal(np.sort(order(Draws(LABELS, np.ones(NUM))).epoch_ids(1)), IDS)


def test_a_draw_depends_on_seed_and_epoch_and_never_changes_between_versions():
    assert np.array_equal(order().epoch_ids(2), order(ids=IDS[::-1]).epoch_ids(2))
    assert not np.array_equal(order().epoch_ids(2), order().epoch_ids(3))
    assert not np.array_equal(order().epoch_ids(2), order(seed=4).epoch_ids(2))
    assert order(Draws(np.repeat([0, 1], [9, 3]))).of(np.arange(12)).epoch_ids(0).tolist() == TWELVE


TWELVE = [2, 6, 10, 10, 9, 9, 11, 0, 1, 3, 11, 7]


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_what_one_process_draws(world):
    ranks = [order(batch_size=8 // world, rank=rank, world=world).batches(1) for rank in range(world)]
    assert np.array_equal(np.sort(np.concatenate([b for rank in ranks for b in rank])), np.sort(order().epoch_ids(1)))
    for step, ids in enumerate(order().batches(1)[:11]):
        assert np.array_equal(np.concatenate([rank[step] for rank in ranks]), ids)


def test_the_times_before():
    assert times_before(np.array([4, 4, 1, 4, 1])).tolist() == [0, 1, 0, 2, 1]
    assert times_before(np.array([], np.int64)).tolist() == []


def loader(draws=BALANCED, overlay=None, **kwargs):
    rows = np.arange(NUM, dtype=np.float32)[:, None]
    return GatherLoader(order(draws, **kwargs), rows, overlay or Overlay(LABELS))


def seen(batches):
    return [(batch["sample_id"].tolist(), batch["visit"].tolist()) for batch in batches]


@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_says_how_often_its_samples_came_before(world):
    batches = [list(loader(rank=rank, world=world, batch_size=8 // world)) for rank in range(world)]
    found = sorted((i, n) for rank in batches for ids, times in seen(rank) for i, n in zip(ids, times, strict=True))
    assert found == [(i, n) for i in range(NUM) for n in range(counts(order().epoch_ids(0))[i])]


@pytest.mark.parametrize("is_redrawn", [False, True])
def test_resume_in_mid_epoch_is_exact(is_redrawn):
    whole, active = loader(), np.setdiff1d(IDS, [95, 3])
    batches = iter(whole)
    done = [next(batches) for _ in range(4)]
    if is_redrawn:
        assert whole.redraw(active, BALANCED)
    done += [next(batches)]
    state = whole.state_dict()
    rest, again = seen(batches), loader(ids=active if is_redrawn else IDS)
    again.load_state_dict(state)
    assert seen(again) == rest
    if not is_redrawn:  # else the next epoch gets a loader of its own
        assert seen(again) == seen(whole)


def test_a_discard_holds_from_the_next_batch_on_and_the_epoch_keeps_its_length():
    of_ranks = [loader(rank=rank, world=2, batch_size=4) for rank in range(2)]
    passes = [iter(one) for one in of_ranks]
    for _ in range(5):
        first = [next(batches) for batches in passes]
    assert {tuple(batch["sample_id"].shape) for batch in first} == {(4,)}
    active = np.setdiff1d(IDS, IDS[-5:])  # of the six of the rarest class one is left
    assert all(one.redraw(active, Draws(LABELS)) for one in of_ranks)
    rest = [seen(batches) for batches in passes]
    drawn = np.concatenate([ids for rank in rest for ids, _ in rank])
    assert [len(rank) for rank in rest] == [8, 8]
    assert len(drawn) == NUM - 5 * 8
    assert set(drawn) <= set(active)
    assert np.abs(np.bincount(LABELS[drawn]) - len(drawn) / 3).max() <= 1


def test_an_epoch_that_was_drawn_otherwise_is_not_gone_on_with():
    batches = iter(first := loader())
    next(batches)
    with pytest.raises(ConfigError, match="sampler: balanced then, uniform now"):
        loader(None).load_state_dict(first.state_dict())
    batches = iter(plain := loader(None))
    next(batches)
    state = plain.state_dict()
    del state["sampler"]  # as earlier versions wrote it
    loader(None).load_state_dict(state)
    with pytest.raises(ConfigError, match="sampler: uniform then, weighted now"):
        loader(WEIGHTED).load_state_dict(state)


def test_a_weight_that_decides_how_often_a_sample_comes_is_not_in_its_loss():
    weighing, drawing = Overlay(LABELS), Overlay(LABELS, are_drawn_by_weight=True)
    for overlay in (weighing, drawing):
        overlay.set([], {}, {3: 5.0})
    assert weighing.weight_of(torch.tensor([3, 4])).tolist() == [5.0, 1.0]
    assert drawing.weight_of(torch.tensor([3, 4])) is None


def test_a_sample_that_comes_again_looks_otherwise():
    transform = BatchTransform(Augmentation("default", 8, seed=1, flip=True), 3, mixup=0, cutmix=0, seed=1)
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8).expand(3, -1, -1, -1).contiguous()
    batch = {"image": image, "label": torch.zeros(3, dtype=torch.int64), "sample_id": torch.tensor([5, 5, 5])}
    plain = transform.training(batch, 2, 0)["image"]
    drawn = transform.training({**batch, "visit": torch.tensor([0, 1, 2])}, 2, 0)["image"]
    assert torch.equal(drawn[0], plain[0])
    assert not torch.equal(drawn[1], plain[0])
    assert not torch.equal(drawn[1], drawn[2])
