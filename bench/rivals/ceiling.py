"""The ceiling: forward, backward and optimizer step on one batch that stays in memory, nothing else.

Fused AdamW, and the memory format that litscope gives the network.
"""

from __future__ import annotations

import common
import torch
import torch.nn.functional as F
from turns import Turns


def main() -> None:
    """Step over one batch, and report samples per second."""
    options = common.arguments()
    made = common.network(options)
    net = made.net.train().to(options.device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    side = options.image_size or 32
    shape = {"cifar10": (3, 32, 32), "mnist": (1, 28, 28), "table": (32,), "synthetic": (3, side, side)}[options.task]
    x = torch.rand(options.batch_size, *shape, device=options.device).contiguous(memory_format=made.memory_format)
    y = torch.randint(10, (options.batch_size,), device=options.device)
    turns = Turns()
    for _ in range(options.epochs):
        turns.begin()
        for _ in range(options.batches):
            with common.autocast(options):
                loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        common.wait_for(options.device)
        turns.end(options.batches * options.batch_size)
    turns.finish(common.num_parameters(net))


if __name__ == "__main__":
    main()
