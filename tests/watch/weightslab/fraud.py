"""A rare class in a table: class weights, and metrics that are computed and reset at every step."""

import itertools
from pathlib import Path

import torch
import yaml
from digits import Rows, network
from torch import nn, optim
from torchmetrics.classification import AveragePrecision, F1Score, Precision, Recall

import litscope.watch as wl
from litscope.watch import guard_testing_context, guard_training_context

METRICS = {"precision": Precision, "recall": Recall, "f1": F1Score, "ap": AveragePrecision}


def tell(outputs, labels, ids, metrics, split):
    predictions = outputs.argmax(dim=1, keepdim=True)
    flat, labels_flat = predictions.view(-1), labels.view(-1)
    for name, metric in metrics.items():
        metric.update(torch.softmax(outputs, dim=1)[:, 1].detach() if name == "ap" else flat, labels_flat)
    signals = {f"{split}_metric/caught": ((flat == 1) & (labels_flat == 1)).float()}
    wl.save_signals(preds_raw=outputs, targets=labels, batch_ids=ids, signals=signals, preds=predictions)


def results(metrics):
    found = {name: metric.compute().item() for name, metric in metrics.items()}
    for metric in metrics.values():
        metric.reset()
    return found


def train(loader, model, optimizer, criterion, metrics):
    with guard_training_context:
        inputs, ids, labels = next(loader)
        optimizer.zero_grad()
        outputs = model(inputs)
        loss = criterion(outputs.float(), labels.long(), batch_ids=ids, preds=outputs.argmax(1, keepdim=True)).mean()
        loss.backward()
        optimizer.step()
        tell(outputs, labels, ids, metrics, "train")
    return results(metrics)


def test(loader, model, criterion, metrics):
    for inputs, ids, labels in loader:
        with guard_testing_context:
            outputs = model(inputs)
            criterion(outputs, labels, batch_ids=ids, preds=outputs.argmax(1, keepdim=True))
            tell(outputs, labels, ids, metrics, "test")
    return results(metrics)


if __name__ == "__main__":
    parameters = yaml.safe_load(Path("config.yaml").read_text())
    wl.watch_or_edit(parameters, flag="hyperparameters", poll_interval=1.0)
    model = wl.watch_or_edit(network(num_classes=2), flag="model", device="cpu")
    optimizer = wl.watch_or_edit(optim.Adam(model.parameters(), lr=0.005), flag="optimizer")
    data = {"train": Rows(0, 200), "test": Rows(1000, 60)}
    loaders = {
        split: wl.watch_or_edit(
            rows,
            flag="data",
            loader_name=f"{split}_loader",
            batch_size=50,
            shuffle=split == "train",
            is_training=split == "train",
            preload_metadata=True,
        )
        for split, rows in data.items()
    }
    weight = torch.tensor([1.0, (data["train"].labels == 0).sum() / (data["train"].labels == 1).sum()])
    criteria = {
        split: wl.watch_or_edit(
            nn.CrossEntropyLoss(weight=weight, reduction="none"), flag="loss", signal_name=f"{split}-loss-CE", log=True
        )
        for split in data
    }
    metrics = {
        split: {
            name: wl.watch_or_edit(
                kind(task="binary"), flag="metric", signal_name=f"{split}-metric-{kind.__name__}", log=True
            )
            for name, kind in METRICS.items()
        }
        for split in data
    }
    wl.serve(serving_grpc=False)
    wl.start_training(timeout=3)
    for step in itertools.count():
        train(loaders["train"], model, optimizer, criteria["train"], metrics["train"])
        if step > 0 and step % 5 == 0:
            test(loaders["test"], model, criteria["test"], metrics["test"])
        if step > 0 and step % 10 == 0:
            wl.write_history()
            wl.write_dataframe()
