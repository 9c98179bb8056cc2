"""Signals that follow from the watched loss, and the shape of each sample's losses, in passes without an end."""

import itertools
from pathlib import Path

import numpy as np
import torch
import yaml
from digits import Digits, network
from torch import nn, optim

import litscope.watch as wl
from litscope.watch import guard_testing_context, guard_training_context

LOSS = "loss_sample"


def register_signals():
    @wl.signal(name="sig/entropy", subscribe_to=LOSS, batched=True)
    def entropy(batch):
        p = torch.softmax(batch.logits, 1)
        return (-(p * (p + 1e-12).log()).sum(1)).detach().cpu().numpy()

    @wl.signal(name="sig/loss_norm", inputs=[LOSS], batched=True)
    def loss_norm(batch):
        return batch.inputs[LOSS] / (float(np.mean(batch.inputs[LOSS])) + 1e-8)

    @wl.signal(name="sig/hardness", inputs=[LOSS, "sig/entropy"], batched=True)
    def hardness(batch):
        return batch.inputs[LOSS] * batch.inputs["sig/entropy"]


def register_classifier():
    @wl.signal_classifier(signal=LOSS)
    def falls_or_not(values):
        stats = wl.trajectory_stats(values)
        if stats is None or stats["n"] < 3:
            return None
        return "monotonic" if stats["drop"] > 0.4 else "not_monotonic"


if __name__ == "__main__":
    parameters = yaml.safe_load(Path("config.yaml").read_text())
    wl.watch_or_edit(parameters, flag="hyperparameters", defaults=parameters)
    model = wl.watch_or_edit(network(), flag="model", device="cpu")
    optimizer = wl.watch_or_edit(optim.Adam(model.parameters(), lr=0.01), flag="optimizer")
    loader = wl.watch_or_edit(
        Digits(0, 100), flag="data", loader_name="train_loader", batch_size=20, shuffle=True, is_training=True
    )
    test_loader = wl.watch_or_edit(Digits(1000, 40), flag="data", loader_name="test_loader", batch_size=20)
    criterion = wl.watch_or_edit(
        nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name=LOSS, per_sample=True, log=True
    )
    register_signals()
    if parameters.get("own_classifier"):
        register_classifier()
    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=0)
    for _ in itertools.count(1):
        for pictures, ids, labels in loader:
            with guard_training_context:
                optimizer.zero_grad()
                logits = model(pictures)
                criterion(logits, labels, batch_ids=ids, preds=logits.argmax(1, keepdim=True)).mean().backward()
                optimizer.step()
        with torch.no_grad():
            for pictures, ids, labels in test_loader:
                with guard_testing_context:
                    logits = model(pictures)
                    criterion(logits, labels, batch_ids=ids, preds=logits.argmax(1, keepdim=True))
        wl.write_dataframe("report.csv", format="csv", columns=["signals", "tags"], loss_shape_signal=LOSS)
