"""Clicks on advertisements, as a table of categories and numbers, for a network that is wide and deep."""

import itertools
from pathlib import Path

import torch
import yaml
from digits import Rows
from torch import nn, optim
from torchmetrics.classification import Accuracy

import litscope.watch as wl
from litscope.watch import guard_testing_context, guard_training_context


class WideDeep(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(64, 2)
        self.embedding = nn.Embedding(17, 4)
        self.deep = nn.Sequential(nn.Linear(8 * 4 + 56, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x):
        categories, numbers = (x[:, :8] * 16).long(), x[:, 8:]
        return self.wide(x) + self.deep(torch.cat([self.embedding(categories).flatten(1), numbers], 1))


if __name__ == "__main__":
    parameters = yaml.safe_load(Path("config.yaml").read_text())
    wl.watch_or_edit(parameters, flag="hyperparameters", poll_interval=1.0)
    model = wl.watch_or_edit(WideDeep(), flag="model", device="cpu")
    optimizer = wl.watch_or_edit(optim.Adam(model.parameters(), lr=0.005), flag="optimizer")
    train_loader = wl.watch_or_edit(
        Rows(0, 200), flag="data", loader_name="train_loader", batch_size=64, shuffle=True, is_training=True
    )
    test_loader = wl.watch_or_edit(Rows(1000, 60), flag="data", loader_name="test_loader", batch_size=32)
    weight = torch.tensor([1.0, 4.0])
    train_criterion, test_criterion = (
        wl.watch_or_edit(
            nn.CrossEntropyLoss(weight=weight, reduction="none"), flag="loss", signal_name=f"{split}-loss-CE", log=True
        )
        for split in ("train", "test")
    )
    metric = wl.watch_or_edit(
        Accuracy(task="multiclass", num_classes=2), flag="metric", signal_name="metric-ACC", log=True
    )
    wl.serve(serving_grpc=False)
    wl.start_training(timeout=3)
    for step in itertools.count():
        with guard_training_context:
            inputs, ids, labels = next(train_loader)
            optimizer.zero_grad()
            outputs = model(inputs)
            train_criterion(outputs.float(), labels.long(), batch_ids=ids, preds=outputs.argmax(1)).mean().backward()
            optimizer.step()
        if step > 0 and step % 5 == 0:
            for inputs, ids, labels in test_loader:
                with guard_testing_context:
                    outputs = model(inputs)
                    predictions = outputs.argmax(dim=1, keepdim=True)
                    test_criterion(outputs, labels, batch_ids=ids, preds=predictions)
                    metric.update(outputs, labels)
                    signals = {
                        "test_metric/right": (predictions.view(-1) == labels).float(),
                        "test_metric/click": torch.softmax(outputs, dim=1)[:, 1],
                    }
                    wl.save_signals(
                        preds_raw=outputs, targets=labels, batch_ids=ids, signals=signals, preds=predictions
                    )
            metric.compute()
            wl.write_history()
            wl.write_dataframe()
