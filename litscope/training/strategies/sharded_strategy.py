"""ShardedStrategy: Lightning's ModelParallelStrategy, whose checkpoints are those of any other run.

Lightning would write the state of an optimizer with several groups of parameters in an order of its own, and read it
back under the wrong names; and its checkpoints in parts are no more after a crash in the middle. So what is saved goes
through `models.shards` and `models.checkpoint_parts`, and through the same CheckpointIO as ever.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy

from litscope.lightning_internals import optimizer_states
from litscope.models.checkpoint_parts import FOLDER, save_part
from litscope.models.shards import gathered, load_optimizer, load_weights


class ShardedStrategy(ModelParallelStrategy):
    """Trains a module that divides its network in `configure_model`.

    Args:
        world_size: processes on all machines.
        is_in_parts: checkpoints are written in parts, one of each process.
        offloads: shares of weights stay on the CPU.
    """

    def __init__(self, world_size: int, *, is_in_parts: bool, offloads: bool) -> None:
        super().__init__(
            data_parallel_size=world_size,
            tensor_parallel_size=1,  # its own default divides each layer over the devices instead
            save_distributed_checkpoint=False,
            process_group_backend="cpu:gloo,cuda:nccl" if offloads else None,
        )
        self._is_in_parts, self._offloads = is_in_parts, offloads

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Lightning asks for `load_optimizer_state_dict`."""
        return True

    def model_to_device(self) -> None:
        """Move the module to this process's device; of a network whose shares stay on the CPU, what is not divided."""
        if not self._offloads:
            super().model_to_device()
            return
        assert self.model is not None
        for part in self.model.modules():
            for name, buffer in part.named_buffers(recurse=False):
                setattr(part, name, buffer.to(self.root_device))

    # ---- what is saved -------------------------------------------------------------------------

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The module's weights as they are, divided. `save_checkpoint` makes them whole, with what callbacks add."""
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The same of an optimizer."""
        return dict(optimizer.state_dict())

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Write a checkpoint, whole or not at all. Every process comes here.

        Raises:
            OSError: if the disk is full or fails, on every process where a part could not be written.
        """
        path = Path(self.broadcast(os.fspath(filepath)))
        if self._is_in_parts:
            whole = self._save_part(checkpoint, path)
        else:
            whole = gathered(checkpoint, keep=self.is_global_zero)
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(whole, path, storage_options)

    def _save_part(self, checkpoint: dict[str, Any], path: Path) -> dict[str, Any]:
        name = f"step{checkpoint['global_step']:08d}-{secrets.token_hex(4)}"
        folder = path.parent / FOLDER / self.broadcast(name)
        failure: OSError | None = None
        rest: dict[str, Any] = {}
        try:
            rest = save_part(checkpoint, folder, self.global_rank, self.world_size)
        except OSError as error:
            failure = error
        failures: list[OSError | None] = [None] * self.world_size
        dist.all_gather_object(failures, failure)
        if (first := next((found for found in failures if found is not None), None)) is not None:
            raise first
        return rest

    # ---- what is loaded ------------------------------------------------------------------------

    def load_checkpoint(
        self,
        checkpoint_path: str | os.PathLike[str],
        weights_only: bool | None = None,  # noqa: ARG002  always True: a checkpoint must not run code
    ) -> dict[str, Any]:
        """Read a checkpoint of any run. Its tensors stay in their files; each process takes its own share of them.

        Raises:
            RunError: as `checkpoint_file.load_checkpoint`.
        """
        return self.checkpoint_io.load_checkpoint(Path(self.broadcast(os.fspath(checkpoint_path))))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Take this process's share of a checkpoint's weights."""
        assert self.lightning_module is not None
        load_weights(self.lightning_module, checkpoint["state_dict"], strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Take its share of the state of the optimizers."""
        for optimizer, state in zip(self.optimizers, optimizer_states(checkpoint), strict=True):
            load_optimizer(optimizer, state)
