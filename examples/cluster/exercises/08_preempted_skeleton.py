"""Exercise 8: a training that can be stopped at any step, and goes on as if nothing had happened.

Before a job's time is over Slurm sends its processes USR1. Then there is time for one thing: to save all that the
rest of the training depends on. `litscope fit` does this by itself; here you do it by hand, in a plain loop, to see
what it takes. It ends with "right", or with what is not right yet.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn
from torch.nn import functional as F

EPOCHS, BATCH_SIZE = 3, 10


class StopRequest:
    """Whether somebody asked this process to stop.

    A signal may come anywhere, also in the middle of a step. So its handler notes it and returns; the loop
    looks between two steps.
    """

    def __init__(self) -> None:
        self.is_asked = False
        signal.signal(signal.SIGUSR1, self.note)

    def note(self, *_: Any) -> None:
        # Yours (8a): note that a stop is asked for. Save nothing and end nothing here.
        raise NotImplementedError("8a is yours to write")


def order_of(epoch: int, count: int) -> Tensor:
    """The order of the samples in an epoch."""
    # Yours (8b): a random order that follows from the epoch alone, so that it need not be saved.
    raise NotImplementedError("8b is yours to write")


def save(file: Path, net: nn.Module, optimizer: torch.optim.Optimizer, epoch: int, batch: int) -> None:
    """Save the state after `batch` batches of `epoch`."""
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch, "batch": batch}
    # Yours (8c): write it beside the file, and rename it (Path.replace). Then there is a whole file at every moment,
    # the old one or the new one, even if the process is killed while it writes.
    raise NotImplementedError("8c is yours to write")


def restore(file: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """Bring back what was saved, if there is anything; the epoch, and how many of its batches are done."""
    if not file.exists():
        return 0, 0
    # Yours (8d): load the file, give net and optimizer their states, and return epoch and batch. Why the optimizer?
    raise NotImplementedError("8d is yours to write")


def first_of(epoch: int, first_epoch: int, first_batch: int) -> int:
    """The number of the first batch that is left in an epoch, where training goes on at a batch of the first epoch."""
    # Yours (8e): of the first epoch some batches are done; of those after it, none.
    raise NotImplementedError("8e is yours to write")


def train(file: Path, signal_at: int | None = None) -> tuple[bool, Tensor]:
    """Train until the end or a stop; whether it ended, and the weights. At step `signal_at` the process gets USR1."""
    iris = load_iris()
    x, y = torch.tensor(iris.data, dtype=torch.float32), torch.tensor(iris.target)
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    stop = StopRequest()
    step = 0
    first_epoch, first_batch = restore(file, net, optimizer)
    for epoch in range(first_epoch, EPOCHS):
        batches = order_of(epoch, len(y)).split(BATCH_SIZE)
        for number in range(first_of(epoch, first_epoch, first_batch), len(batches)):
            rows = batches[number]
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            if step == signal_at:
                os.kill(os.getpid(), signal.SIGUSR1)  # in the middle of a step
            optimizer.step()
            step += 1
            if stop.is_asked:
                save(file, net, optimizer, epoch, number + 1)
                return False, weights(net)
    return True, weights(net)


def weights(net: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def main() -> None:
    right(torch.equal(order_of(1, 150), order_of(1, 150)), "an epoch has one order (8b)")
    right(not torch.equal(order_of(1, 150), order_of(2, 150)), "another epoch has another order (8b)")
    before = signal.getsignal(signal.SIGUSR1)
    try:
        with TemporaryDirectory() as folder:
            _, whole = train(Path(folder) / "whole.ckpt")
            for at in (0, 7, 14, 22):  # the first step, within an epoch, its last, within the next
                file = Path(folder) / f"stopped-{at}.ckpt"
                has_ended, _ = train(file, signal_at=at)
                right(not has_ended, "after the signal the loop stops at the end of its step (8a)")
                right(sorted(Path(folder).glob(f"stopped-{at}*")) == [file], "one whole file is left (8c)")
                has_ended, gone_on = train(file)
                right(has_ended, "started again, it trains to the end (8d)")
                right(torch.equal(gone_on, whole), f"stopped at step {at}, it ends with other weights (8d, 8e)")
    finally:
        signal.signal(signal.SIGUSR1, before)
    print("right: stopped at any of four steps, it ends with the same weights, bit by bit")


def right(is_so: Any, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
