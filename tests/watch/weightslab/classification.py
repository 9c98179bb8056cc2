"""Training without an end, step after step, with an evaluation now and then."""

import itertools
from pathlib import Path

import torch
import yaml
from digits import Digits, network
from torch import nn, optim
from torchmetrics.classification import Accuracy

import litscope.watch as wl
from litscope.watch import guard_testing_context, guard_training_context


def train(loader, model, optimizer, criterion):
    with guard_training_context:
        inputs, ids, labels = next(loader)
        optimizer.zero_grad()
        outputs = model(inputs)
        predictions = outputs.argmax(dim=1, keepdim=True)
        losses = criterion(outputs.float(), labels.long(), batch_ids=ids, preds=predictions)
        losses.mean().backward()
        optimizer.step()
    return losses.mean().item()


def test(loader, model, criterion, metric):
    total = torch.tensor(0.0)
    for inputs, ids, labels in loader:
        with guard_testing_context:
            outputs = model(inputs)
            predictions = outputs.argmax(dim=1, keepdim=True)
            total += criterion(outputs, labels, batch_ids=ids, preds=predictions).mean()
            metric.update(outputs, labels)
            is_right = (predictions.view(-1) == labels.view(-1)).float()
            signals = {"test_metric/right": is_right, "test_metric/wrong": 1 - is_right}
            wl.save_signals(preds_raw=outputs, targets=labels, batch_ids=ids, signals=signals, preds=predictions)
    return total.item() / len(loader), metric.compute().item()


if __name__ == "__main__":
    parameters = yaml.safe_load(Path("config.yaml").read_text())
    parameters.setdefault("device", "cpu")
    wl.watch_or_edit(parameters, flag="hyperparameters", poll_interval=1.0)
    device = parameters["device"]
    model = wl.watch_or_edit(network().to(device), flag="model", device=device)
    optimizer = wl.watch_or_edit(optim.Adam(model.parameters(), lr=0.01), flag="optimizer")
    unknown = {"compute_hash": False, "preload_labels": True, "preload_metadata": False, "enable_h5_persistence": True}
    of_train = parameters["data"]["train_loader"]
    train_loader = wl.watch_or_edit(
        Digits(0, of_train["max_samples"]),
        flag="data",
        loader_name="train_loader",
        batch_size=of_train["batch_size"],
        shuffle=True,
        is_training=True,
        **unknown,
    )
    test_loader = wl.watch_or_edit(
        Digits(1000, 60), flag="data", loader_name="test_loader", is_training=False, **unknown
    )
    criteria = [
        wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name=f"{split}-loss-CE", log=True)
        for split in ("train", "test")
    ]
    metric = wl.watch_or_edit(
        Accuracy(task="multiclass", num_classes=10), flag="metric", signal_name="metric-ACC", log=True
    )
    wl.serve(serving_grpc=False)
    wl.start_training(timeout=3)
    for step in itertools.count():
        age = model.get_age() if hasattr(model, "get_age") else step
        train(train_loader, model, optimizer, criteria[0])
        if age > 0 and age % 5 == 0:
            test(test_loader, model, criteria[1], metric)
        if age > 0 and age % 10 == 0:
            wl.write_history()
            wl.write_dataframe()
