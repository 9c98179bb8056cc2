"""A hand-written PyTorch loop: torchvision transforms, DataLoader, loss and accuracy summed on the way."""

from __future__ import annotations

from itertools import islice

import common
import torch
import torch.nn.functional as F


def main() -> None:
    """Train, and print samples per second."""
    options = common.arguments()
    net = common.plain_network(options.task).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    batches = common.loader(options)
    clock = common.Clock()
    for _ in range(options.epochs):
        total, correct, count = torch.zeros(()), torch.zeros(()), 0
        clock.begin()
        for x, y in islice(batches, options.batches):
            logits = net(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach()
            correct += (logits.argmax(1) == y).sum()
            count += len(y)
        clock.end(count)
    clock.report(net)


if __name__ == "__main__":
    main()
