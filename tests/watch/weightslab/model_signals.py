"""Numbers of the model, recorded for each step."""

import itertools
from pathlib import Path

import yaml
from digits import Digits, network
from torch import nn, optim

import litscope.watch as wl
from litscope.watch import guard_training_context

if __name__ == "__main__":
    parameters = yaml.safe_load(Path("config.yaml").read_text())
    wl.watch_or_edit(parameters, flag="hyperparameters", poll_interval=1.0)
    model = wl.watch_or_edit(
        network(), flag="model", device="cpu", track_model_signals=True, model_signals_every_n_steps=1
    )
    optimizer = wl.watch_or_edit(optim.Adam(model.parameters(), lr=0.001), flag="optimizer")
    loader = wl.watch_or_edit(
        Digits(0, 100, id_base=1_000_000),
        flag="data",
        loader_name="train_loader",
        batch_size=20,
        shuffle=True,
        is_training=True,
    )
    criterion = wl.watch_or_edit(
        nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name="train-loss-CE", log=True, per_sample=True
    )
    wl.serve(serving_grpc=True)
    wl.start_training(timeout=3)
    for _ in itertools.count():
        with guard_training_context:
            inputs, ids, labels = next(loader)
            optimizer.zero_grad()
            logits = model(inputs)
            criterion(logits, labels, batch_ids=ids, preds=logits.argmax(dim=1, keepdim=True)).mean().backward()
            total = sum(p.grad.pow(2).sum() for p in model.parameters() if p.grad is not None)
            wl.save_model_signals({"metrics/global/grad_norm": total.sqrt()})
            optimizer.step()
