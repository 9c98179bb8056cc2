"""The same recipe as `recipes/*_speed.yaml` in plain Lightning, as fast as its documentation's advice makes it.

One cycle, fused optimizer, channels-last memory, persistent workers, nothing logged, no checkpoint,
no progress bar, the test once at the end. The network on CIFAR-10 is litscope's `whitenet`, in bf16 as litscope's
probe chooses it where the processor has it. Prints {"test/accuracy": ...}.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import common
import lightning.pytorch as L
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

EPOCHS = {"cifar10": 10, "mnist": 3}
BATCH_SIZE = {"cifar10": 500, "mnist": 128}
PRECISION = {"cifar10": "bf16-mixed", "mnist": "32-true"}
NUM_WHITENED = 2000
MNIST = transforms.Normalize(0.1307, 0.3081)


ARCH = {"mnist": "convnet", "cifar10": "whitenet"}
"""As in recipes/mnist_speed.yaml and cifar10_speed.yaml."""


class Plain(L.LightningModule):
    """A classifier that logs nothing, and counts the right answers in the test."""

    def __init__(self, task: str) -> None:
        super().__init__()
        self.task = task
        asked = argparse.Namespace(task=task, arch=ARCH[task], image_size=None)
        self.net = common.network(asked).net.to(memory_format=torch.channels_last)
        self.right, self.count = 0, 0

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        """Cross-entropy, smoothed on CIFAR-10."""
        x, y = batch
        smoothing = 0.2 if self.task == "cifar10" else 0.0
        return F.cross_entropy(self.net(x.contiguous(memory_format=torch.channels_last)), y, label_smoothing=smoothing)

    def test_step(self, batch: Any, batch_idx: int) -> None:  # noqa: ARG002
        """Count right answers by the mean of an image's views."""
        x, y = batch
        logits = sum(
            weight * self.net(view) for weight, view in self.views(x.contiguous(memory_format=torch.channels_last))
        )
        self.right += int((logits.argmax(1) == y).sum())
        self.count += len(y)

    def views(self, x: torch.Tensor) -> list[tuple[float, torch.Tensor]]:
        """The views of each image with their weights in the mean: on CIFAR-10 also mirrored, and moved by a pixel."""
        if self.task != "cifar10":
            return [(1.0, x)]
        wide = F.pad(x, (1, 1, 1, 1), mode="reflect")
        moved = (wide[:, :, :32, :32], wide[:, :, 2:, 2:])
        return [(0.25, x), (0.25, x.flip(3)), *((0.125, view) for m in moved for view in (m, m.flip(3)))]

    def configure_optimizers(self) -> Any:
        """SGD with Nesterov momentum, or AdamW; one cycle over the run."""
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        optimizer: torch.optim.Optimizer
        if self.task == "cifar10":
            groups = [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.0013},
                {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
            ]
            optimizer = torch.optim.SGD(groups, 0.75, momentum=0.85, nesterov=True, fused=True)
        else:
            optimizer = torch.optim.AdamW(parameters, 4e-3, weight_decay=0.05, fused=True)
        peak = optimizer.param_groups[0]["lr"]
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loaders(task: str, data: Path) -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training and test batches; cropping and flipping as usual for each data set."""
    if task == "cifar10":
        change = [transforms.RandomCrop(32, 2, padding_mode="reflect"), transforms.RandomHorizontalFlip()]
        end = [transforms.ToTensor(), common.CIFAR]
        train: Any = datasets.ImageFolder(str(data / "train"), transforms.Compose([*change, *end]))
        test: Any = datasets.ImageFolder(str(data / "test"), transforms.Compose(end))
    else:
        end = [transforms.ToTensor(), MNIST]
        train = datasets.MNIST(str(data), True, transforms.Compose([transforms.RandomCrop(28, padding=2), *end]))
        test = datasets.MNIST(str(data), False, transforms.Compose(end))
    options: dict[str, Any] = {"num_workers": 2, "persistent_workers": True}
    size = BATCH_SIZE[task]
    return DataLoader(train, size, shuffle=True, drop_last=True, **options), DataLoader(test, 4 * size, **options)


def main() -> None:
    """Train, test, print the accuracy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=["cifar10", "mnist"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", help="default: bf16-mixed on CIFAR-10, else 32-true")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--limit-batches", type=int)
    options = parser.parse_args()
    L.seed_everything(options.seed, workers=True, verbose=False)
    trainer = L.Trainer(
        max_epochs=options.epochs or EPOCHS[options.task],
        limit_train_batches=options.limit_batches,
        limit_test_batches=options.limit_batches,
        accelerator="cpu",
        precision=options.precision or PRECISION[options.task],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, test = loaders(options.task, options.data)
    module = Plain(options.task)
    if options.task == "cifar10":
        images, _ = next(iter(DataLoader(train.dataset, NUM_WHITENED, shuffle=True)))
        module.net.whiten(images)
    trainer.fit(module, train)
    trainer.test(module, test, verbose=False)
    print(json.dumps({"test/accuracy": module.right / module.count}))


if __name__ == "__main__":
    main()
