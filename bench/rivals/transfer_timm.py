"""timm's fine-tuning: its dataset, loader, optimizer, schedule and loss, in the loop of its train script.

The script is not in the package on the index; the loop is written from its documentation, with its defaults
(random resized crop, flip, colour jitter 0.4, smoothing 0.1, cosine), but AdamW at 5e-4, the rate of its published
fine-tunings of small networks, one epoch of warm-up and batches of 32, because its five epochs, 0.1 and 128 are for
ImageNet.
"""

from __future__ import annotations

import torch
import transfer_common as common
from PIL import Image
from timm.data import create_dataset, create_loader, create_transform
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2


def main() -> None:
    """Train, and test."""
    options = common.arguments()
    shape = (3, options.image_size, options.image_size)
    given = {"mean": common.MEAN, "std": common.STD, "interpolation": "bicubic"}
    data = create_dataset("", root=str(options.folder), split="train", is_training=True)
    loader = create_loader(
        data,
        input_size=shape,
        batch_size=32,
        is_training=True,
        use_prefetcher=False,
        num_workers=0,
        device=torch.device("cpu"),
        **given,
    )
    net = common.network(options.weights, len({path.name for path in (options.folder / "train").iterdir()}))
    optimizer = create_optimizer_v2(net, opt="adamw", lr=5e-4, weight_decay=0.05)
    warm_up = min(1, options.epochs - 1)
    schedule, _ = create_scheduler_v2(
        optimizer,
        "cosine",
        options.epochs,
        warmup_epochs=warm_up,
        warmup_lr=1e-5,
        updates_per_epoch=len(loader),
        step_on_epochs=False,
    )
    loss_function = LabelSmoothingCrossEntropy(0.1)
    step = 0
    for _ in range(options.epochs):
        net.train()
        for x, y in loader:
            loss = loss_function(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            schedule.step_update(step)
    look = create_transform(shape, crop_pct=0.875, **given)
    net.eval()

    @torch.no_grad()
    def probabilities(files: list) -> torch.Tensor:
        images = [look(Image.open(file).convert("RGB")) for file in files]
        return torch.cat([net(torch.stack(images[at : at + 64])).softmax(1) for at in range(0, len(images), 64)])

    common.finish(probabilities, options.test)


if __name__ == "__main__":
    main()
