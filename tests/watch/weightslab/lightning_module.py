"""Parts under watch inside a LightningModule."""

from pathlib import Path

import lightning.pytorch as pl
import torch
import yaml
from digits import Digits, network
from torch import nn
from torchmetrics.classification import Accuracy

import litscope.watch as wl
from litscope.watch import guard_testing_context, guard_training_context


class Module(pl.LightningModule):
    def __init__(self, model, optimizer, train_criterion, val_criterion, metric):
        super().__init__()
        self.model, self.optimizer = model, optimizer
        self.train_criterion, self.val_criterion, self.metric = train_criterion, val_criterion, metric

    def forward(self, x):
        return self.model(x)

    def training_step(self, batch):
        with guard_training_context:
            x, ids, y = batch
            logits = self(x)
            return self.train_criterion(logits.float(), y.long(), batch_ids=ids, preds=logits.argmax(1)).mean()

    def validation_step(self, batch):
        with guard_testing_context:
            x, ids, y = batch
            logits = self(x)
            predictions = logits.argmax(1)
            self.val_criterion(logits.float(), y.long(), batch_ids=ids, preds=predictions)
            self.metric.update(logits, y)
            signals = {"val_metric/right": (predictions == y).float()}
            wl.save_signals(preds_raw=logits, targets=y, batch_ids=ids, signals=signals, preds=predictions)

    def configure_optimizers(self):
        return self.optimizer


if __name__ == "__main__":
    parameters = yaml.safe_load(Path("config.yaml").read_text())
    wl.watch_or_edit(parameters, flag="hyperparameters", defaults=parameters, poll_interval=1.0)
    loaders = [
        wl.watch_or_edit(
            data,
            flag="data",
            loader_name=name,
            batch_size=20,
            shuffle=name == "train_loader",
            is_training=name == "train_loader",
            compute_hash=False,
        )
        for name, data in (("train_loader", Digits(0, 100)), ("val_loader", Digits(1000, 60)))
    ]
    criteria = [
        wl.watch_or_edit(nn.CrossEntropyLoss(reduction="none"), flag="loss", signal_name=f"{name}-loss-CE", log=True)
        for name in ("train", "val")
    ]
    metric = wl.watch_or_edit(
        Accuracy(task="multiclass", num_classes=10), flag="metric", signal_name="metric-ACC", log=True
    )
    model = wl.watch_or_edit(network(), flag="model", device="cpu")
    optimizer = wl.watch_or_edit(torch.optim.Adam(model.parameters(), lr=0.01), flag="optimizer")
    module = Module(model, optimizer, *criteria, metric)
    wl.serve(serving_grpc=False, serving_cli=False)
    wl.start_training(timeout=3)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        use_distributed_sampler=False,
        log_every_n_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
    )
    trainer.fit(module, *loaders)
    wl.keep_serving()
