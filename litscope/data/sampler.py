"""Which ids, in what order, for which rank: pure functions of (seed, epoch, rank, world). No torch.

An epoch's order, where each id comes once, sorts the ids by a hash of (seed, epoch, id). So it is the same on every
machine and under every version of numpy, it needs no stored generator state, and taking an id out leaves the order of
the others as it was. Of more shards than fit into a window, what lies side by side comes near to each other (`pieces`);
all of this holds for that order, too.

How an epoch is cut: a step takes `world * batch_size` ids of that order, each rank its own block.
What is left at the end is one more step, shared out evenly (shares differ by at most one id).
When it is too small to give each rank two samples (batch norm cannot train on one), it is dealt
out on top of the last full step instead, whose batches then hold one or two ids more. So every
id comes once, nothing is padded, and all ranks make the same number of steps, without which
collectives hang. Where ids are drawn with repetition (`draws`), what is drawn is cut in the same way.

When samples are discarded or restored within an epoch, its number of steps stays (Lightning and the
schedule count on it), and what is left is spread evenly over the steps that are left (`spread`).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Hashes = NDArray[np.uint64]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def fold(*parts: int) -> int:
    """Mix whole numbers into one key of 64 bits; any change of any part gives an unrelated key."""
    key = 0
    for part in parts:
        key = _mix(key ^ (part & _MASK))
    return key


def _mix(value: int) -> int:
    """One round of splitmix64 (Steele, Lea and Flood 2014), a bijection of 64-bit numbers."""
    z = (value + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def hash_ids(ids: Ids, key: int) -> NDArray[np.uint64]:
    """splitmix64 of `ids` (any shape, int64) xor `key`: distinct ids have distinct hashes."""
    z = (ids.astype(np.uint64) ^ np.uint64(key)) + np.uint64(_GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


_ORDER = 0x6F72646572  # keeps the order's hashes apart from those of augmentation
_DRAW, _TURNS, _DRAWING = 0x64726177, 0x7475726E73, 0x64726E67


class Draw(Protocol):
    """How an epoch draws that may draw an id several times; see `draws.Draws`."""

    @property
    def name(self) -> str:
        """Its word for `--sampler`."""
        ...

    def draw(self, ids: Ids, count: int, key: int) -> Ids:
        """(count,) int64, ids of `ids`, in their order; a pure function of the arguments."""
        ...


class Nearby(Protocol):
    """Where samples lie in storage that is read in large pieces; see `pieces.Pieces`."""

    @property
    def name(self) -> str:
        """What makes this order another than one of other settings, for people."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether it makes no difference."""
        ...

    def order(self, ids: Ids, hashes: Hashes, key: int) -> Ids:
        """(n,) int64, a permutation that keeps near to each other what lies so; a pure function of the arguments."""
        ...

    def homes(self, ids: Ids) -> Hashes:
        """(n,) the same number for all samples of a piece."""
        ...


class EpochOrder:
    """The batches of ids that one rank sees in each epoch.

    Args:
        ids: (n,) int64, distinct.
        batch_size: ids per step and rank.
        seed: with the epoch, decides the order.
        shuffle: False keeps `ids` in the order given, in every epoch.
        rank: of this process.
        world: number of processes that share the ids.
        draws: draws as many ids as there are, some several times; None: each comes once, as `shuffle` says.
        nearby: where the samples lie, if an epoch is to read side by side what lies so; None: anywhere.

    Attributes:
        is_padding: there are fewer ids than processes, and none for this rank: its one batch is the first id, which
            counts elsewhere. (Without a batch, it would not come to where the ranks meet.)

    Raises:
        ValueError: if batch_size is below 1, or rank is not in [0, world).
    """

    def __init__(
        self,
        ids: Ids,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world: int = 1,
        draws: Draw | None = None,
        nearby: Nearby | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        if not 0 <= rank < world:
            raise ValueError(f"rank must be in [0, {world}), got {rank}.")
        self.ids = np.ascontiguousarray(ids, dtype=np.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.draws = draws
        self.nearby = None if nearby is None or nearby.is_whole else nearby
        self._bounds = _cut(len(self.ids), batch_size, rank, world)
        self.is_padding = len(self.ids) > 0 and not self._bounds
        if self.is_padding:
            self._bounds = [(0, 1)]

    def __len__(self) -> int:
        """Batches in an epoch; the same on every rank."""
        return len(self._bounds)

    def epoch_ids(self, epoch: int) -> Ids:
        """(n,) int64, all ids in the order of `epoch`, before they are cut into steps and ranks."""
        if self.draws is not None:
            return self.drawn(self.ids, len(self.ids), epoch)
        if not self.shuffle:
            return self.ids
        hashes = hash_ids(self.ids, fold(self.seed, _ORDER, epoch))
        return self.ids[np.argsort(hashes) if self.nearby is None else self._near(self.ids, hashes, epoch)]

    def drawn(self, ids: Ids, count: int, epoch: int, batches_done: int = 0) -> Ids:
        """(count,) int64, drawn among `ids` with repetition, for the batches of `epoch` after the first ones."""
        assert self.draws is not None
        found = self.draws.draw(ids, count, fold(self.seed, _DRAW, epoch, batches_done))
        if self.nearby is None:
            return found
        hashes = hash_ids(np.arange(count), fold(self.seed, _DRAWING, epoch, batches_done))
        return found[self._near(found, hashes, epoch)]

    def _near(self, ids: Ids, hashes: Hashes, epoch: int) -> Ids:
        assert self.nearby is not None
        return self.nearby.order(ids, hashes, fold(self.seed, _TURNS, epoch))

    def batches(self, epoch: int, first: int = 0) -> list[Ids]:
        """This rank's batches of `epoch`, from batch number `first` on."""
        return self.cut(self.shared(self.epoch_ids(epoch)), first)

    def shared(self, order: Ids) -> Ids:
        """The ids of an epoch in their order, those of each step arranged for `cut`: what lies in one piece of storage
        falls to one rank, in every epoch, but for what makes the shares equal. So ranks hardly read each other's."""
        if self.nearby is None or self.world == 1:
            return order
        starts = [start for start, _ in _cut(len(order), self.batch_size, 0, self.world)]
        steps = np.repeat(np.arange(len(starts)), np.diff([*starts, len(order)]))
        homes = (self.nearby.homes(order) >> np.uint64(32)).astype(np.int64)
        return order[np.argsort(steps << 32 | homes, kind="stable")]

    def cut(self, order: Ids, first: int = 0) -> list[Ids]:
        """This rank's batches of `order`, (n,) whatever belongs to the ids of an epoch in its order."""
        return [order[start:stop] for start, stop in self._bounds[first:]]

    @property
    def step_size(self) -> int:
        """Ids of a full step of all ranks."""
        return self.batch_size * self.world

    def arrange(self, ids: Ids, epoch: int) -> Ids:
        """`ids` in the order in which `epoch` has them; without shuffling, those of `self.ids` in their order."""
        if not self.shuffle:
            return self.ids[np.isin(self.ids, ids)]
        return EpochOrder(ids, self.batch_size, self.seed, nearby=self.nearby).epoch_ids(epoch)

    def drawing(self, draws: Draw) -> EpochOrder:
        """The same ids, drawn in another way."""
        return self._but(self.ids, draws)

    def of(self, ids: Ids) -> EpochOrder:
        """The same order over other ids."""
        return self._but(ids, self.draws)

    def _but(self, ids: Ids, draws: Draw | None) -> EpochOrder:
        return EpochOrder(ids, self.batch_size, self.seed, self.shuffle, self.rank, self.world, draws, self.nearby)


def num_steps(num_ids: int, batch_size: int, world: int = 1) -> int:
    """Steps in an epoch of this many ids."""
    return len(_cut(num_ids, batch_size, 0, world))


def first_steps(ids: Ids, limit: int | float | None, batch_size: int, world: int = 1) -> Ids:
    """Those of `ids`, in this order, that all ranks see in the first steps of a pass.

    Args:
        limit: how many steps, or below 1.0 which share of them, rounded down, as Lightning's `limit_val_batches`; None
            or 1.0: all.
    """
    count = num_steps(len(ids), batch_size, world)
    if limit is None:
        return ids
    wanted = int(limit * count) if isinstance(limit, float) else limit
    return ids if wanted >= count else ids[: wanted * batch_size * world]


def steps_left(num_ids: int, batch_size: int, world: int) -> int:
    """Steps in what is left of an epoch, when `spread` makes them: none with fewer than two ids for each process, which
    batch norm needs, unless batches are of one."""
    return min(num_steps(num_ids, batch_size, world), num_ids // (world * min(2, batch_size)))


def spread(ids: Ids, num_steps: int, rank: int = 0, world: int = 1) -> list[Ids]:
    """One rank's share of `ids` in each of `num_steps` steps: even over steps and ranks, to within one id.

    The batches after the first k are those of what is then left, spread over the steps that are then
    left, so that a resumed run makes the same ones.
    """
    steps = [_share(start, stop, rank, world) for start, stop in even(len(ids), num_steps)]
    return [ids[start:stop] for start, stop in steps]


def even(count: int, parts: int) -> list[tuple[int, int]]:
    """Start and stop of `parts` stretches that cover 0 .. count; the first ones are longer by one where need be."""
    size, extra = divmod(count, parts)
    return list(pairwise(part * size + min(part, extra) for part in range(parts + 1)))


def _share(start: int, stop: int, rank: int, world: int) -> tuple[int, int]:
    """The stretch of start .. stop that falls to `rank`."""
    first, last = even(stop - start, world)[rank]
    return start + first, start + last


def _cut(num_ids: int, batch_size: int, rank: int, world: int) -> list[tuple[int, int]]:
    """Where each batch of `rank` starts and stops in the epoch's order."""
    step = batch_size * world
    full, rest = divmod(num_ids, step)
    if full and 0 < rest < world * min(2, batch_size):
        full, rest = full - 1, rest + step
    bounds = [(s * step + rank * batch_size, s * step + (rank + 1) * batch_size) for s in range(full)]
    start, stop = _share(full * step, full * step + rest, rank, world)
    return [*bounds, (start, stop)] if stop > start else bounds
