"""A network that is divided over one process, which shows what becomes of its weights where it is saved and loaded."""

from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments import LightningEnvironment
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from litscope.models.checkpoint_file import load_checkpoint
from litscope.models.shards import has_shares, is_divided
from litscope.training.loop.checkpoints import AtomicCheckpointIO
from litscope.training.quiet import quiet_lightning
from litscope.training.strategies.sharded_strategy import ShardedStrategy
from litscope.training.strategies.sharding import Sharding

pytestmark = pytest.mark.slow


class Lines(L.LightningModule):
    """Two groups of parameters, in another order than the network has them: norms and biases come last."""

    def __init__(self, is_divided: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(2, 3, bias=False), nn.BatchNorm1d(3), nn.Linear(3, 2))
        self._divides = is_divided

    def configure_model(self) -> None:
        if self._divides and not has_shares(self.net):
            units: dict[str, nn.Module] = {"0": self.net[0]}
            sharding = Sharding(units, gathers_twice=True, gathers_bf16=False, offloads=False, strategy="fsdp_full")
            assert self.device_mesh is not None
            sharding.apply(self.net, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        matrices = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim == 1]
        return torch.optim.AdamW([{"params": matrices}, {"params": others, "weight_decay": 0.0}], lr=0.1)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        return self.net(batch[0]).square().mean()


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with quiet_lightning():
        yield
    if dist.is_initialized():
        dist.destroy_process_group()


def fit(module: Lines, folder: Path, epochs: int, strategy: ShardedStrategy | str, resume: Path | None = None) -> Path:
    io = AtomicCheckpointIO()
    io.maps = not isinstance(strategy, str)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=strategy,
        plugins=[io, LightningEnvironment()],
        max_epochs=epochs,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    rows = torch.randn(8, 2, generator=torch.Generator().manual_seed(1))
    trainer.fit(module, DataLoader(TensorDataset(rows), batch_size=4), ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


def sharded(is_in_parts: bool) -> ShardedStrategy:
    return ShardedStrategy(1, is_in_parts=is_in_parts, offloads=False)


@pytest.mark.parametrize("is_in_parts", [False, True], ids=["full", "in parts"])
def test_what_is_saved_is_that_of_a_whole_network_and_goes_on_as_such(tmp_path: Path, is_in_parts: bool) -> None:
    module = Lines()
    saved = fit(module, tmp_path / "divided", 1, sharded(is_in_parts))
    assert is_divided(module.net[0].weight)
    assert (tmp_path / "divided" / "parts").exists() == is_in_parts
    whole = fit(Lines(is_divided=False), tmp_path / "whole", 1, "auto")
    found, expected = load_checkpoint(saved), load_checkpoint(whole)
    torch.testing.assert_close(dict(found["state_dict"]), dict(expected["state_dict"]))
    torch.testing.assert_close(found["optimizer_states"][0]["state"], expected["optimizer_states"][0]["state"])
    on = fit(Lines(), tmp_path / "on", 2, sharded(is_in_parts), whole)  # each goes on from the other's
    back = fit(Lines(is_divided=False), tmp_path / "back", 2, "auto", saved)
    torch.testing.assert_close(dict(load_checkpoint(on)["state_dict"]), dict(load_checkpoint(back)["state_dict"]))


def test_a_save_that_fails_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = fit(Lines(), tmp_path, 1, sharded(is_in_parts=True))
    before = load_checkpoint(saved)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("litscope.rundir.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        fit(Lines(), tmp_path, 2, sharded(is_in_parts=True), saved)
    monkeypatch.undo()
    after = load_checkpoint(saved)
    assert before["epoch"] == after["epoch"]
    torch.testing.assert_close(dict(before["state_dict"]), dict(after["state_dict"]))
    fit(Lines(), tmp_path, 3, sharded(is_in_parts=True), saved)
    assert len(list((tmp_path / "parts").iterdir())) == 2  # that of last.ckpt, and that of previous.ckpt
