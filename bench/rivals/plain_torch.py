"""A hand-written PyTorch loop: torchvision transforms, DataLoader, loss and accuracy summed on the way.

With --resident the table's rows are one tensor, shuffled once an epoch, and a batch is a slice of it: what somebody
writes who has found out that the DataLoader costs more than the step. With --tuned images are in the channels-last
format and the optimizer is fused, as litscope has it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from itertools import islice

import common
import torch
import torch.nn.functional as F
from turns import Turns


class Resident:
    """Shuffled batches of tensors that lie in memory."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.x, self.y = (tensor.to(options.device) for tensor in common.dataset(options).tensors)
        self.batch_size = options.batch_size

    def __iter__(self) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch; the last batch is left out where it is not full."""
        order = torch.randperm(len(self.y), device=self.y.device)
        x, y = self.x[order], self.y[order]
        for start in range(0, len(order) - self.batch_size + 1, self.batch_size):
            yield x[start : start + self.batch_size], y[start : start + self.batch_size]


def main() -> None:
    """Train, and report samples per second."""
    options = common.arguments()
    device = options.device
    net = common.plain_network(options).train().to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=options.tuned or None)
    batches = Resident(options) if options.resident else common.loader(options)
    turns = Turns()
    for _ in range(options.epochs):
        total, correct, count = torch.zeros((), device=device), torch.zeros((), device=device), 0
        turns.begin()
        for x, y in islice(batches, options.batches):
            x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
            x = x.contiguous(memory_format=torch.channels_last) if options.tuned and x.dim() == 4 else x
            with common.autocast(options):
                logits = net(x)
                loss = F.cross_entropy(logits, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            correct += (logits.argmax(1) == y).sum()
            count += len(y)
        common.wait_for(device)
        turns.end(count)
    turns.finish(common.num_parameters(net), common.accuracy(net, options))


if __name__ == "__main__":
    main()
