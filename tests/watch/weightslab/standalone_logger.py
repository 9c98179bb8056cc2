"""Only a loss and a metric are under watch: the loop says itself at which step it is."""

import os
from pathlib import Path

import torch
from digits import LABELS, PICTURES, network
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import Accuracy

if __name__ == "__main__":
    os.environ["WEIGHTSLAB_ROOT_LOG_DIR"] = str(Path("logs").absolute())
    import litscope.watch as wl

    train_loader = DataLoader(TensorDataset(PICTURES[:200], LABELS[:200]), batch_size=20, shuffle=True)
    test_loader = DataLoader(TensorDataset(PICTURES[1000:1060], LABELS[1000:1060]), batch_size=60)
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    train_loss, test_loss = (
        wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name=f"{name}/loss", log=True)
        for name in ("train", "eval")
    )
    accuracy_of = wl.watch_or_edit(
        Accuracy(task="multiclass", num_classes=10), flag="metric", signal_name="eval/accuracy", log=True
    )
    wl.serve(serving_grpc=False, serving_cli=False, grpc_port=50051)
    wl.start_training(timeout=3)
    batches = iter(train_loader)
    for step in range(1, 31):
        try:
            inputs, targets = next(batches)
        except StopIteration:
            batches = iter(train_loader)
            inputs, targets = next(batches)
        with wl.guard_training_context:
            optimizer.zero_grad()
            train_loss(model(inputs), targets, step=step).mean().backward()
            optimizer.step()
        if step % 10 == 0:
            with wl.guard_testing_context, torch.no_grad():
                inputs, targets = next(iter(test_loader))
                logits = model(inputs)
                test_loss(logits, targets, step=step)
                accuracy_of.update(logits, targets)
                accuracy_of.compute(step=step)
                accuracy_of.reset()
    print(wl.write_history(path="history.csv", format="csv"))
    wl.keep_serving(timeout=None)
