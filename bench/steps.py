"""Several steps in a call, on a very small network: an MLP 32-64-64-10 at batch 64, where a step's cost is overhead.

    python bench/steps.py [--rounds 5] [--threads 1]

The data are 20,000 rows of scikit-learn's make_classification, a quarter of them held out. Arms, in turns, each in a
process of its own; speed is that of an epoch's training when warm, the first epoch is left out:

- `litscope fit`, ledger and all metrics on: steps compiled, uncompiled, and one at a time (`--steps-per-call 1`);
- plain Lightning with a DataLoader and two logged metrics;
- a raw PyTorch loop: batches sliced out of a permuted tensor in memory, fused AdamW, nothing recorded;
- scikit-learn's MLPClassifier with the same layers, batch size, rate and number of epochs.

Each prints the accuracy on the held-out rows too. Whether compiling pays depends on the length of a run; here it is
done in any case, in the first epoch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Arm, compare

EPOCHS, BATCH, HIDDEN, LR = 5, 64, (64, 64), 1e-3
Table = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def main() -> None:
    """Make the data once, then compare; or, with --arm, be one side of the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--arm", nargs=2, metavar=("NAME", "NPZ"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        name, table = options.arm
        print(json.dumps(ARMS[name][1](Path(table))))
        return
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.npz"
        make_table(table)
        me = [sys.executable, __file__, "--arm"]
        arms = [Arm(title, [*me, name, str(table)]) for name, (title, _) in ARMS.items()]
        compare("MLP 32-64-64-10, batch 64", arms, options.rounds, options.threads)
        for arm in arms:
            print(f"{arm.name}: accuracy {statistics.median(r['accuracy'] for r in arm.results):.4f}")


def make_table(path: Path) -> None:
    """Features and labels, a quarter held out, as litscope reads them."""
    from sklearn.datasets import make_classification

    x, y = make_classification(20_000, 32, n_informative=16, n_classes=10, random_state=0)
    is_held_out = np.arange(len(x)) % 4 == 0
    split = np.where(is_held_out, "test", "train")
    np.savez(path, X=x.astype(np.float32), y=y.astype(np.int64), split=split)


def read(path: Path) -> Table:
    """Training and held-out rows, standardised by the training rows."""
    with np.load(path) as file:
        x, y, is_train = file["X"], file["y"], file["split"] == "train"
    x = (x - x[is_train].mean(0)) / x[is_train].std(0)
    return x[is_train], y[is_train], x[~is_train], y[~is_train]


def ours(steps_per_call: int | str, compiles: bool) -> Callable[[Path], dict[str, Any]]:
    """`litscope fit`."""

    def run(table: Path) -> dict[str, Any]:
        import litscope
        from litscope.models import nets
        from litscope.rundir import RunDir
        from litscope.training import stride
        from litscope.training.summary import epoch_rows

        nets.Mlp.__init__.__defaults__ = (HIDDEN, 0.0)
        stride.COMPILE_S = 0.0 if compiles else float("inf")
        with tempfile.TemporaryDirectory() as folder:
            result = litscope.fit(
                str(table), arch="mlp", batch_size=BATCH, epochs=EPOCHS, lr=LR, scheduler_type="constant",
                val_split=0.0, steps_per_call=steps_per_call, run_dir=f"{folder}/run", logger=["none"], progress=False,
            )  # fmt: skip
            rates = [row["samples_per_s"] for row in epoch_rows(RunDir(f"{folder}/run"))]
        accuracy = result.metrics["test/accuracy"]
        parameters = result.summary["num_parameters"]
        return {"samples_per_s": statistics.median(rates[1:]), "num_parameters": parameters, "accuracy": accuracy}

    return run


def network() -> Any:
    """The MLP."""
    from torch import nn

    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def outcome(net: Any, seconds: list[float], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], rows: int) -> Any:
    """What an arm prints, for a network and the seconds of its epochs."""
    import torch

    with torch.no_grad():
        accuracy = float((net(torch.from_numpy(x)).argmax(1).numpy() == y).mean())
    size = sum(p.numel() for p in net.parameters())
    return {"samples_per_s": rows / statistics.median(seconds[1:]), "num_parameters": size, "accuracy": accuracy}


def raw(table: Path) -> dict[str, Any]:
    """A raw PyTorch loop."""
    import torch
    import torch.nn.functional as F

    torch.manual_seed(0)
    *train, x_test, y_test = read(table)
    x, y = (torch.from_numpy(part) for part in train)
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, fused=True)
    seconds = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        order = torch.randperm(len(x))
        xs, ys = x[order], y[order]
        for start in range(0, len(x), BATCH):
            loss = F.cross_entropy(net(xs[start : start + BATCH]), ys[start : start + BATCH])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        seconds.append(time.perf_counter() - began)
    return outcome(net, seconds, x_test, y_test, len(x))


def lightning(table: Path) -> dict[str, Any]:
    """Plain Lightning, as its documentation shows."""
    import lightning.pytorch as L
    import torch
    import torch.nn.functional as F
    from torch.utils.data import DataLoader, TensorDataset

    seconds: list[float] = []

    class Plain(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def on_train_epoch_start(self) -> None:
            self.began = time.perf_counter()

        def on_train_epoch_end(self) -> None:
            seconds.append(time.perf_counter() - self.began)

        def training_step(self, batch: Any, batch_idx: int) -> Any:  # noqa: ARG002
            x, y = batch
            logits = self.net(x)
            loss = F.cross_entropy(logits, y)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            self.log("train_acc", (logits.argmax(1) == y).float().mean(), on_step=False, on_epoch=True)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=LR)

    *train, x_test, y_test = read(table)
    data = TensorDataset(*(torch.from_numpy(part) for part in train))
    module = Plain()
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", default_root_dir=folder, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(module, DataLoader(data, BATCH, shuffle=True))
    return outcome(module.net, seconds, x_test, y_test, len(data))


def sklearn(table: Path) -> dict[str, Any]:
    """scikit-learn's MLPClassifier, an epoch at a time."""
    from sklearn.neural_network import MLPClassifier

    x, y, x_test, y_test = read(table)
    net = MLPClassifier(HIDDEN, batch_size=BATCH, learning_rate_init=LR, alpha=0.0, random_state=0)
    seconds = []
    for _ in range(EPOCHS):
        began = time.perf_counter()
        net.partial_fit(x, y, classes=np.arange(10))
        seconds.append(time.perf_counter() - began)
    size = sum(w.size for w in (*net.coefs_, *net.intercepts_))
    rate = len(x) / statistics.median(seconds[1:])
    return {"samples_per_s": rate, "num_parameters": size, "accuracy": float(net.score(x_test, y_test))}


ARMS: dict[str, tuple[str, Callable[[Path], dict[str, Any]]]] = {
    "compiled": ("litscope, steps compiled", ours("auto", compiles=True)),
    "uncompiled": ("litscope, several steps a call", ours("auto", compiles=False)),
    "one": ("litscope, --steps-per-call 1", ours(1, compiles=False)),
    "lightning": ("plain Lightning, DataLoader", lightning),
    "raw": ("raw PyTorch loop, in memory", raw),
    "sklearn": ("scikit-learn MLPClassifier", sklearn),
}

if __name__ == "__main__":
    main()
