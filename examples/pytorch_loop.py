"""Handwritten digits in a plain PyTorch loop, watched.

    python examples/pytorch_loop.py [--epochs 10]
    litscope worst runs/pytorch_loop          # and while it trains: litscope pause, discard, set lr_scale=0.1, stop

litscope's part: every line with `run` or `ids` in it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import litscope.watch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--run-dir", type=Path, default=Path("runs/pytorch_loop"))
    options = parser.parse_args()
    torch.manual_seed(1)
    digits = load_digits()
    order = torch.randperm(len(digits.target))
    x, y = torch.tensor(digits.data, dtype=torch.float32)[order] / 16, torch.tensor(digits.target)[order]
    train, val = TensorDataset(x[300:], y[300:]), TensorDataset(x[:300], y[:300])
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    watch = litscope.watch.run(options.run_dir, dataset=train, val_dataset=val, optimizer=optimizer, model=net)

    with watch as run:
        loader, val_loader = run.loader(batch_size=32, shuffle=True), run.loader("val", batch_size=300)
        for epoch in run.epochs(options.epochs):
            net.train()
            for x, y, ids in loader:
                logits = net(x)
                loss = (F.cross_entropy(logits, y, reduction="none") * run.weight_of(ids)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                run.record(ids, logits, y, loss=loss)
                if not run.step():
                    break
            net.eval()
            right = 0
            with run.evaluating("val"), torch.no_grad():
                for x, y, ids in val_loader:
                    logits = net(x)
                    run.record(ids, logits, y)
                    right += int((logits.argmax(1) == y).sum())
            run.log({"val/accuracy": right / 300})
            print(f"epoch {epoch}: {right / 300:.1%} of the validation images are right")
    print(f"next: litscope worst {options.run_dir}")


if __name__ == "__main__":
    main()
