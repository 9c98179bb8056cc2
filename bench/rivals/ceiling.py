"""The ceiling: forward, backward and optimizer step on one batch that stays in memory, nothing else."""

from __future__ import annotations

import common
import torch
import torch.nn.functional as F


def main() -> None:
    """Step over one batch, and print samples per second."""
    options = common.arguments()
    made = common.network(options.task)
    net = made.net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    shape = {"cifar10": (3, 32, 32), "mnist": (1, 28, 28), "table": (32,)}[options.task]
    x = torch.rand(options.batch_size, *shape).contiguous(memory_format=made.memory_format)
    y = torch.randint(10, (options.batch_size,))
    clock = common.Clock()
    for _ in range(options.epochs):
        clock.begin()
        for _ in range(options.batches):
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        clock.end(options.batches * options.batch_size)
    clock.report(net)


if __name__ == "__main__":
    main()
