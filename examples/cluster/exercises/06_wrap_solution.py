"""Exercise 6: FSDP shards a network in units. Choose them by size, and by block, and see what it does to memory.

Before a unit computes, its parameters are gathered from all devices; after it, they are let go. So a device holds its
share of the whole network, and for a moment all of one unit. One unit for the whole network saves nothing; one for
each small layer asks the network cable too often.

    --policy size:20000    units by size
    --policy block         a unit for each block
    --devices 2            train so, in two processes on the CPU

It ends with "right", or with what is not right yet.
"""

from __future__ import annotations

import argparse
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    """Two layers, with a way around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def network() -> nn.Module:
    """A stem, four blocks and a head: 155,818 parameters."""
    blocks = nn.Sequential(*(Block(96) for _ in range(4)))
    return nn.Sequential(nn.Linear(64, 96), blocks, nn.Linear(96, 10))


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_size(net: nn.Module, least: int) -> list[str]:
    """Names of the parts with `least` parameters or more, besides those of units inside. The network is none."""
    # Yours (6a): go through named_modules() from the end, for what lies inside a part comes after it; the name of what
    # lies in "1.0" begins with "1.0.". Count of each part what its units inside have not. The network's own name is "".
    units: dict[str, int] = {}
    for name, module in reversed(list(net.named_modules())):
        own = num_parameters(module) - sum(inside for unit, inside in units.items() if unit.startswith(f"{name}."))
        if name and own >= least:
            units[name] = own
    return list(units)[::-1]
    # End (6a)


def by_block(net: nn.Module) -> list[str]:
    """Names of the network's blocks."""
    # Yours (6b): of named_modules(), those that are a Block.
    return [name for name, module in net.named_modules() if isinstance(module, Block)]
    # End (6b)


def largest(net: nn.Module, units: list[str]) -> int:
    """Parameters of the largest of some units, none of which lies in another: what a device gathers at once."""
    # Yours (6c): of each unit, and of what is in none of them, which is one unit more.
    sizes = [num_parameters(net.get_submodule(name)) for name in units]
    return max([*sizes, num_parameters(net) - sum(sizes)])
    # End (6c)


class Sharded(L.LightningModule):
    """The network in units, on digits."""

    def __init__(self, policy: str) -> None:
        super().__init__()
        self.policy = policy
        self.net = network()
        self.is_sharded = False

    def units(self) -> list[str]:
        word, _, least = self.policy.partition(":")
        return by_size(self.net, int(least)) if word == "size" else by_block(self.net)

    def configure_model(self) -> None:
        """Lightning calls this before training and again when a checkpoint is loaded."""
        if self.device_mesh is None or self.is_sharded:  # one process, or done
            return
        mesh = self.device_mesh["data_parallel"]
        # Yours (6d): fully_shard(module, mesh=mesh) of each unit, those inside others first, and of self.net last.
        for name in reversed(self.units()):
            fully_shard(self.net.get_submodule(name), mesh=mesh)
        fully_shard(self.net, mesh=mesh)
        # End (6d)
        self.is_sharded = True

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ARG002
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--policy", default="block")
    parser.add_argument("--devices", type=int, default=1)
    options = parser.parse_args(words)

    net = network()
    blocks = [f"1.{number}" for number in range(4)]
    layers = [f"{block}.inner.{layer}" for block in blocks for layer in (0, 2)]
    right(by_block(net) == blocks, f"the blocks are {', '.join(blocks)} (6b)")
    right(
        by_size(net, 20_000) == [f"{block}.inner" for block in blocks],
        "a layer is too small, two are not (6a)",
    )
    right(by_size(net, 10_000) == layers, "each of the eight layers in blocks has more than 10,000 (6a)")
    units = ["1", *(f"{block}.inner.0" for block in blocks)]
    right(by_size(net, 18_600) == units, "of each block one layer is large enough, and all others together are (6a)")
    right(by_size(net, 10**6) == [], "nothing but the whole has a million (6a)")
    right(largest(net, []) == num_parameters(net), "without units, everything is gathered at once (6c)")
    right(largest(net, blocks) == num_parameters(Block(96)), "with blocks as units, one of them is (6c)")

    L.seed_everything(1)
    found = load_digits()
    data = TensorDataset(torch.tensor(found.data, dtype=torch.float32) / 16, torch.tensor(found.target))
    sharding = ModelParallelStrategy(data_parallel_size=options.devices, tensor_parallel_size=1)
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        devices=options.devices,
        strategy="auto" if options.devices == 1 else sharding,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = Sharded(options.policy)
    whole = num_parameters(module)
    trainer.fit(module, DataLoader(data, 64 // options.devices, shuffle=True))
    held = sum(local(parameter).numel() for parameter in module.parameters())
    right(
        held <= whole / options.devices + 1000,
        f"a device holds its share, not {held:,} of {whole:,} (6d)",
    )
    if trainer.is_global_zero:
        print(
            f"right: {len(module.units())} units by {options.policy}; a device holds {held:,} of {whole:,} parameters "
            f"and gathers at most {largest(net, module.units()):,}; "
            f"loss {float(trainer.callback_metrics['train_loss']):.3f}"
        )


def local(parameter: Tensor) -> Tensor:
    """This device's share of a sharded parameter."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter


def right(is_so: Any, what: str) -> None:
    """End with what is not right yet."""
    if not is_so:
        raise SystemExit(f"not yet: {what}")


if __name__ == "__main__":
    main()
