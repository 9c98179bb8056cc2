"""Sharding: a network whose weights, gradients and optimizer state are divided over the processes.

torch's `fully_shard` (the second generation of FSDP) does it. A unit is a part of the network that is gathered for its
forward and backward pass, and divided again: between the units, a process has its own share of each alone. With the
same batches the gradients are those of DDP, a mean over the processes, and so are the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.modules.batchnorm import _BatchNorm

from litscope.config.hardware import least_unit
from litscope.config.recipe import Recipe
from litscope.config.strategies import FULL
from litscope.errors import ConfigError
from litscope.models.classifier import Classifier
from litscope.models.networks.architectures import resolve
from litscope.models.networks.backbones import build
from litscope.models.networks.blocks import blocks_of, called_parts, in_words, large_parts
from litscope.models.over_ranks import same_statistics
from litscope.training.hardware import Plan

LEAST_UNIT = 1_000_000
"""Parameters of a unit of a network without blocks. Smaller ones are sent in more messages than it pays."""


@dataclass
class Sharding:
    """How a network is divided.

    Attributes:
        units: the parts that are gathered one at a time, by name; the rest of the network is one more.
        gathers_twice: a unit is divided between its forward and its backward pass, too.
        gathers_bf16: units are gathered, and compute, in bfloat16; gradients are added up in float32.
        offloads: shares stay in the CPU's memory while they are not in use.
        strategy: its name, for the line.
    """

    units: dict[str, nn.Module] = field(repr=False)
    gathers_twice: bool
    gathers_bf16: bool
    offloads: bool
    strategy: str

    @classmethod
    def of(cls, recipe: Recipe, plan: Plan, classifier: Classifier) -> Sharding:
        """The sharding that a recipe asks for.

        Args:
            classifier: with its network.

        Raises:
            ConfigError: if the network has no parts of the kind that --fsdp-wrap asks for, or a weight without
                dimensions.
        """
        net = classifier.net
        assert net is not None
        if odd := [name for name, parameter in net.named_parameters() if not parameter.ndim]:
            raise ConfigError(
                f"--strategy {recipe.hardware.strategy}: a single number cannot be divided, and "
                f"{recipe.model.arch} has such a weight ({odd[0]}). Give --strategy ddp."
            )
        return cls(
            units=_units(recipe.hardware.fsdp_wrap, recipe.model.arch, net, classifier.show_nothing),
            gathers_twice=plan.strategy == FULL,
            gathers_bf16=plan.precision == "bf16-mixed" and not _has_batch_norm(net),
            offloads=recipe.hardware.cpu_offload,
            strategy=plan.strategy,
        )

    def line(self, num_processes: int) -> str:
        """What is divided, in a line."""
        units = f"gathered one at a time: {in_words(self.units)}, and the rest" if self.units else "gathered as a whole"
        kept = "" if self.gathers_twice else ", kept from forward to backward"
        types = ", in bfloat16" if self.gathers_bf16 else ""
        where = ", shares in the CPU's memory" if self.offloads else ""
        return f"{self.strategy}: weights divided over {num_processes} processes, {units}{kept}{types}{where}"

    def apply(self, net: nn.Module, mesh: DeviceMesh) -> None:
        """Divide the network over the processes of a mesh of one dimension. It is the same on all of them before."""
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard

        options: dict[str, Any] = {"mesh": mesh, "reshard_after_forward": self.gathers_twice}
        if self.gathers_bf16:
            options["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if self.offloads:
            options["offload_policy"] = CPUOffloadPolicy()
        for unit in self.units.values():
            fully_shard(unit, **options)
        fully_shard(net, **options)
        if _has_batch_norm(net):
            net.register_forward_pre_hook(_as_first_process)


def check_wrap(recipe: Recipe, plan: Plan) -> None:
    """Refuse --fsdp-wrap block for a network without blocks, before data are opened and weights are fetched.

    The network is built without memory for its weights. One that is yet to be chosen is looked at when it is there.

    Raises:
        ConfigError: if it has none.
        ModelError: for an unknown architecture.
    """
    arch = recipe.model.arch
    if plan.is_sharded and recipe.hardware.fsdp_wrap == "block" and arch is not None:
        origin, name = resolve(arch)
        features, side = (1, None) if name == "mlp" else (None, 32 if origin == "own" else None)  # any will do
        with torch.device("meta"):
            net = build(arch, num_classes=2, num_features=features, image_size=side).net
        _require_blocks(blocks_of(net), arch)


def _require_blocks(blocks: Mapping[str, nn.Module], arch: str | None) -> None:
    if not blocks:
        raise ConfigError(f"--fsdp-wrap block: {arch} has no repeated blocks. Use size:1e6, or auto.")


def _units(wrap: str, arch: str | None, net: nn.Module, forward: Callable[[], object]) -> dict[str, nn.Module]:
    blocks = blocks_of(net) if wrap in ("auto", "block") else {}
    if wrap == "block":
        _require_blocks(blocks, arch)
    called = called_parts(net, forward)
    if blocks:
        return {name: block for name, block in blocks.items() if name in called}
    return large_parts(net, least_unit(wrap) or LEAST_UNIT, called)


def _has_batch_norm(net: nn.Module) -> bool:
    return any(isinstance(part, _BatchNorm) for part in net.modules())


def _as_first_process(net: nn.Module, _: Any) -> None:
    """Before a pass in training: the running statistics of the first process are those of all, as under DDP."""
    if net.training:
        same_statistics(net)
